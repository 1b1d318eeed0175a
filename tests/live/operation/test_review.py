"""A review before shipping, live: who is asked and paid, what ships, and what is left in the ledger, the spans and the metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import anthropic
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from cascade import AllRungsFailed, Answer, AsyncCascade, BudgetExceeded, Cascade, Policy, cli
from cascade.budgets.gate import bound_of
from cascade.core.messages import Request
from cascade.core.requests import read_messages
from cascade.core.review import build_review_prompt
from cascade.core.step_calls import calls_of
from cascade.core.triage import build_prompt
from cascade.corpora.items import RecordedReview
from cascade.emulator import Emulator, ScriptedReply
from cascade.emulator.prompts import answer_to_review
from cascade.emulator.requests import ApiError
from cascade.ledger.reading import reading
from cascade.ledger.verifying.verification import verify
from cascade.policy.binding import bind_policy
from cascade.replay import replay_item
from cascade.telemetry import OpenTelemetry, Prometheus
from tests.live.conftest import (
    HAIKU,
    OPUS,
    SONNET,
    USAGE,
    Asking,
    Clock,
    Connections,
    Emulate,
    corpus,
    item,
    ladder,
    reasons,
    reply,
)
from tests.live.operation.test_books import bodies, entries

GATE: dict[str, Any] = {"kind": "review", "rung": "sonnet", "below": 0.95}
SAID = {HAIKU: 0.9, SONNET: 0.96, OPUS: None}
PROBLEMS = ("prose", "truncated", "broken")
EVERY = ("accept", "reject", *PROBLEMS)


class Sum(BaseModel):
    """What a structured answer is."""

    n: int


def asked_to_review(body: Mapping[str, Any]) -> str | None:
    """The first turn of the request whose answer is to be reviewed; None if the body asks for something else."""
    content = body["messages"][0]["content"]
    text = content if isinstance(content, str) else content[-1].get("text", "")
    if answer_to_review(body.get("system"), text) is None:
        return None
    return str(json.loads(text)["request"]["turns"][0]["content"])


def script(body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
    """Every model answers; the reviewer does what the request's text says."""
    wanted = asked_to_review(body)
    if wanted is None:
        return saying(f"{body['model']}'s", confidence=SAID[body["model"]])
    if wanted == "broken":
        raise ApiError(500, "api_error", "it broke")
    if wanted in PROBLEMS:
        return saying("I would send it.", stop_reason="max_tokens" if wanted == "truncated" else None)
    return saying(json.dumps({"verdict": wanted, "reason": "SECRET, as it is"}))


def saying(text: str, **more: Any) -> ScriptedReply:
    """A scripted reply of USAGE."""
    return ScriptedReply([{"type": "text", "text": text}], usage=USAGE, **more)


@pytest.fixture
def played(emulate: Emulate) -> Emulator:
    """An emulator that plays `script`."""
    return emulate((), script=script)


def gated(**more: Any) -> Policy:
    """The ladder, with what Haiku ships under 0.95 reviewed by Sonnet."""
    return ladder(checks=[GATE], **more)


def models(emulator: Emulator) -> list[tuple[str, bool]]:
    """The models that were asked, and whether for a review."""
    return [(one.body["model"], asked_to_review(one.body) is not None) for one in emulator.requests]


def test_what_the_reviewer_accepts_ships(asking: Asking, played: Emulator) -> None:
    """Two calls: Haiku's, and Sonnet's review without triage; the answer's cost has both."""
    answer = asking(gated(), played, ledger="off").ask("accept")
    assert (answer.text, answer.rung, answer.degraded) == (f"{HAIKU}'s", "haiku", None)
    assert models(played) == [(HAIKU, False), (SONNET, True)]
    (step,) = answer.steps
    assert step.review is not None
    assert (step.review.accepted, step.review.reason) == (True, "SECRET, as it is")
    own, review = calls_of(step)
    assert own.cost_nanousd < review.cost_nanousd
    assert answer.cost_nanousd == own.cost_nanousd + review.cost_nanousd
    assert json.loads(answer.to_json())["steps"][0]["review"]["accepted"] is True


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("reject", "check_failed", ""), ("prose", "error", "not a review"), ("truncated", "error", "not a review: truncated"),
        ("broken", "error", "server, HTTP 500"),
    ],
)  # fmt: skip
def test_anything_else_climbs(asking: Asking, played: Emulator, text: str, reason: str, detail: str) -> None:
    """A rejection is a failed check, a review that cannot be used an error; the rung above answers, unreviewed."""
    answer = asking(gated(), played, ledger="off").ask(text)
    assert (answer.rung, reasons(answer)) == ("sonnet", [reason, None])
    review = answer.steps[0].review
    assert review is not None
    assert (review.accepted, review.detail, review.attempts) == (
        False if text == "reject" else None, detail, 3 if text == "broken" else 1,
    )  # fmt: skip
    assert models(played)[-1] == (SONNET, False)


def test_a_review_that_comes_too_late_is_an_error(asking: Asking, played: Emulator) -> None:
    """It has what is left of the step's time, half of the request's: with nothing left it is not asked, and nothing is paid."""
    clock = Clock()

    def check(_: str) -> bool:
        clock.now += 60
        return True

    answer = asking(gated(), played, ledger="off", clock=clock).ask("accept", deadline_s=100, checks=[check])
    assert (answer.rung, reasons(answer)) == ("sonnet", ["error", None])
    review = answer.steps[0].review
    assert review is not None
    assert (review.accepted, review.kind, review.attempts, review.cost_nanousd) == (None, "failed", 0, 0)
    assert models(played) == [(HAIKU, False), (SONNET, False)]


def room(*, review: float, **keys: Any) -> Policy:
    """A gated policy with a budget that has room for Haiku's call and this share of the most that the review may cost."""
    plan, request = bind_policy(ladder()), Request(read_messages("accept"))
    first = bound_of(plan.rates[0], build_prompt(plan.policy, 0, request), plan.policy.retry.attempts)
    second = bound_of(
        plan.rates[1], build_review_prompt(plan.policy, 1, request, f"{HAIKU}'s"), plan.policy.retry.attempts
    )
    return gated(budget={"daily_usd": f"{(first + review * second) / 1e9:.9f}", "on_exhausted": "reject"}, **keys)


def test_without_money_for_the_review_the_answer_ships_degraded(asking: Asking, played: Emulator) -> None:
    """It was to be read, so it does not stand; nothing speaks against it, so it is held. The reviewer is not asked."""
    answer = asking(room(review=0.5), played, ledger="off").ask("accept")
    assert (answer.text, answer.degraded, answer.certificate) == (f"{HAIKU}'s", "budget", "uncertified")
    assert models(played) == [(HAIKU, False)]
    assert asking(room(review=1.5), played, ledger="off").ask("accept").degraded is None


def test_what_the_reviewer_rejects_is_not_shipped_when_the_money_ends(asking: Asking, played: Emulator) -> None:
    """Room for the review, and not for Sonnet's answer: there is none that may ship."""
    with pytest.raises(BudgetExceeded, match=r"answered \[review:sonnet\]") as caught:
        asking(room(review=1.0, max_tokens=4_000), played, ledger="off").ask("reject")
    assert [step.verdict.failed_checks for step in caught.value.steps] == [("review:sonnet",)]


def test_a_soft_limit_lets_the_first_call_pass_but_not_its_review(asking: Asking, played: Emulator) -> None:
    """`hold` with nothing left: Haiku is asked, the review is not."""
    policy = gated(budget={"daily_usd": "0.000000001", "on_exhausted": "hold"})
    answer = asking(policy, played, ledger="off").ask("accept")
    assert (answer.degraded, models(played)) == ("budget", [(HAIKU, False)])


@pytest.mark.parametrize("durability", ["batched", "commit"])
def test_a_review_is_a_row_of_its_own_and_the_sums_add_up(asking: Asking, played: Emulator, durability: str) -> None:
    """By the reviewer's model, beside the step that counts once; `verify` adds up the same."""
    driver = asking(gated(ledger={"durability": durability}), played)
    answers = [driver.ask(text) for text in EVERY]
    kept = entries()  # verified
    rows = bodies(kept, "step")
    assert [(row["id"], row["rung"], row["model"], row["cost"], row.get("review", False)) for row in rows] == [
        (answer.request_id, step.rung, call.model, call.cost_nanousd, getattr(call, "is_review", False))
        for answer in answers
        for step in answer.steps
        for call in calls_of(step)
    ]
    reviews = [row for row in rows if row.get("review")]
    assert [(row["variant"], row["more"], row["call"], row["verdict"], row.get("detail")) for row in reviews] == [
        ("review:sonnet", True, 1, "answered", "accept"),
        ("review:sonnet", True, 1, "answered", "reject"),
        ("review:sonnet", True, 1, "malformed", "not a review"),
        ("review:sonnet", True, 1, "truncated", "not a review: truncated"),
        ("review:sonnet", True, 1, "failed", "server, HTTP 500"),
    ]
    assert [row for row in reviews if "reason" in row or "SECRET" in json.dumps(row)] == []
    assert [row.get("reason") for row in rows if row["rung"] == "haiku" and "review" not in row] == [
        None, "check_failed", "error", "error", "error",
    ]  # fmt: skip
    assert [row["cost"] for row in bodies(kept, "outcome")] == [answer.cost_nanousd for answer in answers]
    assert len(bodies(kept, "open")) == (len(rows) if durability == "commit" else 0)
    with reading(None) as reader:
        assert verify(reader).unsettled == 0
        sums = {row[6:8]: row[8:11] for row in reader.spend(0, 1 << 40)}
    cost = {rung: sum(row["cost"] for row in rows if row["rung"] == rung) for rung in ("haiku", "sonnet")}
    reviewed = sum(row["cost"] for row in reviews)
    assert sums == {
        ("haiku", HAIKU): (5, 4, cost["haiku"] - reviewed),
        ("review by sonnet", SONNET): (5, 0, reviewed),
        ("sonnet", SONNET): (4, 0, cost["sonnet"]),
    }


def test_what_the_baseline_would_have_cost_leaves_the_review_out(asking: Asking, played: Emulator) -> None:
    """The estimate is of the prompt and the answer: a review is neither, so a saving is the smaller for it."""
    for policy in (ladder(), gated()):
        asking(policy, played).ask("accept")
    plain, reviewed = bodies(entries(), "outcome")
    assert plain["estimate"] == reviewed["estimate"] > 0
    assert plain["cost"] < reviewed["cost"]


def test_the_reviewers_words_are_stored_only_where_answers_are(asking: Asking, played: Emulator) -> None:
    """As the text of its row, under `content`; costs tell its money by its model."""
    asking(gated(ledger={"content": True}), played).ask("reject")
    entries()
    with reading(None) as reader:
        assert not verify(reader).findings
        (name,) = {entry.request for entry in reader.entries()}
        texts = {content.part: content.text for content in reader.contents([name])}
    assert texts["step:0/1"] == "SECRET, as it is"
    assert texts["step:0"] == f"{HAIKU}'s"


def test_costs_count_the_review_by_the_reviewers_model(
    asking: Asking, played: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """What Sonnet cost, and that it answered nothing."""
    answer = asking(gated(), played).ask("accept")
    entries()
    assert cli.run_command(["costs", "--by", "model", "--json"]) == 0
    lines = {line["model"]: line for line in json.loads(capsys.readouterr().out)["lines"]}
    own, review = calls_of(answer.steps[0])
    told = {model: (line["cost_usd"], line["steps"]) for model, line in lines.items()}
    assert told == {HAIKU: (own.cost_nanousd / 1e9, 1), SONNET: (review.cost_nanousd / 1e9, 0)}


def test_a_request_cancelled_in_its_review_keeps_what_was_answered(emulate: Emulate) -> None:
    """The answer's call is on record as a step, and the review's call is open at its bound."""
    waiting = asyncio.Event()

    async def hang(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        if asked_to_review(body) is not None:
            await waiting.wait()
        return script(body, headers)

    emulator = emulate((), script=hang)

    async def scene() -> None:
        async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="test") as client:
            policy = gated(ledger={"durability": "commit"})
            task = asyncio.create_task(AsyncCascade(policy, client=client).ask("accept"))
            async with asyncio.timeout(30):
                while len(emulator.requests) < 2:  # noqa: ASYNC110 - they come from another thread
                    await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scene())
    kept = entries()
    (row,), (outcome,), opens = bodies(kept, "step"), bodies(kept, "outcome"), bodies(kept, "open")
    assert (row["model"], row.get("call", 0), outcome["error"], outcome["cost"], outcome["steps"]) == (
        HAIKU, 0, "cancelled", row["cost"], 1,
    )  # fmt: skip
    assert [(one["model"], one.get("call", 0)) for one in opens] == [(HAIKU, 0), (SONNET, 1)]
    with reading(None) as reader:
        assert verify(reader).unsettled == 1
        assert reader.spent("live", "policy", "", 0.0, float("inf")) == row["cost"] + opens[1]["bound"]


def test_a_review_is_a_span_and_a_call_of_its_own(asking: Asking, played: Emulator) -> None:
    """Below the climb, by the reviewer's model; the step's reason stays with the answer's call. No word of either is told."""
    spans, registry, provider = InMemorySpanExporter(), CollectorRegistry(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    driver = asking(gated(), played, ledger="off", hooks=[OpenTelemetry(provider), Prometheus(registry)])
    answer = driver.ask("reject")
    calls = sorted((one for one in spans.get_finished_spans() if one.parent), key=lambda one: one.start_time or 0)
    told = [dict(one.attributes or {}) for one in calls]
    names = ("gen_ai.request.model", "cascade.review", "cascade.reason")
    assert [tuple(one.get(name) for name in names) for one in told] == [
        (HAIKU, None, "check_failed"), (SONNET, True, None), (SONNET, None, None),
    ]  # fmt: skip
    assert sum(float(str(one["cascade.cost_usd"])) for one in told) == pytest.approx(answer.cost_usd)
    assert "SECRET" not in "".join(one.to_json() for one in spans.get_finished_spans())
    costs = [
        registry.get_sample_value(
            "cascade_cost_usd_total", {"policy": "live", "rung": rung, "model": model, "arm": "cascade"}
        )
        for rung, model in (("haiku", HAIKU), ("haiku", SONNET), ("sonnet", SONNET))
    ]
    assert sum(cost or 0 for cost in costs) == pytest.approx(answer.cost_usd)
    assert all(costs)


def test_a_stream_waits_for_its_review(played: Emulator, connections: Connections) -> None:
    """The caller is given nothing that a reviewer may still reject; what ships unread begins at once."""
    client = connections.sync_one.with_options(base_url=played.base_url)
    with Cascade(gated(), client=client, ledger="off") as driver:
        for text, model in (("accept", HAIKU), ("reject", SONNET)):
            asked: Any = {"messages": [{"role": "user", "content": text}], "max_tokens": 50, "model": OPUS}
            with driver.messages.stream(**asked) as stream:
                assert "".join(stream.text_stream) == f"{model}'s"
            first, *_ = stream.cascade.steps
            assert (first.verdict.begun, first.review is not None) == (False, True)


def test_calls_of_tools_are_not_reviewed_and_the_answer_after_them_is(
    emulate: Emulate, connections: Connections
) -> None:
    """A call has no confidence of its own; the text that ends the loop has one."""
    tools = [{"name": "look", "input_schema": {"type": "object"}}]

    def use(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        if asked_to_review(body) is None and len(body["messages"]) == 1:
            return ScriptedReply([{"type": "tool_use", "name": "look", "input": {}}], usage=USAGE)
        return script(body, headers)

    emulator = emulate((), script=use)
    client = connections.sync_one.with_options(base_url=emulator.base_url)
    turn: dict[str, Any] = {"role": "user", "content": "accept"}
    asked: Any = {"max_tokens": 50, "model": OPUS, "tools": tools}
    with Cascade(gated(), client=client, ledger="off") as driver:
        called = driver.messages.create(messages=[turn], **asked)
        assert (called.stop_reason, models(emulator)) == ("tool_use", [(HAIKU, False)])
        (call,) = called.content
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "seen"}  # type: ignore[union-attr]
        history = [turn, {"role": "assistant", "content": [call.model_dump()]}, {"role": "user", "content": [result]}]
        told = driver.messages.create(messages=history, **asked)
    assert told.content[0].text == f"{HAIKU}'s"  # type: ignore[union-attr]
    assert models(emulator)[1:] == [(HAIKU, False), (SONNET, True)]


def test_shadow_requests_are_not_reviewed(played: Emulator, connections: Connections) -> None:
    """In mode observe every rung is asked in any case: what the ladder would ship is told without the review."""
    client = connections.sync_one.with_options(base_url=played.base_url)
    policy = gated(mode="observe", observe={"sample": 1.0})
    with Cascade(policy, client=client) as driver:
        assert driver.ask("reject").arm == "observe"
    kept = entries()
    assert sorted((row["arm"], row["rung"]) for row in bodies(kept, "outcome")) == [
        ("observe", "opus"),
        ("shadow", "haiku"),
    ]
    assert not any(reviewed for _, reviewed in models(played))


def test_a_structured_answer_is_reviewed_as_its_json(asking: Asking, emulate: Emulate) -> None:
    """The reviewer sees the JSON text and the schema; a rejected answer has no data."""
    seen: list[Any] = []

    def answer(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        if asked_to_review(body) is None:
            return saying('{"n": 4}', confidence=SAID[body["model"]])
        seen.append(json.loads(body["messages"][0]["content"]))
        return script(body, headers)

    driver = asking(gated(), emulate((), script=answer), ledger="off")
    given = driver.ask("reject", response_model=Sum)
    assert (given.data, reasons(given)) == (Sum(n=4), ["check_failed", None])
    assert given.steps[0].verdict.data is None
    assert json.loads(seen[0]["answer"]) == {"n": 4}
    assert seen[0]["request"]["schema_of_the_answer"]["required"] == ["n"]


def test_nothing_ships_that_no_reviewer_could_read(asking: Asking, emulate: Emulate) -> None:
    """The reviewer is down, and so are the rungs above: an answer that was to be read is not shipped unread."""
    driver = asking(
        gated(), emulate((), script=script, faults=f"overloaded,model={SONNET};overloaded,model={OPUS}"), ledger="off"
    )
    with pytest.raises(AllRungsFailed, match="review:sonnet could not say"):
        driver.ask("accept")


def test_live_and_replay_agree_where_reviews_were_recorded(asking: Asking, emulate: Emulate) -> None:
    """The emulator's reviewer says what the corpus has of it: the same rung ships, for the same reasons and money."""
    verdicts: list[bool | None] = [True, False, None]
    grid = [(confidence, accepted) for confidence in (0.7, 0.8, 0.94, 0.95, 1.0) for accepted in verdicts]
    items = [
        item(
            f"question {confidence} {accepted}",
            reply(
                confidence,
                "haiku's",
                review=RecordedReview("sonnet", accepted, {"input_tokens": 70, "output_tokens": 9}),
            ),
            reply(0.96, "sonnet's"),
            reply(None, "opus's"),
        )
        for confidence, accepted in grid
    ]
    policy = gated()
    driver = asking(policy, emulate(corpus(*items)), ledger="off")
    for one in items:
        live, replayed = driver.ask(one.input), replay_item(bind_policy(policy), one, cost_of="policy")
        assert told(live) == told(replayed)
    assert len({told(replay_item(bind_policy(policy), one, cost_of="policy")) for one in items}) == 5


def told(answer: Answer) -> tuple[Any, ...]:
    """What must be the same live and in replay."""
    reviews = tuple(step.review and step.review.accepted for step in answer.steps)
    return (answer.rung, answer.cost_nanousd, answer.usage, *reasons(answer), *reviews)


def test_the_emulators_own_reviewer_accepts(asking: Asking, emulator: Emulator) -> None:
    """A corpus is enough to try a policy with a review."""
    answer = asking(gated(), emulator, ledger="off").ask("sure")
    review = answer.steps[0].review
    assert review is not None
    assert (answer.text, review.accepted) == ("haiku's", True)
    assert review.reason == "No review of this answer was recorded."
