"""Tool loops at work: a driver, the emulator with its prompt cache on loopback, and a script that plays the models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anthropic
import pytest

from cascade import Answer, AsyncCascade, Cascade, Policy
from cascade.core.messages import Usage
from cascade.core.parameters import read_parameters
from cascade.core.policy import Rung
from cascade.core.prices import cost
from cascade.emulator import Emulator, ScriptedReply
from cascade.engine.arguments import Arguments
from cascade.policy.pricing import rates_of
from tests.live.conftest import HAIKU, MODELS, OPUS, SONNET, ladder
from tests.servers import RedisServer

SEARCH = {
    "name": "search",
    "description": "Searches the archive.",
    "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
}
MARK = {"type": "ephemeral"}
MANUAL = "A long manual of the archive. " * 8_000
"""60,000 tokens, at four characters each."""

Send = Callable[[dict[str, Any]], tuple[list[dict[str, Any]], Any]]
"""Sends the parameters of a turn; returns the message's blocks, and what else there is."""


class Agent:
    """An agent with one tool. It marks the end of its history for the cache, as agents do."""

    def __init__(self, send: Send, system: str = "You search.") -> None:
        self._send = send
        self._system = [{"type": "text", "text": system, "cache_control": MARK}]
        self.messages: list[dict[str, Any]] = []

    def say(self, text: str) -> Any:
        """A new user turn."""
        return self._turn([{"type": "text", "text": text}])

    def hand_in(self, found: str = "nothing", *, failed: bool = False) -> Any:
        """The results of the last message's calls."""
        calls = [block["id"] for block in self.messages[-1]["content"] if block["type"] == "tool_use"]
        return self._turn(
            [{"type": "tool_result", "tool_use_id": one, "content": found, "is_error": failed} for one in calls]
        )

    def _turn(self, content: list[dict[str, Any]]) -> Any:
        marked = [*content[:-1], {**content[-1], "cache_control": MARK}]
        messages = [*self.messages, {"role": "user", "content": marked}]
        params = {"max_tokens": 1_000, "system": self._system, "tools": [SEARCH], "messages": messages}
        blocks, returned = self._send(params)
        self.messages += [{"role": "user", "content": content}, {"role": "assistant", "content": blocks}]
        return returned


def climbing(cascade: Cascade, session: str = "") -> Send:
    """By a driver; also returns its answer."""

    def send(params: dict[str, Any]) -> tuple[list[dict[str, Any]], Answer[Any]]:
        answer = cascade.respond(Arguments(read_parameters(params), session=session))
        return [dict(block) for block in answer.message.content], answer

    return send


def directly(client: anthropic.Anthropic, model: str) -> Send:
    """By the SDK's own client to one model; also returns what it cost, in nano-USD."""
    rates = rates_of(Rung(rung="any", model=model, max_tokens=1))

    def send(params: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
        message = client.messages.create(model=model, **params)
        return [block.to_dict() for block in message.content], cost(rates, Usage.from_api(message.usage.to_dict()))

    return send


class Models:
    """The script: models below `calls` hand over; it and those above think (not Haiku) and call the tool."""

    def __init__(self, calls: str, *, repeats: bool = False) -> None:
        self._calls, self._repeats, self._number = calls, repeats, 0

    def __call__(self, body: dict[str, Any], _headers: Mapping[str, str]) -> ScriptedReply | list[dict[str, Any]]:
        """Answer as the model that was asked."""
        order = list(MODELS.values())
        if order.index(body["model"]) < order.index(self._calls):
            return [{"type": "tool_use", "name": "cascade_escalate", "input": {"reason": "it is hard"}}]
        last = body["messages"][-1]["content"][-1]
        if "enough" in (last.get("text"), last.get("content")):
            return ScriptedReply([{"type": "text", "text": f"Done by {body['model']}."}], confidence=0.95)
        self._number += 1
        call = {"type": "tool_use", "name": "search", "input": {"q": "x" if self._repeats else f"x{self._number}"}}
        thinking = [] if body["model"] == HAIKU else [{"type": "thinking", "thinking": f"Thought {self._number}."}]
        return [*thinking, call]


AtWork = Callable[..., Cascade]


@pytest.fixture
def client() -> Iterator[anthropic.Anthropic]:
    """The SDK's client."""
    with anthropic.Anthropic(api_key="test") as one:
        yield one


@pytest.fixture
def at_work(request: pytest.FixtureRequest, client: anthropic.Anthropic) -> AtWork:
    """A driver, and models that a script plays. The emulator refuses thinking that is not its model's own."""

    def begin(script: Models, policy: Policy | None = None) -> Cascade:
        emulator = request.getfixturevalue("emulate")(script)
        one = Cascade(policy or ladder(max_tokens=2_000), client=client.with_options(base_url=emulator.base_url))
        request.addfinalizer(one.close)
        return one

    return begin


@pytest.fixture
def emulate(request: pytest.FixtureRequest) -> Callable[[Models], Emulator]:
    """An emulator with a prompt cache."""

    def begin(script: Models) -> Emulator:
        emulator = Emulator(script=script, caching=True, prefix_check=True)
        emulator.start()
        request.addfinalizer(emulator.stop)
        return emulator

    return begin


def rungs(answer: Answer[Any]) -> list[str]:
    """The rungs that were asked."""
    return [step.rung for step in answer.steps]


def test_a_loop_goes_on_at_the_rung_that_asked_and_a_new_turn_begins_at_haiku(at_work: AtWork) -> None:
    """Five turns on Sonnet, told; its thinking goes back to it. The next question begins below it."""
    agent = Agent(climbing(at_work(Models(SONNET))))
    assert rungs(agent.say("find it")) == ["haiku", "sonnet"]
    for _ in range(4):
        call = agent.messages[-1]["content"][-1]["id"]
        answer = agent.hand_in()
        assert rungs(answer) == ["sonnet"]
        assert answer.notes[0] == f"continued on sonnet: it asked for {call}"
    assert agent.hand_in("enough").text == f"Done by {SONNET}."
    assert rungs(agent.say("find more")) == ["haiku", "sonnet"]


def test_three_tool_errors_climb_one_rung(at_work: AtWork) -> None:
    """Haiku's own third failure; Sonnet goes on, and has three of its own."""
    agent = Agent(climbing(at_work(Models(HAIKU))))
    assert rungs(agent.say("find it")) == ["haiku"]
    answers = [agent.hand_in("HTTP 500", failed=True) for _ in range(6)]
    assert [rungs(answer) for answer in answers] == [["haiku"]] * 2 + [["sonnet"]] * 3 + [["opus"]]
    assert answers[2].notes[0] == "climbed from haiku to sonnet: 3 tool errors in a row"


def test_the_same_call_again_climbs_one_rung(at_work: AtWork) -> None:
    """And again; at the top it is only told."""
    agent = Agent(climbing(at_work(Models(HAIKU, repeats=True))))
    agent.say("find it")
    answers = [agent.hand_in() for _ in range(4)]
    assert [rungs(answer) for answer in answers] == [["haiku"], ["sonnet"], ["opus"], ["opus"]]
    assert answers[1].notes == ("climbed from haiku to sonnet: the same tool call twice in a row",)
    assert answers[3].notes[1] == "the same tool call twice in a row, and no rung above opus may be asked"


def test_an_unknown_call_begins_at_haiku_and_it_is_told(at_work: AtWork) -> None:
    """A direct client made it, say."""
    agent = Agent(climbing(at_work(Models(HAIKU))))
    agent.messages = [
        {"role": "user", "content": [{"type": "text", "text": "find it"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_far", "name": "search", "input": {"q": "x"}}]},
    ]  # fmt: skip
    answer = agent.hand_in()
    assert rungs(answer) == ["haiku"]
    assert answer.notes[0].startswith("began at haiku: which rung asked for toolu_far is not known")


def test_another_driver_of_the_process_goes_on_where_the_first_was_asked(at_work: AtWork) -> None:
    """As after a changed policy was loaded anew."""
    models = Models(SONNET)
    agent = Agent(climbing(at_work(models)))
    agent.say("find it")
    later = Agent(climbing(at_work(models)))
    later.messages = agent.messages
    assert rungs(later.hand_in()) == ["sonnet"]


def test_after_a_climb_sticky_raises_the_floor_and_begins_at_haiku(at_work: AtWork) -> None:
    """Haiku is asked, and is not enough for the next turns."""
    policy = ladder(max_tokens=2_000, sticky={"cool_off": 1, "loop_errors": 1})
    agent = Agent(climbing(at_work(Models(HAIKU), policy)))
    agent.say("find it")
    assert rungs(agent.hand_in("HTTP 500", failed=True)) == ["sonnet"]
    agent.hand_in("enough")
    answer = agent.say("enough")
    assert rungs(answer) == ["haiku", "sonnet"]
    assert answer.steps[0].reason == "floor"
    assert answer.notes == ("floor raised to sonnet for this turn",)
    assert rungs(agent.say("enough")) == ["haiku"]


def test_drivers_of_both_kinds_share_a_loop_over_redis(
    emulate: Callable[[Models], Emulator], client: anthropic.Anthropic, redis_server: RedisServer
) -> None:
    """A sync worker and an async one take turns; streamed or not, the next turn knows where the last one was."""
    base_url = emulate(Models(SONNET)).base_url
    policy = ladder(max_tokens=2_000).model_copy(update={"name": "loops-shared"})

    async def talk() -> list[list[str]]:
        async with (
            anthropic.AsyncAnthropic(api_key="test", base_url=base_url) as own,
            AsyncCascade(policy, client=own, state=redis_server.url) as other,
        ):
            with Cascade(policy, client=client.with_options(base_url=base_url), state=redis_server.url) as one:
                by_one, params = climbing(one), list[dict[str, Any]]()
                agent = Agent(lambda sent: (params.append(sent) or [], None))
                asked: list[list[str]] = []
                for turn in range(6):
                    agent.say("find it") if turn == 0 else agent.hand_in(f"page {turn}")
                    if turn % 3 == 0:
                        blocks, answer = await asyncio.to_thread(by_one, params[-1])
                    else:
                        arguments = Arguments(read_parameters(params[-1]), streamed=turn % 3 == 1)
                        events = other.events(arguments)
                        async for _ in events:
                            pass
                        assert events.answer is not None
                        answer = events.answer
                        blocks = [dict(block) for block in answer.message.content]
                    agent.messages[-1]["content"] = blocks
                    asked.append(rungs(answer))
                return asked

    assert asyncio.run(talk()) == [["haiku", "sonnet"], *[["sonnet"]] * 5]


@pytest.mark.parametrize("calls", [HAIKU, SONNET, OPUS])
def test_a_long_loop_costs_no_more_than_the_warm_baseline_and_the_first_climb(
    at_work: AtWork, emulate: Callable[[Models], Emulator], client: anthropic.Anthropic, calls: str
) -> None:
    """Twenty turns at 60k cached tokens, after each of them: against Opus alone whose cache was warm before its first turn."""
    agent = Agent(climbing(at_work(Models(calls))), MANUAL)
    baseline = Agent(directly(client.with_options(base_url=emulate(Models(OPUS)).base_url), OPUS), MANUAL)
    baseline.say("find it")  # warms its cache, and is not counted
    baseline.messages.clear()
    spent, alone, over, first = 0, 0, list[int](), 0
    for turn in range(20):
        answer = agent.say("find it") if turn == 0 else agent.hand_in(f"page {turn}")
        assert rungs(answer)[-1] == {model: rung for rung, model in MODELS.items()}[calls]
        spent += answer.cost_nanousd
        alone += baseline.say("find it") if turn == 0 else baseline.hand_in(f"page {turn}")
        first = first or spent
        over.append(spent - alone)
    assert answer.steps[0].usage.cache_read > 60_000
    assert max(over) <= first
    print(  # noqa: T201 - it is what the issue asks to be shown
        f"\n20 turns at 60k cached tokens, {calls} asks: {spent / 1e9:.4f} USD, warm Opus alone {alone / 1e9:.4f} USD, "
        f"never more than {max(over) / 1e9:.4f} USD above it; the first climb cost {first / 1e9:.4f} USD"
    )
