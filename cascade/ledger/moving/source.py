"""The ledger that is moved: one SQLite file. Nothing in it is changed but its schema, if an older version wrote it."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from cascade.ledger.records import Content, OpenCall
from cascade.ledger.sqlite.connection import connect, migrate, translate_errors
from cascade.ledger.stores import LedgerDown, NoLedger

__all__ = ["MovedEntry", "Source", "WriterRow"]

_APART = ("writers", "entries", "contents", "calls", "spend", "traffic", "spend_days", "traffic_days")
"""The tables that `target` has statements of its own for; every other one is copied column by column."""


class WriterRow(NamedTuple):
    """A writer as it was registered. `at`: Unix seconds."""

    id: int
    name: str
    at: float


class MovedEntry(NamedTuple):
    """An entry as it is stored. `writer`: its writer's id."""

    id: int
    writer: int
    seq: int
    at: float
    kind: str
    request: str
    body: str
    digest: bytes


class Source:
    """The file, read by one thread. Raises LedgerDown if it cannot be read, NoLedger if there is none."""

    __slots__ = ("_connection", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        with translate_errors(path):
            if not path.exists():
                raise NoLedger(f"{path}: there is no ledger (name the SQLite file with --ledger)")
            connection = connect(path)
            try:
                migrate(connection, path)
                connection.execute("PRAGMA query_only = ON")
            except BaseException:
                connection.close()
                raise
        self._connection = connection

    def _rows(self, question: str, values: Sequence[object] = ()) -> Iterator[Any]:
        with translate_errors(self.path):
            for row in self._connection.execute(question, values):  # noqa: UP028 - as in `sqlite.store`
                yield row

    def _one(self, question: str, values: Sequence[object] = ()) -> Any:
        return next(self._rows(question, values), None)

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """All reads inside see the same moment. A writer goes on meanwhile."""
        with translate_errors(self.path):
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self._connection.execute("COMMIT")

    def last(self) -> int:
        """The id of the entry that was stored last; 0: there is none."""
        return int(self._one("SELECT coalesce(max(id), 0) FROM entries")[0])

    def count(self, after: int = 0) -> int:
        """How many entries have an id above `after`."""
        return int(self._one("SELECT count(*) FROM entries WHERE id > ?", (after,))[0])

    def digest(self, entry: int) -> bytes | None:
        """The digest of the entry with this id, None if there is none."""
        found = self._one("SELECT digest FROM entries WHERE id = ?", (entry,))
        return None if found is None else bytes(found[0])

    def writers(self, after: int = 0) -> Sequence[WriterRow]:
        """The writers with an id above `after`, oldest first."""
        question = "SELECT id, name, at FROM writers WHERE id > ? ORDER BY id"
        return tuple(WriterRow(*row) for row in self._rows(question, (after,)))

    def entries(self, after: int) -> Iterator[MovedEntry]:
        """The entries with an id above `after`, in the order of storing."""
        question = "SELECT id, writer, seq, at, kind, request, CAST(body AS BLOB), digest FROM entries WHERE id > ? ORDER BY id"
        for number, writer, seq, at, kind, request, body, digest in self._rows(question, (after,)):
            try:
                text = body.decode()
            except UnicodeDecodeError:
                text = "\0"
            if "\0" in text or "\0" in request:  # never of a writer: JSON escapes it
                name = self._one("SELECT name FROM writers WHERE id = ?", (writer,))
                where = f"seq {seq} of {name[0] if name else writer}"
                raise LedgerDown(f"{self.path}: {where} was changed, and holds bytes that Postgres takes for no text")
            yield MovedEntry(number, writer, seq, at, kind, request, text, digest)

    def texts(self, after: int, last: int) -> Iterator[Content]:
        """The texts of the requests that have an entry with an id in (after, last]."""
        which = "request IN (SELECT request FROM entries WHERE id > ? AND id <= ?)"
        return self._contents(which, (after, last))

    def text(self, request: str, part: str) -> Iterator[Content]:
        """This text, if it is stored."""
        return self._contents("request = ? AND part = ?", (request, part))

    def _contents(self, which: str, values: Sequence[object]) -> Iterator[Content]:
        question = f"SELECT request, part, at, salt, CAST(text AS BLOB) FROM contents WHERE {which}"  # noqa: S608 - constants
        for request, part, at, salt, text in self._rows(question, values):
            yield Content(request, part, at, salt, text.decode("utf-8", "replace"))

    def text_names(self) -> Iterator[tuple[str, str]]:
        """(request, part) of all texts, ordered by their bytes."""
        return self._rows("SELECT request, part FROM contents ORDER BY request, part")

    def calls(self) -> Iterator[tuple[int, OpenCall]]:
        """The announced calls without a step, each with its writer's id, by writer."""
        question = (
            "SELECT writer, request, step, at, policy, task, workflow, key, arm, bound FROM calls ORDER BY writer"
        )
        for writer, *fields in self._rows(question):
            yield writer, OpenCall(*fields)

    def table(self, name: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """A table's rows. `columns`: which."""
        return self._rows(f"SELECT {', '.join(columns)} FROM {name}")  # noqa: S608 - the schema's names

    def other_tables(self) -> dict[str, Sequence[str]]:
        """The columns of every table that has no statements of its own in `target`."""
        question = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        names = [name for (name,) in self._rows(question) if name not in _APART]
        return {name: tuple(column for _, column, *_ in self._rows(f"PRAGMA table_info({name})")) for name in names}

    def rows(self, question: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query."""
        return self._rows(question)

    def close(self) -> None:
        """Close the file."""
        with suppress(sqlite3.Error):
            self._connection.close()
