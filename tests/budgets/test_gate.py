"""Before each call: every budget that applies must have room for the most it may cost."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from cascade.core.budgets import Refusal
from tests.budgets.scenes import USD, Wall, gate_of

BERLIN = ZoneInfo("Europe/Berlin")


def refusal(found: Refusal | None) -> str:
    """What a refusal tells."""
    assert found is not None
    return found.message


def test_a_policy_without_budgets_asks_nobody() -> None:
    """The gate is closed, a reservation lets everything pass, and the state never hears of it."""
    gate, books = gate_of()
    reservation = gate.open("other", {})
    assert not gate.has_budgets
    assert not reservation.has_budgets
    assert reservation.admit(10**15, first=True) is None
    reservation.settle(10**15, 7)
    assert (reservation.spent, dict(books.settled)) == (7, {})


def test_reject_refuses_what_might_pass_the_limit_and_names_the_budget() -> None:
    """Settled and reserved and bound stay within the limit; with the last call settled low, there is room again."""
    gate, books = gate_of({"daily_usd": 1, "per": "task", "on_exhausted": "reject"})
    one, two = gate.open("refund", {}), gate.open("refund", {})
    assert one.admit(USD * 6 // 10, first=True) is None
    told = refusal(two.admit(USD * 5 // 10, first=True))
    assert "the daily budget of test/task=refund, 1 USD" in told
    assert gate.open("chat", {}).admit(USD, first=True) is None, "another task has a budget of its own"
    one.settle(USD * 6 // 10, USD // 10)
    assert two.admit(USD * 5 // 10, first=True) is None
    two.settle(USD * 5 // 10, 0)
    assert sum(books.reserved.values()) == USD, "only the other task's call is under way"


def test_hold_lets_the_first_rung_pass_and_stops_the_climb_there() -> None:
    """A soft limit: it says so, to the caller too."""
    gate, _ = gate_of({"daily_usd": 1, "on_exhausted": "hold"})
    reservation = gate.open("other", {})
    assert reservation.admit(2 * USD, first=True) is None
    reservation.settle(2 * USD, 2 * USD)
    assert "a soft limit" in refusal(reservation.admit(1, first=False))
    assert gate.open("other", {}).admit(1, first=True) is None


def test_alert_never_refuses() -> None:
    """It only tells: at its share and at the whole, once a period."""
    gate, _ = gate_of({"daily_usd": 1})
    with capture_logs() as told:
        for first in (True, False, False):
            reservation = gate.open("other", {})
            assert reservation.admit(9 * USD, first=first) is None
            reservation.settle(9 * USD, 9 * USD // 10)
    assert [(one["event"], one["share"], one["spent_usd"]) for one in told] == [
        ("budget_alert", 0.8, 0.9),
        ("budget_alert", 1.0, 1.8),
    ]


@pytest.mark.parametrize(("on_exhausted", "refused"), [("alert", []), ("hold", [1]), ("reject", [0, 1])])
def test_a_requests_own_budget_counts_all_its_calls(on_exhausted: str, refused: list[int]) -> None:
    """`call_usd` is of the whole climb: what it has spent, and what the next call may cost; nothing is kept of it."""
    gate, books = gate_of({"call_usd": "0.01", "on_exhausted": on_exhausted})
    reservation, limit = gate.open("other", {}), USD // 100
    assert [n for n in range(2) if reservation.admit(limit + 1, first=n == 0)] == refused
    assert reservation.admit(limit, first=True) is None
    reservation.settle(limit, 1)
    assert (reservation.admit(limit, first=False) is not None) == (on_exhausted != "alert")
    assert gate.open("other", {}).admit(limit, first=True) is None, "another request has its own"
    assert not books.settled


def test_what_a_request_spends_above_its_budget_is_told_once_a_request() -> None:
    """With `alert`: by what was spent, not by what might have been."""
    gate, _ = gate_of({"call_usd": "0.01"})
    with capture_logs() as told:
        reservation = gate.open("other", {})
        for number, cost in enumerate((USD // 100, 1, 1)):
            assert reservation.admit(USD, first=number == 0) is None
            reservation.settle(USD, cost)
    assert [(one["event"], one["spent_usd"], one["limit_usd"]) for one in told] == [("budget_alert", 0.010000001, 0.01)]


def test_two_budgets_over_the_same_spend_each_count_it_once() -> None:
    """Tell at 5 USD, refuse at 10: the obvious pair works, and each tells for itself."""
    gate, books = gate_of(
        {"daily_usd": 5, "alert_at": 1.0}, {"daily_usd": 10, "alert_at": 1.0, "on_exhausted": "reject"}
    )
    with capture_logs() as told:
        for _ in range(2):
            reservation = gate.open("other", {})
            assert reservation.admit(5 * USD, first=True) is None
            reservation.settle(5 * USD, 5 * USD)
        assert "10 USD" in refusal(gate.open("other", {}).admit(1, first=True))
        assert gate.open("other", {}).admit(1, first=True) is not None
    assert sorted(books.settled.values()) == [10 * USD, 10 * USD]
    shares = [(one["event"], one["limit_usd"], one.get("share")) for one in told]
    assert shares == [
        ("budget_alert", 5.0, 1.0),
        ("budget_alert", 10.0, 1.0),
        ("budget_refused", 10.0, None),
    ]


def test_every_budget_that_applies_must_have_room() -> None:
    """The first that refuses is named, and then nothing is reserved in any."""
    gate, books = gate_of(
        {"monthly_usd": 100, "on_exhausted": "reject"},
        {"daily_usd": 1, "per": "workflow", "on_exhausted": "reject"},
    )
    reservation = gate.open("other", {"workflow": "nightly"})
    assert "test/workflow=nightly" in refusal(reservation.admit(2 * USD, first=True))
    assert not any(books.reserved.values())
    assert not any(books.settled.values())


def test_calls_at_the_same_time_are_each_reserved_and_each_settled() -> None:
    """The samples of a wave: none is lost, and a request's own limit counts those under way."""
    gate, books = gate_of(
        {"daily_usd": 1, "on_exhausted": "reject"}, {"call_usd": "0.8", "on_exhausted": "reject"}
    )  # fmt: skip
    reservation = gate.open("other", {})
    assert reservation.admit(USD * 3 // 10, first=True) is None
    assert reservation.admit(USD * 4 // 10, first=False) is None
    told = refusal(reservation.admit(USD * 2 // 10, first=False))
    assert "with up to 0.7 USD under way" in told
    assert sum(books.reserved.values()) == USD * 7 // 10
    reservation.settle(USD * 3 // 10, USD // 10)
    reservation.settle(USD * 4 // 10, USD // 5)
    assert (sum(books.reserved.values()), sum(books.settled.values())) == (0, USD * 3 // 10)
    assert reservation.spent == USD * 3 // 10
    assert reservation.admit(USD * 2 // 10, first=False) is None


def test_what_is_only_observed_has_a_cap_of_its_own() -> None:
    """`observe.daily_usd` refuses, whatever the budgets say, and counts nothing of what callers ask."""
    gate, books = gate_of({"daily_usd": 5}, observe={"daily_usd": "0.5"})
    assert gate.open("other", {}).admit(USD, first=True) is None
    observed = gate.open("other", {}, is_shadow=True)
    assert "test/observe" in refusal(observed.admit(USD, first=True))
    assert observed.admit(USD // 2, first=True) is None
    observed.settle(USD // 2, 3)
    assert sorted(books.settled.values()) == [3, 3]


INSTANTS = [  # when, its day's length in hours: two ordinary days, and those the clock goes forward and back
    ("2026-11-21T23:59:59.9", 24),
    ("2026-11-22T00:00:00", 24),
    ("2026-03-29T00:00:00", 23),
    ("2026-03-29T23:59:59", 23),
    ("2026-10-25T02:30:00", 25),
    ("2026-10-25T23:59:59", 25),
]


@pytest.mark.parametrize(("when", "hours"), INSTANTS)
@pytest.mark.parametrize("fold", [0, 1])
def test_a_day_is_the_time_zones_own(when: str, hours: int, fold: int) -> None:
    """From midnight to midnight in Berlin, also where that is 23 or 25 hours; a month from its first to the next."""
    at = datetime.fromisoformat(when).replace(tzinfo=BERLIN, fold=fold)
    gate, books = gate_of({"daily_usd": 1, "monthly_usd": 9, "timezone": "Europe/Berlin"}, wall=Wall(at.timestamp()))
    gate.open("other", {}).admit(1, first=True)
    (day, starts, ends), (month, first, last) = ((one.period, one.starts, one.ends) for one in books.asked)
    assert (day, month) == (when[:10], when[:7])
    assert (ends - starts) / 3600 == hours
    assert starts <= at.timestamp() < ends
    assert first <= starts < ends <= last
    assert datetime.fromtimestamp(first, BERLIN).strftime("%d %H:%M") == "01 00:00"
    assert datetime.fromtimestamp(last, BERLIN).strftime("%d %H:%M") == "01 00:00"


def test_a_day_begins_once_where_the_clock_goes_back_over_midnight() -> None:
    """In Havana the first hour comes twice: the day starts with the first of them, asked in either."""
    havana, starts = ZoneInfo("America/Havana"), set[float]()
    for fold in (0, 1):
        at = datetime(2026, 11, 1, 0, 30, tzinfo=havana, fold=fold).timestamp()
        gate, books = gate_of({"daily_usd": 1, "timezone": "America/Havana"}, wall=Wall(at))
        gate.open("other", {}).admit(1, first=True)
        starts |= {one.starts for one in books.asked}
    assert starts == {datetime(2026, 11, 1, 0, 0, tzinfo=havana).timestamp()}


def test_a_call_is_settled_in_the_period_it_was_let_in() -> None:
    """Let in a second before midnight in Berlin, settled a second after: yesterday's budget bears it."""
    wall = Wall(datetime(2026, 3, 28, 23, 59, 59, tzinfo=BERLIN).timestamp())
    gate, books = gate_of({"daily_usd": 1, "timezone": "Europe/Berlin", "on_exhausted": "reject"}, wall=wall)
    over = gate.open("other", {})
    assert over.admit(USD, first=True) is None
    wall.now += 2
    assert gate.open("other", {}).admit(USD, first=True) is None, "a new day, and a whole new budget"
    over.settle(USD, USD)
    assert {counter: spent for counter, spent in books.settled.items() if spent} == {"test|daily|2026-03-28": USD}
    assert over.admit(1, first=False) is not None, "its next call is today's, where all is reserved"


MOVES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 40), st.floats(0, 1), st.sampled_from((0, 0, 40_000, 90_000))),
    max_size=60,
)


@given(MOVES, st.sampled_from(("policy", "task")))
def test_with_reject_no_interleaving_spends_more_than_the_limit(
    moves: list[tuple[int, int, float, int]], per: str
) -> None:
    """Five requests admit and settle in any order, over midnights: no counter is ever above its limit, at worst."""
    wall = Wall()
    gate, books = gate_of(
        {"daily_usd": "0.00000005", "monthly_usd": "0.00000012", "per": per, "on_exhausted": "reject"}, wall=wall
    )
    limits = {"daily": 50, "monthly": 120}
    reservations = [gate.open(f"t{number % 2}", {}) for number in range(5)]
    open_bounds: dict[int, int] = {}
    for who, bound, share, passes in moves:
        wall.now += passes
        if who in open_bounds:
            at_most = open_bounds.pop(who)
            reservations[who].settle(at_most, int(at_most * share))
        elif reservations[who].admit(bound, first=not reservations[who].spent) is None:
            open_bounds[who] = bound
        settled, reserved = books.settled, books.reserved
        for counter, spent in settled.items():
            assert spent + reserved[counter] <= limits[counter.split("|")[1]]
    for who, bound in open_bounds.items():
        reservations[who].settle(bound, 0)
    assert not any(books.reserved.values())
