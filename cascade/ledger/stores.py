"""What the writer and the readers need from a database; implemented by `sqlite` and `postgres`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from cascade.ledger.records import Anchor, Batch, Content, Entry

__all__ = [
    "CANNOT_BE_GRADED", "FORGET", "Filter", "LedgerDown", "NoLedger", "Reader", "Store", "anchors_from",
]  # fmt: skip

Filter = Mapping[str, str]
"""Names and values of the caller's metadata that must all match; `request` matches the request's id."""

FORGET = (
    "UPDATE feedback SET note = NULL WHERE note IS NOT NULL AND",
    "UPDATE audit_samples SET shadow = NULL, reason = NULL WHERE (shadow IS NOT NULL OR reason IS NOT NULL) AND",
)
"""Remove the texts that are not in `contents`; each wants a condition on `request` or `at`."""
CANNOT_BE_GRADED = "UPDATE audit_samples SET has_content = 0 WHERE has_content = 1 AND"
"""What is left to do where texts were removed."""


class LedgerDown(Exception):
    """The database cannot be reached, read or written now. One line: what, where, how to fix it; never row contents."""


class NoLedger(LedgerDown):
    """There is no ledger at this address: nothing was written yet."""


class Store(Protocol):
    """One writer's connection, used by one thread at a time. Every method raises LedgerDown if it fails."""

    def open(self, writer: str) -> None:
        """Connect, bring the schema up to date, register the writer."""
        ...

    def write(self, batch: Batch) -> None:
        """Write a batch as one transaction. Durable when this returns (`commit`), or at the engine's next sync (`batched`)."""
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

    @property
    def is_replica(self) -> bool:
        """Whether it reads a replica of the ledger, which may be a little behind."""
        ...

    def behind(self) -> float | None:
        """How many seconds what it reads is behind; 0 if it is no replica; None if that cannot be known."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """All reads inside see the same moment, whatever writers add meanwhile."""
        ...

    def writers(self) -> Sequence[str]:
        """All writers, oldest first."""
        ...

    def chain(self, writer: str) -> Iterator[Entry]:
        """One writer's entries by seq."""
        ...

    def anchors(self) -> Mapping[str, Anchor]:
        """Where the chains begin that `ledger prune` has shortened, by writer."""
        ...

    def entries(self, *, after: int = 0, since: float | None = None, until: float | None = None) -> Iterator[Entry]:
        """Entries in the order of storing: those with an id above `after`, in [since, until)."""
        ...

    def last(self, count: int) -> Sequence[Entry]:
        """The last entries, oldest first."""
        ...

    def contents(self, requests: Sequence[str]) -> Iterator[Content]:
        """The stored texts of these requests."""
        ...

    def find(self, where: Filter) -> Sequence[str]:
        """The ids of the requests whose metadata match."""
        ...

    def erase(self, requests: Sequence[str]) -> int:
        """Remove their texts (and salts) for good, those of their audit too; returns how many texts. The entries stay."""
        ...

    def spend(self, since: int, until: int, *, by_days: bool = True) -> Iterator[tuple[str | int, ...]]:
        """Sums of steps over the buckets in [since, until), in Unix seconds, multiples of 900.

        (day, policy, task, workflow, key, arm, rung, model, steps, escalated, cost, input, output); `day`: bucket // 86400.
        Whole days are read from the daily sums, the rest from those of quarters of an hour; not `by_days`: all from the latter.
        """
        ...

    def traffic(self, since: int, until: int, *, by_days: bool = True) -> Iterator[tuple[str | int | float, ...]]:
        """Sums of requests, the same way.

        (day, policy, task, workflow, arm, rung, slot, requests, answers, resolved, escalated, cost, cost squared, estimate, estimated).
        Rows with NO_SLOT count every request once; rows with a slot count some of them again (`records.TrafficKey`).
        """
        ...

    def select(self, question: str, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        """The rows of a query in words that both databases understand. Its values are named `:name`; nothing else in it has a colon."""
        ...

    def spent(
        self, policy: str, scope: str, value: str, since: float, until: float, *, alive: Sequence[str] = ()
    ) -> int:
        """What the steps of a policy cost in [since, until), in nano-USD: whole quarters of an hour, the one of `since` too.

        For the whole policy (scope "policy"), or one task, workflow, key or arm. Without the arm "audit" unless it is named: the
        audit has a limit of its own. A call that was announced (`durability: commit`)
        and has no step counts at its bound, the most it may have cost. Calls of the writers in `alive` do not: the caller has
        reserved them.
        """
        ...

    def large(self, at_least: int, since: float, until: float, most: int) -> Sequence[tuple[str, int]]:
        """Requests that cost more than `at_least` nano-USD, most expensive first: (id, cost); at most `most`."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


_ANCHORS = "SELECT w.name, a.seq, a.digest, a.entries, a.ends FROM anchors a JOIN writers w ON w.id = a.writer"
_KEPT_ENTRIES = "SELECT w.name, k.seq, k.previous FROM anchored k JOIN writers w ON w.id = k.writer"


def anchors_from(rows: Callable[[str], Iterable[Sequence[Any]]]) -> Mapping[str, Anchor]:
    """`Reader.anchors` of either database. `rows`: runs a query."""
    kept: dict[str, dict[int, bytes]] = {}
    for name, seq, previous in rows(_KEPT_ENTRIES):
        kept.setdefault(name, {})[seq] = bytes(previous)
    return {
        name: Anchor(seq, bytes(digest), entries, ends, kept.get(name, {}))
        for name, seq, digest, entries, ends in rows(_ANCHORS)
    }
