"""The prompt cache: what a request reads from it and writes to it, by model and exact prefix.

A prompt is its tools, its system prompt and its messages, in this order. Each block with `cache_control` ends a prefix that
is cached; the field at the top of the request marks the last block. As in the API, a mark also finds prefixes that ended up
to 20 blocks before it, prompts below the model's minimum are not cached, and a change of tool_choice, thinking or the
answer's format leaves the parts before it cached. Tokens are characters / 4.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from cascade.core.messages import Request
from cascade.core.models import identify, rules_of
from cascade.emulator.checks import check_fields, object_of, refuse, tag_of
from cascade.emulator.content import CALLS, characters_of, encode, unmarked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cascade.core.messages import Usage

__all__ = ["PromptCache", "check_marks", "prompt_tokens"]

_MINIMUM_FROM_5_5: Final = 512
_MINIMUM: Final = 1024  # of a model that is not known
_TTL_S: Final = {"5m": 300.0, "1h": 3600.0}
_LOOKBACK: Final = 20  # blocks, the marked one among them
_TOKEN: Final = 4  # characters
_KEPT: Final = 10_000
_UNMARKABLE: Final = frozenset({"thinking", "redacted_thinking"})
_WRITTEN: Final = CALLS | {"thinking"}  # blocks of the assistant whose text `Request.characters` does not count


@dataclass(frozen=True, slots=True)
class _Prefix:
    """A prompt up to the end of one block. `mark`: the time to live that the block asks for, "" if it is not marked."""

    digest: bytes
    tokens: int
    mark: str


@dataclass(slots=True)
class _Entry:
    ttl_s: float
    expires: float


class PromptCache:
    """The cached prefixes of an emulator. `clock`: seconds. Only the server's thread uses it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: OrderedDict[tuple[str, bytes], _Entry] = OrderedDict()

    def bill(self, model: str, body: Mapping[str, Any], usage: Usage) -> Usage:
        """The usage with its prompt split into what was read, what was written for 5 minutes or 1 hour, and the rest."""
        prefixes = list(_prefixes(body))
        minimum = minimum_of(model)
        marks = [at for at, prefix in enumerate(prefixes) if prefix.mark and prefix.tokens >= minimum]
        found = max((self._find(model, prefixes, at) for at in marks), default=-1)
        read = prefixes[found].tokens if found >= 0 else 0
        one_hour = max((at for at in marks if prefixes[at].mark == "1h"), default=-1)
        hour_end = max(read, prefixes[one_hour].tokens if one_hour > found else 0)
        end = max(hour_end, prefixes[marks[-1]].tokens if marks else 0)
        for at in marks:
            self._store(model, prefixes[at])
        return replace(
            usage,
            input_tokens=max(0, usage.prompt_tokens - end),
            cache_read=read,
            cache_write_1h=hour_end - read,
            cache_write_5m=end - hour_end,
        )

    def _find(self, model: str, prefixes: list[_Prefix], mark: int) -> int:
        """The longest live prefix that a mark finds, which is kept alive by it; -1 if there is none."""
        now = self._clock()
        for at in range(mark, max(-1, mark - _LOOKBACK), -1):
            entry = self._entries.get((model, prefixes[at].digest))
            if entry is not None and entry.expires > now:
                entry.expires = now + entry.ttl_s
                return at
        return -1

    def _store(self, model: str, prefix: _Prefix) -> None:
        now, ttl_s = self._clock(), _TTL_S[prefix.mark]
        key = (model, prefix.digest)
        entry = self._entries.get(key)
        if entry is None or entry.expires <= now:
            self._entries[key] = _Entry(ttl_s, now + ttl_s)
        self._entries.move_to_end(key)
        while len(self._entries) > _KEPT:
            self._entries.popitem(last=False)


def check_marks(body: Mapping[str, Any]) -> None:
    """Refuse marks that the API refuses: on thinking or a deferred tool, another type or time to live, an hour after five minutes."""
    is_short = False
    for where, holder in _holders(body):
        if holder.get("cache_control") is None:
            continue
        if holder.get("type") in _UNMARKABLE:
            refuse(f"{where}{holder['type']}.cache_control: Extra inputs are not permitted")
        if holder.get("defer_loading"):
            refuse(f"{where}cache_control: a tool with defer_loading=true cannot use cache_control")
        control = object_of(holder["cache_control"], f"{where}cache_control")
        kind = tag_of(control, ("ephemeral",), f"{where}cache_control")
        check_fields(control, {"type", "ttl"}, f"{where}cache_control.{kind}.")
        ttl = control.get("ttl") or "5m"
        if ttl not in ("5m", "1h"):
            refuse(f"{where}cache_control.{kind}.ttl: Input should be '5m' or '1h'")
        if ttl == "1h" and is_short:
            refuse(
                f"{where}cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control "
                "block. Note that blocks are processed in the following order: `tools`, `system`, `messages`."
            )
        is_short |= ttl == "5m"


def _holders(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What can be marked in a valid request, with its path, in the order of the prompt; the request itself comes last."""
    for at, tool in enumerate(body.get("tools") or ()):
        yield f"tools.{at}.", tool
    for at, block in enumerate(_blocks(body.get("system") or ())):
        yield f"system.{at}.", block
    for turn, message in enumerate(body["messages"]):
        for at, block in enumerate(_blocks(message["content"])):
            where = f"messages.{turn}.content.{at}."
            inside = block.get("content") if block["type"] == "tool_result" else ()
            for number, part in enumerate(_blocks(inside or ())):
                yield f"{where}content.{number}.", part
            yield where, block
    yield "", body


def minimum_of(model: str) -> int:
    """The fewest tokens that a prefix must have for `model` to cache it."""
    if (rules := rules_of(model)) is not None:
        return rules.min_cached_tokens
    known = identify(model)
    return _MINIMUM if known is None or known.version < (5, 5) else _MINIMUM_FROM_5_5


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """The tokens of a valid request's prompt, tools and thinking and calls included."""
    tools = body.get("tools")
    request = Request(tuple(body["messages"]), system=body.get("system"))
    characters = request.characters() + (len(encode(tools)) if tools else 0)
    for message in body["messages"]:
        if isinstance(message["content"], list):
            blocks = cast("list[dict[str, Any]]", message["content"])
            characters += sum(characters_of(block) for block in blocks if block["type"] in _WRITTEN)
    return max(1, characters // _TOKEN)


def _prefixes(body: Mapping[str, Any]) -> Iterator[_Prefix]:
    parts = list(_parts(body))
    at_top = _ttl_of(body)
    last = max((at for at, (_, block, _) in enumerate(parts) if _can_end(block)), default=-1)
    digest = hashlib.blake2b(digest_size=16)
    characters = 0
    for at, (where, block, length) in enumerate(parts):
        digest.update(encode([where, unmarked(block)]))
        characters += length
        mark = _mark_of(block) or (at_top if at == last else "")
        yield _Prefix(digest.digest(), characters // _TOKEN, mark)


def _parts(body: Mapping[str, Any]) -> Iterator[tuple[object, Mapping[str, Any], int]]:
    """Each block of the prompt with what it stands in, and its characters."""
    for number, tool in enumerate(body.get("tools") or ()):
        yield "tools", tool, len(encode(tool)) + (2 if number == 0 else 1)  # brackets and commas
    config: Mapping[str, Any] = body.get("output_config") or {}
    form = config.get("format")  # it becomes a part of the system prompt
    for block in _blocks(body.get("system") or ()):
        yield ["system", form], block, len(block["text"])
    settings = [form, body.get("thinking"), body.get("tool_choice")]
    for message in body["messages"]:
        for block in _blocks(message["content"]):
            length = Request(({"role": message["role"], "content": [block]},)).characters()
            if block["type"] in _WRITTEN:
                length += characters_of(block)
            yield [message["role"], settings], block, length


def _blocks(content: object) -> tuple[Mapping[str, Any], ...]:
    if isinstance(content, str):
        return ({"type": "text", "text": content},)
    return tuple(cast("list[Mapping[str, Any]]", content))


def _mark_of(block: Mapping[str, Any]) -> str:
    """The time to live that a block asks for, itself or by a block inside of it."""
    if found := _ttl_of(block):
        return found
    content = block.get("content")
    inside = cast("list[object]", content) if isinstance(content, list) else []
    marks = [_ttl_of(cast("dict[str, Any]", part)) for part in inside if isinstance(part, dict)]
    return next((mark for mark in reversed(marks) if mark), "")


def _ttl_of(value: Mapping[str, Any]) -> str:
    control = value.get("cache_control")
    if not isinstance(control, Mapping):
        return ""
    ttl = cast("Mapping[str, Any]", control).get("ttl")
    return ttl if isinstance(ttl, str) and ttl in _TTL_S else "5m"


def _can_end(block: Mapping[str, Any]) -> bool:
    return block.get("type") not in _UNMARKABLE
