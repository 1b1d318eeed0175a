"""`prompt_cache: auto` through the real SDK: marks by the interval, and what the emulator's own bill says of it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import anthropic
import pytest

from cascade import Answer, Cascade
from cascade.core.messages import Usage
from cascade.core.prices import cost
from cascade.core.prompt_caching import Breakpoint
from cascade.emulator import Emulator
from cascade.emulator.scripting import ScriptedReply
from cascade.engine.prompt_marks import PromptIntervals
from cascade.hooks import Begun, Calling, Ended
from cascade.policy.pricing import rates_of
from tests.live.conftest import HAIKU, MODELS, Clock, ladder

SYSTEM = "You are the support of a shop. " * 150  # about 1,160 tokens


def script(body: dict[str, Any], _headers: Any) -> ScriptedReply:
    """Haiku is unsure of what is hard."""
    sure = body["model"] != HAIKU or "hard" not in str(body["messages"][-1]["content"])
    return ScriptedReply([{"type": "text", "text": "It is on its way. " * 20}], confidence=0.95 if sure else 0.1)


def prices_of(rung: str, usage: Usage) -> int:
    """What it costs at the rung's list prices; a sum of short calls is of one price tier."""
    return cost(rates_of(next(one for one in ladder().ladder if one.rung == rung)), usage)


@dataclass
class Talked:
    """What was asked and paid: nano-USD by the answers' trails, the emulator's own usage, and the bodies that it saw."""

    cost: int
    billed: Usage
    bodies: list[dict[str, Any]]
    rungs: list[str | None]

    @property
    def marks(self) -> list[int]:
        """The marks of each request."""
        return [json.dumps(body).count('"cache_control"') for body in self.bodies]


@pytest.fixture
def clock() -> Clock:
    """Of the driver and of the emulator's caches."""
    return Clock()


@pytest.fixture
def talk(clock: Clock) -> Iterator[Callable[..., Talked]]:
    """Hold conversations with a driver of this mode; `pause_s` after each turn."""
    with ExitStack() as stack:

        def run(mode: str, *turns: str, pause_s: float = 60.0, conversations: int = 1, **more: Any) -> Talked:
            emulator = stack.enter_context(Emulator(script=script, caching=True, clock=clock, keep_requests=99))
            client = stack.enter_context(anthropic.Anthropic(base_url=emulator.base_url, api_key="t", max_retries=0))
            policy = ladder(prompt_cache=mode, max_tokens=900, budget={"daily_usd": 100})
            driver = stack.enter_context(Cascade(policy, client=client, ledger="off", clock=clock, **more))
            answers: list[Answer[Any]] = []
            for number in range(conversations):
                messages: list[dict[str, Any]] = []
                for turn in turns:
                    messages.append({"role": "user", "content": f"{number}: {turn}"})
                    answers.append(driver.ask(messages, system=SYSTEM, deadline_s=3600.0))
                    messages.append({"role": "assistant", "content": answers[-1].text})
                    clock.now += pause_s
            cost = sum(answer.cost_nanousd for answer in answers)
            bodies = [seen.body for seen in emulator.requests]
            return Talked(cost, emulator.billed.usage, bodies, [answer.rung for answer in answers])

        yield run


class Bounds:
    """Hears of every call's bound, and of every step's cost."""

    def __init__(self) -> None:
        self.bounds: list[int] = []
        self.costs: list[int] = []

    def begin(self, _begun: Begun) -> Bounds:
        """Every request."""
        return self

    def calling(self, call: Calling) -> None:
        """Before the call."""
        self.bounds.append(call.bound)

    def ended(self, end: Ended) -> None:
        """After it."""
        self.costs += [step.cost_nanousd for step in end.steps]


TURNS = ("where is my order?", "and the other one?", "can it be faster?", "thanks, and the invoice?", "one last thing")


def test_a_conversation_costs_less_by_the_emulators_own_usage(talk: Callable[..., Talked]) -> None:
    """A minute between turns: the first writes nothing, from the second on what comes again is written, then read."""
    plain, cached = talk("off", *TURNS), talk("auto", *TURNS)
    assert plain.rungs == cached.rungs == ["haiku"] * 5
    assert plain.marks == [0] * 5
    assert cached.marks == [0, 2, 2, 2, 2]
    assert plain.billed.prompt_tokens == cached.billed.prompt_tokens
    assert plain.billed.cache_read == 0 < cached.billed.cache_read
    assert cached.billed.cache_write_1h == 0
    assert cached.cost == prices_of("haiku", cached.billed)
    assert cached.cost < 0.7 * plain.cost


def test_a_single_request_costs_exactly_the_same(talk: Callable[..., Talked]) -> None:
    """Nothing is marked at first sight, on any rung: the bodies are the same, byte for byte."""
    plain, cached = talk("off", "a hard one"), talk("auto", "a hard one")
    assert plain.rungs == cached.rungs == ["sonnet"]
    assert cached == plain


@pytest.mark.parametrize(
    ("pause_s", "written"), [(299.0, "cache_write_5m"), (1200.0, "cache_write_1h"), (3700.0, None)]
)
def test_the_interval_decides_how_long_it_is_kept(
    talk: Callable[..., Talked], pause_s: float, written: str | None
) -> None:
    """Five minutes, an hour, or not at all; where it is kept, the turn after reads it."""
    found = talk("auto", *TURNS[:3], pause_s=pause_s)
    usage = {name for name in ("cache_write_5m", "cache_write_1h") if getattr(found.billed, name)}
    assert usage == ({written} if written else set())
    assert bool(found.billed.cache_read) == (written is not None)


def test_conversations_share_the_system_and_a_climb_writes_its_own(talk: Callable[..., Talked]) -> None:
    """Each conversation's first turn is marked at the system alone; Sonnet's cache is another, written after its second climb."""
    found = talk("auto", "a hard one", conversations=4)
    assert found.rungs == ["sonnet"] * 4
    assert found.marks == [0, 0, 1, 1, 1, 1, 1, 1]
    assert all("cache_control" in body["system"][-1] for body in found.bodies[2:])
    plain = talk("off", "a hard one", conversations=4)
    assert found.cost < plain.cost


def test_a_bound_covers_a_marked_prompt(talk: Callable[..., Talked]) -> None:
    """With a budget every call is reserved first: its bound is above what the emulator bills, write or read."""
    hook = Bounds()
    found = talk("auto", *TURNS, hooks=(hook,))
    assert sum(hook.costs) == found.cost
    assert len(hook.bounds) == len(hook.costs) == 5
    assert all(bound >= cost for bound, cost in zip(hook.bounds, hook.costs, strict=True))


TOOL: dict[str, Any] = {"name": "look", "description": "Looks up an order.", "input_schema": {"type": "object"}}


def looking(body: dict[str, Any], _headers: Any) -> ScriptedReply:
    """Haiku gives up; Sonnet thinks and looks until it has three results."""
    if body["model"] == HAIKU:
        return ScriptedReply([{"type": "text", "text": "?"}], confidence=0.1)
    results = sum("tool_result" in str(message["content"]) for message in body["messages"])
    if results == 3:
        return ScriptedReply([{"type": "text", "text": "Found."}], confidence=0.95)
    thinking = {"type": "thinking", "thinking": "It may be elsewhere."}
    return ScriptedReply([thinking, {"type": "tool_use", "name": "look", "input": {"place": results}}])


def test_a_loop_that_climbed_is_cached_on_its_rung_with_its_thinking(clock: Clock) -> None:
    """The thinking is bound to what stands before it: marks and texts in blocks change nothing of that. Each result is read once more."""
    paid: dict[str, tuple[int, Usage]] = {}
    for mode in ("off", "auto"):
        with (
            Emulator(script=looking, caching=True, prefix_check=True, clock=clock) as emulator,
            anthropic.Anthropic(base_url=emulator.base_url, api_key="t", max_retries=0) as client,
            Cascade(ladder(prompt_cache=mode, max_tokens=900), client=client, ledger="off", clock=clock) as driver,
        ):
            messages: list[Any] = [{"role": "user", "content": "Where is it?"}]
            tools: list[Any] = [TOOL]
            said: Any = None
            for _ in range(4):
                said = driver.messages.create(
                    model="claude-cascade-live", max_tokens=900, system=SYSTEM, tools=tools, messages=messages
                )
                calls = [block.id for block in said.content if block.type == "tool_use"]
                results = [
                    {"type": "tool_result", "tool_use_id": one, "content": f"{one} " + "no " * 2_000} for one in calls
                ]
                messages += [
                    {"role": "assistant", "content": [block.to_dict() for block in said.content]},
                    {"role": "user", "content": results},
                ]
                clock.now += 10
            usage = emulator.billed.models[MODELS["sonnet"]].usage
            assert [message["role"] for message in messages[-2:]] == ["assistant", "user"]
            assert said.content[-1].type == "text"
            paid[mode] = prices_of("sonnet", usage), usage
    assert paid["auto"][1].prompt_tokens == paid["off"][1].prompt_tokens
    assert paid["auto"][1].cache_read > 1_160 + 1_500
    assert paid["auto"][0] < 0.9 * paid["off"][0]


def intervals(clock: Clock, most: int = 10) -> Callable[..., Any]:
    """Observe beginnings by name."""
    table = PromptIntervals(clock, most)
    return lambda key, continues=None: table.observe(
        Breakpoint("history", None, key.encode(), 9, continues.encode() if continues else None)
    )


def test_the_longest_unseen_is_forgotten_first(clock: Clock) -> None:
    """At most so many are kept: what is forgotten is seen for the first time again."""
    see = intervals(clock, most=2)
    assert [see(key) for key in "aba"] == [None, None, "5m"]
    assert see("c") is None, "b goes, which was not seen for longest"
    assert (see("a"), see("b")) == ("5m", None)


def test_a_conversation_goes_on_with_the_times_of_its_earlier_turns(clock: Clock) -> None:
    """Four turns, twenty minutes apart: one history; another one that begins alike is another."""
    see = intervals(clock)
    found = []
    for key, continues in (("1", None), ("2", "1"), ("3", "2"), ("9", "8")):
        found.append(see(key, continues))
        clock.now += 1200
    assert found == [None, "1h", "1h", None]


def test_threads_observe_every_sight_once(clock: Clock) -> None:
    """Eight threads, fifty sights each: all but the first have an interval."""
    see, found = intervals(clock), []

    def look() -> None:
        for _ in range(50):
            found.append(see("a"))  # noqa: PERF401 - one at a time

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(map(str, found)) == ["5m"] * 399 + ["None"]


def test_a_child_can_observe_though_its_parent_held_the_lock(clock: Clock) -> None:
    """Forked in the middle of an observation, it has a lock of its own, and what was seen before."""
    table = PromptIntervals(clock)
    seen = Breakpoint("system", (0,), b"k", 9)
    assert table.observe(seen) is None
    with table._lock:  # what another thread might hold
        child = os.fork()
        if child == 0:
            os._exit(0 if table.observe(seen) == "5m" else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
