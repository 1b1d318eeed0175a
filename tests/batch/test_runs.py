"""`Cascade.batch`: answers, errors, money and records are those of `ask`, at half the price."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel

from cascade import Answer, AsyncCascade, Cascade, Policy
from cascade.batch import BatchLimits
from cascade.core.errors import BatchCanceled, BudgetExceeded, ConfigurationError, RequestError
from cascade.core.messages import Reply, Usage
from cascade.core.triage import Prompt
from cascade.costs import costs
from cascade.costs.rows import PeriodSums
from cascade.emulator import Emulator
from cascade.ledger.reading import reading
from cascade.ledger.verifying.verification import verify
from cascade.policy.loading import parse_policy

from .conftest import LADDER, LIMITS

Emulate = Callable[..., tuple[Emulator, anthropic.Anthropic]]

INPUTS = [f"question {number}, climb {number % 3}" for number in range(9)]

POLICIES = {
    "plain": "",
    "votes": """tasks:
  - {name: voted, when: {words: [question]}, samples: {haiku: {max: 3, agree: 2, same: normalized}}}
""",
    "judge": """tasks:
  - {name: voted, when: {words: [question]}, samples: {haiku: {max: 3, agree: 2, same: judge, at_once: 3}}}
""",
    "review": "checks: [{kind: review, rung: sonnet, below: 0.95}]\n",
    "command": """checks: [{command: [sh, -c, "! grep -q '0 by haiku'"], name: no-zeros}]\n""",
    "off": "mode: 'off'\n",
    "observe": "mode: observe\n",
}


def shown(answer: Any) -> tuple[Any, ...]:
    """What must not depend on the way it was asked."""
    if isinstance(answer, Answer):
        steps = [
            (s.rung, s.verdict.kind, s.reason, s.usage, len(s.samples), s.review is not None) for s in answer.steps
        ]
        return answer.text, answer.rung, answer.confidence, answer.degraded, answer.abstained, steps
    return type(answer), len(getattr(answer, "steps", ()))


@pytest.mark.parametrize("name", POLICIES)
def test_a_batch_answers_as_ask_does_at_half_the_price(
    name: str, emulate: Emulate, policy_of: Callable[..., Policy], home: Path
) -> None:
    """Under votes, judges, reviews, programs and every mode; each item is on a sound ledger once."""
    _, client = emulate()
    with Cascade(policy_of(POLICIES[name]), client=client) as driver:
        found = driver.batch(INPUTS, limits=LIMITS).run()
    with Cascade(
        policy_of(POLICIES[name].replace("mode: observe", "mode: 'off'")), client=client, ledger="off"
    ) as live:
        asked = [live.ask(text) for text in INPUTS]
    assert [shown(one) for one in found] == [shown(one) for one in asked]
    answers = [one for one in found if isinstance(one, Answer)]
    assert 2 * sum(one.cost_nanousd for one in answers) == sum(one.cost_nanousd for one in asked)
    assert {one.arm for one in answers} == {"bypass" if name in ("off", "observe") else "batch"}
    with reading(str(home / "ledger.db")) as reader:
        assert verify(reader).is_sound
        ended = Counter(entry.request for entry in reader.entries() if entry.kind == "outcome")
    assert ended == Counter(one.request_id for one in answers)


def test_errors_are_values_in_their_places(emulate: Emulate, policy_of: Callable[..., Policy]) -> None:
    """An input that no rung can take, and one whose calls are refused, cost the others nothing."""
    _, client = emulate(faults="invalid_request,times=1")
    prefill = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "{"}]
    with Cascade(policy_of(), client=client) as driver:
        refused, one, unasked, other = driver.batch(["refused", "one", prefill, "other"], limits=LIMITS).run()
    assert isinstance(one, Answer)
    assert isinstance(other, Answer)
    assert isinstance(unasked, RequestError)
    assert type(refused).__name__ == "UpstreamRejected"


def test_canceled_calls_end_their_inputs_and_pay_no_rung_above(
    emulate: Emulate, policy_of: Callable[..., Policy]
) -> None:
    """Whoever cancels a batch does not want Sonnet to be asked instead."""
    emulator, client = emulate(faults="canceled")
    with Cascade(policy_of(), client=client) as driver:
        found = driver.batch(INPUTS, limits=LIMITS).run()
    assert {type(one) for one in found} == {BatchCanceled}
    assert not emulator.batches.paid


def test_live_calls_of_a_run_that_is_stopped_are_not_made_again(
    emulate: Emulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rung that batches do not reach is called live, and each of its answers is stored as it comes."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    _, client = emulate()
    other = "gpt-6-luna, provider: openai, price: {input: 1, output: 2}"
    policy = parse_policy(LADDER.replace("claude-opus-5-5", other), environment={})
    made: list[str] = []

    def call(prompt: Prompt) -> Reply:
        text = str(prompt.messages[-1]["content"])
        if text.startswith("4") and text not in made:
            made.append(text)
            raise KeyboardInterrupt
        made.append(text)
        return Reply(text, "end_turn", Usage(1, 1))

    with Cascade(policy, client=client) as driver:
        run = driver.batch([f"{n}, climb 2" for n in range(9)], limits=LIMITS)
        calling = replace(run, _means=lambda settings: replace(run._means(settings), call=call))
        with pytest.raises(KeyboardInterrupt):
            calling.run()
        assert {one.rung for one in calling.run() if isinstance(one, Answer)} == {"opus"}
    assert all(made.count(f"{n}, climb 2") == 1 for n in range(4))


def test_what_was_paid_beside_a_canceled_call_is_counted(
    emulate: Emulate, policy_of: Callable[..., Policy], home: Path
) -> None:
    """Of a vote's three calls one is canceled: the other two are on the ledger and in the results, and no judge is asked."""
    emulator, client = emulate(faults="canceled,times=1")
    with Cascade(policy_of(POLICIES["judge"]), client=client) as driver:
        run = driver.batch(INPUTS[:1], limits=LIMITS)
        (found,) = run.run()
    assert isinstance(found, BatchCanceled)
    assert emulator.batches.billed.replies == 2
    assert run.counts.cost == sum(step.cost_nanousd for step in found.steps) == 20_000
    with reading(str(home / "ledger.db")) as reader:
        assert verify(reader).is_sound
        rows = PeriodSums.of(reader.spend(0, 10**11), reader.traffic(0, 10**11))
        assert sum(row.cost for row in rows.spend) == sum(row.cost for row in rows.traffic) == 20_000


def test_a_summary_is_counted_though_its_rung_is_refused(
    emulate: Emulate, policy_of: Callable[..., Policy], home: Path
) -> None:
    """The limit has room for the summary, and not for the first rung after it."""
    _, client = emulate(usage={"input_tokens": 35_000, "output_tokens": 500})
    policy = policy_of("prepare: {summarize: {by: haiku, above_tokens: 1000, keep_turns: 1}}\n")
    turns = [("user", "hello " * 4000), ("assistant", "ok " * 2000), ("user", "and?")]
    with Cascade(policy, client=client) as driver:
        run = driver.batch([[{"role": role, "content": text} for role, text in turns]], max_usd=0.00192, limits=LIMITS)
        (found,) = run.run()
    assert isinstance(found, BudgetExceeded)
    assert "only a summary was paid for, 0.001875 USD" in str(found)
    assert run.counts.cost == 1_875_000
    with reading(str(home / "ledger.db")) as reader:
        rows = PeriodSums.of(reader.spend(0, 10**11), reader.traffic(0, 10**11))
        assert sum(row.cost for row in rows.spend) == sum(row.cost for row in rows.traffic) == 1_875_000


def test_a_limit_is_never_exceeded_and_the_best_held_ships(emulate: Emulate, policy_of: Callable[..., Policy]) -> None:
    """The first rung's calls fit, those above do not: what is held ships, degraded; with less, nothing is asked."""
    emulator, client = emulate()
    with Cascade(policy_of(), client=client) as driver:
        run = driver.batch([f"question {n}, climb 2" for n in range(5)], max_usd=0.012, limits=LIMITS)
        found = run.run()
        assert {getattr(one, "degraded", None) for one in found} == {"budget"}
        assert run.counts.cost <= 12_000_000
        asked = len(emulator.batches.paid)
        nothing = driver.batch(["another"], max_usd=0.000001, limits=LIMITS).run()
    assert isinstance(nothing[0], BudgetExceeded)
    assert len(emulator.batches.paid) == asked


def test_the_policys_budgets_hold_too(emulate: Emulate, policy_of: Callable[..., Policy]) -> None:
    """A daily budget with room for some of the calls refuses the others."""
    _, client = emulate()
    policy = policy_of("budget: {daily_usd: 0.0015, on_exhausted: reject}\n")
    with Cascade(policy, client=client) as driver:
        found = Counter(type(one).__name__ for one in driver.batch(INPUTS, limits=LIMITS).run())
    assert found["BudgetExceeded"] > 0
    assert found["Answer"] > 0


def test_looking_often_reserves_no_more_than_once(emulate: Emulate, policy_of: Callable[..., Policy]) -> None:
    """What is under way holds its part of the budget while the run is driven, and others may have it in between."""
    _, client = emulate(faults="slow_end,polls=50")
    with Cascade(policy_of("budget: {daily_usd: 0.02, on_exhausted: reject}\n"), client=client) as driver:
        run = driver.batch(INPUTS, run="r", limits=LIMITS).send()
        for _ in range(9):
            run.look()
        assert driver.ask("question").rung == "haiku"


def test_a_named_run_goes_on_and_refuses_other_inputs(emulate: Emulate, policy_of: Callable[..., Policy]) -> None:
    """`send` returns; the same call takes it up, with the inputs or without; other inputs or another policy are told."""
    emulator, client = emulate(faults="slow_end,polls=1")
    with Cascade(policy_of(), client=client) as driver:
        run = driver.batch(INPUTS, run="named", limits=LIMITS).send()
        assert (run.counts.items, run.counts.done) == (9, 0)
        assert driver.batch(INPUTS, run="named", limits=LIMITS).run() == driver.batch(run="named").run()
        with pytest.raises(ConfigurationError, match="other inputs"):
            driver.batch([*INPUTS, "more"], run="named")
    with (
        Cascade(policy_of("deadline_s: 60\n"), client=client) as other,
        pytest.raises(ConfigurationError, match="another policy"),
    ):
        other.batch(run="named")
    assert set(emulator.batches.paid.values()) == {1}


def test_a_look_sends_what_follows_though_a_batch_is_under_way(
    emulate: Emulate, policy_of: Callable[..., Policy]
) -> None:
    """Of two batches one has ended: its inputs go on to the next rung, and nobody waits for the other."""
    _, client = emulate(faults="slow_end,polls=50,times=1")
    limits = replace(LIMITS, max_requests=3)
    with Cascade(policy_of(), client=client) as driver:
        driver.batch([f"{n}, climb 2" for n in range(6)], run="r", limits=limits).send().look()
    assert len(list(client.messages.batches.list())) == 3


class Said(BaseModel):
    """What an answer is."""

    text: str


def test_items_have_options_and_one_type_for_all(emulate: Emulate, policy_of: Callable[..., Policy]) -> None:
    """Tasks, metadata and names per item; `response_model` for all; unknown keys are refused."""
    _, client = emulate()
    item: Any = {"id": "a", "input": "question", "task": "mine", "metadata": {"customer": "c"}, "max_tokens": 50}
    with Cascade(policy_of(), client=client) as driver:
        (answer,) = driver.batch([item], limits=LIMITS).run()
        assert isinstance(answer, Answer)
        assert (answer.task, dict(answer.metadata)) == ("mine", {"customer": "c"})
        (typed,) = driver.batch(["{}"], response_model=Said, checks=[lambda _: True], limits=LIMITS).run()
        assert not isinstance(typed, Answer) or isinstance(typed.data, Said)
        with pytest.raises(RequestError, match=r"input 1: 'temperature' is not known here"):
            driver.batch([{"input": "q", "temperature": 0}], limits=LIMITS)  # type: ignore[typeddict-unknown-key]
        with pytest.raises(ConfigurationError, match="'a' occurs twice"):
            driver.batch([item, item], limits=LIMITS)


def test_asyncio_has_the_same(
    emulate: Emulate, policy_of: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Driven in a thread, with a sync client of its own; a client that was passed in is refused."""
    emulator, client = emulate()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")

    async def main() -> list[Any]:
        async with AsyncCascade(policy_of()) as driver:
            run = driver.batch(INPUTS, limits=LIMITS)
            return [one async for one in run]

    found = asyncio.run(main())
    with Cascade(policy_of(), client=client, ledger="off") as live:
        assert [shown(one) for one in found] == [shown(live.ask(text)) for text in INPUTS]
    given = AsyncCascade(policy_of(), client=anthropic.AsyncAnthropic(api_key="k"))
    with pytest.raises(ConfigurationError, match="sync client"):
        given.batch(INPUTS)


def test_asyncio_can_cancel_it(
    emulate: Emulate, policy_of: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that waits for the batches ends too: the loop closes, and the run can be taken up at once."""
    emulator, _ = emulate(faults="slow_end,polls=1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")

    async def main() -> None:
        sent, loop = asyncio.Event(), asyncio.get_running_loop()
        async with AsyncCascade(policy_of()) as driver:

            def tell(_: object) -> None:
                loop.call_soon_threadsafe(sent.set)

            run = driver.batch(INPUTS, run="r", limits=BatchLimits(poll_s=3600), on_progress=tell)
            waiting = asyncio.create_task(run.run())
            await sent.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(main())
    with Cascade(policy_of()) as driver:
        assert len(driver.batch(run="r", limits=LIMITS).run()) == len(INPUTS)
    assert set(emulator.batches.processed.values()) == {1}


def test_costs_count_batches_among_the_ladders_and_the_audit_samples_them(
    emulate: Emulate, policy_of: Callable[..., Policy], home: Path
) -> None:
    """The arm is listed, the escalation and the saving are the ladder's, at batch prices on both sides."""
    _, client = emulate()
    policy = policy_of("ledger: {content: true}\naudit: {sample: 1.0}\n")
    with Cascade(policy, client=client) as driver:
        driver.batch(INPUTS, limits=LIMITS).drive()
    with reading(str(home / "ledger.db")) as reader:
        rows = PeriodSums.of(reader.spend(0, 10**11), reader.traffic(0, 10**11))
        found = costs(rows, PeriodSums(), "task")
        top = [json.loads(entry.body) for entry in reader.entries() if entry.kind == "outcome"]
    assert [line.name for line in found.arms] == ["batch"]
    assert (found.total.climbs, found.total.escalated) == (9, 6)
    assert found.saving is not None
    assert (found.saving.basis, found.saving.requests) == ("estimate", 9)
    assert found.saving.baseline == sum(body["estimate"] for body in top)
    assert all(body["estimate"] == 100 * 2_000 + 20 * 10_000 for body in top if body["rung"] == "opus")
