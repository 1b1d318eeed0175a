"""Answers in one SQLite file, which the processes of a machine may share. The file is its owner's alone (0600).

It is bounded: each write removes a few of the answers that have expired, and of those beyond the maximum the ones that expire
first. A trigger counts the rows, since to count them by reading would take longer the more there are.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cascade.response_cache.stores import Stored, StoreDown

__all__ = ["SqliteAnswers"]

_APPLICATION_ID = 0x43_41_53_41
_VERSION = 1
_BUSY_S = 0.25
_PIECE = 64  # rows that one write removes at most
_MANY = 500  # ids in one statement
_SCHEMA = (
    """CREATE TABLE answers (
        id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, until REAL NOT NULL, request TEXT NOT NULL, value BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX answers_by_end ON answers (until)",
    "CREATE INDEX answers_by_request ON answers (request)",
    "CREATE TABLE sizes (entries INTEGER NOT NULL) STRICT",
    "INSERT INTO sizes VALUES (0)",
    "CREATE TRIGGER answer_added AFTER INSERT ON answers BEGIN UPDATE sizes SET entries = entries + 1; END",
    "CREATE TRIGGER answer_removed AFTER DELETE ON answers BEGIN UPDATE sizes SET entries = entries - 1; END",
)


class SqliteAnswers:
    """The store in a file, which is made at its first use. It keeps at most `most` answers."""

    def __init__(self, path: Path, most: int) -> None:
        self._path, self._most = path, most
        self.where = str(path)
        self._connection: sqlite3.Connection | None = None
        self._left: list[sqlite3.Connection] = []

    def get(self, key: bytes, now: float) -> bytes | None:
        """As `AnswerStore.get`."""
        with self._used() as connection:
            row = connection.execute("SELECT value FROM answers WHERE key = ? AND until > ?", (key, now)).fetchone()
        return None if row is None else row[0]

    def put(self, stored: Stored, now: float) -> None:
        """As `AnswerStore.put`."""
        with self._used() as connection, _transaction(connection):
            connection.execute(
                "INSERT INTO answers (key, until, request, value) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
                " until = excluded.until, request = excluded.request, value = excluded.value",
                (stored.key, stored.until, stored.request, stored.value),
            )
            remove = "DELETE FROM answers WHERE id IN (SELECT id FROM answers {} ORDER BY until, id LIMIT ?)"
            connection.execute(remove.format("WHERE until <= ?"), (now, _PIECE))
            over = connection.execute("SELECT entries FROM sizes").fetchone()[0] - self._most
            if over > 0:
                connection.execute(remove.format(""), (min(over, _PIECE),))

    def erase(self, requests: Sequence[str]) -> int:
        """As `AnswerStore.erase`."""
        removed = 0
        with self._used() as connection:
            with _transaction(connection):
                for first in range(0, len(requests), _MANY):
                    ids = requests[first : first + _MANY]
                    marks = ", ".join("?" * len(ids))
                    question = f"DELETE FROM answers WHERE request IN ({marks})"  # noqa: S608 - marks alone
                    removed += connection.execute(question, ids).rowcount
            # The log holds the old pages until it is emptied.
            if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise StoreDown("another process reads it, so its log keeps what was removed")
        return removed

    def ping(self) -> None:
        """As `AnswerStore.ping`."""
        with self._used() as connection:
            connection.execute("SELECT entries FROM sizes").fetchone()

    def close(self) -> None:
        """As `AnswerStore.close`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def renew(self) -> None:
        """As `AnswerStore.renew`. It is kept: to close it would give up the locks that the parent holds on the file."""
        if self._connection is not None:
            self._left.append(self._connection)
            self._connection = None

    @contextmanager
    def _used(self) -> Generator[sqlite3.Connection]:
        try:
            if self._connection is None:
                self._connection = self._open()
            yield self._connection
        except sqlite3.Error as error:
            self.close()  # the next use opens the file that is there by then
            raise StoreDown(getattr(error, "sqlite_errorname", type(error).__name__)) from None
        except OSError as error:
            self.close()
            raise StoreDown(error.strerror or type(error).__name__) from None

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its own files the same permissions
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
        try:
            made = _version(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")  # a power loss may lose the last answers, never the file
            connection.execute("PRAGMA secure_delete = ON")
            if not made:
                _make(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _version(connection: sqlite3.Connection) -> int:
    """The version of the file; 0: it is empty. Raises StoreDown if it is another program's, or a newer version's."""
    made = connection.execute("PRAGMA user_version").fetchone()[0]
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if owner != _APPLICATION_ID and (owner or made or tables):
        raise StoreDown("it is another program's database (name another file)")
    if made > _VERSION:
        raise StoreDown(f"it was written by a newer cascade (its version {made}, known here: {_VERSION})")
    return made


def _make(connection: sqlite3.Connection) -> None:
    with _transaction(connection):
        if _version(connection):  # another process has made it meanwhile
            return
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Generator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite may have rolled back already; the first error matters
            connection.execute("ROLLBACK")
        raise
