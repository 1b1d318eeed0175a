"""What a caller sees at the edges: text beside calls, empty and broken replies, streams that are left, and slow readers."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cascade import AsyncCascade, Cascade
from cascade.core.errors import RequestError
from cascade.emulator import Emulator
from cascade.hooks import Begun, Ended, Track
from tests.live.conftest import COST, HAIKU, OPUS, SONNET, Connections, ladder

from .conftest import BASE, Open, saying, text

ASKED: dict[str, Any] = {**BASE, "messages": [{"role": "user", "content": "x"}]}
LOOK: dict[str, Any] = {
    "name": "look",
    "description": "Looks it up.",
    "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
}
CALL: dict[str, Any] = {"type": "tool_use", "name": "look", "input": {"q": "a"}}


class Endings:
    """A hook that keeps how each request ended."""

    def __init__(self) -> None:
        self.ended_as: list[Ended] = []

    def begin(self, begun: Begun) -> Track:
        """Follow every request."""
        return self

    def calling(self, call: Any) -> None:
        """Nothing is waited for."""

    def ended(self, end: Ended) -> None:
        """Keep it."""
        self.ended_as.append(end)


@pytest.mark.parametrize(
    ("beside", "shown"),
    [
        ('{"confidence": 0.2, "answer": "Let me look."}', ["text", "tool_use"]),
        ('{"confidence": 0.2, "answer": null}', ["tool_use"]),
        ("Let me look.", ["text", "tool_use"]),
    ],
)
def test_beside_a_call_only_the_words_of_an_envelope_are_shown(stage: Open, beside: str, shown: list[str]) -> None:
    """Below the top rung the text beside a call may be an envelope, which is ours."""
    with_script = stage(lambda *_: saying(text(beside), CALL, confidence=None))
    content = with_script.climbing(**ASKED, tools=[LOOK]).content
    assert [block.type for block in content] == shown
    assert all(block.text == "Let me look." for block in content if block.type == "text")


def test_with_tool_choice_none_no_rung_is_told_of_tools(stage: Open) -> None:
    """Neither the tool that escalates nor the rule that names it is there."""
    with_script = stage(lambda *_: saying(text("yes")))
    assert with_script.climbing(**ASKED, tools=[LOOK], tool_choice={"type": "none"}).content[0].text == "yes"
    (body,) = with_script.asked(HAIKU)
    assert [tool["name"] for tool in body["tools"]] == ["look"]
    assert "cascade_escalate" not in str(body["system"])


@pytest.mark.parametrize("blocks", [[CALL | {"input": {"q": 1}}], [CALL | {"name": "other"}]])
def test_a_broken_call_of_the_top_rung_is_shown_and_marked(stage: Open, blocks: list[dict[str, Any]]) -> None:
    """No rung is left, and the caller can tell the model: as it would be without the ladder, whichever way it is asked."""
    with_script = stage(lambda *_: saying(*blocks))
    message = with_script.climbing(**ASKED, tools=[LOOK])
    answer = message.cascade if hasattr(message, "cascade") else with_script.climbing.last.cascade
    assert [step.reason for step in answer.steps] == ["check_failed", "check_failed", None]
    assert (message.model, message.content[0].type, answer.degraded) == (OPUS, "tool_use", "check_failed")


def test_an_empty_stream_of_the_top_rung_is_marked(connections: Connections) -> None:
    """Its thinking has been given out; that no word followed is said."""
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}

    def script(body: dict[str, Any], _: Any) -> Any:
        return saying(thinking) if body["model"] == OPUS else saying(text("low"), confidence=0.3)

    with Emulator((), script=script) as emulator:
        client = connections.sync_one.with_options(base_url=emulator.base_url)
        with Cascade(ladder(), client=client, ledger="off") as driver, driver.messages.stream(**ASKED) as stream:
            stream.until_done()
            assert (stream.cascade.rung, stream.cascade.degraded) == ("opus", "check_failed")


def test_an_unpaired_surrogate_in_a_tool_is_refused_before_anything_is_sent(stage: Open) -> None:
    """It is no text, so no model could be sent it."""
    with_script = stage(lambda *_: saying(text("yes")))
    with pytest.raises(RequestError, match=r"tools\[0\].*surrogate"):
        with_script.climbing(**ASKED, tools=[LOOK | {"description": "\ud800"}])
    assert with_script.emulator.requests == ()


@pytest.mark.parametrize("late", [0, 3])
def test_a_stream_that_is_left_is_on_record_as_far_as_it_came(connections: Connections, late: int) -> None:
    """The prompt's tokens are known, the reply's are an estimate; a budget settles at that, not at the most it might have been."""
    policy = ladder(budget={"daily_usd": 1, "on_exhausted": "alert"})
    endings = Endings()
    with Emulator((), script=lambda *_: saying(text("word " * 80)), token_latency_s=0.002) as emulator:
        client = connections.sync_one.with_options(base_url=emulator.base_url)
        with Cascade(policy, client=client, ledger="off", hooks=[endings]) as driver:
            stream = driver.messages.create(**ASKED, stream=True)
            for number, _ in enumerate(stream):
                if number == late:
                    break
            stream.close()
    (end,) = endings.ended_as
    (step,) = end.steps
    assert (end.answer, end.error, end.is_known) == (None, None, True)
    assert (step.rung, step.usage.is_estimate) == ("haiku", True)
    assert step.usage.input_tokens > 0
    assert 0 < step.cost_nanousd < 10 * COST["haiku"]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_shipped_stream_has_the_whole_deadline(connections: Connections, way: str) -> None:
    """Half of it is kept for the rungs above, which are asked no more once it ships."""
    with Emulator((), script=lambda *_: saying(text("word " * 32)), token_latency_s=0.02) as emulator:
        if way == "sync":
            client: Any = connections.sync_one.with_options(base_url=emulator.base_url)
            driver = Cascade(ladder(deadline_s=1.5), client=client, ledger="off", chance=random.Random(0))
            with driver, driver.messages.stream(**ASKED) as stream:
                said = "".join(stream.text_stream)
        else:
            client = connections.async_one.with_options(base_url=emulator.base_url)

            async def read() -> str:
                other = AsyncCascade(ladder(deadline_s=1.5), client=client, ledger="off")
                async with other.messages.stream(**ASKED) as stream:
                    return "".join([piece async for piece in stream.text_stream])

            said = connections.runner.run(read())
    assert said == "word " * 32


def test_a_reader_that_is_slow_breaks_no_stream(connections: Connections) -> None:
    """The deadline counts the time that the models take, not that of the caller."""
    clock = [0.0]
    with Emulator((), script=lambda *_: saying(text("word " * 20))) as emulator:
        client = connections.sync_one.with_options(base_url=emulator.base_url)
        with Cascade(ladder(deadline_s=10), client=client, ledger="off", clock=lambda: clock[0]) as driver:
            said = ""
            with driver.messages.stream(**ASKED) as stream:
                for piece in stream.text_stream:
                    clock[0] += 5.0
                    said += piece
    assert said == "word " * 20


def test_the_baselines_own_thinking_goes_back_to_it(connections: Connections) -> None:
    """With mode off a request goes unchanged to one model, whose thinking its tool loop needs."""
    thinking = {"type": "thinking", "thinking": "hm"}
    with Emulator((), script=lambda *_: saying(thinking, CALL)) as emulator:
        client = connections.sync_one.with_options(base_url=emulator.base_url)
        with Cascade(ladder(mode="off"), client=client, ledger="off") as driver:
            first: Any = driver.messages.create(**ASKED, tools=[LOOK])
            blocks = [block.to_dict() for block in first.content]
            result = {"type": "tool_result", "tool_use_id": blocks[1]["id"], "content": "21"}
            messages = [
                *ASKED["messages"],
                {"role": "assistant", "content": blocks},
                {"role": "user", "content": [result]},
            ]
            driver.messages.create(**{**ASKED, "messages": messages}, tools=[LOOK])
        last = emulator.requests[-1].body
    assert last is not None
    assert [block["type"] for block in last["messages"][1]["content"]] == ["thinking", "tool_use"]


def test_a_rung_with_a_thinking_budget_goes_on_with_another_rungs_loop(connections: Connections) -> None:
    """It has no thinking of its own before the call, so its thinking is turned off for this turn."""
    old = "claude-haiku-4-5"
    policy = ladder()
    rungs = [policy.ladder[0].model_dump(exclude_unset=True) | {"model": old, "thinking": {"budget_tokens": 1024}}]
    rungs += [rung.model_dump(exclude_unset=True) for rung in policy.ladder[1:]]
    unknown = [
        *ASKED["messages"],
        {"role": "assistant", "content": [CALL | {"id": "toolu_9"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_9", "content": "21"}]},
    ]
    with Emulator((), script=lambda *_: saying(text("It is 21."))) as emulator:
        client = connections.sync_one.with_options(base_url=emulator.base_url)
        made = type(policy).model_validate({"version": 1, "name": "old", "ladder": rungs})
        with Cascade(made, client=client, ledger="off") as driver:
            message = driver.messages.create(**{**ASKED, "messages": unknown}, tools=[LOOK])
    assert (message.model, message.content[0].text) == (old, "It is 21.")


def test_a_soft_budget_lets_a_tool_loop_go_on_where_it_is(connections: Connections) -> None:
    """The first call of a request is always made, also where that is not the first rung's."""

    def script(body: dict[str, Any], _: Any) -> Any:
        if isinstance(body["messages"][-1]["content"], list):
            return saying(text("It is 21."))
        return saying(CALL) if body["model"] == SONNET else saying(text("?"), confidence=0.1)

    policy = ladder(budget={"daily_usd": 0.12, "on_exhausted": "hold"})
    with Emulator((), script=script) as emulator:
        client = connections.sync_one.with_options(base_url=emulator.base_url)
        with Cascade(policy, client=client, ledger="off") as driver:
            first: Any = driver.messages.create(**ASKED, tools=[LOOK])
            blocks = [block.to_dict() for block in first.content]
            result = {"type": "tool_result", "tool_use_id": blocks[-1]["id"], "content": "21 " * 20_000}
            messages = [
                *ASKED["messages"],
                {"role": "assistant", "content": blocks},
                {"role": "user", "content": [result]},
            ]
            second = driver.messages.create(**{**ASKED, "messages": messages}, tools=[LOOK])
    assert (first.model, second.model) == (SONNET, SONNET)
