"""Marks for the API's prompt cache: where they stand, how long they live, and that nothing else of a prompt changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from cascade import Policy
from cascade.claude.wire import parameters
from cascade.core.budgets import max_usage, upper_bound
from cascade.core.messages import Request, Usage
from cascade.core.prices import cost
from cascade.core.prompt_caching import (
    Breakpoint,
    Ttl,
    as_cold,
    breakpoints_of,
    minimum_of,
    prefix_tokens,
    ttl_for,
    with_breakpoints,
)
from cascade.core.triage import Prompt, build_prompt
from cascade.emulator.api import read_request
from cascade.emulator.caching import PromptCache, prompt_tokens
from cascade.emulator.content import unmarked
from cascade.policy.certificates import hashes_of
from cascade.policy.loading import load_policy
from cascade.policy.pricing import rates_of

MODELS = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5")
OLDER = ("claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-7")
LONG = "l" * 8_000
MARK = {"cache_control": {"type": "ephemeral"}}


def policy_of(models: tuple[str, ...] = MODELS, **more: Any) -> Policy:
    """Three rungs that are asked plainly: nothing is set but their models."""
    ladder: list[dict[str, Any]] = [
        {"rung": f"r{at}", "model": model, "max_tokens": 100, "threshold": 0.8} for at, model in enumerate(models)
    ]
    del ladder[-1]["threshold"]
    return Policy.model_validate({"version": 1, "name": "marks", "ladder": ladder, **more})


POLICY, OLD = policy_of(), policy_of(OLDER)


def text(words: str, **more: Any) -> dict[str, Any]:
    """A text block."""
    return {"type": "text", "text": words, **more}


def user(*blocks: Any) -> dict[str, Any]:
    """A turn of the user's: a string, or blocks."""
    return {"role": "user", "content": blocks[0] if isinstance(blocks[0], str) else list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    """A turn of the assistant's."""
    return {**user(*blocks), "role": "assistant"}


def call(number: int, **inputs: Any) -> dict[str, Any]:
    """A call of a tool."""
    return {"type": "tool_use", "id": f"toolu_{number}", "name": "t0", "input": inputs}


def result(number: int, content: Any = "found") -> dict[str, Any]:
    """What the tool returned."""
    return {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": content}


def tool(name: str = "t0", **more: Any) -> dict[str, Any]:
    """A tool of the caller's."""
    return {"name": name, "description": "d" * 4_000, "input_schema": {"type": "object"}, **more}


def marked(
    request: Request,
    index: int = 0,
    ttl_of: Callable[[Breakpoint], Ttl | None] = lambda _: "5m",
    policy: Policy = POLICY,
) -> Prompt:
    """The prompt of a rung, marked; the thinking beside its calls stays."""
    prompt = build_prompt(policy, index, request, kept=frozenset({"toolu_1"}))
    return with_breakpoints(prompt, request, ttl_of)


def body_of(prompt: Prompt) -> dict[str, Any]:
    """What is sent."""
    params = parameters(prompt)
    return json.loads(json.dumps({**params, **params.pop("extra_body", {})}))


def places(prompt: Prompt) -> list[tuple[Any, ...]]:
    """Where the marks are, with their time to live."""
    body = body_of(prompt)
    found: list[tuple[Any, ...]] = []
    for part in ("tools", "system"):
        blocks = body.get(part) or ()
        found += [(part, at, own["cache_control"]["ttl"]) for at, own in enumerate(blocks) if "cache_control" in own]
    for turn, message in enumerate(body["messages"]):
        if not isinstance(message["content"], str):
            blocks = enumerate(message["content"])
            found += [(turn, at, own["cache_control"]["ttl"]) for at, own in blocks if "cache_control" in own]
    return found


TALK = (user("first " + LONG), assistant("so"), user("and then?"))


def test_tools_system_and_history_are_marked() -> None:
    """The caller's last tool, not ours after it; the triage rules after the caller's system; the last block of the history."""
    request = Request(TALK, system=LONG, tools=(tool(), tool("t1")))
    assert places(marked(request)) == [("tools", 1, "5m"), ("system", 2, "5m"), (1, 0, "5m")]
    assert len(body_of(marked(request))["tools"]) == 3
    assert places(marked(request, 2)) == [("tools", 1, "5m"), ("system", 0, "5m"), (1, 0, "5m")]


def test_what_a_handoff_adds_is_not_in_the_constant_part() -> None:
    """It depends on the request: the mark stands before it."""
    request = Request((user("hi"),), system=LONG, handoff=(text("the doubt"),))
    prompt = build_prompt(POLICY, 1, replace(request, handoff=()))
    prompt = replace(prompt, system=(*(prompt.system or ()), *request.handoff))  # type: ignore[misc]
    assert places(with_breakpoints(prompt, request, lambda _: "5m")) == [("system", 1, "5m")]


def test_a_turn_that_returns_results_is_marked_at_its_own_end() -> None:
    """The loop goes on: all of it is sent again, and the results are the bulk of it."""
    loop = (user(LONG), assistant(text("look"), call(1)), user(result(1, LONG)))
    assert places(marked(Request(loop, tools=(tool(),))))[-1] == (2, 0, "5m")
    after = (*loop, assistant("it is so"), user("thanks"))
    assert places(marked(Request(after, tools=(tool(),))))[-1] == (3, 0, "5m")


def test_what_cannot_be_marked_is_passed_over() -> None:
    """Thinking, blank text in a string, and a tool that is loaded later: the mark stands before it."""
    talk = (
        user(LONG),
        assistant(text("a"), {"type": "thinking", "thinking": "hm", "signature": "s"}, call(1)),
        user(result(1)),
    )
    bare = (*talk[:1], assistant(text("a"), {"type": "thinking", "thinking": "hm", "signature": "s"}), user("on"))
    prompt = build_prompt(POLICY, 2, Request(talk))
    kept = replace(prompt, messages=bare)
    assert places(with_breakpoints(kept, Request(bare), lambda _: "5m")) == [(1, 0, "5m")]
    assert places(marked(Request((user(LONG), assistant(" \n"), user("on"))))) == [(0, 0, "5m")]
    deferred = Request((user("hi"),), tools=(tool(), tool("t1", defer_loading=True)))
    assert places(marked(deferred)) == [("tools", 0, "5m"), ("system", 1, "5m")]


@pytest.mark.parametrize(("blocks", "expected"), [(18, [(3, 0)]), (19, [(1, 0), (3, 0)])])
def test_a_long_turn_is_marked_where_the_turn_before_was_too(blocks: int, expected: list[tuple[int, int]]) -> None:
    """A mark finds what was written up to 20 blocks before it: beyond, the last turn's own place is marked again."""
    talk = (
        user(LONG),
        assistant("so"),
        user(*[text(f"part {at}") for at in range(blocks)]),
        assistant("fine"),
        user("on"),
    )
    prompt = marked(Request(talk))
    assert [place[:2] for place in places(prompt) if place[0] != "system"] == expected
    cache = PromptCache(lambda: 0.0)
    read = 0
    for turns in (talk[:3], talk):
        body = body_of(marked(Request(turns)))
        read = cache.bill(MODELS[0], body, Usage(prompt_tokens(body), 1)).cache_read
    assert read > len(LONG) // 4, "what the turn before wrote is read"


@pytest.mark.parametrize("models", [MODELS, OLDER])
def test_only_beginnings_of_the_models_minimum_are_marked(models: tuple[str, ...]) -> None:
    """At the top, where no rules are added: by the characters of the block as JSON."""
    policy = policy_of(models)
    minimum = minimum_of(policy.ladder[2])
    assert minimum is not None
    assert minimum == (512 if models == MODELS else 2048)
    envelope = len(json.dumps(text(""), separators=(",", ":")))
    for short, expected in ((0, [("system", 0, "5m")]), (1, [])):
        request = Request((user("hi"),), system="s" * (4 * minimum - envelope - short))
        assert places(marked(request, 2, policy=policy)) == expected


def test_the_minimum_is_known_by_model() -> None:
    """As the documentation has it; a model or a vendor that is not known has none."""
    rungs = [*POLICY.ladder, *OLD.ladder]
    assert [minimum_of(rung) for rung in rungs] == [512, 512, 512, 4096, 1024, 2048]
    assert minimum_of(rungs[0].model_copy(update={"model": "local"})) is None
    assert minimum_of(rungs[0].model_copy(update={"provider": "openai"})) is None


@pytest.mark.parametrize(
    "request_",
    [
        Request(TALK, system=(text(LONG, **MARK),)),
        Request((user(text(LONG, **MARK)), *TALK[1:])),
        Request(TALK, tools=({**tool(), **MARK},)),
        Request(TALK, system=LONG, extra=MARK),
        Request((*TALK[:1], assistant(call(1)), user(result(1, [text("found", **MARK)]))), tools=(tool(),)),
        Request(TALK, system=LONG, raw={"messages": list(TALK), "max_tokens": 5}),
    ],
    ids=["system", "message", "tool", "whole", "inside a result", "raw"],
)
def test_a_caller_who_marks_himself_is_left_alone(request_: Request) -> None:
    """Wherever his mark stands; and a request that is sent as it is."""
    prompt = build_prompt(POLICY, 2, request_)
    assert with_breakpoints(prompt, request_, lambda _: "1h") is prompt
    assert breakpoints_of(prompt, request_) == ()


def test_an_hour_never_comes_after_five_minutes() -> None:
    """The system is seen often and the conversation seldom: the marks before an hour are of an hour too."""
    request = Request(TALK, system=LONG, tools=(tool(),))
    ttls: dict[str, Ttl] = {"tools": "5m", "system": "5m", "history": "1h"}
    assert {place[2] for place in places(marked(request, ttl_of=lambda one: ttls[one.place]))} == {"1h"}
    ttls = {"tools": "1h", "system": "5m", "history": "5m"}
    assert [place[2] for place in places(marked(request, ttl_of=lambda one: ttls[one.place]))] == ["1h", "5m", "5m"]
    assert places(marked(request, ttl_of=lambda one: "5m" if one.place == "history" else None)) == [(1, 0, "5m")]


@pytest.mark.parametrize(
    ("times", "ttl"),
    [
        ([], None), ([7.0], None), ([0.0, 0.0], "5m"), ([0.0, 300.0], "5m"), ([0.0, 300.1], "1h"), ([0.0, 3600.0], "1h"),
        ([0.0, 3600.1], None), ([0.0, 10.0, 20.0, 9000.0], "5m"), ([0.0, 10.0, 4000.0, 9000.0], None),
    ],
)  # fmt: skip
def test_the_usual_interval_decides_how_long(times: list[float], ttl: Ttl | None) -> None:
    """The median; at first sight nothing is kept."""
    assert ttl_for(times) == ttl


def test_the_history_is_recognised_by_what_the_turn_before_sent() -> None:
    """The next turn continues it; another system, model, tool choice or first turn does not."""

    def history(request: Request, index: int = 0) -> Breakpoint:
        return breakpoints_of(build_prompt(POLICY, index, request), request)[-1]

    first = Request(TALK[:1], system="s")
    told = history(first)
    assert (told.place, told.at, told.continues) == ("history", None, None)
    assert history(Request(TALK, system="s")).continues == told.key
    assert history(Request((user(text("first " + LONG)), *TALK[1:]), system="s")).continues == told.key
    loop = (*TALK, assistant("well"), user("so?"))
    assert history(Request(loop, system="s")).continues == history(Request(TALK, system="s")).key
    others = [
        history(Request(TALK, system="t")), history(Request(TALK, system="s"), 1), history(Request(loop, system="s")),
        history(Request((user("another"), *TALK[1:]), system="s")),
        history(Request(TALK, system="s", tools=(tool(),), tool_choice={"type": "none"})),
    ]  # fmt: skip
    assert told.key not in {other.continues for other in others}


BLOCKS = st.sampled_from(
    [
        text("short"),
        text(LONG),
        text("ünï " * 900),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "x" * 99}},
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any valid conversation: texts as strings or blocks, thinking, loops with several calls; with tools, system, marks."""
    messages: list[dict[str, Any]] = []
    open_calls: list[int] = []
    calls = 0
    for turn in range(draw(st.integers(1, 4))):
        if turn:
            blocks: list[Any] = [draw(BLOCKS.filter(lambda block: block["type"] == "text"))]
            if draw(st.booleans()):
                blocks.append({"type": "thinking", "thinking": "hm", "signature": "s"})
            open_calls = [calls + at for at in range(draw(st.sampled_from([0, 0, 1, 3, 12])))]
            calls += len(open_calls)
            blocks += [call(one) for one in open_calls]
            messages.append(assistant(*blocks) if draw(st.booleans()) or open_calls else assistant("so it is"))
        results = [result(one, draw(st.sampled_from(["found", LONG, [text("a"), text("b")]]))) for one in open_calls]
        own = draw(st.lists(BLOCKS, min_size=0 if results else 1, max_size=25 if draw(st.booleans()) else 2))
        messages.append(user("a question") if not results and draw(st.booleans()) else user(*results, *own))
    system = draw(st.sampled_from([None, "short", LONG, (text("a"), text(LONG)), (text("a", **MARK),)]))
    tools = tuple(tool(f"t{at}") for at in range(draw(st.integers(1 if calls else 0, 3))))
    choice = draw(st.sampled_from([None, {"type": "auto"}, {"type": "none"}])) if tools else None
    return Request(
        tuple(messages), system=system, tools=tools, tool_choice=choice, schema=draw(st.sampled_from([None, SCHEMA]))
    )


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def bare(body: dict[str, Any]) -> dict[str, Any]:
    """The body without marks, every text as a block."""

    def blocks(content: Any) -> list[Any]:
        return [text(content)] if isinstance(content, str) else [unmarked(block) for block in content]

    plain = {**body, "messages": [{**one, "content": blocks(one["content"])} for one in body["messages"]]}
    plain |= {"system": blocks(body["system"])} if "system" in body else {}
    return plain | ({"tools": [unmarked(one) for one in body["tools"]]} if "tools" in body else {})


@given(request=requests(), index=st.integers(0, 2), old=st.booleans(), data=st.data())
def test_marking_changes_nothing_but_the_marks(request: Request, index: int, old: bool, data: st.DataObject) -> None:
    """The API takes every marked prompt; at most four marks; to mark again changes nothing; no bound is exceeded."""
    drawn: st.SearchStrategy[Ttl | None] = st.sampled_from(["5m", "1h", None])
    ttls: dict[str, Ttl | None] = {place: data.draw(drawn) for place in ("tools", "system", "earlier", "history")}
    policy = OLD if old else POLICY
    kept = frozenset(f"toolu_{at}" for at in range(99))
    prompt = build_prompt(policy, index, request, kept=kept)
    made = with_breakpoints(prompt, request, lambda one: ttls[one.place])
    before, after = body_of(prompt), body_of(made)
    signed = {"s": prompt.rung.model}
    read_request(before, beta=False, signed=signed)
    read_request(after, beta=False, signed=signed)
    found = [] if "cache_control" in json.dumps(before) else places(made)
    event(f"marks: {len(found)}")
    assert len(found) <= 4
    assert bare(after) == bare(before)
    assert not found or with_breakpoints(made, request, lambda _: "1h") is made
    rates = rates_of(prompt.rung)
    usage = PromptCache(lambda: 0.0).bill(prompt.rung.model, after, Usage(prompt_tokens(after), prompt.max_tokens))
    assert cost(rates, usage) <= upper_bound(rates, made)


def test_a_budget_reserves_what_a_write_of_an_hour_costs() -> None:
    """Twice the price of every token of the prompt, once it is marked; a prompt that is not marked is no dearer than before."""
    request = Request((user("hi"),), system=LONG)
    assert max_usage(build_prompt(POLICY, 1, request)) != max_usage(marked(request, 1))
    most = max_usage(marked(request, 1))[0]
    assert most.cache_write_1h > len(LONG)
    assert most.input_tokens == 0


@pytest.mark.parametrize(
    ("usage", "prefix", "expected"),
    [
        (Usage(100, 5), 5_000, Usage(0, 5, cache_write_5m=100, is_estimate=True)),
        (Usage(1_000, 5), 600, Usage(400, 5, cache_write_5m=600, is_estimate=True)),
        (Usage(1_000, 5), 511, Usage(1_000, 5)),
        (Usage(10, 5, cache_read=700), 0, Usage(10, 5, cache_write_5m=700, is_estimate=True)),
        (Usage(10, 5, 3, 4, 700), 9, Usage(10, 5, 703, 4, is_estimate=True)),
        (Usage(10, 5, 0, 4, 700), 9, Usage(10, 5, 0, 704, is_estimate=True)),
        (Usage(10_000, 5, cache_write_5m=700), 9_000, Usage(10_000, 5, cache_write_5m=700)),
    ],
)
def test_a_cold_prompt_is_written_for_what_would_have_been_read(usage: Usage, prefix: int, expected: Usage) -> None:
    """By the recorded usage where it tells of a cache, else by the estimated length, from the minimum on."""
    minimum = 100 if prefix == 5_000 else 512
    assert as_cold(usage, prefix, minimum) == expected
    assert as_cold(usage, prefix, minimum).prompt_tokens == usage.prompt_tokens


def test_the_prefix_of_a_recorded_request_ends_before_its_newest_turn() -> None:
    """Tools, system prompt and history count, as JSON; a first turn alone counts nothing."""
    assert prefix_tokens(Request(TALK[:1])) == 0
    assert prefix_tokens(Request(TALK)) == prefix_tokens(Request((*TALK[:2], user(LONG))))
    assert prefix_tokens(Request(TALK)) > 2_000
    assert prefix_tokens(Request(TALK, system=LONG, tools=(tool(),))) > 2_000 + 2_000 + 1_000


def test_prompt_caching_voids_no_certificate() -> None:
    """It changes no reply: no hash of the policy's parts depends on it."""
    policy = load_policy("default", environment={})
    cached = policy.model_copy(update={"prompt_cache": "auto"})
    assert hashes_of(cached) == hashes_of(policy)
