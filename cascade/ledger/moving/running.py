"""The order of a move: entries in steps, then, as of one moment, the rest of them and all that changes, and the comparison.

The steps before that moment read what is there: a writer may go on. What it adds after the moment is counted (`Moved.behind`), and
moved by the next run, which begins behind the mark.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cascade.ledger.moving.source import MovedEntry, Source
from cascade.ledger.moving.target import Target
from cascade.ledger.moving.totals import Totals, differences, totals

__all__ = ["Moved", "move"]

_ENTRIES_AT_ONCE = 10_000
_BYTES_AT_ONCE = 16_000_000


@dataclass(frozen=True, slots=True)
class Moved:
    """What a run did. `entries`: of the target now; `moved`: by this run; `behind`: what the source got meanwhile.

    `differences`: what is not equal on both sides, one line each; if there are any, only entries and texts were moved.
    """

    source: str
    target: str
    entries: int
    moved: int
    writers: int
    texts: int
    behind: int
    differences: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Whether counts and sums are equal on both sides."""
        return not self.differences


def move(
    path: Path,
    url: str,
    *,
    progress: Callable[[int, int], object] | None = None,
    clock: Callable[[], float] = time.time,
    at_once: int = _ENTRIES_AT_ONCE,
) -> Moved:
    """Move the ledger in this file to this database, or what came since the last run.

    `progress` is called with the numbers of entries moved by this run, and of all that it found. `at_once`: entries in one
    transaction. Raises LedgerDown if either side cannot be used, another ledger is at `url`, or that one is in use;
    MissingExtra if the extra is not installed.
    """
    with closing(Source(path)) as source, closing(Target(url)) as target:
        target.begin(source, clock())
        run = _Run(source, target, progress, at_once)
        run.catch_up()
        with source.snapshot():
            run.catch_up()
            with target.end(source, clock()) as ask:
                tables = [*source.other_tables()]
                there, here = totals(source.rows, tables), totals(ask, tables)
                if any(differences(there, here)):
                    target.undo()
        return run.result(there, here)


class _Run:
    """One run's state."""

    def __init__(
        self, source: Source, target: Target, progress: Callable[[int, int], object] | None, at_once: int
    ) -> None:
        self._source, self._target, self._progress, self._at_once = source, target, progress, at_once
        self._moved = 0
        self._found = source.count(target.last)

    def catch_up(self) -> None:
        """Move entries until there are no more."""
        while self._source.last() > self._target.last:
            entries = _portion(self._source.entries(self._target.last), self._at_once)
            self._target.add(entries, self._source)
            self._moved += len(entries)
            self._found = max(self._found, self._moved)
            if self._progress is not None:
                self._progress(self._moved, self._found)

    def result(self, there: Totals, here: Totals) -> Moved:
        """What was done."""
        return Moved(
            str(self._source.path), self._target.where, here["entries: rows"][0], self._moved, here["writers: rows"][0],
            here["contents: rows"][0], self._source.count(self._target.last), tuple(differences(there, here)),
        )  # fmt: skip


def _portion(entries: Iterator[MovedEntry], at_once: int) -> Sequence[MovedEntry]:
    """The entries of one step."""
    found: list[MovedEntry] = []
    size = 0
    for entry in entries:
        found.append(entry)
        size += len(entry.body)
        if len(found) >= at_once or size >= _BYTES_AT_ONCE:
            break
    return found
