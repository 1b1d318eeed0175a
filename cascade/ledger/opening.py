"""The ledger's address, and its writer: one per process, address and durability, shared by all drivers.

An address is the path of an SQLite file, or `postgresql://…`. The default is `CASCADE_LEDGER`, else `ledger.db` in
`home.home()`. `CASCADE_LEDGER_REPLICA` may name a read replica of it. Nothing is opened before the first entry. Writers are closed at exit and not with a driver, because another driver
may follow; an idle writer costs nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cascade.core.errors import ConfigurationError
from cascade.core.policy.operations import Ledger
from cascade.forks import renew_in_children
from cascade.home import home
from cascade.ledger.postgres.connection import display_address as postgres_address
from cascade.ledger.postgres.connection import require
from cascade.ledger.spent import SpentLookup
from cascade.ledger.stores import LedgerDown, Reader, Store
from cascade.ledger.writing.writer import Writer
from cascade.logs import log_event
from cascade.state import Seed

__all__ = [
    "address_of",
    "backlog",
    "display_address",
    "flush_writers",
    "is_postgres",
    "open_ledger",
    "open_reader",
    "replica_of",
    "spent_lookup",
]

_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")
_SPENT_TIMEOUT_S = 1.0


def address_of(address: str | os.PathLike[str] | None = None) -> str:
    """The ledger's address: the one given, else `CASCADE_LEDGER`, else the file under `CASCADE_HOME`. Paths become absolute.

    Raises ConfigurationError if the address is invalid.
    """
    named = os.fspath(address) if address is not None else os.environ.get("CASCADE_LEDGER") or str(home() / "ledger.db")
    if is_postgres(named):
        try:
            _ = urlsplit(named).port
        except ValueError:
            hint = "write postgresql://user:password@host:5432/name, special characters in the password percent-encoded"
            raise ConfigurationError(
                f"ledger: {display_address(named)}: its host or port cannot be read ({hint})"
            ) from None
        return named
    if "://" in named:
        scheme = named.partition("://")[0]
        raise ConfigurationError(
            f"ledger: invalid ledger address: {scheme}:// is not supported (give a path, or postgresql://…)"
        )
    return str(Path(named).expanduser().absolute())


def display_address(address: str) -> str:
    """An address for messages: without user, password and parameters."""
    if not is_postgres(address):
        return address
    return postgres_address(address)


def is_postgres(address: str) -> bool:
    """Whether an address names a Postgres server."""
    return address.startswith(_SCHEMES)


class _Open:
    """The process's writers and spend lookups."""

    def __init__(self) -> None:
        self.writers: dict[tuple[str, bool], Writer] = {}
        self.lookups: dict[str, SpentLookup] = {}
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """Called by `forks` in a child process; each writer renews itself."""
        self.lock = threading.Lock()


_open = _Open()


def open_ledger(address: str | os.PathLike[str] | None, settings: Ledger) -> Writer:
    """The process's writer for this address and durability. Nothing is opened yet.

    Raises ConfigurationError if the address is invalid, MissingExtra if Postgres is named and its packages are not installed.
    """
    where = address_of(address)
    where_shown, commits = display_address(where), settings.durability == "commit"
    with _open.lock:
        writer = _open.writers.get((where, commits))
        if writer is None:
            connect = _connector(where, commits=commits)
            local = not is_postgres(where)  # a round trip to a server may take longer than a caller can wait
            writer = _open.writers[where, commits] = Writer(
                connect, where=where_shown, commits=commits, callers_write=local
            )
    writer.keep(settings.keep_days)
    return writer


def _connector(where: str, *, commits: bool) -> Callable[[], Store]:
    if is_postgres(where):
        from cascade.ledger.postgres.store import PostgresStore  # noqa: PLC0415 - an extra

        require()  # now: an error on the writer's thread would reach nobody
        return lambda: PostgresStore(where)

    def connect() -> Store:
        from cascade.ledger.sqlite.store import SqliteStore  # noqa: PLC0415 - not needed before the first row

        return SqliteStore(Path(where), synchronous="FULL" if commits else "NORMAL")

    return connect


def open_reader(
    address: str | os.PathLike[str] | None = None, *, seconds: float | None = None, from_replica: bool = False
) -> Reader:
    """A reader of the ledger at this address. Raises LedgerDown if there is none, or it cannot be read.

    `seconds`: the time limit of a query to a server. `from_replica`: what is a little old will do: the default ledger is read from the replica that
    `CASCADE_LEDGER_REPLICA` names, if it does; while that cannot be read, which is logged, from the ledger itself.
    Raises ConfigurationError if an address is invalid.
    """
    where = address_of(address)
    replica = replica_of(where) if from_replica else None
    if is_postgres(where):
        from cascade.ledger.postgres.store import PostgresReader  # noqa: PLC0415 - an extra

        limit: dict[str, Any] = {} if seconds is None else {"seconds": seconds}
        if replica is not None:
            try:
                return PostgresReader(replica, **limit, is_replica=True)
            except LedgerDown as down:
                hint = "the ledger itself is read; start the replica, or unset CASCADE_LEDGER_REPLICA"
                log_event(
                    "warning", "ledger_replica_down", ledger=display_address(replica), problem=str(down), hint=hint
                )
        return PostgresReader(where, **limit)
    from cascade.ledger.sqlite.store import SqliteReader  # noqa: PLC0415 - not needed for writing

    return SqliteReader(Path(where))


def replica_of(where: str) -> str | None:
    """The address of the replica to read instead of the ledger at this address; None if there is none, or it is not the default ledger.

    Raises ConfigurationError if `CASCADE_LEDGER_REPLICA` cannot be one.
    """
    named = os.environ.get("CASCADE_LEDGER_REPLICA")
    if not named or where != address_of():
        return None
    if not is_postgres(where) or not is_postgres(named):
        raise ConfigurationError(
            f"CASCADE_LEDGER_REPLICA: names no replica of the ledger at {display_address(where)}"  # what it is may hold a password
            " (both must be postgresql://…; else unset it)"
        )
    return address_of(named)


def spent_lookup(address: str | os.PathLike[str] | None = None) -> Seed:
    """Returns a lookup of what was spent in a claim's period so far, in nano-USD, this process included (`spent`).

    The lookup returns 0 if there is no ledger, and raises LedgerDown if it cannot be read.
    """
    where = address_of(address)
    with _open.lock:
        if where not in _open.lookups:
            _open.lookups[where] = SpentLookup(
                display_address(where),
                lambda: open_reader(where, seconds=_SPENT_TIMEOUT_S),
                lambda: _writers_at(where),
            )
        return _open.lookups[where]


def flush_writers(address: str | os.PathLike[str] | None = None) -> None:
    """Write what this process has for the ledger at this address; it waits at most 2 s for each of its two writers."""
    for writer in _writers_at(address_of(address)):
        writer.flush()


def backlog(address: str | os.PathLike[str] | None = None) -> tuple[int, int]:
    """Of this process's entries for the ledger at this address: how many wait to be written, and how many were dropped so far."""
    writers = _writers_at(address_of(address))
    return sum(one.waiting for one in writers), sum(one.dropped for one in writers)


def _writers_at(where: str) -> list[Writer]:
    with _open.lock:
        return [writer for (at, _), writer in _open.writers.items() if at == where]
