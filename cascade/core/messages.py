"""What goes to a rung and what comes back: Request, Usage, Reply, Failure. Frozen values, no vendor type among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Block", "Failure", "FailureKind", "Reply", "Request", "Usage"]

Block = Mapping[str, Any]
"""A message or a content block, in the Messages API's own shape. Passed through untouched."""

FailureKind = Literal[
    "rate_limited", "spend_cap", "overloaded", "server", "connection", "unreachable", "timeout", "conflict",
    "unreadable", "deadline", "overflow", "rejected",
]  # fmt: skip
"""Why a call brought no reply. `overflow`: the prompt does not fit the context window. `rejected`: the request itself
was refused, which is the caller's or the configuration's fault. `unreadable`: a 200 that is not a message. `unreachable`: no
connection could be made to an endpoint that never answered before; where it did, that is `connection`."""


_PLAIN = frozenset({"input_tokens", "output_tokens"})


@dataclass(frozen=True, slots=True)
class Usage:
    """Billed tokens. `input_tokens` excludes cache reads and writes; `thinking_tokens` is a part of `output_tokens`.

    `is_estimate`: the endpoint did not say all of it; what is missing is counted as the most that it may have been.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0
    thinking_tokens: int = 0
    is_estimate: bool = False

    @property
    def prompt_tokens(self) -> int:
        """The whole prompt, cached or not: what price tiers by prompt length look at."""
        return self.input_tokens + self.cache_write_5m + self.cache_write_1h + self.cache_read

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_write_5m + other.cache_write_5m,
            self.cache_write_1h + other.cache_write_1h,
            self.cache_read + other.cache_read,
            self.thinking_tokens + other.thinking_tokens,
            self.is_estimate or other.is_estimate,
        )

    @classmethod
    def from_api(cls, usage: Mapping[str, Any]) -> Usage:
        """Read the API's `usage` object. A cache write without the 5m/1h split counts as 5m, the API's default.

        A recorded one may say `"estimate": true`. Raises ValueError where a count is not one: no money is made of what we
        cannot read.
        """
        if usage.keys() <= _PLAIN:  # nearly all recorded ones are so, and a replay reads a million of them
            return cls(_count(usage, "input_tokens"), _count(usage, "output_tokens"))
        written = _count(usage, "cache_creation_input_tokens")
        split: Mapping[str, Any] = usage.get("cache_creation") or {}
        details: Mapping[str, Any] = usage.get("output_tokens_details") or {}
        one_hour = _count(split, "ephemeral_1h_input_tokens")
        return cls(
            input_tokens=_count(usage, "input_tokens"),
            output_tokens=_count(usage, "output_tokens"),
            cache_write_5m=max(_count(split, "ephemeral_5m_input_tokens"), written - one_hour),
            cache_write_1h=one_hour,
            cache_read=_count(usage, "cache_read_input_tokens"),
            thinking_tokens=_count(details, "thinking_tokens"),
            is_estimate=usage.get("estimate") is True,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller asked.

    `messages` and `system` keep the Messages API's shapes and are passed through as they are. `schema` is the JSON
    schema the answer must have, or None for text; `prompt_schema` is one that the API cannot enforce, so it is asked for in
    the prompt. `max_tokens` bounds the answer itself, whatever the rung. `id` is ours, for the trail and the ledger;
    `metadata` is the caller's, of which only `user_id` goes to the API.
    """

    messages: tuple[Block, ...]
    system: str | tuple[Block, ...] | None = None
    task: str | None = None
    flags: frozenset[str] = frozenset()
    schema: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    id: str = ""
    prompt_schema: Mapping[str, Any] | None = None

    def user_text(self) -> str:
        """All text of the user's turns, documents and tool results included, a line break between the pieces."""
        first = self.messages[0]
        if len(self.messages) == 1 and first["role"] == "user" and isinstance(first["content"], str):
            return first["content"]  # nearly all requests are so
        return "\n".join(
            piece for message in self.messages if message["role"] == "user" for piece in _texts(message["content"])
        )

    def characters(self) -> int:
        """Characters of text in the whole prompt, the system prompt included."""
        return sum(map(len, self.texts()))

    def texts(self) -> Iterator[str]:
        """Every piece of text in the whole prompt, the system prompt included."""
        yield from _texts(self.system or "")
        for message in self.messages:
            yield from _texts(message["content"])

    def turn_characters(self) -> int:
        """Characters of text in all turns, whoever wrote them; without the system prompt, which says nothing of them."""
        return sum(len(piece) for message in self.messages for piece in _texts(message["content"]))


@dataclass(frozen=True, slots=True)
class Reply:
    """What one rung returned, on HTTP 200. `text` joins its text blocks; thinking is left out."""

    text: str
    stop_reason: str
    usage: Usage
    model: str = ""
    request_id: str | None = None
    attempts: int = 1
    latency_s: float = 0.0
    spent: tuple[Usage, ...] = ()
    """What attempts before this one were billed that broke off after they had begun to answer."""

    @property
    def billed(self) -> tuple[Usage, ...]:
        """Each attempt's usage by itself: a price tier looks at the length of one prompt."""
        return (self.usage, *self.spent)


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that brought no reply, after all its attempts.

    `usage` is what its last attempt was billed all the same, `spent` what those before it were. `message` is one line
    for the person who reads the error; it quotes the endpoint and is never logged. `where`, if no connection could be made:
    the endpoint's address, without credentials, and why; it may be logged. `retry_after_s`: how long the endpoint asks to
    wait, in seconds; `should_retry`: what it says of trying again. None where it does not say.
    """

    kind: FailureKind
    message: str
    status: int | None = None
    usage: Usage = Usage()
    request_id: str | None = None
    attempts: int = 1
    latency_s: float = 0.0
    spent: tuple[Usage, ...] = ()
    where: str = ""
    retry_after_s: float | None = None
    should_retry: bool | None = None

    @property
    def billed(self) -> tuple[Usage, ...]:
        """Each attempt's usage by itself: a price tier looks at the length of one prompt."""
        return (self.usage, *self.spent)

    @property
    def told(self) -> str:
        """Its kind and what is known of it, without anything that the endpoint said."""
        status = f", HTTP {self.status}" if self.status else ""
        wait = f", asks to wait {self.retry_after_s:.10g} s" if self.retry_after_s else ""
        return f"{self.kind}{status}{wait}{self.where and f', {self.where}'}"


def _count(counts: Mapping[str, Any], key: str) -> int:
    value = counts.get(key)
    if value is None:
        return 0
    if type(value) is not int or value < 0:
        raise ValueError(f"{key} is not a count of tokens")
    return value


def _texts(content: object) -> Iterator[str]:
    """The text inside a content value: a string, or blocks that nest (documents, tool results)."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Sequence):
        for block in content:  # pyright: ignore[reportUnknownVariableType]
            yield from _texts(block)  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(content, Mapping):
        kind = content.get("type")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if kind == "text" and "data" in content:  # a plain-text document source
            yield from _texts(content["data"])  # pyright: ignore[reportUnknownArgumentType]
        elif kind == "text":
            yield from _texts(content.get("text", ""))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        elif kind == "document":
            yield from _texts(content.get("title") or "")  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
            yield from _texts(content.get("context") or "")  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
            yield from _texts(content.get("source", ""))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        elif kind in ("tool_result", "search_result", "content"):
            yield from _texts(content.get("content", ""))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
