"""Tools: what a rung is sent of them, and what its calls mean.

A rung below the top gets one tool more, `cascade_escalate`: a model that calls it hands the request to the next rung. A call
whose input breaks the tool's schema fails a check. Any other call is the answer: the caller runs it, and its result comes with
the caller's next request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cascade.core.errors import RequestError
from cascade.core.loops import CALLS, THINKING
from cascade.core.messages import Block, Message, Reply, Request
from cascade.core.models import rules_of
from cascade.core.policy import Rung
from cascade.core.prompts.tools import ESCALATE, ESCALATE_TOOL, FORCED_ANY, FORCED_ONE, RULE
from cascade.core.text.parsing import is_unicode
from cascade.core.trail import Verdict

__all__ = [
    "InputTest",
    "bind_tools",
    "forced",
    "history_for",
    "is_pause",
    "lacks_thinking",
    "last_words",
    "lines_for",
    "read_tools",
    "takes_forced",
    "tools_for",
]

InputTest = Callable[[Any], bool]
"""Whether a tool call's input is valid."""


def bind_tools(tools: Sequence[Block], compile_schema: Callable[[Any], InputTest]) -> dict[str, InputTest | None]:
    """By the name of each tool, the test of its input; None for a tool that the API defines itself.

    Raises RequestError for a tool that is not one, or whose schema cannot be used.
    """
    bound: dict[str, InputTest | None] = {}
    for number, tool in enumerate(tools):
        name: object = tool.get("name")
        if tool.get("type") == "mcp_toolset":
            continue
        if not isinstance(name, str) or not name:
            raise RequestError(f"tools[{number}]: it has no name")
        if name == ESCALATE:
            raise RequestError(f"tools[{number}]: {ESCALATE} is cascade's own tool (give yours another name)")
        if not is_unicode(json.dumps(tool, ensure_ascii=False, default=str)):
            raise RequestError(f"tools[{number}]: it contains an unpaired surrogate (decode the text as UTF-8)")
        if tool.get("type") not in (None, "custom"):
            bound[name] = None
            continue
        try:
            bound[name] = compile_schema(tool.get("input_schema"))
        except (ValueError, TypeError) as problem:
            raise RequestError(f"tools[{number}] ({name}): input_schema: {problem}") from None
    return bound


def forced(request: Request) -> bool:
    """Whether the caller requires that the reply calls a tool."""
    return request.tool_choice is not None and request.tool_choice.get("type") in ("any", "tool")


def takes_forced(rung: Rung) -> bool:
    """Whether the rung's model can be made to call a tool by `tool_choice`. A Claude model that thinks cannot."""
    if rung.provider != "anthropic":
        return True
    rules = rules_of(rung.model)
    return (rules is None or rules.forced_tool_choice) and rung.thinking in (None, "disabled")


def tools_for(request: Request, rung: Rung, *, triage: bool) -> tuple[tuple[Block, ...], Block | None]:
    """The tools and the tool choice that a rung is sent."""
    if not request.tools:
        return (), request.tool_choice
    choice = request.tool_choice
    if forced(request) and not takes_forced(rung):
        assert choice is not None, "a forced choice is one"
        kept = {key: value for key, value in choice.items() if key == "disable_parallel_tool_use"}
        choice = {"type": "auto", **kept}
    return (*request.tools, *((ESCALATE_TOOL,) if triage and _may_call(request) else ())), choice


def _may_call(request: Request) -> bool:
    return request.tool_choice is None or request.tool_choice.get("type") != "none"


def lines_for(request: Request, rung: Rung, *, triage: bool) -> tuple[Block, ...]:
    """What the system prompt of a rung says about the tools, in blocks of their own."""
    lines: list[str] = []
    if triage and request.tools and _may_call(request):
        lines.append(RULE)
    if request.tools and forced(request) and not takes_forced(rung):
        assert request.tool_choice is not None, "a forced choice is one"
        name = request.tool_choice.get("name")
        lines.append(FORCED_ONE.format(name) if name else FORCED_ANY)
    return tuple({"type": "text", "text": line} for line in lines)


def history_for(messages: tuple[Block, ...], kept: frozenset[str]) -> tuple[Block, ...]:
    """The messages without the thinking of other rungs. It stays beside tool calls whose ids are `kept`."""
    if not any(_thinks(message) for message in messages):
        return messages
    return tuple(_without_thinking(messages, kept))


def _thinks(message: Block) -> bool:
    return any(_kind(block) in THINKING for block in _blocks(message))


def _without_thinking(messages: tuple[Block, ...], kept: frozenset[str]) -> Iterator[Block]:
    for message in messages:
        blocks = _blocks(message)
        if not _thinks(message) or any(_kind(block) in CALLS and block.get("id") in kept for block in blocks):
            yield message
            continue
        rest = [block for block in blocks if _kind(block) not in THINKING]
        if rest:
            yield {**message, "content": rest}


def lacks_thinking(messages: Sequence[Block]) -> bool:
    """Whether a tool loop is open whose last call has no thinking before it.

    A model with a thinking budget does not go on with it then, unless its thinking is turned off.
    """
    last = next((message for message in reversed(messages) if message.get("role") == "assistant"), None)
    if last is None or messages[-1] is last:
        return False
    blocks = _blocks(last)
    return any(_kind(block) == "tool_use" for block in blocks) and _kind(blocks[0]) not in THINKING


def is_pause(message: Block) -> bool:
    """Whether this last message continues a turn that the API paused: the assistant's, with a call that the API runs itself."""
    return message.get("role") == "assistant" and any(
        _kind(block) in CALLS and _kind(block) != "tool_use" for block in _blocks(message)
    )


def last_words(reply: Reply) -> Reply:
    """The reply with the text after the calls that the API ran itself: what a model says before them is not its answer."""
    message = reply.message
    at = _end_of_calls(message) if message is not None else 0
    if message is None or not at or reply.stop_reason in ("tool_use", "pause_turn"):
        return reply
    text = "".join(str(block.get("text", "")) for block in message.content[at:] if block.get("type") == "text")
    return replace(reply, text=text)


def _end_of_calls(message: Message) -> int:
    """How many of the message's blocks there are up to the last one that is neither text nor thinking."""
    others = [index for index, block in enumerate(message.content) if block.get("type") not in ("text", *THINKING)]
    return others[-1] + 1 if others else 0


def _with_calls(verdict: Verdict, message: Message) -> Verdict:
    """The verdict on an answer below the top rung, with the calls that the API ran itself before the answer's text."""
    at = _end_of_calls(message)
    if not at or verdict.kind != "answered" or verdict.text is None:
        return verdict
    ended = verdict.message or message  # it was cut at a stop sequence, or it ended by itself
    content = (*message.content[:at], *(({"type": "text", "text": verdict.text},) if verdict.text else ()))
    whole = replace(message, content=content, stop_reason=ended.stop_reason, stop_sequence=ended.stop_sequence)
    return replace(verdict, message=whole)


def read_tools(
    verdict: Verdict, reply: Reply, request: Request, tests: Mapping[str, InputTest | None], *, triage: bool
) -> Verdict:
    """The verdict on a reply that may call tools. `verdict`: on its text; it stands if nothing is called."""
    message = reply.message
    if message is None or reply.stop_reason not in ("tool_use", "pause_turn"):
        if forced(request) and verdict.kind == "answered":
            return replace(verdict, failed_checks=("tool_choice (no tool was called)",))
        return _with_calls(verdict, message) if triage and message is not None else verdict
    calls = [block for block in message.content if block.get("type") == "tool_use"]
    if triage and any(block.get("name") == ESCALATE for block in calls):
        return Verdict("declined", detail=ESCALATE)
    if reply.stop_reason == "tool_use" and not calls:
        return Verdict("malformed", detail="stopped by tool_use, without a call")
    failed = tuple(filter(None, (_fault(block, tests) for block in calls)))
    wanted = (request.tool_choice or {}).get("name") if forced(request) else None
    if wanted is not None and calls and all(block.get("name") != wanted for block in calls):
        failed = (*failed, f"tool_choice ({wanted} was not called)")
    shown = tuple(_unwrapped(message.content, verdict)) if triage else message.content
    text = "".join(str(block.get("text", "")) for block in shown if block.get("type") == "text")
    return Verdict(
        "answered", None, "tool_use", text, failed_checks=failed, message=replace(message, content=shown)
    )  # fmt: skip


def _fault(call: Block, tests: Mapping[str, InputTest | None]) -> str | None:
    """What is wrong with a call, without its input; None if nothing is."""
    name = str(call.get("name"))
    if name not in tests:
        return "tool_use (a tool that is not there)"
    test = tests[name]
    if test is not None and not test(call.get("input")):
        return f"tool_use ({name}: the input breaks its schema)"
    return None


def _unwrapped(content: tuple[Block, ...], verdict: Verdict) -> Iterator[Block]:
    """The blocks of a reply below the top rung: text that is a triage reply gives way to its answer."""
    if verdict.kind not in ("answered", "declined") or all(block.get("type") != "text" for block in content):
        yield from content
        return
    is_told = False
    for block in content:
        if block.get("type") != "text":
            yield block
        elif not is_told:
            is_told = True
            if verdict.text:
                yield {"type": "text", "text": verdict.text}


def _kind(block: object) -> object:
    return block.get("type") if isinstance(block, Mapping) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]


def _blocks(message: Block) -> Sequence[Any]:
    content = message.get("content")
    return content if isinstance(content, (list, tuple)) else ()  # pyright: ignore[reportUnknownVariableType]
