"""A connection to the Postgres ledger: every wait is bounded, errors fit on one line, the schema is up to date.

A server's own timeouts do not help if the server hangs or the network is gone. So each wait ends here after the session's seconds,
and closes the connection. Settings are made per transaction and never per session, so they also work behind a pooler.
"""

from __future__ import annotations

import os
import re
import selectors
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

from cascade.core.errors import MissingExtra
from cascade.ledger.postgres.pooling import pool_at
from cascade.ledger.postgres.schema import MIGRATIONS, SCHEMA, prepare_months
from cascade.ledger.stores import LedgerDown, NoLedger

__all__ = [
    "MIGRATING",
    "ORDER",
    "Connection",
    "MonthMade",
    "Session",
    "disconnect",
    "display_address",
    "require",
    "scalar",
    "transaction",
]

Connection = Any
"""psycopg's, as `_bounded_class` extends it. Its types take literal SQL only, and some of this is made of constants."""

_CONNECT_S = 3
_MIGRATE_S = 10.0  # many processes may start at once, and migrate one after another
_UPGRADE_S = 86_400.0
_SHARED_MS = 10_000  # after which the kernel gives up a peer that does not answer
_GRACE_S = 1.0  # for the server to report its own timeout

ORDER = 0x4341_5343_0001
"""An advisory lock: writers share it; a reader that needs their order takes it alone."""
MIGRATING = 0x4341_5343_0002
"""An advisory lock: one process at a time changes the schema."""


class MonthMade(LedgerDown):
    """A row was on its way to the strays when the partition of its month was made. Tried again, it goes there."""


_TROUBLES = {
    "53100": "the disk is full (free some space; entries wait in memory)",
    "53": "is short of memory or connections (raise its limits, or close some)",
    "57014": "the query took too long and was cancelled (end what blocks it)",
    "55P03": "locked by another session (end that session)",
    "57P": "is starting or shutting down (entries wait in memory)",
    "25006": "is read-only (name the primary server)",
    "42501": "access is refused (grant the user the rights on its schema)",
    "3F": "its schema is missing (grant the user CREATE on the database)",
    "40": "conflicted with another transaction (try again; entries wait in memory)",
    "23514": "a month's partition was made meanwhile (try again; entries wait in memory)",
    "23505": "another transaction writes the same rows (give each process its own writer's name)",
    "XX001": "the database is damaged (restore it from a backup)",
    "XX002": "the database is damaged (restore it from a backup)",
    "58": "the server's disk failed (check it)",
    "08": "the connection broke (entries wait in memory)",
    "": "cannot be reached (check that it runs, and the address; entries wait in memory)",
}

_REFUSED = re.compile(r"FATAL: +(.+)")
"""The server's message, which never contains a password."""


def require() -> None:
    """Raise MissingExtra if psycopg is not installed."""
    try:
        import psycopg  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport]
        import psycopg_pool  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport]
    except ImportError:  # also raised by psycopg itself, if libpq is missing
        raise MissingExtra("a ledger in Postgres", "postgres") from None


def display_address(url: str) -> str:
    """The address without user, password and parameters: everything up to the last `@` is removed, whatever a password contains."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split('[?#]', rest.rpartition('@')[2])[0]}"


class Session:
    """Connects, migrates and translates errors. `seconds`: the time limit of a statement."""

    __slots__ = ("_url", "seconds", "where")

    def __init__(self, url: str, *, seconds: float) -> None:
        require()
        self._url = re.sub(r"^postgres(ql)?(\+psycopg)?://", "postgresql://", url)
        self.where, self.seconds = display_address(url), seconds

    def connect(self) -> Connection:
        """A connection of one's own; `disconnect` ends it. Raises LedgerDown."""
        with self.translate_errors():
            connection = _bounded_class().connect(**self._parameters())
        connection.patience = self.seconds + _GRACE_S
        return connection

    def borrow(self) -> Connection:
        """A connection of the process's pool; `give_back` returns it, its transaction ended. Raises LedgerDown within `seconds`."""
        with self.translate_errors():
            shared = {**self._parameters(), "tcp_user_timeout": _SHARED_MS}  # not the first borrower's
            connection = pool_at(self._url, _bounded_class(), shared).borrow(self.seconds)
        connection.patience = self.seconds + _GRACE_S
        return connection

    @staticmethod
    def give_back(connection: Connection | None) -> None:
        """Return what was borrowed, and may be in a transaction."""
        if connection is not None:
            with suppress(Exception):  # it may be broken, or of a parent process: it is not used again
                connection.rollback()
            with suppress(Exception):
                connection.lender.give_back(connection)

    def _parameters(self) -> dict[str, Any]:
        from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - an extra

        # The kernel, too, detects a peer that is gone without a word.
        defaults = {
            "connect_timeout": _CONNECT_S, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
            "tcp_user_timeout": int(self.seconds * 1000), "application_name": "cascade",
            # A pooler may give the next transaction another connection of its own.
            "prepare_threshold": None,
        }  # fmt: skip
        return {**defaults, **conninfo_to_dict(self._url)}

    @contextmanager
    def translate_errors(self) -> Generator[None]:
        """Raise every Postgres and network error as LedgerDown, without row contents or passwords."""
        from psycopg import Error  # noqa: PLC0415 - an extra

        try:
            yield
        except (Error, OSError) as error:
            raise self._down(error) from None
        except (ValueError, OverflowError) as error:
            raise LedgerDown(f"{self.where}: a value cannot be used [{type(error).__name__}]") from None

    def _down(self, error: BaseException | None) -> LedgerDown:
        code: str = getattr(error, "sqlstate", None) or ""
        refused = None if code else _REFUSED.search(str(error))  # a failed connection has no code
        if refused is not None:
            return LedgerDown(f"{self.where}: refuses the connection: {refused[1][:200]} (check the address)")
        trouble = next(
            (_TROUBLES[part] for part in (code, code[:3], code[:2]) if part in _TROUBLES),
            "is not a ledger, or is damaged (name another database)",
        )
        kind = MonthMade if code == "23514" else LedgerDown
        return kind(f"{self.where}: {trouble} [{code or type(error).__name__}]")

    def begin(self, connection: Connection, more: str = "") -> None:
        """Make this transaction's settings. `more`: further columns to select in the same round trip."""
        milliseconds = str(int(self.seconds * 1000))
        question = (
            "SELECT set_config('search_path', %(schema)s, true),"
            " set_config('statement_timeout', %(ms)s, true), set_config('lock_timeout', %(ms)s, true),"
            " set_config('idle_in_transaction_session_timeout', %(ms)s, true),"
            # Stricter settings of the server (waiting for replicas) are kept.
            " CASE WHEN current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"
            f" THEN set_config('synchronous_commit', 'on', true) END{more}"
        )
        connection.execute(question, {"schema": SCHEMA, "ms": milliseconds})

    def migrate(self, connection: Connection, *, make: bool) -> None:
        """Bring the schema up to date; a newer one is left alone. Raises NoLedger if there is none and not `make`."""
        from psycopg.errors import QueryCanceled  # noqa: PLC0415 - an extra

        with self.translate_errors():
            with transaction(connection):
                self.begin(connection)
                made = self._version(connection)
            if made == len(MIGRATIONS):
                return
            if made is None and not make:
                raise NoLedger(f"{self.where}: there is no ledger yet (send a request first, or name another)")
            try:
                with transaction(connection):
                    self._migrate(connection, _MIGRATE_S)
            except QueryCanceled:
                raise LedgerDown(
                    f"{self.where}: a newer version's schema takes longer to make than {_MIGRATE_S:g} s (run `cascade ledger upgrade`"
                    " once; meanwhile entries wait in memory)"
                ) from None

    def expect_replica(self, connection: Connection) -> None:
        """Raise LedgerDown unless the server is a hot standby."""
        with self.translate_errors(), transaction(connection):
            if not scalar(connection.execute("SELECT pg_is_in_recovery()")):
                raise LedgerDown(f"{self.where}: is not a replica (name a hot standby of the ledger's server)")

    def upgrade(self, connection: Connection) -> bool:
        """Bring the schema up to date, however long it takes; returns whether it was not. Processes of the version before go on writing.

        What is slow is done before the tables are locked. Raises LedgerDown, NoLedger if there is none.
        """
        with self.translate_errors():
            with transaction(connection):
                self.begin(connection)
                made = self._version(connection)
            if made is None:
                raise NoLedger(f"{self.where}: there is no ledger yet (send a request first, or name another)")
            if made == len(MIGRATIONS):
                return False
            with _patience(connection, _UPGRADE_S):
                for steps in prepare_months(made):
                    with transaction(connection):
                        self.begin(connection)
                        self._allow(connection, _UPGRADE_S)
                        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATING,))
                        for step in steps:
                            connection.execute(step)
            with transaction(connection):
                self._migrate(connection, _UPGRADE_S)
        return True

    def _allow(self, connection: Connection, seconds: float) -> None:
        """Let a statement of this transaction take so long, and wait for a lock for `_MIGRATE_S`: what comes behind it waits, too."""
        times = {"ms": str(int(seconds * 1000)), "lock": str(int(_MIGRATE_S * 1000))}
        connection.execute(
            "SELECT set_config('statement_timeout', %(ms)s, true), set_config('lock_timeout', %(lock)s, true)", times
        )

    def _migrate(self, connection: Connection, seconds: float) -> None:
        execute = connection.execute
        self.begin(connection)
        self._allow(connection, seconds)
        with _patience(connection, seconds):
            execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATING,))
            made = self._version(connection) or 0  # read again, now under the lock
            if not made:
                execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            for migration in MIGRATIONS[made:]:
                for statement in migration:
                    execute(statement)
            execute("UPDATE version SET made = %s", (len(MIGRATIONS),))

    def _version(self, connection: Connection) -> int | None:
        execute = connection.execute
        # Not to_regclass: its cache may be older than the lock just acquired.
        there = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = 'version')"
        if not scalar(execute(there, (SCHEMA,))):
            return None
        made = int(scalar(execute("SELECT made FROM version")))
        if made > len(MIGRATIONS):
            raise LedgerDown(
                f"{self.where}: was written by a newer cascade (its version {made}, known here: {len(MIGRATIONS)};"
                " upgrade this one, or name another database)"
            )
        return made


@lru_cache(maxsize=1)
def _bounded_class() -> Any:
    import psycopg  # noqa: PLC0415 - an extra

    class Bounded(psycopg.Connection[Any]):
        """A connection that is closed if an answer takes longer than `patience` seconds."""

        patience = 5.0
        lender: Any = None  # the pool that it was borrowed from

        def wait(self, gen: Any, *_: Any, **__: Any) -> Any:
            """Wait for an answer. psycopg's own wait has no time limit before 3.3."""
            until = time.monotonic() + self.patience
            try:
                wanted = next(gen)
                with selectors.SelectSelector() if os.name == "nt" else selectors.PollSelector() as selector:
                    while True:
                        selector.register(self.pgconn.socket, wanted)
                        ready = selector.select(max(0.0, until - time.monotonic()))
                        if not ready:
                            self.pgconn.finish()
                            raise psycopg.OperationalError("no answer in time")
                        selector.unregister(self.pgconn.socket)
                        wanted = gen.send(ready[0][1])
            except StopIteration as done:
                return done.value
            except KeyboardInterrupt:  # the rest of this answer would be taken for the next one
                self.pgconn.finish()
                raise

    return Bounded


def disconnect(connection: Connection | None) -> None:
    """Close a connection without waiting for a server that may not answer."""
    if connection is not None:
        with suppress(Exception):  # it is not used again
            connection.close()


@contextmanager
def transaction(connection: Connection) -> Generator[None]:
    """Commit, or roll back. Unlike psycopg's own, it logs nothing if the connection is broken."""
    try:
        yield
        connection.commit()
    except BaseException:
        with suppress(Exception):  # the connection may be broken; the first error matters
            connection.rollback()
        raise


def scalar(cursor: Any) -> Any:
    """The first column of the only row."""
    return cursor.fetchone()[0]


@contextmanager
def _patience(connection: Connection, seconds: float) -> Generator[None]:
    before, connection.patience = connection.patience, seconds + _GRACE_S
    try:
        yield
    finally:
        connection.patience = before
