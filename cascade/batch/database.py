"""SQLite files of a run's folder: opened safely, and the lock that only one process may hold."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from cascade.core.errors import ConfigurationError
from cascade.disk import try_lock

__all__ = ["connect", "is_made", "lock_folder", "make_folder", "transaction", "unlock"]

_BUSY_S = 30.0
_PAGE_BYTES = (
    16_384  # most rows hold a prompt: with SQLite's 4,096 they would be spread over several pages, at twice the time
)


def make_folder(folder: Path) -> None:
    """Make the folder, for its owner alone: prompts and answers stand in it. Raises ConfigurationError if that fails."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        problem = f"{folder}: cannot be made: {error.strerror or error}"
        raise ConfigurationError(f"{problem} (check CASCADE_HOME and its permissions)") from error


def lock_folder(folder: Path) -> int:
    """Lock the folder for this process, until the descriptor is closed or the process ends, however it ends.

    Raises ConfigurationError if another process holds it: two of them would send the same calls twice.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not try_lock(descriptor):
        os.close(descriptor)
        raise ConfigurationError(
            f"{folder}: this batch run is being driven already, by another process or another iteration (wait for it, or end it)"
        )
    return descriptor


def unlock(descriptor: int) -> None:
    """Let another process lock the folder."""
    os.close(descriptor)


def is_made(path: Path) -> bool:
    """Whether the database has its tables: it has not where a process was killed while it made the file.

    Raises ConfigurationError if it cannot be read.
    """
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=_BUSY_S, uri=True)) as database:
            return database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path}: cannot be read: {error} (restore it, or remove its folder)") from error


def connect(path: Path, schema: str, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to a run's database, in autocommit mode. A commit is on the disk when it returns.

    Raises ConfigurationError if it cannot be opened.
    """
    try:
        if read_only:
            database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=_BUSY_S, uri=True)
            database.isolation_level = None
            return database
        database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        database.execute(f"PRAGMA page_size={_PAGE_BYTES}")  # of a new file
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(f"BEGIN;{schema}COMMIT;")  # a process that is killed leaves no half of it
    except (sqlite3.Error, OSError) as error:
        raise ConfigurationError(
            f"{path}: cannot be opened: {error} (check the path, its permissions and the disk's space)"
        ) from error
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Generator[None]:
    """All of it or nothing. Within another one it is a part of that."""
    if database.in_transaction:
        yield
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
