"""Handoffs, live: planned above and executed below, what is left in the ledger and the audit, and plans carried across turns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from cascade import Answer, AsyncCascade, Cascade, Policy, UpstreamRejected, cli
from cascade.audit.rates import Loss, rates_of
from cascade.core.handoff.words import is_plan_request, plan_in
from cascade.core.messages import Request
from cascade.core.policy.certificate import Escalation
from cascade.core.prompts.handoff import ARTIFACT_VERSION
from cascade.core.requests import read_messages
from cascade.core.triage import build_prompt
from cascade.emulator import Emulator, ScriptedReply
from cascade.emulator.requests import ApiError
from cascade.engine.carrying import Carried, conversation_of
from cascade.ledger.audit import AuditTables
from cascade.ledger.reading import reading
from cascade.ledger.requests import gather, with_texts
from cascade.ledger.verifying.verification import verify
from cascade.state.opening import open_state
from tests.live.conftest import HAIKU, OPUS, SONNET, USAGE, Asking, Driver, Emulate, corpus, item, ladder, reply
from tests.live.operation.test_books import bodies, entries
from tests.servers import RedisServer

PLAN: dict[str, Any] = {
    "intent": "Say when it comes.", "tone": "kind", "must_mention": ["Monday"], "forbidden": ["Tuesday"], "next_action": ""
}  # fmt: skip
GOOD = "It comes on Monday."
KEPT = {"content": True}


class Sum(BaseModel):
    """What a structured answer is."""

    n: int


def handing(handoff: Any = "artifact", **more: Any) -> Policy:
    """The ladder with a handoff; Haiku answers by plans."""
    return ladder(handoff=handoff, **more)


def told(body: Mapping[str, Any]) -> list[str]:
    """The blocks of a request's system prompt."""
    system = body.get("system") or []
    return [system] if isinstance(system, str) else [block["text"] for block in system]


def kind_of(body: Mapping[str, Any]) -> str:
    """What a request asks for: a plan, an execution, a verdict or a plain answer."""
    if any(map(is_plan_request, told(body))):
        return "plan"
    if any(plan_in(text) is not None for text in told(body)):
        return "execution"
    return "triage" if body["model"] != OPUS else "plain"


def asked(emulator: Emulator) -> list[tuple[str, str]]:
    """Which models were asked for what."""
    return [(one.body["model"], kind_of(one.body)) for one in emulator.requests]


def saying(text: str, **more: Any) -> ScriptedReply:
    """A scripted reply of USAGE."""
    return ScriptedReply([{"type": "text", "text": text}], usage=USAGE, **more)


def play(body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
    """Haiku is unsure; Sonnet plans as sure as the text says; the execution does what the text says."""
    text, kind = _text(body), kind_of(body)
    if kind == "triage":
        return saying("haiku's", confidence=0.5)
    if kind == "plain":
        return saying("opus's own")
    if kind == "plan":
        plan = {**PLAN, "intent": f"{PLAN['intent']} ({text})"} if "no plan" not in text else {"intent": "?"}
        sure = 0.9 if "sure" in text else 0.5
        return saying(json.dumps(plan if body["model"] == OPUS else {"confidence": sure, "answer": plan}))
    if "broken" in text:
        raise ApiError(500, "api_error", "it broke")
    if "rejected" in text:
        raise ApiError(404, "not_found_error", "no such model")
    if "truncated" in text:
        return saying(GOOD, stop_reason="max_tokens")
    return saying("It comes on Tuesday." if "forbidden" in text else "Soon." if "unmentioned" in text else GOOD)


def _text(body: Mapping[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


@pytest.fixture
def played(emulate: Emulate) -> Emulator:
    """An emulator that plays `play`."""
    return emulate((), script=play)


def test_the_recorded_answers_come_back_by_way_of_plans(asking: Asking, emulator: Emulator) -> None:
    """Over the emulator's corpora: what Sonnet and Opus would have answered, planned by them and written by Haiku."""
    driver = asking(handing(), emulator, ledger="off")
    unsure, hard = driver.ask("unsure"), driver.ask("hard")
    assert [(one.text, one.rung, one.degraded) for one in (unsure, hard)] == [
        ("sonnet's", "sonnet", None), ("opus's", "opus", None),
    ]  # fmt: skip
    assert asked(emulator) == [
        (HAIKU, "triage"), (SONNET, "plan"), (HAIKU, "execution"),
        (HAIKU, "triage"), (SONNET, "plan"), (OPUS, "plan"), (HAIKU, "execution"),
    ]  # fmt: skip
    for answer in (unsure, hard):
        assert answer.cost_nanousd == sum(step.cost_nanousd for step in answer.steps)
        assert answer.steps[-1].handed is not None
        assert answer.steps[-1].handed.executed_by == "haiku"
        assert f"answered by haiku ({HAIKU})" in answer.notes[0]
    assert emulator.billed.usage == unsure.usage + hard.usage


def test_a_structured_answer_is_planned_too(asking: Asking, emulate: Emulate) -> None:
    """The executor is asked in the caller's schema; the plan has its own."""
    recorded = corpus(item("count", reply(0.3, {"n": 1}), reply(0.9, {"n": 2}), reply(None, {"n": 3})))
    emulator = emulate(recorded)
    answer = asking(handing(), emulator, ledger="off").ask("count", response_model=Sum)
    assert (answer.data, answer.rung) == (Sum(n=2), "sonnet")
    formats = [one.body["output_config"]["format"]["schema"]["properties"] for one in emulator.requests]
    assert [sorted(one) for one in formats] == [["answer", "confidence"], ["answer", "confidence"], ["n"]]


def test_the_doubt_is_told_above_and_nothing_else_changes(asking: Asking, emulator: Emulator) -> None:
    """One block more at the end of the system prompt; the same answers at the same rungs."""
    doubting, plain = (asking(handing(one), emulator, ledger="off") for one in ("doubt", "none"))
    texts = ("sure", "unsure", "hard", "declined")
    first = [doubting.ask(text) for text in texts]
    systems = [told(one.body) for one in emulator.requests]
    second = [plain.ask(text) for text in texts]
    others = [told(one.body) for one in emulator.requests[len(systems) :]]
    assert [(one.text, one.rung) for one in first] == [(one.text, one.rung) for one in second]
    above = [one.body["model"] != HAIKU for one in emulator.requests[: len(systems)]]
    assert [len(one) - len(other) for one, other in zip(systems, others, strict=True)] == above
    assert all(one[: len(other)] == other for one, other in zip(systems, others, strict=True))


@pytest.mark.parametrize(
    ("text", "calls", "shipped", "rung"),
    [
        ("sure", ["plan", "execution"], GOOD, "sonnet"),
        ("sure, forbidden", ["plan", "execution", "plan", "execution", "plain"], "opus's own", "opus"),
        ("sure, unmentioned", ["plan", "execution", "plan", "execution", "plain"], "opus's own", "opus"),
        ("sure, truncated", ["plan", "execution", "plan", "execution", "plain"], "opus's own", "opus"),
        ("sure, broken", ["plan", *["execution"] * 3, "plan", *["execution"] * 3, "plain"], "opus's own", "opus"),
        ("no plan", ["plan", "plan", "plain"], "opus's own", "opus"),
        ("may be", ["plan", "plan", "execution"], GOOD, "opus"),
    ],
)
def test_each_way_that_a_plan_can_fail_ends_in_an_answer(
    asking: Asking, played: Emulator, text: str, calls: list[str], shipped: str, rung: str
) -> None:
    """Below the top it climbs, at the top it is asked plainly once; what was paid is in the answer."""
    answer = asking(handing(), played, ledger="off").ask(text)
    assert [kind for _, kind in asked(played)] == ["triage", *calls]
    assert (answer.text, answer.rung, answer.degraded) == (shipped, rung, None)
    assert played.billed.usage == answer.usage


def test_an_execution_that_is_rejected_is_raised_at_once(asking: Asking, played: Emulator) -> None:
    """It is the configuration's fault; what was asked stands in the trail."""
    with pytest.raises(UpstreamRejected, match="haiku") as caught:
        asking(handing(), played, ledger="off").ask("sure, rejected")
    assert [step.rung for step in caught.value.steps] == ["haiku", "sonnet"]


@pytest.mark.parametrize("content", [True, False])
@pytest.mark.parametrize("durability", ["batched", "commit"])
def test_the_ledger_has_the_handoff_and_the_plan_only_with_content(
    asking: Asking, played: Emulator, durability: str, content: bool
) -> None:
    """Version, executor and both calls in any case; the books add up, and `verify` finds each text's digest."""
    policy = handing(ledger={"content": content, "durability": durability})
    answer = asking(policy, played).ask("sure")
    steps = bodies(entries(), "step")
    assert [(one["rung"], one.get("auxiliary"), one.get("handed", {}).get("executed_by")) for one in steps] == [
        ("haiku", None, None), ("sonnet", None, "haiku"), ("sonnet", "execution", None),
    ]  # fmt: skip
    handed = steps[1]["handed"]
    assert (handed["kind"], handed["version"], handed["model"]) == ("artifact", ARTIFACT_VERSION, HAIKU)
    assert ("content" in handed) is content
    assert sum(one["cost"] for one in steps) == answer.cost_nanousd
    with reading(None) as reader:
        (record,) = with_texts(reader, gather(reader))
    if not content:
        assert record.texts == {}
        return
    assert json.loads(record.texts["handed:1"])["must_mention"] == ["Monday"]
    assert record.texts["step:1"] == GOOD


def test_plans_are_exported_redacted_and_erased_as_answers_are(
    asking: Asking, played: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ledger export` has them beside the calls; `redact` is called with each of their texts; `erase` removes them."""
    policy = handing(ledger={"content": True, "redact": f"{__name__}:masked"})
    asking(policy, played).ask("sure secret", metadata={"customer": "ann"})
    entries()
    assert cli.run_command(["ledger", "export", "--content"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["steps"][1]["handed"]["executed_by"] == "haiku"
    assert "secret" not in json.dumps(line["texts"])
    assert "[masked]" in line["texts"]["handed:1"]
    assert cli.run_command(["ledger", "erase", "--where", "customer=ann"]) == 0
    capsys.readouterr()
    assert cli.run_command(["ledger", "export", "--content"]) == 0
    assert json.loads(capsys.readouterr().out)["texts"] == {}


def masked(text: str) -> str:
    """A user's `redact`."""
    return text.replace("secret", "[masked]")


def test_executed_answers_are_graded_apart_and_count_as_below_the_top(asking: Asking, played: Emulator) -> None:
    """An answer that Haiku wrote by Opus's plan is not Opus's: the loss counts it, in a line of its own."""
    policy = handing(ledger=KEPT, audit={"sample": 1.0, "grader": "exact"})
    driver = asking(policy, played)
    for text in ("may be", "no plan"):
        driver.ask(text)
    entries()
    samples = AuditTables().samples(policy.name)
    assert sorted((one.rung, one.executed_by, one.is_top, one.is_below) for one in samples) == [
        ("opus", "", True, False), ("opus", "haiku", True, True),
    ]  # fmt: skip
    lines = [(one.rung, one.executed_by, one.below) for one in rates_of(samples, Loss())]
    assert lines == [(None, "", 1), (None, "", 1), ("opus", "", 0), ("opus", "haiku", 1)]


def test_the_estimate_of_the_baseline_is_of_the_answer(asking: Asking, played: Emulator) -> None:
    """The outcome on record has an estimate for an executed answer, too."""
    asking(handing(), played).ask("sure")
    (outcome,) = bodies(entries(), "outcome")
    assert outcome["estimate"] > 0


def test_a_request_that_is_cancelled_during_its_execution_is_booked(emulate: Emulate) -> None:
    """The plan stands with what it cost; the execution that was sent stays announced, at the most that it may have cost."""
    waiting = asyncio.Event()  # set by nobody: the request is cancelled

    async def hang(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        if kind_of(body) == "execution":
            await waiting.wait()
        return play(body, headers)

    emulator = emulate((), script=hang)

    async def scene() -> None:
        async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="test") as client:
            task = asyncio.create_task(
                AsyncCascade(handing(ledger={"durability": "commit"}), client=client).ask("sure")
            )
            async with asyncio.timeout(60):
                while len(emulator.requests) < 3:  # noqa: ASYNC110 - they come from another thread
                    await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scene())
    kept = entries()
    steps, (outcome,), opens = bodies(kept, "step"), bodies(kept, "outcome"), bodies(kept, "open")
    assert [(one["model"], one.get("handed", {}).get("kind")) for one in steps] == [(HAIKU, None), (SONNET, "artifact")]
    assert (outcome["error"], outcome["cost"]) == ("cancelled", sum(one["cost"] for one in steps))
    assert [one["model"] for one in opens] == [HAIKU, SONNET, HAIKU]
    with reading(None) as reader:
        assert verify(reader).unsettled == 1


def test_the_drop_in_client_returns_the_executed_message_and_its_turns_carry_plans(played: Emulator) -> None:
    """Over the SDK's own client: content that is sent back as it came names the conversation."""
    with (
        anthropic.Anthropic(base_url=played.base_url, api_key="test") as client,
        Cascade(handing(ledger=KEPT), client=client, ledger="off") as cascade,
    ):
        turns: list[Any] = [{"role": "user", "content": "sure one"}]
        message = cascade.messages.create(model="x", max_tokens=500, messages=turns)
        assert message.content[0].text == GOOD  # type: ignore[union-attr]
        turns += [{"role": "assistant", "content": message.content}, {"role": "user", "content": "sure two"}]
        cascade.messages.create(model="x", max_tokens=500, messages=turns)
    assert ["(sure one)" in text for text in plans_asked(played)] == [False, True]


def turn(driver: Driver, turns: list[dict[str, Any]], text: str, **more: Any) -> Answer:
    """One turn of a conversation."""
    turns.append({"role": "user", "content": text})
    answer = driver.ask(list(turns), **more)
    turns.append({"role": "assistant", "content": [{"type": "text", "text": str(answer.text)}]})
    return answer


def plans_asked(emulator: Emulator) -> list[str]:
    """What the planning rungs were told, their last block."""
    return [told(one.body)[-1] for one in emulator.requests if kind_of(one.body) == "plan"]


@pytest.mark.parametrize("where", ["memory", "redis"])
def test_the_last_plan_is_carried_to_the_next_turn(
    asking: Asking, played: Emulator, request: pytest.FixtureRequest, where: str
) -> None:
    """By another driver too: planner and executor of the next turn are given it, and the one after gets the newer one."""
    state = None
    if where == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        state = server.url
    name = f"carried-{where}-{request.node.callspec.params['asking']}"
    policy = Policy.model_validate({**_values(handing(ledger=KEPT)), "name": name})
    turns: list[dict[str, Any]] = []
    for text in ("sure one", "sure two", "sure three"):
        turn(asking(policy, played, state=state, ledger="off"), turns, text)
    first, second, third = plans_asked(played)
    assert "sure one" not in first
    assert "(sure one)" in second
    assert "(sure two)" in third
    assert "(sure one)" not in third
    executed = [told(one.body)[-1] for one in played.requests if kind_of(one.body) == "execution"]
    assert ["(sure one)" in text for text in executed] == [True, True, False]


def _values(policy: Policy) -> dict[str, Any]:
    return policy.model_dump(mode="json", by_alias=True, exclude_unset=True)


def test_nothing_is_carried_to_a_conversation_that_only_begins_alike(asking: Asking, played: Emulator) -> None:
    """Another answer, another system prompt, another customer or session: another conversation."""
    driver = asking(handing(ledger=KEPT), played, ledger="off")
    turns: list[dict[str, Any]] = []
    turn(driver, turns, "sure one", system="for Ann", metadata={"customer": "ann"})
    changed = [turns[0], {"role": "assistant", "content": "It comes some day."}]
    same: dict[str, Any] = {"system": "for Ann", "metadata": {"customer": "ann"}}
    for history, more in (
        (changed, same),
        (turns, {**same, "system": "for Bob"}),
        (turns, {**same, "metadata": {"customer": "bob"}}),
        (turns, same),
    ):
        turn(driver, list(history), "sure two", **more)
    assert ["(sure one)" in text for text in plans_asked(played)] == [False, False, False, False, True]


def test_without_content_a_count_is_kept_and_no_word(asking: Asking, played: Emulator) -> None:
    """A plan may quote the user, and the state is shared."""
    driver = asking(handing(), played, ledger="off")
    turns: list[dict[str, Any]] = []
    for text in ("sure one", "sure two"):
        turn(driver, turns, text)
    assert not any("(sure one)" in text for text in plans_asked(played))


def test_more_than_eight_handoffs_in_one_conversation_are_told_once(asking: Asking, played: Emulator) -> None:
    """One event at the ninth, with the policy and the count; no text."""
    driver = asking(handing(), played, ledger="off")
    turns: list[dict[str, Any]] = []
    with capture_logs() as logs:
        for number in range(11):
            turn(driver, turns, f"sure {number}")
    events = [one for one in logs if one["event"] == "handoffs_many"]
    assert [(one["policy"], one["handoffs"]) for one in events] == [("live", 9)]
    assert "sure" not in json.dumps(events)


def test_what_the_state_cannot_read_is_not_carried() -> None:
    """A value of another version, or from anybody who can write to Redis: the plan is read as a reply's is."""
    policy = handing(ledger=KEPT)
    state = open_state(None, policy, Escalation(), lambda: 0.0, seed=None)
    turns = read_messages(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    )
    conversation = conversation_of(Request(turns), policy, "", "unreadable")
    assert conversation is not None
    assert conversation.key is not None
    version = ARTIFACT_VERSION
    good = {"version": version, "handoffs": 2, "artifact": PLAN}
    for value, expected in (
        (json.dumps(good), Carried(PLAN, 2)),
        (json.dumps({**good, "version": "older"}), Carried(None, 2)),
        (json.dumps({**good, "artifact": {"intent": "x"}}), Carried(None, 2)),
        (json.dumps({**good, "handoffs": -1}), Carried()),
        ("[" * 5_000, Carried()),
        ("{}", Carried()),
        ("x" * 20_000, Carried()),
    ):
        state.remember((conversation.key,), value, 60.0)
        assert conversation.recall(state) == expected
    assert conversation_of(Request(turns[:1]), policy, "", "") is not None
    assert conversation_of(Request(turns), ladder(), "", "") is None


def test_the_prompt_without_a_handoff_is_the_same_to_the_byte() -> None:
    """With `none` every rung is asked what it was asked before there were handoffs."""
    request = Request(read_messages("hello"), system="be kind")
    for index in range(3):
        assert build_prompt(handing("none"), index, request) == build_prompt(ladder(), index, request)
