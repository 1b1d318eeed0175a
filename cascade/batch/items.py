"""The items of a run, in SQLite: what each asks, how far it is, what came of it, and what budgets admitted.

An item is `waiting`, then `ending` (its outcome is being put on record), then `done`. After a crash only the records of those that
were ending have to be looked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from cascade.batch.calls import Stored, decode_outcome, encode_json, encode_outcome
from cascade.batch.database import connect, transaction
from cascade.core.errors import ConfigurationError
from cascade.core.messages import Request
from cascade.core.trail import CheckResult

__all__ = ["DONE", "ENDING", "ITEMS_FILE", "WAITING", "Counts", "Item", "ItemStore", "Line"]

WAITING: Final = 0
ENDING: Final = 1
DONE: Final = 2

# `bound` and `cost` of a call that was admitted, in nano-USD; `cost` is null until its outcome is known. `said`: what was not learnt
# through a batch: a refused call, a verifier's results, a call that was made live. Requests are in a table of their own: a row that
# changes is written again as a whole.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, state INTEGER, ended_at REAL, cost INTEGER, kind TEXT, rung TEXT, line BLOB
);
CREATE TABLE IF NOT EXISTS requests (n INTEGER PRIMARY KEY, request BLOB);
CREATE INDEX IF NOT EXISTS unfinished ON items (n) WHERE state < 2;
CREATE TABLE IF NOT EXISTS spent (key TEXT PRIMARY KEY, bound INTEGER, cost INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS said (key TEXT PRIMARY KEY, kind TEXT, value BLOB) WITHOUT ROWID;
"""
ITEMS_FILE: Final = "items.sqlite3"
"""The store's name in a run's folder."""

_ITEMS = "SELECT n, id, request, state FROM items JOIN requests USING (n)"
_PAGE = 500  # rows read at once

_requests = msgspec.json.Decoder(Request)
_checks = msgspec.json.Decoder(tuple[CheckResult, ...])


@dataclass(frozen=True, slots=True)
class Item:
    """One input of a run: the `n`-th, from 0. `id`: the caller's name for it. Its request has the id that the ledger knows it by.

    `size`: of the request as JSON, in bytes.
    """

    n: int
    id: str
    request: Request
    state: int = WAITING
    size: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """What came of an item: a line of the results as JSON, with what is counted of it. `kind`: "answer", "abstained" or the error's name."""

    n: int
    written: bytes
    kind: str
    rung: str | None
    cost: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a run is. `by_kind` and `by_rung`: of the items that are done. `cost`: theirs, in nano-USD."""

    items: int
    done: int
    by_kind: dict[str, int]
    by_rung: dict[str, int]
    cost: int


class ItemStore:
    """One per run. For one thread at a time."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._database = connect(folder / ITEMS_FILE, _SCHEMA, read_only=read_only)
        self._has_said: bool | None = None

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # the run

    def meta(self, name: str) -> Any:
        """A value of the run; None if it is not set."""
        found = self._database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if found is None else msgspec.json.decode(found[0])

    def set_meta(self, values: dict[str, Any]) -> None:
        """Set values of the run."""
        with transaction(self._database):
            for name, value in values.items():
                written = msgspec.json.encode(value).decode()
                self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, written))

    # items

    def add(self, items: Sequence[tuple[int, str, bytes]]) -> None:
        """Add items: their number, name and request as JSON. Raises ConfigurationError if an id occurs twice."""
        query = "INSERT OR IGNORE INTO items (n, id, state) VALUES (?, ?, 0)"
        with transaction(self._database):
            added = self._database.executemany(query, [(number, name) for number, name, _ in items]).rowcount
            requests = [(number, request) for number, _, request in items]
            self._database.executemany("INSERT OR IGNORE INTO requests VALUES (?, ?)", requests)
            if added < len(items):
                for number, name, _ in items:
                    first = self._database.execute("SELECT n FROM items WHERE id = ?", (name,)).fetchone()[0]
                    if first != number:
                        raise ConfigurationError(
                            f"input {number + 1}: the id {name!r} occurs twice, first at input {first + 1} (give each an id of its own)"
                        )

    def clear(self) -> None:
        """Forget what a process left that ended while it added items."""
        with transaction(self._database):
            for table in ("meta", "items", "requests"):
                self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - constants

    def some(self, numbers: Sequence[int]) -> list[Item]:
        """These items: no more than a page."""
        marks = ",".join("?" * len(numbers))
        query = f"{_ITEMS} WHERE n IN ({marks}) ORDER BY n"
        return list(map(_item, self._database.execute(query, numbers).fetchall()))

    def unfinished(self) -> Iterator[Item]:
        """The items that are not done, in order."""
        return self._items(f"{_ITEMS} WHERE state < 2 AND n > ? ORDER BY n LIMIT ?")

    def all(self) -> Iterator[Item]:
        """Every item, in order."""
        return self._items(f"{_ITEMS} WHERE n > ? ORDER BY n LIMIT ?")

    def _items(self, query: str) -> Iterator[Item]:
        last = -1
        while page := self._database.execute(query, (last, _PAGE)).fetchall():
            last = page[-1][0]
            yield from map(_item, page)

    def set_ending(self, numbers: Iterable[int], at: float) -> None:
        """The outcomes of these items are being put on record. `at`: Unix seconds."""
        with transaction(self._database):
            self._database.executemany(
                "UPDATE items SET state = 1, ended_at = ? WHERE n = ?", [(at, number) for number in numbers]
            )

    def ending_since(self) -> float | None:
        """When the first of the items that are ending began to; None if there are none."""
        return self._database.execute("SELECT min(ended_at) FROM items WHERE state < 2 AND state = 1").fetchone()[0]

    def set_done(self, lines: Iterable[Line]) -> None:
        """These items are done."""
        with transaction(self._database):
            self._database.executemany(
                "UPDATE items SET state = 2, cost = ?, kind = ?, rung = ?, line = ? WHERE n = ?",
                [(line.cost, line.kind, line.rung, line.written, line.n) for line in lines],
            )

    def lines(self) -> Iterator[tuple[str, bytes | None]]:
        """The id of each item in order, and its line of the results; None where it is not done."""
        last = -1
        query = "SELECT n, id, line FROM items WHERE n > ? ORDER BY n LIMIT ?"
        while page := self._database.execute(query, (last, _PAGE)).fetchall():
            last = page[-1][0]
            yield from ((name, line) for _, name, line in page)

    def counts(self) -> Counts:
        """How far the run is."""
        items, done, cost = self._database.execute(
            "SELECT count(*), coalesce(sum(state = 2), 0), coalesce(sum(cost), 0) FROM items"
        ).fetchone()
        done_query = "SELECT {0}, count(*) FROM items WHERE state = 2 AND {0} IS NOT NULL GROUP BY {0} ORDER BY {0}"
        by_kind, by_rung = (
            dict(self._database.execute(done_query.format(column)).fetchall()) for column in ("kind", "rung")
        )
        return Counts(items, done, by_kind, by_rung, cost)

    # what was not learnt through a batch

    @property
    def has_said(self) -> bool:
        """Whether any of it is stored."""
        if self._has_said is None:
            self._has_said = self._database.execute("SELECT 1 FROM said LIMIT 1").fetchone() is not None
        return self._has_said

    def said(self, key: str) -> Stored | tuple[CheckResult, ...] | None:
        """A refusal, a live call's outcome or a verifier's results; None if nothing is stored under this key."""
        if not self.has_said:
            return None
        found = self._database.execute("SELECT kind, value FROM said WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        return _checks.decode(found[1]) if found[0] == "checks" else decode_outcome(*found)

    def say(self, key: str, value: Stored | tuple[CheckResult, ...]) -> None:
        """Store one of them."""
        self._has_said = True
        kind, written = ("checks", encode_json(value)) if isinstance(value, tuple) else encode_outcome(value)
        self._database.execute("INSERT OR REPLACE INTO said VALUES (?, ?, ?)", (key, kind, written))

    # money

    def admitted(self, key: str) -> bool:
        """Whether the call was admitted before."""
        return self._database.execute("SELECT 1 FROM spent WHERE key = ?", (key,)).fetchone() is not None

    def admit(self, key: str, bound: int) -> None:
        """The call is admitted, at the most that it may cost."""
        self._database.execute("INSERT OR IGNORE INTO spent VALUES (?, ?, NULL)", (key, bound))

    def settle(self, key: str, cost: int) -> int | None:
        """What an admitted call cost. Returns its bound, None if that was known before."""
        found = self._database.execute("SELECT bound FROM spent WHERE key = ? AND cost IS NULL", (key,)).fetchone()
        if found is None:
            return None
        self._database.execute("UPDATE spent SET cost = ? WHERE key = ?", (cost, key))
        return found[0]

    def money(self) -> tuple[int, int]:
        """What was spent, and what is reserved for calls under way, in nano-USD."""
        query = "SELECT coalesce(sum(cost), 0), coalesce(sum(CASE WHEN cost IS NULL THEN bound END), 0) FROM spent"
        return self._database.execute(query).fetchone()

    def together(self) -> Any:
        """All changes inside are one transaction."""
        return transaction(self._database)


def _item(row: tuple[int, str, bytes, int]) -> Item:
    return Item(row[0], row[1], _requests.decode(row[2]), row[3], len(row[2]))
