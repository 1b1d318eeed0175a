"""The calls of a batch run and what came of them: values, and how they are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from cascade.core.budgets import Refusal
from cascade.core.errors import ConfigurationError
from cascade.core.messages import Failure, Reply
from cascade.core.triage import Prompt

__all__ = [
    "BatchCall", "BatchLimits", "Stored", "decode_outcome", "digest_of", "encode_json", "encode_outcome", "kept_outcome",
    "pages",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class BatchCall:
    """One call to be made through the Message Batches API.

    `key` names it within the run: the same call has the same key after a restart.
    """

    key: str
    prompt: Prompt


_RANGES = (
    ("max_requests", 1, 100_000), ("max_bytes", 1, 256_000_000), ("attempts", 1, 1_000_000), ("poll_s", 0.0, 86_400.0),
    ("settle_s", 0.0, 86_400.0),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How calls are put into batches.

    `max_requests` and `max_bytes` are of one batch (the API's own limits are 100,000 and 256 MB). `attempts`: in how many rounds
    one call is sent before it counts as failed. `poll_s`: seconds between two looks at the batches under way. `settle_s`: how
    long a batch whose creation was interrupted may take to be listed; only then is it taken as not created. Raises ConfigurationError
    for a value that cannot be.
    """

    max_requests: int = 10_000
    max_bytes: int = 64_000_000
    attempts: int = 3
    poll_s: float = 30.0
    settle_s: float = 60.0

    def __post_init__(self) -> None:
        """Check the values."""
        for name, least, most in _RANGES:
            value = getattr(self, name)
            if not least <= value <= most:
                raise ConfigurationError(f"BatchLimits: {name}={value!r} must be from {least} to {most}")


Stored = Reply | Failure | Refusal
"""What a call may have come to. A Refusal: a budget had no room for it, and it was not made."""

_TYPES: dict[str, Any] = {"reply": Reply, "failure": Failure, "refusal": Refusal}
_PAGE = 2_000
_PAGE_BYTES = 4_000_000
_One = TypeVar("_One")
_encoder = msgspec.json.Encoder()
_decoders: dict[str, msgspec.json.Decoder[Any]] = {}


def pages(values: Iterable[_One], size_of: Callable[[_One], int]) -> Iterator[list[_One]]:
    """The values in pages, each of which is one transaction: by their number, and by their size in bytes or characters.

    The more, the fewer times a page of the database is written; but all of them are in memory, several times over.
    """
    page, size = list[_One](), 0
    for one in values:
        page.append(one)
        size += size_of(one)
        if len(page) == _PAGE or size > _PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


def encode_json(value: Any) -> bytes:
    """JSON; an unpaired surrogate in a text, which no encoding has, becomes `?`."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_cleaned(msgspec.to_builtins(value)))


def encode_outcome(outcome: Stored) -> tuple[str, bytes]:
    """An outcome as its kind and its JSON."""
    kind = "reply" if isinstance(outcome, Reply) else "failure" if isinstance(outcome, Failure) else "refusal"
    return kind, encode_json(outcome)


def kept_outcome(outcome: Reply | Failure) -> tuple[Reply | Failure, str, bytes]:
    """An outcome as it will be read again, with its kind and its JSON."""
    kind = "reply" if isinstance(outcome, Reply) else "failure"
    try:
        return outcome, kind, _encoder.encode(outcome)
    except UnicodeEncodeError:
        written = encode_json(outcome)
        return _decoder(kind).decode(written), kind, written


def decode_outcome(kind: str, written: bytes) -> Stored:
    """The outcome that `encode_outcome` has written."""
    return _decoder(kind).decode(written)


def _decoder(kind: str) -> msgspec.json.Decoder[Any]:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(_TYPES[kind])
    return decoder


def digest_of(params: bytes) -> bytes:
    """What tells whether a call is still the one that was sent under its key."""
    return hashlib.sha256(params).digest()[:16]


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, (list, tuple)):
        return [_cleaned(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(one) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value
