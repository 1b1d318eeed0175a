"""A small corpus with everything that the emulator must tell apart, and the real SDK pointed at an emulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import pytest

from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply
from cascade.emulator import Emulator

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"

_CACHED: dict[str, Any] = {
    "input_tokens": 11,
    "output_tokens": 7,
    "cache_read_input_tokens": 500,
    "cache_creation_input_tokens": 60,
    "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 40},
}


def reply(confidence: float | None, answer: Any, **more: Any) -> RecordedReply:
    """A recorded reply of 100 input and 20 output tokens, if nothing else is said."""
    more.setdefault("usage", {"input_tokens": 100, "output_tokens": 20})
    return RecordedReply(confidence, answer, 1.0, **more)


CORPUS = Corpus(
    Manifest("small", (LadderEntry("haiku", HAIKU), LadderEntry("sonnet", SONNET), LadderEntry("local"))),
    (
        Item("1", "plain", {"haiku": reply(0.9, "yes – ja"), "sonnet": reply(None, "sure"), "local": reply(1, "l")}),
        Item("2", "again", {"haiku": reply(0.1, "first"), "sonnet": reply(0.9, "s1")}),
        Item("3", "again", {"haiku": reply(0.2, "second")}),
        Item("4", "again", {"haiku": reply(0.3, "third"), "sonnet": reply(0.9, "s3")}),
        Item("5", "declined", {"haiku": reply(0.2, None), "sonnet": reply(0.5, "")}),
        Item("6", "object", {"haiku": reply(0.8, {"city": "Zürich", "n": [1, 2]})}),
        Item("7", "silent", {"haiku": RecordedReply(0.8, score=1.0)}),
        Item("8", "unpriced", {"haiku": reply(0.8, "x" * 40, usage=None)}),
        Item("9", "cached", {"haiku": reply(0.8, "yes", usage=_CACHED)}),
        Item("10", [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"},
                    {"role": "user", "content": "listed"}], {"haiku": reply(0.8, "from a list")}),
    ),
)  # fmt: skip

TRIAGE: dict[str, Any] = {
    "format": {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {"confidence": {"type": "number"}, "answer": {"type": ["string", "null"]}},
            "required": ["confidence", "answer"],
            "additionalProperties": False,
        },
    }
}


def asking(text: Any = "plain", model: str = HAIKU, **more: Any) -> dict[str, Any]:
    """The parameters of one request."""
    return {"model": model, "max_tokens": 500, "messages": [{"role": "user", "content": text}], **more}


@pytest.fixture
def emulate() -> Iterator[Callable[..., Emulator]]:
    """Start emulators over the small corpus; they stop when the test ends."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Emulator(CORPUS, **options))


@pytest.fixture
def emulator(emulate: Callable[..., Emulator]) -> Emulator:
    """A running emulator over the small corpus."""
    return emulate()


@pytest.fixture
def client(emulator: Emulator) -> Iterator[anthropic.Anthropic]:
    """The real SDK, pointed at `emulator`, without retries of its own."""
    with anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def client_of() -> Iterator[Callable[[Emulator], anthropic.Anthropic]]:
    """The real SDK for a given emulator, without retries of its own; closed when the test ends."""
    with ExitStack() as stack:
        yield lambda emulator: stack.enter_context(
            anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0, timeout=60)
        )
