"""A connection to an SQLite ledger: opens the file, refuses other programs' databases, migrates; errors fit on one line."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from cascade.ledger.sqlite.schema import APPLICATION_ID, MIGRATIONS
from cascade.ledger.stores import LedgerDown

__all__ = ["BUSY_MS", "connect", "migrate", "transaction", "translate_errors", "use_wal", "version"]

BUSY_MS = 2_000
"""How long a write waits for another process, in milliseconds, unless told otherwise."""

_TROUBLES = {
    sqlite3.SQLITE_ERROR: "is not a ledger, or is damaged (name another, or move it away)",
    sqlite3.SQLITE_CONSTRAINT: "refuses the entries (does another process use the same writer name? give each its own)",
    sqlite3.SQLITE_FULL: "the disk is full (free some space; entries wait in memory)",
    sqlite3.SQLITE_BUSY: "locked by another process for more than {seconds:g} s (end that process)",
    sqlite3.SQLITE_LOCKED: "locked by another connection (close it)",
    sqlite3.SQLITE_CORRUPT: "the file is damaged (move it away and a new one is made, or restore a backup)",
    sqlite3.SQLITE_NOTADB: "is not an SQLite file (name another, or move it away)",
    sqlite3.SQLITE_READONLY: "is read-only (fix the permissions of the file and its folder)",
    sqlite3.SQLITE_PERM: "access is refused (fix the permissions of the file and its folder)",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened (check the path, and the permissions of the file and its folder)",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write it (check the disk)",
}


@contextmanager
def translate_errors(path: Path, seconds: float | None = None) -> Generator[None]:
    """Raise every SQLite and disk error as LedgerDown, without row contents. `seconds`: as for `connect`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        trouble = _TROUBLES.get((code or 0) & 0xFF, "SQLite failed (see sqlite.org/rescode.html)")
        raise LedgerDown(f"{path}: {trouble.format(seconds=_wait(seconds))} [{name}]") from None
    except OSError as error:
        raise LedgerDown(
            f"{path}: {error.strerror or type(error).__name__} (check the path and its permissions)"
        ) from None
    except (OverflowError, UnicodeError) as error:
        raise LedgerDown(f"{path}: a value cannot be stored [{type(error).__name__}]") from None


def _wait(seconds: float | None) -> float:
    return BUSY_MS / 1000 if seconds is None else seconds


def connect(path: Path, seconds: float | None = None) -> sqlite3.Connection:
    """Open an existing file, in autocommit mode: transactions are explicit.

    `seconds`: how long each statement waits for a lock; None: `BUSY_MS`.
    """
    # Not bound to a thread: the module is serialised, and readers are shared under their owner's lock.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False,
        timeout=_wait(seconds),
    )  # fmt: skip
    try:
        connection.execute("PRAGMA secure_delete = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def use_wal(connection: sqlite3.Connection, seconds: float | None = None) -> None:
    """Switch the file to a write-ahead log, unless it has one. `seconds`: as for `connect`.

    SQLite does not wait here while another connection does the same with a new file: it says that the file is locked.
    """
    for attempt in Retrying(
        retry=retry_if_exception(_is_locked),
        stop=stop_after_delay(_wait(seconds)),
        wait=wait_random(0, 0.02),
        reraise=True,
    ):
        with attempt:
            connection.execute("PRAGMA journal_mode = WAL")


def _is_locked(error: BaseException) -> bool:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_BUSY


def _one(connection: sqlite3.Connection, question: str) -> Any:
    return connection.execute(question).fetchone()[0]


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date; a newer one, or a database that is something else, is left alone."""
    if version(connection, path) == len(MIGRATIONS):
        return
    with transaction(connection):
        made = version(connection, path)  # read again, now inside the transaction
        for migration in MIGRATIONS[made:]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def version(connection: sqlite3.Connection, path: Path) -> int:
    """The number of migrations applied. Raises LedgerDown if it is not a ledger, or written by a newer version."""
    made, owner = int(_one(connection, "PRAGMA user_version")), _one(connection, "PRAGMA application_id")
    if owner != APPLICATION_ID and (made or owner or _one(connection, "SELECT count(*) FROM sqlite_master")):
        raise LedgerDown(f"{path}: is another program's database, not a ledger (name another file)")
    if made > len(MIGRATIONS):
        raise LedgerDown(
            f"{path}: was written by a newer cascade (its version {made}, known here: {len(MIGRATIONS)};"
            " upgrade this one, or name another file)"
        )
    return made


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Commit, or roll back. No other connection can write meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # the engine may have rolled back already; the first error matters
            connection.execute("ROLLBACK")
        raise
