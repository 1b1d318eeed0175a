"""Tool loops: which turn of a conversation this is, whether its rung is stuck, and what leaving a warm cache would cost.

    user          a new user turn: the climb starts at the first rung, whatever came before
    tool_result   the results of tools that a rung asked for: it goes on there, or one rung above it where it is stuck
    pause         a turn that the API paused while it ran its own tools: it goes on on the rung that began it

Messages are read as they come. The API refuses odd shapes; nothing here raises on any JSON, and each function looks at every block
once at most.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple, cast

from cascade.core.messages import Usage
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.core.prices import Rates, cost

__all__ = [
    "CALLS",
    "THINKING",
    "UNKNOWN_ESCALATION",
    "Turn",
    "TurnSize",
    "WarmCosts",
    "begin_at",
    "call_ids",
    "escalations_of",
    "read_turn",
    "stuck_because",
    "warm_costs",
    "warm_note",
]  # fmt: skip

TurnKind = Literal["user", "tool_result", "pause"]

UNKNOWN_ESCALATION = Fraction(35, 100)
"""The share of requests that a rung is taken to pass on, where no certificate says: the rate that the storm guard calls normal."""

CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
"""The types of blocks that call a tool, the caller's or one that the API runs itself."""

_SERVER_CALLS = CALLS - {"tool_use"}
THINKING = frozenset({"thinking", "redacted_thinking"})
"""The types of blocks that hold a model's thinking. They are bound to it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What the last message is. `ids`: the tool calls that it answers, or those of the API's own tools that were paused."""

    kind: TurnKind
    ids: tuple[str, ...] = ()


def read_turn(messages: object) -> Turn:
    """The turn that these messages ask for.

    A message with a tool's result is a tool_result turn, even if the user says something beside it: a call is open.
    """
    newest = next(_turns(messages), None)
    if newest is None:
        return Turn("user")
    if newest.is_assistant:
        calls = [block for block in newest.blocks if _kind(block) in _SERVER_CALLS]
        return Turn("pause", _ids(calls, "id")) if calls else Turn("user")
    results = [block for block in newest.blocks if _kind(block) == "tool_result"]
    return Turn("tool_result", _ids(results, "tool_use_id")) if results else Turn("user")


def begin_at(turn: Turn, asked: int | None, top: int, *, stuck: bool = False) -> int:
    """The index of the rung that a turn begins at. `asked`: the rung that asked for the tools, None if it is not known.

    A new user turn begins at the first rung. A tool loop never falls: what a turn costs has no say in it.
    """
    if turn.kind == "user" or asked is None:
        return 0
    return min(asked + stuck, top)


def stuck_because(messages: object, loop_errors: int) -> str | None:
    """Why the rung that made the last call is stuck; None if nothing says so. For a tool_result turn.

    Only the current loop counts: what came after the last message in which the user said something. The signs are about the newest
    turn, so that a loop climbs once for each, and a rung gets `loop_errors` failed calls of its own before the loop goes on.
    """
    calls, run, earlier = _current_loop(messages)
    if len(calls) > 1 and _tool_calls(calls[0]) & _tool_calls(calls[1]):
        return "the same tool call twice in a row"
    least = max(1, loop_errors)
    if run // least > earlier // least:
        return f"{run} tool {'error' if run == 1 else 'errors'} in a row"
    if calls and not any(map(_says_something, calls[0])):
        return "an empty turn"
    return None


def call_ids(messages: object, turns: int) -> frozenset[str]:
    """The ids of all tool calls in the assistant's newest `turns` turns."""
    found: set[str] = set()
    was_assistant = False
    for is_assistant, content in _contents(messages):
        if is_assistant and not was_assistant:
            turns -= 1
            if turns < 0:
                break
        was_assistant = is_assistant
        if is_assistant and not isinstance(content, str):
            found.update(_ids([block for block in _blocks(content) if _kind(block) in CALLS], "id"))
    return frozenset(found)


class _Turn(NamedTuple):
    """Messages of one side in a row: the API reads them as one turn."""

    is_assistant: bool
    blocks: list[Any]


def _turns(messages: object) -> Iterator[_Turn]:
    """The turns, newest first."""
    side, contents = False, list[Any]()  # of the turn that is being collected, newest first
    for is_assistant, content in _contents(messages):
        if contents and is_assistant != side:
            yield _turn(side, contents)
            contents = []
        side = is_assistant
        contents.append(content)
    if contents:
        yield _turn(side, contents)


def _contents(messages: object) -> Iterator[tuple[bool, Any]]:
    """Of each message, newest first: whether it is the assistant's, and its content. Anything that is no message is passed over."""
    if not isinstance(messages, (list, tuple)):
        return
    for message in reversed(cast("Sequence[Any]", messages)):
        if type(message) is dict or isinstance(message, Mapping):
            said = cast("Mapping[Any, Any]", message)
            yield said.get("role") == "assistant", said.get("content")


def _turn(is_assistant: bool, contents: list[Any]) -> _Turn:
    return _Turn(is_assistant, [block for content in reversed(contents) for block in _blocks(content)])


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return list(content) if isinstance(content, (list, tuple)) else []  # pyright: ignore[reportUnknownArgumentType]


def _current_loop(messages: object) -> tuple[list[list[Any]], int, int]:
    """Of the current loop: the assistant's newest two turns, newest first; how many results failed in a row, now and one turn before.

    It reads back no further than these need.
    """
    calls: list[list[Any]] = []
    run, of_newest, is_failing, is_newest = 0, 0, True, True
    for turn in _turns(messages):
        if turn.is_assistant:
            calls.append(turn.blocks)
            if len(calls) > 1 and not is_failing:
                break
            continue
        answered = [block for block in turn.blocks if _kind(block) == "tool_result"]
        if is_failing:
            failed = _failed_last(answered)
            run, of_newest = run + failed, failed if is_newest else of_newest
            is_failing = failed == len(answered)
        is_newest = False
        if not answered or len(answered) < len(turn.blocks):
            break  # the user said something
    return calls[:2], run, run - of_newest


def _failed_last(results: list[Any]) -> int:
    """How many of the last results failed in a row."""
    return next((at for at, block in enumerate(reversed(results)) if block.get("is_error") is not True), len(results))


def _tool_calls(blocks: list[Any]) -> set[tuple[str, str]]:
    """The caller's tools that a turn calls: each name with its input as canonical JSON."""
    found: set[tuple[str, str]] = set()
    for block in blocks:
        if _kind(block) == "tool_use" and isinstance(block.get("name"), str):
            try:
                found.add((block["name"], json.dumps(block.get("input"), sort_keys=True)))
            except (TypeError, ValueError, RecursionError):
                continue  # no JSON, or too deep to compare: it equals nothing
    return found


def _says_something(block: Any) -> bool:
    kind = _kind(block)
    if kind == "text":
        text = block.get("text")
        return bool(text.strip() if isinstance(text, str) else text)
    return kind is not None and kind not in THINKING


def _kind(block: Any) -> str | None:
    # The usual type first: it is several times faster.
    kind = block.get("type") if type(block) is dict or isinstance(block, Mapping) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return kind if isinstance(kind, str) else None


def _ids(blocks: Sequence[Any], name: str) -> tuple[str, ...]:
    """Their ids, each once, in order."""
    found = [block.get(name) for block in blocks]
    return tuple(dict.fromkeys(one for one in found if isinstance(one, str) and one))


@dataclass(frozen=True, slots=True)
class TurnSize:
    """A turn in tokens. `cached`: of the prompt, what the warm rung has in its cache; `new`: the rest of it; `output`: its reply."""

    cached: int
    new: int = 0
    output: int = 0


@dataclass(frozen=True, slots=True)
class WarmCosts:
    """What a turn is expected to cost until the warm rung has answered, in nano-USD.

    `stay`: begun on the warm rung. `climb`: begun at the first rung, which may answer it before the warm rung is reached.
    """

    stay: int
    climb: int


def warm_costs(rates: Sequence[Rates], escalations: Sequence[Fraction], warm: int, size: TurnSize) -> WarmCosts:
    """The expected cost of a turn that begins on the warm rung, and of one that begins at the first.

    `rates` and `escalations` (the chance that a rung passes the turn on) by rung. The warm rung reads its cache; each rung below it
    that is reached writes the whole prefix, at the price of a cache that lasts for five minutes. What may come above the warm rung is
    left out of both. Exact but for one rounding, half up.
    """
    whole, reached = Fraction(0), Fraction(1)
    for index in range(warm):
        whole += reached * cost(rates[index], Usage(size.new, size.output, cache_write_5m=size.cached))
        reached *= escalations[index]
    stay = cost(rates[warm], Usage(size.new, size.output, cache_read=size.cached))
    whole += reached * stay
    return WarmCosts(stay, (2 * whole.numerator + whole.denominator) // (2 * whole.denominator))


def escalations_of(policy: Policy, certified: Escalation, task: str) -> tuple[Fraction, ...]:
    """By rung below the top, the chance that it passes a turn of this task on: the certified rate, else UNKNOWN_ESCALATION."""
    route = policy.route(task)
    rates = (certified.rate(task, rung.rung) for rung in policy.ladder[:-1])
    return tuple(
        Fraction(1) if not route.decides(index) else UNKNOWN_ESCALATION if rate is None else Fraction(rate)
        for index, rate in enumerate(rates)
    )


def warm_note(costs: WarmCosts, rung: str, first: str) -> str:
    """What the caller is told of a loop that stays on the rung whose cache was warm last. Both amounts are estimates."""
    stay, climb = f"{costs.stay / 1e9:.6f} USD", f"{costs.climb / 1e9:.6f} USD"
    if costs.climb > costs.stay:
        return f"while the cache of {rung} is warm, a turn is expected to cost {stay} on it, and {climb} from {first} with cold caches"
    return (
        f"a turn from {first} would be expected to cost {climb}, even with cold caches, and {stay} on {rung}; a tool loop never"
        " falls to a lower rung"
    )
