"""Where the ledger is, and its writer: one a process for each address and durability, shared by all drivers.

An address is a path of an SQLite file or `postgresql://…`; without one it is `CASCADE_LEDGER`, else `ledger.db` in
`homes.home()`. Nothing is opened before there is a first row. Writers are closed at exit, not with a driver: another may
come, and a writer that rests costs nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from cascade.core.errors import ConfigurationError
from cascade.core.policy.operations import Ledger
from cascade.forks import renew_in_children
from cascade.home import home
from cascade.ledger.postgres.connection import require
from cascade.ledger.postgres.connection import told_address as server_told
from cascade.ledger.spent import Seeding
from cascade.ledger.stores import Reader, Store
from cascade.ledger.writing.writer import Writer
from cascade.state import Seed

__all__ = ["address_of", "open_ledger", "open_reader", "seed_of", "told_address"]

_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")
_SEED_WAITS_S = 1.0


def address_of(address: str | os.PathLike[str] | None = None) -> str:
    """The ledger's address: the one given, else `CASCADE_LEDGER`, else the file under `CASCADE_HOME`; a path is absolute.

    ConfigurationError where it is the address of something else.
    """
    named = os.fspath(address) if address is not None else os.environ.get("CASCADE_LEDGER") or str(home() / "ledger.db")
    if _is_postgres(named):
        try:
            _ = urlsplit(named).port
        except ValueError:
            hint = "give postgresql://user:password@host:5432/name, and percent-encode what is special in a password"
            raise ConfigurationError(
                f"ledger: {told_address(named)}: its host or port cannot be read ({hint})"
            ) from None
        return named
    if "://" in named:
        scheme = named.partition("://")[0]
        raise ConfigurationError(f"ledger: {scheme}:// is no ledger's address (give a path, or postgresql://…)")
    return str(Path(named).expanduser().absolute())


def told_address(address: str) -> str:
    """An address as it may be told: without user, password and parameters."""
    if not _is_postgres(address):
        return address
    return server_told(address)


def _is_postgres(address: str) -> bool:
    return address.startswith(_SCHEMES)


class _Open:
    """The process's writers, and what its budgets ask."""

    def __init__(self) -> None:
        self.writers: dict[tuple[str, bool], Writer] = {}
        self.seeds: dict[str, Seeding] = {}
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`; the writers renew themselves."""
        self.lock = threading.Lock()


_open = _Open()


def open_ledger(address: str | os.PathLike[str] | None, settings: Ledger) -> Writer:
    """The process's writer for this address and durability. Nothing is opened yet.

    ConfigurationError where the address is none; MissingExtra where Postgres is asked for and its packages are not there.
    """
    where = address_of(address)
    told, commits = told_address(where), settings.durability == "commit"
    with _open.lock:
        writer = _open.writers.get((where, commits))
        if writer is None:
            connect = _connector(where, commits=commits)
            local = not _is_postgres(where)  # a server's round trips may take longer than a caller waits
            writer = _open.writers[where, commits] = Writer(connect, where=told, commits=commits, led=local)
    writer.keep(settings.keep_days)
    return writer


def _connector(where: str, *, commits: bool) -> Callable[[], Store]:
    if _is_postgres(where):
        from cascade.ledger.postgres.store import PostgresStore  # noqa: PLC0415 - an extra

        require()  # now, and not on the writer's thread, where nobody is told
        return lambda: PostgresStore(where)

    def connect() -> Store:
        from cascade.ledger.sqlite.store import SqliteStore  # noqa: PLC0415 - not needed before the first row

        return SqliteStore(Path(where), synchronous="FULL" if commits else "NORMAL")

    return connect


def open_reader(address: str | os.PathLike[str] | None = None, *, seconds: float | None = None) -> Reader:
    """A reader of the ledger at this address. Raises LedgerDown where there is none, or none that can be read.

    `seconds`: the most that one question to a server may take.
    """
    where = address_of(address)
    if _is_postgres(where):
        from cascade.ledger.postgres.store import PostgresReader  # noqa: PLC0415 - an extra

        return PostgresReader(where) if seconds is None else PostgresReader(where, seconds=seconds)
    from cascade.ledger.sqlite.store import SqliteReader  # noqa: PLC0415 - not needed for writing

    return SqliteReader(Path(where))


def seed_of(address: str | os.PathLike[str] | None = None) -> Seed:
    """What the ledger knows to be spent of a budget's period, in nano-USD: also by this process, up to now (`seeding`).

    0 where there is no ledger; LedgerDown where there is one that cannot be read now.
    """
    where = address_of(address)

    def writers() -> list[Writer]:
        with _open.lock:
            return [writer for (at, _), writer in _open.writers.items() if at == where]

    with _open.lock:
        if where not in _open.seeds:
            _open.seeds[where] = Seeding(
                told_address(where), lambda: open_reader(where, seconds=_SEED_WAITS_S), writers
            )
        return _open.seeds[where]
