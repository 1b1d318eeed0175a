"""The API's prompt cache: where a prompt is marked, for how long, and what a prompt costs that is in no cache yet.

A prompt is its tools, its system prompt and its messages, in this order; a mark (`cache_control`) ends a beginning that the API
keeps. Three beginnings come again: the caller's tools; these with the system prompt, the triage rules included; and these with the
conversation so far. The rules are constant for a policy, and no other rung could read a shorter beginning (another rung is another
model, and another order of the reply's keys another format, which is a part of the system prompt), so the mark stands after them:
they are read at a tenth of their price, and lift a short system prompt over the model's minimum. Marks cost nothing by themselves:
a token is written once, however many marks stand behind it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import pairwise
from statistics import median
from typing import Final, Literal

from cascade.core.messages import Block, Request, Usage
from cascade.core.models import rules_of
from cascade.core.policy import Rung
from cascade.core.triage import Prompt

__all__ = [
    "LOOK_BACK",
    "MOST_MARKS",
    "Breakpoint",
    "Ttl",
    "as_cold",
    "breakpoints_of",
    "minimum_of",
    "prefix_tokens",
    "ttl_for",
    "with_breakpoints",
]

Ttl = Literal["5m", "1h"]
"""How long the API keeps a beginning since it was last used. A write costs 1.25 times the price of its tokens for 5m, twice for 1h."""

Place = Literal["tools", "system", "earlier", "history"]

MOST_MARKS: Final = 4
"""The API refuses a request with more."""

LOOK_BACK: Final = 20
"""A mark finds beginnings that were written up to so many blocks before it, the marked block among them."""

_TOKEN: Final = 4  # characters
_SECONDS: Final[dict[Ttl, float]] = {"5m": 300.0, "1h": 3_600.0}
_MARKABLE: Final = frozenset({"text", "image", "document", "search_result", "tool_use", "tool_result"})


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """Where a prompt may be marked, and what it is recognised by.

    `at`: the tool's or the system block's index, or the message's and the block's; None where nothing can be marked yet, though it is
    seen. `key` names what the API was sent; `continues` names what an earlier turn of the same conversation sent, None but for
    the history. `tokens`: of the prompt up to there (characters / 4).
    """

    place: Place
    at: tuple[int, ...] | None
    key: bytes
    tokens: int
    continues: bytes | None = None


def minimum_of(rung: Rung) -> int | None:
    """The fewest tokens that the rung's model caches; None where its endpoint is not known to cache."""
    rules = rules_of(rung.model) if rung.provider == "anthropic" else None
    return None if rules is None else rules.min_cached_tokens


def ttl_for(times: Sequence[float]) -> Ttl | None:
    """How long to keep a beginning that was sent at these times (seconds, ascending); None: not at all.

    The median of the intervals decides. At the first sight there is none: what comes once would be written for nothing.
    """
    if len(times) < 2:
        return None
    usual = median(later - earlier for earlier, later in pairwise(times))
    return next((ttl for ttl, seconds in _SECONDS.items() if usual <= seconds), None)


def breakpoints_of(prompt: Prompt, request: Request) -> tuple[Breakpoint, ...]:
    """Where the prompt may be marked, in its order. `request`: as the rung is asked.

    Empty for a prompt that the caller marks himself, for one that is sent as it is, and for a model or endpoint that is not known.
    """
    minimum = minimum_of(prompt.rung)
    if (
        minimum is None
        or prompt.raw is not None
        or _is_marked((prompt.tools, prompt.system, prompt.messages, prompt.extra))
    ):
        return ()
    found = (*_constant(prompt, request), *_history(prompt))
    return tuple(
        one if one.tokens >= minimum else replace(one, at=None)
        for one in found
        if one.tokens >= minimum or one.place == "history"
    )


def with_breakpoints(prompt: Prompt, request: Request, ttl_of: Callable[[Breakpoint], Ttl | None]) -> Prompt:
    """The prompt, marked where `ttl_of` gives a time; nothing else of it changes.

    The API takes no hour after five minutes: a mark lives at least as long as those behind it.
    """
    marks: dict[tuple[Place, tuple[int, ...]], Ttl] = {}
    longest: Ttl | None = None
    wanted = [(one, ttl_of(one)) for one in breakpoints_of(prompt, request)]
    for one, ttl in reversed(wanted):
        if one.at is None or ttl is None:
            continue
        longest = "1h" if "1h" in (ttl, longest) else "5m"
        marks[one.place, one.at] = longest
    for (place, at), ttl in marks.items():
        if place == "tools":
            prompt = replace(prompt, tools=_marked_at(prompt.tools, at[0], ttl))
        elif place == "system":
            prompt = replace(prompt, system=_marked_at(_blocks(prompt.system or ()), at[0], ttl))
        else:
            message = prompt.messages[at[0]]
            content = _marked_at(_blocks(message["content"]), at[1], ttl)
            turns = (*prompt.messages[: at[0]], {**message, "content": list(content)}, *prompt.messages[at[0] + 1 :])
            prompt = replace(prompt, messages=turns)
    return prompt


def prefix_tokens(request: Request) -> int:
    """Estimates the tokens before the newest turn, which a rung would have cached: tools, system prompt, history (characters / 4)."""
    end = _newest(request.messages)
    turns = (block for message in request.messages[:end] for block in _blocks(message["content"]))
    return sum(len(_written(part)) for part in (*request.tools, *_blocks(request.system or ()), *turns)) // _TOKEN


def as_cold(usage: Usage, prefix: int, minimum: int | None) -> Usage:
    """What a prompt is billed as whose beginning is in no cache yet: it is written for what was read, or would have been.

    Where the usage tells of a cache, that is the beginning; else it is `prefix` tokens, an estimate, if they are at least `minimum`.
    """
    if usage.cache_read:
        hourly = usage.cache_read if usage.cache_write_1h and not usage.cache_write_5m else 0
        return replace(
            usage,
            cache_read=0,
            cache_write_1h=usage.cache_write_1h + hourly,
            cache_write_5m=usage.cache_write_5m + usage.cache_read - hourly,
            is_estimate=True,
        )
    written = min(prefix, usage.input_tokens)
    if minimum is None or written < minimum or usage.cache_write_5m or usage.cache_write_1h:
        return usage
    return replace(usage, input_tokens=usage.input_tokens - written, cache_write_5m=written, is_estimate=True)


def _constant(prompt: Prompt, request: Request) -> Iterator[Breakpoint]:
    """The ends of the caller's tools, and of the blocks of the system prompt that do not depend on the request's own text."""
    digest, characters = blake2b(prompt.rung.model.encode(), digest_size=16), 0
    last = max((at for at, tool in enumerate(request.tools) if not tool.get("defer_loading")), default=-1)
    for at, tool in enumerate(prompt.tools):
        characters += _add(digest, tool)
        if at == last:
            yield Breakpoint("tools", (at,), digest.digest(), characters // _TOKEN)
    system = _blocks(prompt.system or ())
    constant = system[: len(system) - len(request.handoff)]
    last = max((at for at, block in enumerate(constant) if _can_be_marked(block)), default=-1)
    _add(digest, prompt.schema)
    for at, block in enumerate(constant[: last + 1]):
        characters += _add(digest, block)
        if at == last:
            yield Breakpoint("system", (at,), digest.digest(), characters // _TOKEN)


def _history(prompt: Prompt) -> Iterator[Breakpoint]:
    """The end of what the next turn will send again; before it, what the last turn sent, where a mark would not find it otherwise.

    It is the last block before the newest turn of the user; where that turn returns tools' results, it is that turn's own end: the loop goes on.
    """
    messages = prompt.messages
    digest = blake2b(prompt.rung.model.encode(), digest_size=16)
    for setting in (prompt.schema, prompt.tool_choice, prompt.rung.thinking):
        _add(digest, setting)
    characters = sum(_add(digest, part) for part in (*prompt.tools, *_blocks(prompt.system or ())))
    newest = _newest(messages)
    end = len(messages) if newest < len(messages) and _returns_results(messages[newest:]) else newest
    before = max(
        (at for at, message in enumerate(messages) if message["role"] == "assistant"), default=0
    )  # the last turn ended here
    earlier = _newest(messages[:before])
    earlier = before if _returns_results(messages[earlier:before]) else earlier
    continues: bytes | None = None
    ends: dict[
        int, tuple[tuple[int, int] | None, int, int]
    ] = {}  # by message: the last place to mark before it, its block, characters
    place: tuple[int, int] | None = None
    blocks, at_place = 0, (0, 0)
    for number, message in enumerate(messages):
        ends[number] = (place, *at_place)
        if number == before and before:
            continues = digest.digest()
        digest.update(str(message["role"]).encode())
        for at, block in enumerate(_blocks(message["content"])):
            characters, blocks = characters + _add(digest, block), blocks + 1
            if _can_be_marked(block):
                place, at_place = (number, at), (blocks, characters)
    ends[len(messages)] = (place, *at_place)
    key = digest.digest()
    head, reached, length = ends[end]
    start, left, shorter = ends[earlier]
    if start is not None and head != start and reached - left >= LOOK_BACK:
        yield Breakpoint("earlier", start, key, shorter // _TOKEN, continues)
    yield Breakpoint("history", head, key, length // _TOKEN, continues)


def _newest(messages: Sequence[Block]) -> int:
    """Where the newest turn begins that is not the assistant's; the number of messages if it is the assistant's."""
    return next((at + 1 for at in reversed(range(len(messages))) if messages[at]["role"] == "assistant"), 0)


def _returns_results(turn: Sequence[Block]) -> bool:
    return any(block.get("type") == "tool_result" for message in turn for block in _blocks(message["content"]))


def _can_be_marked(block: Block) -> bool:
    """Neither thinking nor text without a visible character can be, nor what only newer versions of the API know."""
    kind = block.get("type")
    return kind in _MARKABLE and (kind != "text" or bool(str(block.get("text", "")).strip()))


def _marked_at(blocks: Sequence[Block], at: int, ttl: Ttl) -> tuple[Block, ...]:
    return (*blocks[:at], {**blocks[at], "cache_control": {"type": "ephemeral", "ttl": ttl}}, *blocks[at + 1 :])


def _blocks(content: str | Sequence[Block]) -> Sequence[Block]:
    return ({"type": "text", "text": content},) if isinstance(content, str) else content


def _is_marked(value: object) -> bool:
    """Whether `cache_control` stands anywhere in it."""
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            if "cache_control" in part:
                return True
            left.extend(part.values())  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        elif isinstance(part, (list, tuple)):
            left.extend(part)  # pyright: ignore[reportUnknownArgumentType]
    return False


def _add(digest: blake2b, value: object) -> int:
    """Add a part of the prompt to a hash; its characters, as JSON."""
    written = _written(value)
    digest.update(written.encode("utf-8", "replace"))
    return len(written)


def _written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
