"""What is known of a reviewer outlives the run and the process, belongs to that reviewer alone, and never fails a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cascade import Cascade, Policy
from cascade.audit.controls import known_controls
from cascade.core.planning.controls import ControlDone, standing_of
from cascade.core.planning.result import ReviewVerdict
from cascade.engine.planning.standing import keep_control, recall_controls
from cascade.ledger.audit import AuditTables
from tests.live.conftest import Clock, Connections, ladder

DAY_S = 86_400.0
VERDICTS: tuple[ReviewVerdict, ...] = ("accept", "retry", "escalate", "unusable")
DONE = tuple(ControlDone(is_right, verdict, 7) for verdict in VERDICTS for is_right in (True, False))


def planning(**more: Any) -> Policy:
    """A policy whose reviewer is Sonnet."""
    return ladder(plan={"reviewer": "sonnet", **more})


@contextmanager
def runtime_of(policy: Policy, ledger: Path | str, wall: Clock | None = None) -> Iterator[Any]:
    """What a new driver holds."""
    with Cascade(policy, ledger=ledger, wall=wall or Clock()) as driver:
        yield driver._runtime  # pyright: ignore[reportPrivateUsage] - as the package's own modules take it


def test_the_next_driver_finds_what_control_items_showed(tmp_path: Path) -> None:
    """In the order in which they were asked; a rejection is a rejection, of whichever kind."""
    with runtime_of(planning(), tmp_path / "ledger.db") as first:
        for done in DONE:
            keep_control(first, done)
        mine = recall_controls(first)
    with runtime_of(planning(max_retries=1), tmp_path / "ledger.db") as later:
        found = recall_controls(later)
    assert found == mine
    assert [one.is_right for one in found] == [one.is_right for one in DONE]
    assert [one.cost_nanousd for one in found] == [7] * len(DONE)
    assert standing_of(found) == standing_of(DONE)


def test_another_reviewer_starts_anew(tmp_path: Path) -> None:
    """Another rung, or other words; the first one's items are still there."""
    with runtime_of(planning(), tmp_path / "ledger.db") as first:
        keep_control(first, DONE[0])
    for other in ({"reviewer": "opus"}, {"prompts": {"reviewer": "Read it twice."}}):
        with runtime_of(planning(**other), tmp_path / "ledger.db") as runtime:
            assert recall_controls(runtime) == ()
    with runtime_of(planning(), tmp_path / "ledger.db") as again:
        assert len(recall_controls(again)) == 1


def test_what_an_emulator_said_is_nothing_against_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was tried at another endpoint, with the same ledger, leaves the reviewer's standing as it was."""
    for address, found in (
        ("http://127.0.0.1:8485", 0),
        ("https://api.anthropic.com", 0),
        ("http://127.0.0.1:8485", 1),
    ):
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        with runtime_of(planning(), tmp_path / "ledger.db") as runtime:
            assert len(recall_controls(runtime)) == found
            if "127" in address and not found:
                keep_control(runtime, DONE[0])


@pytest.mark.parametrize("ledger", ["ledger.db", "off"])
def test_after_thirty_days_a_control_item_counts_no_more(tmp_path: Path, ledger: str) -> None:
    """A model behind the same name may have changed."""
    wall, where = Clock(), ledger if ledger == "off" else tmp_path / ledger
    with runtime_of(planning(), where, wall) as runtime:
        keep_control(runtime, DONE[0])
        wall.now = 29 * DAY_S
        keep_control(runtime, DONE[3])
        assert len(recall_controls(runtime)) == 2
        wall.now = 31 * DAY_S
        assert [one.is_right for one in recall_controls(runtime)] == [False]


def test_without_a_ledger_the_driver_remembers(connections: Connections) -> None:
    """Also where it goes on with another client; another driver knows nothing."""
    with Cascade(planning(), ledger="off") as driver:
        keep_control(driver._runtime, DONE[0])  # pyright: ignore[reportPrivateUsage]
        other = driver.on(connections.sync_one)
        assert recall_controls(other._runtime) == (DONE[0],)  # pyright: ignore[reportPrivateUsage]
    with runtime_of(planning(), "off") as runtime:
        assert recall_controls(runtime) == ()


def test_a_ledger_that_is_down_fails_nothing_and_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The items are kept in memory meanwhile, and count with those that the ledger has."""
    path = tmp_path / "ledger.db"
    with runtime_of(planning(), path) as runtime, caplog.at_level(logging.WARNING):
        keep_control(runtime, DONE[0])
        kept = path.read_bytes()
        path.unlink()
        path.mkdir()
        for done in DONE[1:4]:
            keep_control(runtime, done)
        assert [one.message.split()[0] for one in caplog.records] == ["plan_controls_unkept"]
        assert len(recall_controls(runtime)) == 3
        path.rmdir()
        path.write_bytes(kept)
        assert standing_of(recall_controls(runtime)) == standing_of(DONE[:4])


def test_a_failed_call_leaves_nothing(tmp_path: Path) -> None:
    """Not even a ledger."""
    with runtime_of(planning(), tmp_path / "ledger.db") as runtime:
        keep_control(runtime, ControlDone(is_right=True, verdict=None))
        assert recall_controls(runtime) == ()
    assert not (tmp_path / "ledger.db").exists()


def test_the_audit_takes_the_reviewer_for_none_of_its_judges(tmp_path: Path) -> None:
    """They share a table, and `cascade audit report` lists the judges in it."""
    policy, path = planning(), tmp_path / "ledger.db"
    with runtime_of(policy, path) as runtime:
        keep_control(runtime, DONE[0])
    tables = AuditTables(str(path))
    assert len(tables.controls(policy.name)) == 1
    assert known_controls(policy, tables, 1.0) == ()
