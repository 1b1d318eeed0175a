"""Traffic that gets worse, through the real engine, the audit's worker and the ratchet: the error that is shipped comes down again."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from benchmarks.audit_drift import POLICY, Plan, Traffic, run
from cascade import hooks


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the disk is, who waits for it gets it."""
    monkeypatch.setattr(hooks, "_LONGEST_WAIT_S", 60.0)


def test_the_ratchet_brings_the_shipped_error_back_below_the_limit(tmp_path: Path) -> None:
    """Every request is audited; each alarm is one step, each step starts the detector anew, and answers climb at it at once."""
    path = tmp_path / "desk.yaml"
    # Uncertified, with two steps: 0.75 to 0.85 and 0.9. A rate of 0.08 is right; on calm days about half of that is shipped.
    audit = (
        "sample: 1.0, lowest_confidence: 0, daily_usd: null, on_alarm: ratchet, max_rate: 0.08, arl: 100, grader: exact"
    )
    text = POLICY.replace("threshold: 0.80", "threshold: 0.75", 1).replace("threshold: 0.80", "threshold: 0.95")
    start, _, _ = text.partition("audit: ")
    path.write_text(f"{start}audit: {{{audit}}}\n", encoding="utf-8")
    with capture_logs() as events:
        found = run(path, Traffic(times=5.0), Plan(change=30, most=300, calm_after=60, batch=30, at_once=1))
    told = [event["event"] for event in events if event["event"].startswith("audit_")]
    first, *bad = found.stretches
    assert (first.bad, first.step) == (False, 0)
    assert [one.step for one in bad] == [0, 1, 2]
    assert told == ["audit_alarm", "audit_ratchet"] * 2
    assert bad[0].error > found.limit > bad[-1].error
    assert bad[-1].rate < found.limit < bad[0].rate
    assert bad[-1].cost / bad[-1].requests > first.cost / first.requests
