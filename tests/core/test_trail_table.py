"""The trail as people read it, of a rung that is asked more than once."""

from __future__ import annotations

import pytest

from cascade.core.trail import CheckResult, Sample, Step, Verdict
from cascade.core.trail_table import trail_rows, trail_text
from cascade.core.voting import Vote

UNSAID = CheckResult("tests", None, blocks=True, detail="exit status 7")
SAMPLES = (
    Sample(0, "confidence_first", "haiku-9", Verdict("answered", 0.9, "self_reported", "42"), cost_nanousd=20_000),
    Sample(1, "steps", "haiku-9", Verdict("answered", 0.8, "self_reported", "4", failed_checks=("tests",)), cost_nanousd=20_000),
    Sample(2, "small/steps", "small", Verdict("answered", 0.7, "self_reported", "42", checks=(UNSAID,)), cost_nanousd=5_000),
    Sample(3, "confidence_first", "haiku-9", Verdict("failed", detail="timeout"), attempts=3),
    Sample(3, "judge", "haiku-9", Verdict("answered", text="[[1]]"), cost_nanousd=9_000, is_judge=True),
    Sample(3, "judge", "haiku-9", Verdict("malformed", detail="bad\x1b[31m"), cost_nanousd=9_000, is_judge=True),
)  # fmt: skip
VOTED = Step(
    0, "haiku", "haiku-9", Verdict("answered", text="42", vote=Vote(2, 4, 4, (0,), reached=False, failed=2)),
    cost_nanousd=63_000, reason="error", samples=SAMPLES,
)  # fmt: skip
TOP = Step(1, "opus", "opus-9", Verdict("answered", text="42"), cost_nanousd=1_000_000)


def test_each_call_of_a_vote_is_a_row() -> None:
    """Variant, verdict, confidence, whether it agrees, cost, model and attempts; the step says how the vote went."""
    heads, voted, *calls, top = trail_rows((VOTED, TOP), "opus")
    assert dict(zip(heads, voted, strict=True)) == {
        "step": "1", "rung": "haiku", "verdict": "answered: 1 of 4 samples agree, 2 of 4 needed", "confidence": "",
        "then": "up: error", "USD": "0.000063", "model": "haiku-9", "attempts": "1", "ms": "0",
    }  # fmt: skip
    assert [call[:7] for call in calls] == [
        ("1.1", "· confidence_first", "answered", "0.9", "agrees", "0.000020", "haiku-9"),
        ("1.2", "· steps", "answered [tests]", "0.8", "", "0.000020", "haiku-9"),
        ("1.3", "· small/steps", "answered (tests could not say: exit status 7)", "0.7", "", "0.000005", "small"),
        ("1.4", "· confidence_first", "failed (timeout)", "", "", "0", "haiku-9"),
        ("1.judge", "", "grouped the answers", "", "", "0.000009", "haiku-9"),
        ("1.judge", "", "malformed (bad\x1b[31m)", "", "", "0.000009", "haiku-9"),
    ]
    assert top[4] == "shipped"


@pytest.mark.parametrize("width", [60, 80, 100, 119])
def test_a_narrow_trail_has_a_line_for_each_call(width: int) -> None:
    """Within the width, with another model by its name, and control characters written out."""
    told = trail_text((VOTED, TOP), "opus", width)
    assert max(map(len, told.splitlines())) <= width
    flat = " ".join(told.split())
    for line in (
        "1.1 confidence_first: answered 0.9, agrees; 0.000020 USD, 0 ms",
        "1.2 steps: answered [tests] 0.8; 0.000020 USD",
        "1.3 small/steps: answered (tests could not say: exit status 7) 0.7; 0.000005 USD, 0 ms, small",
        "1.4 confidence_first: failed (timeout); 0 USD, 0 ms, 3 attempts",
        "1.judge: grouped the answers; 0.000009 USD",
        "malformed (bad\\x1b[31m)",
    ):
        assert line in flat


def test_a_wide_trail_is_a_table() -> None:
    """From 120 columns on."""
    lines = trail_text((VOTED, TOP), "opus", 120).splitlines()
    assert lines[0].startswith("step     rung")
    assert max(map(len, lines)) <= 120


def test_the_dictionary_has_the_vote_and_each_sample() -> None:
    """Members by number; each call's variant, model, verdict, checks and cost."""
    vote = VOTED.to_dict()["vote"]
    assert {name: vote[name] for name in ("agree", "max", "asked", "agreed", "members")} == {
        "agree": 2, "max": 4, "asked": 4, "agreed": 1, "members": [0],
    }  # fmt: skip
    samples = vote["samples"]
    assert [(one["variant"], one["model"], one["judge"], one["cost_nanousd"]) for one in samples] == [
        (one.variant, one.model, one.is_judge, one.cost_nanousd) for one in SAMPLES
    ]
    assert samples[2]["checks"] == [
        {"name": "tests", "passed": None, "blocks": True, "seconds": 0.0, "detail": "exit status 7"}
    ]
    assert "checks" not in samples[0]
