"""What the writer and the readers need of a database; `sqlite` and `postgres` are the two that have it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from cascade.ledger.records import Batch, Content, Entry

__all__ = ["Filter", "LedgerDown", "NoLedger", "Reader", "Store"]

Filter = Mapping[str, str]
"""Names and values of the caller's metadata that must all match; `request` matches the request's id."""


class LedgerDown(Exception):
    """The database cannot be reached, read or written for now; one line: what, where, what to do. Never holds a row."""


class NoLedger(LedgerDown):
    """There is none at this address: nothing was written yet."""


class Store(Protocol):
    """One writer's connection, used by one thread at a time. Every method raises LedgerDown where it cannot do its work."""

    def open(self, writer: str) -> None:
        """Connect, bring the schema up to date, register the writer."""
        ...

    def write(self, batch: Batch) -> None:
        """Write it as one transaction; durable when this returns (`commit`), or with the engine's next sync (`batched`)."""
        ...

    def remove_content(self, before: float) -> int:
        """Remove texts older than this (Unix seconds); returns how many."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class Reader(Protocol):
    """A read connection for commands: entries, texts, sums; and `erase`, which removes texts. Raises LedgerDown."""

    @property
    def where(self) -> str:
        """The ledger's address, without a password."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """All that is read inside is of one moment, whatever writers add meanwhile."""
        ...

    def writers(self) -> Sequence[str]:
        """All writers, in the order they came."""
        ...

    def chain(self, writer: str) -> Iterator[Entry]:
        """One writer's entries by seq."""
        ...

    def entries(self, *, after: int = 0, since: float | None = None, until: float | None = None) -> Iterator[Entry]:
        """Entries in the order the store took them up: those with a larger id than `after`, in [since, until)."""
        ...

    def last(self, count: int) -> Sequence[Entry]:
        """The last entries, oldest first."""
        ...

    def contents(self, requests: Sequence[str]) -> Iterator[Content]:
        """The texts that are kept of these requests."""
        ...

    def find(self, where: Filter) -> Sequence[str]:
        """The ids of the requests whose metadata match."""
        ...

    def erase(self, requests: Sequence[str]) -> int:
        """Remove their texts (and salts) for good; returns how many texts. The entries stay."""
        ...

    def spend(self, since: int, until: int, *, by_days: bool = True) -> Iterator[tuple[str | int, ...]]:
        """Sums of steps over the buckets in [since, until), in Unix seconds, multiples of 900.

        (day, policy, task, workflow, key, arm, rung, model, steps, escalated, cost, input, output); `day`: bucket // 86400.
        Whole days are read from the sums that are kept by days, the rest by quarters of an hour; not `by_days`: all.
        """
        ...

    def traffic(self, since: int, until: int, *, by_days: bool = True) -> Iterator[tuple[str | int | float, ...]]:
        """Sums of requests, the same way.

        (day, policy, task, workflow, arm, rung, slot, requests, answers, resolved, escalated, cost, cost squared, estimate, estimated).
        Those of NO_SLOT are all requests; those of a slot count some of them once more (`records.TrafficKey`).
        """
        ...

    def spent(
        self, policy: str, scope: str, value: str, since: float, until: float, *, alive: Sequence[str] = ()
    ) -> int:
        """What the steps of a policy cost in [since, until), in nano-USD: whole quarters of an hour, the one of `since` too.

        Of all of it (scope "policy"), or of one task, workflow, key or arm. A call that was announced (`durability: commit`)
        and has no step counts as its bound, the most that it may have cost: its process was killed, or it is under way. Those
        of the writers in `alive` do not: whoever asks has reserved them.
        """
        ...

    def large(self, at_least: int, since: float, until: float, most: int) -> Sequence[tuple[str, int]]:
        """Requests that cost more than `at_least` nano-USD, the dearest first: (id, cost); at most `most`."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...
