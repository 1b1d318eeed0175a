"""A rung that is asked more than once: a span and a count for each call, and one step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from cascade.core.messages import Usage
from cascade.core.trail import Sample, Step, Verdict
from cascade.core.voting import Vote
from cascade.hooks import Calling, Ended, Hook, unfinished_calls
from cascade.telemetry import Prometheus
from tests.telemetry.scenes import ANSWERED, PLAN, answer_of, begun
from tests.telemetry.test_metrics import read
from tests.telemetry.test_spans import Seen, seen

__all__ = ["seen"]

_SAID = Verdict("answered", 0.5, "self_reported", "SECRET answer")
CALLS = (
    Sample(0, "steps", "model-0", _SAID, Usage(100, 20), 300_000, 1, 0.25, "req_1"),
    Sample(1, "other", "model-x", _SAID, Usage(10, 2), 30_000, 1, 0.5, "req_2"),
    Sample(1, "judge", "model-0", _SAID, Usage(50, 5), 100_000, 1, 0.125, "req_3", is_judge=True),
    Sample(2, "steps", "model-0", Verdict("failed", detail="timeout, no reply"), attempts=4),
)
DISAGREED = Step(
    0, "r0", "model-0", replace(_SAID, vote=Vote(2, 3, 3, (0,), reached=False, failed=1)), Usage(160, 27), 430_000, 7, 0.875,
    reason="disagreement", samples=CALLS,
)  # fmt: skip


def calls(at_once: int) -> list[Calling]:
    """How they are announced: samples 0 and 1 one after the other or at once, the judge, sample 2; then the next rung."""
    rung, second = PLAN.policy.ladder[0], CALLS[:1] if at_once == 1 else ()
    votes = [((), 0), (second, 1), (CALLS[:2], None), (CALLS[:3], 2)]
    return [
        *(Calling(0, rung, (), 0, taken, number) for taken, number in votes),
        Calling(1, PLAN.policy.ladder[1], (DISAGREED,)),
    ]


def told(hook: Hook, announced: list[Calling], end: Ended) -> None:
    """Tell a hook of these calls, and of the end."""
    track = hook.begin(begun())
    assert track is not None
    for call in announced:
        track.calling(call)
    track.ended(end)


WHOLE = Ended((DISAGREED, ANSWERED), answer_of(DISAGREED, ANSWERED), None, 0.75)


@pytest.mark.parametrize("at_once", [1, 2])
def test_each_call_has_a_place_in_its_step(at_once: int) -> None:
    """Samples and the judge's calls together, in waves or one after the other."""
    assert [call.place for call in calls(at_once)] == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("at_once", [1, 2])
def test_each_sample_is_a_span_with_its_own_tokens_and_the_last_one_has_the_vote(seen: Seen, at_once: int) -> None:
    """Number, variant and model of each; the judge is marked, and is no sample."""
    told(seen.hook, calls(at_once), WHOLE)
    *asked, _, climb = seen.finished()
    found = [dict(one.attributes or {}) for one in asked]
    names = ("cascade.sample", "cascade.variant", "cascade.judge", "gen_ai.usage.input_tokens", "cascade.cost_usd")
    assert [tuple(one.get(name) for name in names) for one in found] == [
        (0, "steps", None, 100, 0.0003), (1, "other", None, 10, 0.00003), (None, None, True, 50, 0.0001), (2, "steps", None, 0, 0.0),
    ]  # fmt: skip
    assert [one["cascade.rung"] for one in found] == ["r0"] * 4
    votes = [tuple(one.get(f"cascade.vote.{name}") for name in ("agreed", "asked", "needed")) for one in found]
    assert votes == [(None, None, None)] * 3 + [(1, 3, 2)]
    assert [one.get("cascade.reason") for one in found] == [None, None, None, "disagreement"]
    assert [one.get("error.type") for one in found] == [None, None, None, "timeout"]
    assert (climb.attributes or {})["cascade.cost_usd"] == (430_000 + 300_000) / 1e9
    assert "SECRET" not in "".join(one.to_json() for one in seen.finished())


def test_a_step_is_counted_once_and_each_of_its_calls(seen: Seen) -> None:
    """Money and tokens by the model of each call."""
    registry = CollectorRegistry()
    told(Prometheus(registry), calls(2), WHOLE)
    own: dict[str, Any] = {"rung": "r0", "model": "model-0"}
    assert [
        read(registry, "cascade_steps_total", **own, verdict="answered", reason="disagreement"),
        read(registry, "cascade_calls_total", **own, verdict="answered"),
        read(registry, "cascade_calls_total", **own, verdict="failed"),
        read(registry, "cascade_calls_total", rung="r0", model="model-x", verdict="answered"),
        read(registry, "cascade_calls_total", rung="r1", model="model-1", verdict="answered"),
        read(registry, "cascade_cost_usd_total", rung="r0", model="model-x", arm="cascade"),
        read(registry, "cascade_tokens_total", **own, kind="input"),
        read(registry, "cascade_step_seconds_sum", **own),
    ] == [1, 2, 1, 1, 1, 0.00003, 150, 0.875]


def test_a_request_cut_off_in_a_vote_shows_and_counts_the_samples_so_far(seen: Seen) -> None:
    """Two samples came, two of a wave were under way: these are told as cancelled."""
    rung = PLAN.policy.ladder[0]
    announced = [
        *(Calling(0, rung, (), 0, (), number) for number in (0, 1)),
        *(Calling(0, rung, (), 0, CALLS[:2], number) for number in (2, 3)),
    ]
    cut = Ended((), None, None, 0.75)
    registry = CollectorRegistry()
    for hook in (seen.hook, Prometheus(registry)):
        told(hook, announced, cut)
    assert [(one.attributes or {}).get("error.type") for one in seen.finished()] == [None, None, *["cancelled"] * 3]
    assert (seen.finished()[-1].attributes or {})["cascade.cost_usd"] == 330_000 / 1e9
    assert read(registry, "cascade_calls_total", rung="r0", model="model-0", verdict="answered") == 1
    assert read(registry, "cascade_cost_usd_total", rung="r0", model="model-x", arm="cascade") == 0.00003
    assert (unfinished_calls(announced[-1], cut), unfinished_calls(None, cut)) == (CALLS[:2], ())
