"""All watches of a policy: per task and rung, bounded, with the action that was in force before the request."""

from __future__ import annotations

import random

import pytest
from structlog.testing import capture_logs

from cascade.core.climb import Observation
from cascade.core.policy import StormGuard
from cascade.core.storm import Change, Guard
from cascade.state.memory_guard import MemoryGuard


def guard(**settings: object) -> Guard:
    """A guard with these settings."""
    return Guard(StormGuard.model_validate(settings))


def see(
    one: Guard, count: int = 1, *, hit: bool | None = True, task: str = "t", rung: str = "r0", now: float = 0.0,
    failed: bool = False, cost: int = 0,
) -> tuple[list[str | None], list[Change]]:  # fmt: skip
    """Count requests, one a second from `now`; the actions that were in force, and the changes."""
    actions: list[str | None] = []
    changes: list[Change] = []
    for number in range(count):
        action, told = one.observe(task, rung, natural=hit, failed=failed, storm_cost=cost, now=now + number)
        actions.append(action)
        changes += told
    return actions, changes


def test_a_decision_is_taken_before_the_request_is_counted() -> None:
    """The 23rd escalation trips the guard and is itself not yet acted on; the 24th is."""
    actions, changes = see(guard(), 25)
    assert actions == [None] * 23 + ["escalate"] * 2
    assert [(change.kind, change.what, change.task, change.rung, change.limit) for change in changes] == [
        ("tripped", "storm", "t", "r0", 0.35)
    ]


def test_a_storm_at_one_task_and_rung_is_no_storm_elsewhere() -> None:
    """Another task at this rung and this task at another rung stay calm."""
    one = guard()
    see(one, 23)
    assert see(one)[0] == ["escalate"]
    assert see(one, task="u")[0] == [None]
    assert see(one, rung="r1")[0] == [None]


def test_without_settings_there_is_no_storm_guard() -> None:
    """A thousand escalations: nothing is done and nothing said."""
    assert see(Guard(None), 1_000) == ([None] * 1_000, [])


def test_what_is_not_counted_neither_trips_nor_releases_but_is_under_the_guard() -> None:
    """Errors say nothing about the traffic; a hold holds their climbs all the same."""
    one = guard(on_trip="hold")
    assert see(one, 500, hit=None) == ([None] * 500, [])
    see(one, 23)
    actions, changes = see(one, 500, hit=None, now=1_000)
    assert (set(actions), changes) == ({"hold"}, [])
    assert see(one, task="u", hit=None)[0] == [None]


def test_a_trip_is_overdue_by_time_alone() -> None:
    """A held rung that gets no traffic is told of nothing: past max_trip_s it only alerts all the same."""
    one = guard(on_trip="hold", max_trip_s=600.0)
    see(one, 24)
    assert see(one, 1, hit=None, now=600)[0] == ["hold"]
    assert see(one, 1, hit=None, now=640)[0] == ["alert"]


def test_the_number_of_watches_is_bounded() -> None:
    """A caller who names a task per customer: past the bound they share one watch, and the first ones keep their own."""
    one = guard()
    for number in range(5_000):
        see(one, task=f"customer-{number}")
    assert len(one._storms) <= 1_024 + 2
    see(one, 22, task="customer-0")
    assert see(one, task="customer-0")[0] == ["escalate"]
    assert see(one, task="customer-1")[0] == [None]
    assert see(one, task="customer-4999")[0] == ["escalate"]


def test_spending_is_capped_by_the_hour() -> None:
    """Past max_extra_usd_per_hour an escalation falls back to alert; an hour later it is back."""
    one = guard(max_extra_usd_per_hour=1.0, max_trip_s=1e6)
    see(one, 23)
    assert see(one, now=100)[0] == ["escalate"]
    see(one, 9, rung="r1", hit=None, cost=110_000_000, now=100)
    assert see(one, now=110)[0] == ["escalate"]
    see(one, 1, rung="r1", hit=None, cost=10_000_000, now=110)
    assert see(one, now=111)[0] == ["alert"]
    assert see(one, task="calm", now=112)[0] == [None]
    assert see(one, now=3_699)[0] == ["alert"]
    assert see(one, now=3_701)[0] == ["escalate"]


def test_a_cap_of_nothing_never_escalates() -> None:
    """0 USD: alerts only."""
    one = guard(max_extra_usd_per_hour=0.0)
    assert set(see(one, 40)[0]) == {None, "alert"}


def test_spending_is_not_kept_where_nobody_asks_for_it() -> None:
    """Without a cap a storm of a day must not fill the memory."""
    one = guard()
    see(one, 2_000, rung="r1", cost=1_000)
    assert len(one._extra) == 0


def test_a_lasting_storm_falls_back_to_alert_and_says_why() -> None:
    """The event comes once, with how long it has lasted; from then on the requests are only told about."""
    one = guard(max_trip_s=100)
    see(one, 23)
    actions, changes = see(one, 200, now=23)
    assert [(change.kind, change.tripped_s) for change in changes] == [("limit_wrong", 101.0)]
    assert actions == ["escalate"] * 100 + ["alert"] * 100


def test_an_outage_raises_the_errors_alarm_and_its_end_is_told() -> None:
    """Failures are watched per rung, whatever the task and with no storm guard; they only alert."""
    one = Guard(None)
    actions, changes = see(one, 30, hit=None, failed=True)
    assert set(actions) == {None}
    assert [(change.kind, change.what, change.rung) for change in changes] == [("tripped", "errors", "r0")]
    assert see(one, 100, failed=True, rung="r1", hit=None)[1][0].rung == "r1"
    _, changes = see(one, 100, hit=False, now=1_000)
    assert [(change.kind, change.what) for change in changes] == [("released", "errors")]


def test_an_ordinary_share_of_errors_raises_no_alarm() -> None:
    """Three in a hundred, for 20,000 requests."""
    one, chance = Guard(None), random.Random(11)
    changes: list[Change] = []
    for now in range(20_000):
        changes += see(one, failed=chance.random() < 0.03, hit=None, now=now)[1]
    assert changes == []


def observe(task: str = "t", **more: bool | None) -> Observation:
    """A step at r0."""
    return Observation(task, 0, "r0", more.get("natural", True), bool(more.get("failed", False)))


def test_the_guard_in_memory_tells_its_changes_as_events() -> None:
    """Trip, wrong limit and release, with task, rung and rates, by the clock it was given; never a text."""
    times = iter(range(1_000_000))
    one = MemoryGuard("p", StormGuard(max_trip_s=50, dwell_s=10), lambda: float(next(times)))
    with capture_logs() as events:
        actions = [one.observe(observe()) for _ in range(120)]
        for _ in range(200):
            one.observe(observe(natural=False))
    assert [event["event"] for event in events] == ["storm_tripped", "storm_limit_wrong", "storm_released"]
    assert [event["log_level"] for event in events] == ["warning", "warning", "info"]
    assert (events[0]["policy"], events[0]["task"], events[0]["rung"], events[0]["limit"]) == ("p", "t", "r0", 0.35)
    assert "recalibrate" in events[1]["hint"]
    assert (actions[22], actions[23], actions[-1]) == (None, "escalate", "alert")


def test_an_outage_is_an_event_of_the_rung() -> None:
    """It names no task: all of them fail there."""
    one = MemoryGuard("p", None, lambda: 0.0)
    with capture_logs() as events:
        for _ in range(30):
            assert one.observe(observe(natural=None, failed=True)) is None
    assert [event["event"] for event in events] == ["errors_tripped"]
    assert "task" not in events[0]


@pytest.mark.parametrize(
    "settings", [{"min_samples": 501}, {"window": 100}, {"rate": 0}, {"rate": 1}, {"on_trip": "stop"}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    """More samples than the window holds, a rate of 0 or 1, an unknown action."""
    with pytest.raises(ValueError, match=r"window|rate|on_trip"):
        guard(**settings)
