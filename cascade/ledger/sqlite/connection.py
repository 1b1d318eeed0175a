"""One SQLite file as the ledger has it: opened, translate_errors apart from other programs' files, brought up to date; errors in one line."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cascade.ledger.sqlite.schema import APPLICATION_ID, MIGRATIONS
from cascade.ledger.stores import LedgerDown

__all__ = ["BUSY_MS", "connect", "migrate", "transaction", "translate_errors", "version"]

BUSY_MS = 2_000
"""How long a write waits for another process's, in milliseconds."""

_TROUBLES = {
    sqlite3.SQLITE_ERROR: "does not hold what a ledger holds (name another, or move it away)",
    sqlite3.SQLITE_CONSTRAINT: "does not take what was to be written (another process under the same name? give each its own)",
    sqlite3.SQLITE_FULL: "the disk is full (make room; rows wait meanwhile)",
    sqlite3.SQLITE_BUSY: f"another process has held it for more than {BUSY_MS / 1000:g} s (end what holds it)",
    sqlite3.SQLITE_LOCKED: "another connection holds it (end what holds it)",
    sqlite3.SQLITE_CORRUPT: "the file is damaged (move it away, a new one is begun; restore it from a backup)",
    sqlite3.SQLITE_NOTADB: "is no SQLite file (name another, or move it away)",
    sqlite3.SQLITE_READONLY: "is read-only (fix the rights of the file and its folder)",
    sqlite3.SQLITE_PERM: "access is refused (fix the rights of the file and its folder)",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened (check the path, and the rights of the file and its folder)",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write it (check the disk)",
}


@contextmanager
def translate_errors(path: Path) -> Generator[None]:
    """Every error of SQLite and of the disk as LedgerDown. None of them holds what was to be written."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        trouble = _TROUBLES.get((code or 0) & 0xFF, "SQLite cannot go on (look the name up)")
        raise LedgerDown(f"{path}: {trouble} [{name}]") from None
    except OSError as error:
        raise LedgerDown(f"{path}: {error.strerror or type(error).__name__} (check the path and its rights)") from None
    except (OverflowError, UnicodeError) as error:
        raise LedgerDown(f"{path}: a value cannot be stored [{type(error).__name__}]") from None


def connect(path: Path) -> sqlite3.Connection:
    """Open a file that is there. Autocommit: transactions are begun by hand."""
    # Not bound to a thread: the module is serialised, and a reader may be used by whoever holds its owner's lock.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False,
        timeout=BUSY_MS / 1000,
    )  # fmt: skip
    try:
        connection.execute("PRAGMA secure_delete = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _one(connection: sqlite3.Connection, question: str) -> Any:
    return connection.execute(question).fetchone()[0]


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date; a newer one, or a database that is something else, is left alone."""
    if version(connection, path) == len(MIGRATIONS):
        return
    with transaction(connection):
        made = version(connection, path)  # again, now that no other process can migrate it
        for migration in MIGRATIONS[made:]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def version(connection: sqlite3.Connection, path: Path) -> int:
    """How many migrations were made. Raises LedgerDown where it is not a ledger, or one of a newer version."""
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
    """All or nothing; nobody else writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # the engine has rolled it back already; what matters is the first error
            connection.execute("ROLLBACK")
        raise
