"""A vote that something stops: a budget, the deadline, a cancellation, a request that the endpoint refuses."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import anthropic
import pytest

from cascade import AsyncCascade, BudgetExceeded, DeadlineExceeded, Policy, UpstreamRejected
from cascade.budgets.gate import bound_of
from cascade.core.budgets import applicable_budgets
from cascade.core.messages import Request
from cascade.core.requests import read_messages
from cascade.core.triage import build_prompt
from cascade.ledger.reading import reading
from cascade.ledger.verifying.verification import verify
from cascade.policy.binding import bind_policy
from cascade.state.memory import process_counters
from tests.live.conftest import COST, HAIKU, Asking, error_body, ladder, reasons
from tests.live.operation.test_books import bodies, entries

from .conftest import Provide
from .provider import BUSY, HANG, asked_often, in_turn, says

YES, NO, DECLINED = says(0.9, "yes"), says(0.9, "no"), says(0.9, None)
SLACK_S = 1.5  # what a busy machine may add
ONE = COST["haiku"]


def bound() -> int:
    """The most that one sample may cost, in nano-USD."""
    plan = bind_policy(ladder())
    return bound_of(plan.rates[0], build_prompt(plan.policy, 0, Request(read_messages("?"))), 1)


def counted(policy: Policy) -> tuple[int, int]:
    """What the policy's daily budget counts: settled and reserved, in nano-USD."""
    (limits,) = policy.budget
    (daily,) = applicable_budgets(limits, policy.name, "other", {}, datetime.now(UTC))
    return process_counters(policy.name).spent(daily.counter)


def limited(nano_usd: int, *, at_once: int = 1, **more: Any) -> Policy:
    """Haiku's vote under a hard daily limit; each call is on record before it is made."""
    return asked_often(
        samples={"at_once": at_once},
        name="limited",
        budget={"daily_usd": f"{nano_usd / 1e9:.9f}", "on_exhausted": "reject"},
        ledger={"durability": "commit"},
        **more,
    )


@pytest.mark.parametrize(("at_once", "last"), [(1, 0), (1, 1), (1, 2), (1, 3), (3, 0), (3, 1)])
def test_a_budget_may_run_out_after_any_sample(asking: Asking, provide: Provide, at_once: int, last: int) -> None:
    """The vote ends there; the best answer ships, marked; counters and ledger are exact; no call is made beyond."""
    before = 0 if at_once > 1 else last * ONE  # what is settled when the last sample that has room is admitted
    policy = limited(before + bound() * (last + 1 if at_once > 1 else 1) + ONE // 2, at_once=at_once)
    provider = provide(in_turn(YES, NO, YES, YES, YES))
    answer = asking(policy, provider).ask("?")
    (step,) = answer.steps
    assert (answer.degraded, answer.text in ("yes", "no"), reasons(answer)) == ("budget", True, [None])
    assert at_once > 1 or answer.text == "yes"
    assert (len(provider.asked), len(step.samples), answer.cost_nanousd) == (last + 1, last + 1, (last + 1) * ONE)
    assert step.verdict.vote is not None
    assert (step.verdict.vote.asked, step.verdict.vote.reached) == (last + 1, False)
    assert counted(policy) == ((last + 1) * ONE, 0)
    kept = entries()
    assert [row["cost"] for row in bodies(kept, "step")] == [ONE] * (last + 1)
    assert [body["cost"] for body in bodies(kept, "outcome")] == [(last + 1) * ONE]
    with reading(None) as reader:
        assert verify(reader).unsettled == 0
        assert reader.spent("limited", "policy", "", 0.0, float("inf")) == (last + 1) * ONE


def test_a_budget_that_runs_out_with_nothing_to_ship_is_an_error_with_the_trail(
    asking: Asking, provide: Provide
) -> None:
    """Two declined samples were paid; the error names the budget and has them."""
    policy = limited(ONE + bound() + ONE // 2)
    with pytest.raises(BudgetExceeded, match="the daily budget of limited") as caught:
        asking(policy, provide(in_turn(DECLINED))).ask("?")
    (step,) = caught.value.steps
    assert (len(step.samples), step.cost_nanousd, counted(policy)) == (2, 2 * ONE, (2 * ONE, 0))


def test_a_whole_wave_is_counted(asking: Asking, provide: Provide) -> None:
    """Five samples at once: each is reserved before it is sent, and each settled at its cost."""
    policy = limited(bound() * 5, at_once=5)
    answer = asking(policy, provide(in_turn(YES))).ask("?")
    assert (answer.text, answer.degraded, answer.cost_nanousd) == ("yes", None, 5 * ONE)
    assert counted(policy) == (5 * ONE, 0)
    short = limited(bound() * 5 - 1 + 5 * ONE, at_once=5)  # what was spent is counted already
    assert asking(short, provide(in_turn(YES))).ask("?").cost_nanousd == 4 * ONE


def test_the_deadline_ends_a_vote_and_what_it_has_ships(asking: Asking, provide: Provide) -> None:
    """A sample that hangs takes the rung's share of the time; those after it are not sent; nothing above answers in time."""
    provider = provide(in_turn(YES, HANG, above=HANG))
    answer = asking(asked_often(), provider).ask("?", deadline_s=0.6)
    assert (answer.text, answer.rung, answer.degraded) == ("yes", "haiku", "deadline")
    assert answer.latency_s < 0.6 + SLACK_S
    samples = answer.steps[0].samples
    assert [sample.verdict.kind for sample in samples[:2]] == ["answered", "failed"]
    assert sum(asked.model == HAIKU for asked in provider.asked) == 2
    assert (samples[0].cost_nanousd, answer.cost_nanousd) == (ONE, ONE)


def test_the_deadline_of_a_vote_without_an_answer_is_an_error(asking: Asking, provide: Provide) -> None:
    """The trail has the samples that hung."""
    with pytest.raises(DeadlineExceeded) as caught:
        asking(asked_often(samples={"at_once": 2}), provide(in_turn(HANG, above=HANG))).ask("?", deadline_s=0.6)
    assert {sample.verdict.kind for sample in caught.value.steps[0].samples} == {"failed"}


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_vote_that_is_cancelled_leaves_nothing_behind(provide: Provide, at_once: int) -> None:
    """The connections of the wave are closed; each call under way counts as the most it may have cost; the next ask works."""
    provider = provide(in_turn(YES, NO, HANG, YES))
    policy = limited(bound() * 9, at_once=at_once)

    async def scene() -> None:
        async with anthropic.AsyncAnthropic(base_url=provider.base_url, api_key="test") as client:
            driver = AsyncCascade(policy, client=client)
            task = asyncio.create_task(driver.ask("?"))
            assert await asyncio.to_thread(provider.hanging.acquire, timeout=30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(provider.gone.acquire, timeout=30)
            settled, under_way = (2 * ONE, 1) if at_once == 1 else (0, 3)  # no reply of the wave was told
            assert counted(policy) == (settled + under_way * bound(), 0)
            assert len(provider.asked) == 3
            turned = await driver.ask("again")
            assert turned.text == "yes"

    asyncio.run(scene())


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_request_that_is_refused_in_a_vote_is_raised_at_once(asking: Asking, provide: Provide, at_once: int) -> None:
    """HTTP 400 is nobody's vote: it is raised with the trail, the other samples of the wave are billed, nothing else is asked."""
    refused = (400, error_body("invalid_request_error", "temperature: not allowed"))
    provider = provide(in_turn(YES, refused, YES))
    policy = limited(bound() * 9, at_once=at_once)
    with pytest.raises(UpstreamRejected, match="temperature: not allowed") as caught:
        asking(policy, provider).ask("?")
    (step,) = caught.value.steps
    asked = 2 if at_once == 1 else 3
    assert (len(provider.asked), len(step.samples)) == (asked, asked)
    assert sorted(sample.cost_nanousd for sample in step.samples) == [0, *[ONE] * (asked - 1)]
    assert (step.cost_nanousd, counted(policy)) == ((asked - 1) * ONE, ((asked - 1) * ONE, 0))
    rows = bodies(entries(), "step")
    assert sorted(row["cost"] for row in rows) == [0, *[ONE] * (asked - 1)]
    with reading(None) as reader:
        assert verify(reader).unsettled == 0


@pytest.mark.parametrize("fault", BUSY, ids=str)
def test_an_outage_in_the_middle_of_a_vote_is_an_error_where_it_decided(
    asking: Asking, provide: Provide, fault: Any
) -> None:
    """Failed samples that could have agreed: `error`. Enough agree without them: the vote stands. They could not: `disagreement`."""
    policy = asked_often(most=4, agree=3, retry={"attempts": 1})
    asked = asking(policy, provide(in_turn(YES, fault, YES, fault))).ask("?")
    assert (asked.text, reasons(asked)) == ("sonnet's", ["error", None])
    stands = asking(policy, provide(in_turn(YES, fault, YES, YES))).ask("?")
    assert (stands.text, stands.confidence, stands.confidence_source) == ("yes", 0.75, "agreement")
    differ = asking(policy, provide(in_turn(YES, NO, fault, says(0.9, "maybe")))).ask("?")
    assert reasons(differ) == ["disagreement", None]


def test_a_failed_sample_is_tried_again_within_the_vote(asking: Asking, provide: Provide) -> None:
    """Retries are the sample's own: it then counts as if nothing had been."""
    started = time.monotonic()
    answer = asking(asked_often(most=2, agree=2), provide(in_turn(YES, BUSY[1], YES))).ask("?")
    assert (answer.text, answer.cost_nanousd) == ("yes", 2 * ONE)
    assert [sample.attempts for sample in answer.steps[0].samples] == [1, 2]
    assert time.monotonic() - started < 30
