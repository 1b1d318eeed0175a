"""Climbs that are kept in memory, and what is stored of an outcome: the same as run again, and as read again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.batch.calls import Stored, decode_outcome, kept_outcome
from cascade.batch.climbing import Climber, Finished, Kept, Waiting
from cascade.batch.items import Item
from cascade.claude.wire import outcome_of_message
from cascade.core.budgets import Refusal
from cascade.core.events import Verify
from cascade.core.messages import Failure, Reply, Request, Usage
from cascade.core.trail import CheckResult
from cascade.policy.binding import bind_policy
from cascade.policy.loading import parse_policy

from .conftest import LADDER

POLICIES = {
    "plain": "",
    "votes": "tasks: [{name: voted, when: {words: [question]}, samples: {haiku: {max: 3, agree: 2, same: normalized}}}]\n",
    "judge": "tasks: [{name: voted, when: {words: [question]}, samples: {haiku: {max: 3, agree: 2, same: judge, at_once: 3}}}]\n",
    "review": "checks: [{kind: review, rung: sonnet, below: 0.95}]\n",
    "command": "checks: [{command: [sh, -c, 'true'], name: it-runs}]\n",
    "summary": "prepare: {summarize: {by: haiku, above_tokens: 1, keep_turns: 1}}\n",
    "artifact": "handoff: {artifact: {execute_on: haiku}}\n",
}
PLANS = {name: bind_policy(parse_policy(LADDER + more, environment={}), batch=True) for name, more in POLICIES.items()}

_TEXTS = (
    '{"confidence": 0.97, "answer": "a"}', '{"confidence": 0.85, "answer": "b"}', '{"confidence": 0.2, "answer": "a"}',
    '{"confidence": 0.9, "answer": null}', "plain words", '{"accepted": false, "reason": "no"}', '{"groups": [[1, 2], [3]]}',
)  # fmt: skip
OUTCOMES: list[Stored] = [
    *(Reply(text, "end_turn", Usage(100, 20), "claude-haiku-5-5") for text in _TEXTS),
    Reply("cut", "max_tokens", Usage(100, 20)),
    Failure("overloaded", "busy"),
    Failure("rejected", "not this one", status=400),
    Failure("canceled", "somebody did"),
    Refusal("no room"),
]


def request(turns: int) -> Request:
    """A question, after as many earlier turns."""
    earlier = [
        ({"role": "user", "content": f"turn {n}"}, {"role": "assistant", "content": "yes"}) for n in range(turns)
    ]
    return Request((*(one for pair in earlier for one in pair), {"role": "user", "content": "question"}), id="casc_r_0")


class _Store:
    """What is stored of one item, for one climber."""

    def __init__(self) -> None:
        self.values: dict[str, Stored | tuple[CheckResult, ...]] = {}

    def verify(self, key: str, event: Verify, _: Request) -> tuple[CheckResult, ...]:
        """What the verifiers of the answer say, from its text alone."""
        passed = "b" not in (event.text or "")
        self.values[key] = results = tuple(CheckResult(one.name, passed) for one in event.verifiers)
        return results


def shown(found: Waiting | Finished) -> tuple[Any, ...]:
    """All that the driver goes by, but for what it has counted already."""
    if isinstance(found, Waiting):
        return found.task, found.calls
    error = found.error
    return found.task, found.steps, found.answer, type(error), str(error), found.beside


@pytest.mark.parametrize("name", POLICIES)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_kept_climb_is_the_climb_run_again(name: str, data: st.DataObject) -> None:
    """Whatever the calls come to, and in whatever parts it is known: the same calls, the same end, the same money."""
    item = Item(0, "t", request(data.draw(st.integers(0, 3))))
    ways: list[tuple[Climber, _Store]] = []
    for most in (1_000_000, 0):
        store = _Store()
        ways.append(
            (Climber(PLANS[name], "batch", store.values.get, store.verify, counts=True, kept=Kept(most)), store)
        )
    counted: list[set[str]] = [set(), set()]
    for round_number in range(40):
        found = [climber.run(item, is_new=round_number == 0) for climber, _ in ways]
        assert shown(found[0]) == shown(found[1])
        for seen, one in zip(counted, found, strict=True):
            seen.update(known.key for known in one.known)
        waiting = found[0]
        if isinstance(waiting, Finished):
            break
        come = data.draw(st.lists(st.sampled_from(waiting.calls), min_size=1, unique_by=lambda call: call.key))
        for call in come:
            outcome = data.draw(st.sampled_from(OUTCOMES))
            for _, store in ways:
                store.values[call.key] = outcome
    else:
        raise AssertionError("the climb has no end")
    assert counted[0] == counted[1]


def test_what_has_no_room_is_not_kept_and_what_came_first_stays() -> None:
    """The bound holds, and room is made by what is taken."""
    climber = Climber(PLANS["plain"], "batch", lambda _: None, _Store().verify, kept=(kept := Kept(10_000)))
    items = [Item(number, f"t-{number}", request(0), size=1_000) for number in range(5)]
    for item in items:
        assert isinstance(climber.run(item), Waiting)
    assert [kept.item(number) is not None for number in range(5)] == [True, True, False, False, False]
    assert kept.take(0) is not None
    assert isinstance(climber.run(items[4]), Waiting)
    assert kept.item(4) is items[4]


_TEXT = st.text(st.characters(codec=None), max_size=20)  # with unpaired surrogates
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(
    text=_TEXT, block=st.dictionaries(_TEXT, _JSON, max_size=3), more=_JSON, stop=st.sampled_from(["end_turn", "new"])
)
def test_an_outcome_is_used_as_it_will_be_read_again(text: str, block: dict[str, Any], more: Any, stop: str) -> None:
    """What a run goes on with at once is what it would find after a restart."""
    message = {
        "id": "m", "role": "assistant", "model": "x", "stop_reason": stop, "extra": more,
        "content": [{"type": "text", "text": text}, {**block, "type": "more"}],
        "usage": {"input_tokens": 1, "output_tokens": 2, "service_tier": "batch"},
    }  # fmt: skip
    outcome, kind, written = kept_outcome(outcome_of_message(message, None, {}))
    assert decode_outcome(kind, written) == outcome
