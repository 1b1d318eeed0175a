"""What a store of answers offers. Stores are used on one thread at a time, by `AnswerCache`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["AnswerStore", "StoreDown", "Stored"]


class StoreDown(Exception):
    """The store cannot be used for now. Its message may be logged: it holds no key, no answer and no password."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer to store. `request`: the id of the request that it was made for. `until`: Unix seconds."""

    key: bytes
    value: bytes
    request: str
    until: float


class AnswerStore(Protocol):
    """A store of answers by key. Every method raises StoreDown if it cannot be used, within a bounded time where it can."""

    where: str
    """Its address, without secrets."""

    def get(self, key: bytes, now: float) -> bytes | None:
        """The value of a key, None if there is none that holds at `now` (Unix seconds)."""
        ...

    def put(self, stored: Stored, now: float) -> None:
        """Store a value, in place of the key's earlier one."""
        ...

    def erase(self, requests: Sequence[str]) -> int:
        """Remove the answers that were made for these requests; returns how many."""
        ...

    def ping(self) -> None:
        """Raise StoreDown if it cannot be used."""
        ...

    def close(self) -> None:
        """Close its connection; the next use makes another."""
        ...

    def renew(self) -> None:
        """In a forked child: leave the parent's connection alone."""
        ...
