"""Storms and budget alerts leave a mark on the ledger: once, small, without a text, and never at a request's cost."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import pytest

from cascade.core.climb import Observation
from cascade.core.policy import Policy
from cascade.core.storm import Change
from cascade.costs import Period
from cascade.dashboard.figures.happenings import episodes_of, read_episodes, read_events
from cascade.engine.marking import Marking
from cascade.engine.runtime import Runtime, RuntimeOptions
from cascade.ledger.marks import HappenedMark, Happening, MarkTables, read_marks
from cascade.ledger.opening import open_reader
from tests.servers import RedisServer

AT = 1_795_000_500.0
HOUR = 3_600.0
_RUNG = {"max_tokens": 100, "price": {"input": "1", "output": "10"}}
POLICY = Policy.model_validate({
    "version": 1, "name": "test", "storm_guard": {"rate": 0.35, "min_samples": 5, "window": 20, "dwell_s": 1},
    "budget": [{"daily_usd": "0.0000001"}],
    "ladder": [{"rung": "r0", "model": "m0", "threshold": 0.8, **_RUNG}, {"rung": "r1", "model": "m1", **_RUNG}],
})  # fmt: skip


def trip(kind: str = "tripped", task: str = "refund") -> Change:
    """A change at the first rung."""
    return Change(kind, "storm", task, "r0", 0.61, 0.35, 40)  # type: ignore[arg-type]


def mark(kind: Happening, at: float, task: str = "refund", policy: str = "test") -> HappenedMark:
    """A mark as `Marking` makes it."""
    details = {"task": task, "rung": "r0", "rate": 0.6, "limit": 0.35, "samples": 40, "action": "hold"}
    return HappenedMark(at, policy, kind, (task, str(at)), details)


def marks_in(address: Path | str) -> tuple[HappenedMark, ...]:
    """All of them."""
    with closing(open_reader(address)) as reader:
        return read_marks(reader, 0, 2 * AT)


@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_what_many_processes_mark_in_one_minute_is_on_record_once(
    where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Guards of their own trip together; the first mark counts, in both databases."""
    address = str(tmp_path / "ledger.db") if where == "sqlite" else request.getfixturevalue("postgres_database")
    markings = [Marking(POLICY, address, lambda number=number: AT // 60 * 60 + number) for number in range(4)]
    threads = [threading.Thread(target=one.changed, args=(trip(), False)) for one in markings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one.close(30) for one in markings)
    (found,) = marks_in(address)
    assert (found.kind, found.policy, found.details["task"], found.details["action"]) == (
        "storm_tripped", "test", "refund", "escalate",
    )  # fmt: skip
    later = Marking(POLICY, address, lambda: AT + HOUR)
    later.changed(trip("released"), False)
    later.changed(trip(task="x" * 10_000 + "\ud800"), True)
    assert later.close(30)
    assert [one.kind for one in marks_in(address)] == ["storm_tripped", "storm_released", "storm_tripped"]


def test_a_driver_marks_its_storms_and_its_budgets_alerts(tmp_path: Path) -> None:
    """By the guard and the gate that its requests go through; what a request asked is in none of them."""
    path = tmp_path / "ledger.db"
    runtime = Runtime(POLICY, RuntimeOptions(ledger=path, state="memory", wall=lambda: AT))
    for _ in range(40):
        runtime.state.observe(Observation("refund", 0, "r0", natural=True, failed=False, storm_cost=0))
    reservation = runtime.gate.open("refund", {})
    assert reservation.admit(1_000, first=True) is None
    reservation.settle(1_000, 1_000)
    runtime.close()
    kinds = [one.kind for one in marks_in(path)]
    assert kinds.count("storm_tripped") == 1
    assert kinds.count("budget_alert") == 2, "at its alert_at, and when all is spent"
    alert = next(one for one in marks_in(path) if one.kind == "budget_alert")
    assert (alert.details["scope"], alert.details["value"], alert.details["period"]) == ("policy", "test", "2026-11-18")
    with closing(open_reader(path)) as reader:
        events = read_events(reader, Period(int(AT // 900) * 900, int(AT // 900 + 1) * 900), None)
    assert "the storm guard acts (escalate)" in next(one.text for one in events if one.kind == "storm_tripped")


def test_a_ledger_that_cannot_be_written_costs_a_request_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The mark is lost, and that is logged."""
    (tmp_path / "ledger.db").write_bytes(b"not a ledger, and not empty either" * 100)
    marking = Marking(POLICY, str(tmp_path / "ledger.db"), lambda: AT)
    marking.changed(trip(), False)
    assert marking.close(30)
    assert "mark_failed" in caplog.text


def test_without_a_ledger_nothing_is_marked(tmp_path: Path) -> None:
    """Nor is one made."""
    runtime = Runtime(POLICY, RuntimeOptions(ledger="off", state="memory", wall=lambda: AT))
    for _ in range(40):
        runtime.state.observe(Observation("refund", 0, "r0", natural=True, failed=False, storm_cost=0))
    runtime.close()
    assert not list(tmp_path.rglob("*.db"))


@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_the_oldest_marks_go(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """So that they stay few; and none goes because another process marks the same."""
    address = str(tmp_path / "ledger.db") if where == "sqlite" else request.getfixturevalue("postgres_database")
    monkeypatch.setattr("cascade.ledger.marks.MOST", 3)
    tables = MarkTables(address)
    for number in range(5):
        for _ in range(3):
            tables.add(mark("storm_tripped", AT + number, f"task-{number}"))
    assert [one.details["task"] for one in marks_in(address)] == ["task-2", "task-3", "task-4"]


def test_episodes_are_read_from_marks() -> None:
    """One for each task; a second guard's trip, and a release that nobody began, make none."""
    found = episodes_of(
        [
            mark("storm_released", AT),
            mark("storm_tripped", AT + 10),
            mark("storm_tripped", AT + 90),
            mark("storm_tripped", AT + 20, "other"),
            mark("storm_limit_wrong", AT + HOUR),
            mark("storm_released", AT + 2 * HOUR),
            mark("errors_tripped", AT + 3 * HOUR),
        ],
        AT + 4 * HOUR,
    )
    assert [(one.task, one.what, one.since - AT, one.until and one.until - AT, one.limit_wrong) for one in found] == [
        ("refund", "storm", 10, 2 * HOUR, True),
        ("other", "storm", 20, None, False),
        ("refund", "errors", 3 * HOUR, None, False),
    ]
    assert (found[0].rate, found[0].limit, found[0].action, found[0].policy) == (0.6, 0.35, "hold", "test")


def test_a_storm_whose_process_ended_is_not_shown_for_ever(tmp_path: Path) -> None:
    """A guard in memory is gone with it: a day after its last mark the episode is over."""
    tables = MarkTables(str(tmp_path / "ledger.db"))
    tables.add(mark("storm_tripped", AT))
    with closing(open_reader(tmp_path / "ledger.db")) as reader:

        def shown(hours: float) -> list[float | None]:
            end = int(AT // 900 + hours * 4) * 900
            found = read_episodes(reader, Period(end - 4 * 900, end), float(end), None)
            return [one.until for one in found]

        assert shown(23) == [None]
        assert shown(48) == []


def test_drivers_that_share_a_redis_mark_a_storm_once(tmp_path: Path, redis_server: RedisServer) -> None:
    """One of them is told."""
    policy = POLICY.model_copy(update={"name": "shared-marks"})  # names of this test's own
    path, moments = tmp_path / "ledger.db", [AT, AT + 7 * HOUR, AT + 9 * HOUR]
    runtimes = [
        Runtime(policy, RuntimeOptions(ledger=path, state=redis_server.url, wall=lambda at=at: at)) for at in moments
    ]  # their clocks differ, so it is not the minute that makes it one
    for number in range(60):
        runtimes[number % 3].state.observe(Observation("refund", 0, "r0", natural=True, failed=False, storm_cost=0))
    for runtime in runtimes:
        runtime.close()
    assert [one.kind for one in marks_in(path)] == ["storm_tripped"]
