"""Requests that are cut off while a check runs: whatever was paid for by then is on the ledger, once, and in the outcome's cost."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

import anthropic
import pytest

from cascade import Cascade, Policy
from cascade.emulator import Emulator, ScriptedReply
from cascade.engine.arguments import AskArguments
from cascade.engine.effects import RunCancellable
from cascade.engine.lifecycle import run_request
from cascade.engine.observing import run_shadow, shadow_context
from cascade.engine.performers import Performer
from tests.live.conftest import COST, HAIKU, OPUS, SONNET, Emulate, ladder
from tests.live.operation.test_books import bodies, entries
from tests.live.operation.test_context import SUMMARIZE, TALK, is_summary, saying
from tests.live.operation.test_handoff import play

PROGRAM: dict[str, Any] = {"checks": [{"not_empty": True}, {"command": ["true"]}]}
VOTING = [
    {"rung": "haiku", "model": HAIKU, "max_tokens": 500, "thinking": "disabled",
     "samples": {"max": 3, "agree": 2, "at_once": 2, "same": "exact"}},
    {"rung": "sonnet", "model": SONNET, "max_tokens": 500, "threshold": 0.8},
    {"rung": "opus", "model": OPUS, "max_tokens": 500},
]  # fmt: skip
COMMIT = {"durability": "commit"}
HAIKUS, SONNETS = COST["haiku"], COST["sonnet"]


def voting(**more: Any) -> Policy:
    """A ladder whose first rung is asked twice at once."""
    return Policy.model_validate({"version": 1, "name": "live", "ladder": VOTING, **PROGRAM, **more})


@pytest.fixture
def played(emulate: Emulate) -> Emulator:
    """Summaries, plans and executions; Haiku is unsure."""

    def script(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        return saying("short") if is_summary(body) else play(body, headers)

    return emulate((), script=script)


def cut_off(driver: Cascade, lifecycle: Generator[Any, Any, Any], at: int) -> None:
    """Do what it asks for, and cancel it during this one of its checks' runs."""
    with closing(lifecycle):
        effect, left = next(lifecycle), at
        while not isinstance(effect, RunCancellable) or left:
            left -= isinstance(effect, RunCancellable)
            effect = lifecycle.send(Performer(driver._providers)._do(lifecycle, effect))
        with pytest.raises(CancelledError):
            lifecycle.throw(CancelledError())


@pytest.mark.parametrize(
    ("policy", "prompt", "at", "paid"),
    [
        pytest.param(ladder(**PROGRAM), "x", 0, [(None, HAIKUS)], id="a rung's own reply"),
        pytest.param(ladder(**PROGRAM), "x", 1, [(None, HAIKUS), (None, SONNETS)], id="that of a rung above"),
        pytest.param(
            ladder(handoff="artifact", ledger=COMMIT, **PROGRAM), "sure", 1,
            [(None, HAIKUS), (None, SONNETS), ("execution", HAIKUS)], id="the execution of a plan",
        ),
        pytest.param(
            ladder(prepare={"summarize": SUMMARIZE}, **PROGRAM), TALK, 0, [("summary", HAIKUS), (None, HAIKUS)],
            id="a summary and the reply by it",
        ),
        pytest.param(voting(ledger=COMMIT), "x", 0, [(None, HAIKUS)] * 2, id="a wave of samples"),
        pytest.param(
            voting(prepare={"summarize": SUMMARIZE}), TALK, 1, [("summary", HAIKUS)] + [(None, HAIKUS)] * 2,
            id="a summary and a wave",
        ),
    ],
)  # fmt: skip
def test_a_request_cut_off_during_a_check_leaves_all_that_it_paid(
    played: Emulator, policy: Policy, prompt: Any, at: int, paid: list[tuple[str | None, int]]
) -> None:
    """`at`: during which of the checks' runs. Each call that was answered is one row; the outcome has their sum."""
    with (
        anthropic.Anthropic(api_key="test", base_url=played.base_url) as client,
        Cascade(policy, client=client) as driver,
    ):
        request = driver._begin(AskArguments(prompt, None, {}).read())
        cut_off(driver, run_request(driver._runtime, request), at)
    kept = entries()
    (outcome,), steps = bodies(kept, "outcome"), bodies(kept, "step")
    assert sorted((str(one.get("auxiliary")), one["cost"]) for one in steps) == sorted(
        (str(kind), cost) for kind, cost in paid
    )
    assert len(played.requests) == len(paid)
    assert (outcome["error"], outcome["cost"]) == ("cancelled", sum(cost for _, cost in paid))


def test_a_shadow_request_that_is_cut_off_leaves_what_it_paid(played: Emulator) -> None:
    """In mode observe, where the loop ends first."""
    policy = ladder(mode="observe", **PROGRAM)
    with anthropic.Anthropic(api_key="test", base_url=played.base_url) as client:
        with Cascade(policy, client=client, ledger="off") as other:
            answered = other.ask("x")
        with Cascade(policy, client=client) as driver:
            context = shadow_context(driver._runtime, driver._begin(AskArguments("x", None, {}).read()))
            cut_off(driver, run_shadow(driver._runtime, context, answered), 1)
    kept = entries()
    assert [(one["rung"], one["cost"]) for one in bodies(kept, "step")] == [("haiku", HAIKUS), ("sonnet", SONNETS)]
    assert bodies(kept, "outcome")[0]["cost"] == HAIKUS + SONNETS
