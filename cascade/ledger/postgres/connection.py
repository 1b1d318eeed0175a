"""One connection to Postgres as the ledger has it: every wait bounded, errors in one line, the schema up to date.

A server's own time-outs do not help where the server hangs or the network is gone: each wait for it ends here, after
the seconds that the session was given, and the connection with it. What is set is set for a transaction, never for the
session: it holds behind a pooler, too.
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
from cascade.ledger.postgres.schema import MIGRATIONS, SCHEMA
from cascade.ledger.stores import LedgerDown, NoLedger

__all__ = ["ORDER", "Connection", "Session", "display_address", "require", "scalar", "transaction"]

Connection = Any
"""psycopg's, as `_bounded_class` extends it. Its types take literal SQL only, and some of this is made of constants."""

_CONNECT_S = 3
_MIGRATE_S = 10.0  # many processes may start at once: each waits its turn
_GRACE_S = 1.0  # what the server may take to tell that its time is up

ORDER = 0x4341_5343_0001
"""The advisory lock that writers share and who wants their order waits for."""
_MIGRATING = 0x4341_5343_0002

_TROUBLES = {
    "53100": "the disk is full (make room; rows wait meanwhile)",
    "53": "is short of memory or connections (raise its limits, or end what holds them)",
    "57014": "took too long (end what holds it up; the query was cancelled)",
    "55P03": "another session holds it (end what holds it)",
    "57P": "is starting or shutting down (rows wait meanwhile)",
    "25006": "is read-only (name the primary server)",
    "42501": "access is refused (grant the user the rights on its schema)",
    "3F": "there is no schema for it (grant the user CREATE on the database)",
    "40": "another transaction was in its way (it is tried again)",
    "23505": "another transaction writes the same rows (give each process its own writer's name)",
    "XX001": "the database is damaged (restore it from a backup)",
    "XX002": "the database is damaged (restore it from a backup)",
    "58": "the server's disk failed (check it)",
    "08": "the connection broke (rows wait meanwhile)",
    "": "cannot be reached (check that it runs, and the address; rows wait meanwhile)",
}

_REFUSED = re.compile(r"FATAL: +(.+)")
"""The server's own words: it knows no password, and repeats none."""


def require() -> None:
    """Raise MissingExtra where what Postgres needs is not installed."""
    try:
        import psycopg  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport]
    except ImportError:  # psycopg's own, too: it is there, and libpq is not
        raise MissingExtra("a ledger in Postgres", "postgres") from None


def display_address(url: str) -> str:
    """The address without user, password and parameters: nothing up to the last `@`, whatever a password holds."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split('[?#]', rest.rpartition('@')[2])[0]}"


class Session:
    """Connects, and tells errors. `seconds`: the most that one statement may take."""

    __slots__ = ("_url", "seconds", "where")

    def __init__(self, url: str, *, seconds: float) -> None:
        require()
        self._url = re.sub(r"^postgres(ql)?(\+psycopg)?://", "postgresql://", url)
        self.where, self.seconds = display_address(url), seconds

    def connect(self) -> Connection:
        """Connect. Raises LedgerDown."""
        from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - an extra

        # The kernel, too, detects a peer that is gone without a word.
        defaults = {
            "connect_timeout": _CONNECT_S, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
            "tcp_user_timeout": int(self.seconds * 1000), "application_name": "cascade",
        }  # fmt: skip
        with self.translate_errors():
            connection = _bounded_class().connect(**{**defaults, **conninfo_to_dict(self._url)})
        connection.patience = self.seconds + _GRACE_S
        return connection

    @contextmanager
    def translate_errors(self) -> Generator[None]:
        """Every error of Postgres and of the network as LedgerDown. None holds what was to be written, nor a password."""
        from psycopg import Error  # noqa: PLC0415 - an extra

        try:
            yield
        except (Error, OSError) as error:
            raise self._down(error) from None
        except (ValueError, OverflowError) as error:
            raise LedgerDown(f"{self.where}: a value cannot be used [{type(error).__name__}]") from None

    def _down(self, error: BaseException | None) -> LedgerDown:
        code: str = getattr(error, "sqlstate", None) or ""
        refused = None if code else _REFUSED.search(str(error))  # a connection that is not made comes without a code
        if refused is not None:
            return LedgerDown(f"{self.where}: refuses the connection: {refused[1][:200]} (check the address)")
        trouble = next(
            (_TROUBLES[part] for part in (code, code[:3], code[:2]) if part in _TROUBLES),
            "does not hold what a ledger holds (name another database)",
        )
        return LedgerDown(f"{self.where}: {trouble} [{code or type(error).__name__}]")

    def begin(self, connection: Connection, more: str = "") -> None:
        """Set what holds for this transaction; `more`: what else is selected in this round trip."""
        milliseconds = str(int(self.seconds * 1000))
        question = (
            "SELECT set_config('search_path', %(schema)s, true),"
            " set_config('statement_timeout', %(ms)s, true), set_config('lock_timeout', %(ms)s, true),"
            " set_config('idle_in_transaction_session_timeout', %(ms)s, true),"
            # A server that waits for more than its own disk goes on doing so.
            " CASE WHEN current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"
            f" THEN set_config('synchronous_commit', 'on', true) END{more}"
        )
        connection.execute(question, {"schema": SCHEMA, "ms": milliseconds})

    def migrate(self, connection: Connection, *, make: bool) -> None:
        """Bring the schema up to date; a newer one is left alone. Without `make`, LedgerDown where there is none at all."""
        with self.translate_errors():
            with transaction(connection):
                self.begin(connection)
                made = self._version(connection)
            if made == len(MIGRATIONS):
                return
            if made is None and not make:
                raise NoLedger(f"{self.where}: there is no ledger yet (ask something first, or name another)")
            with transaction(connection):
                self._migrate(connection)

    def _migrate(self, connection: Connection) -> None:
        ms = str(int(_MIGRATE_S * 1000))
        execute = connection.execute
        self.begin(connection)
        execute("SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)", (ms, ms))
        with _patience(connection, _MIGRATE_S):
            execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATING,))
            made = self._version(connection) or 0  # again, now that nobody else can migrate it
            if not made:
                execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            for migration in MIGRATIONS[made:]:
                for statement in migration:
                    execute(statement)
            execute("UPDATE version SET made = %s", (len(MIGRATIONS),))

    def _version(self, connection: Connection) -> int | None:
        execute = connection.execute
        # Not to_regclass: what it has cached may be older than the lock that was just waited for.
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
        """A connection that is closed where an answer takes longer than `patience`, in seconds."""

        patience = 5.0

        def wait(self, gen: Any, *_: Any, **__: Any) -> Any:
            """Wait for an answer. psycopg's own way has no end to it before 3.3."""
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
            except KeyboardInterrupt:  # in the middle of an answer: no other could be told from its rest
                self.pgconn.finish()
                raise

    return Bounded


@contextmanager
def transaction(connection: Connection) -> Generator[None]:
    """All or nothing. Unlike psycopg's own, it logs nothing where the connection broke."""
    try:
        yield
        connection.commit()
    except BaseException:
        with suppress(Exception):  # it may be broken; what matters is the first error
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
