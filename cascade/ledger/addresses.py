"""Where the ledger is, a path or postgresql://…: told by `--ledger`, else CASCADE_LEDGER, else `ledger.db` under CASCADE_HOME."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from cascade.core.errors import LedgerError
from cascade.homes import home
from cascade.ledger.stores import LedgerDown, Reader

__all__ = ["address_of", "is_postgres", "open_reader", "reading", "where_told"]


def address_of(told: str | None) -> str:
    """The address in force. It may hold a password: `where_told` is what may be shown of it."""
    return told or os.environ.get("CASCADE_LEDGER") or str(home() / "ledger.db")


def is_postgres(address: str) -> bool:
    """Whether it names a Postgres. Raises LedgerError for an address that is neither that nor a path."""
    scheme, mark, _ = address.partition("://")
    if not mark:
        return False
    if scheme.partition("+")[0] in ("postgresql", "postgres"):
        return True
    raise LedgerError(f"{where_told(address)}: a ledger is a path or postgresql://… (name one of these)")


def where_told(address: str) -> str:
    """The address as it may be shown: without user, password and options."""
    if "://" not in address:
        return address
    try:
        parts = urlsplit(address)
        place = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
    except ValueError:  # what cannot be read cannot be told apart from a password
        place = "…"
    return f"{address.partition('://')[0]}://{place}"


def open_reader(address: str | None) -> Reader:
    """Open the ledger for reading. Raises LedgerDown where it cannot be, LedgerError for an address that is none.

    Raises MissingExtra where it is a Postgres and its driver is not installed.
    """
    named = address_of(address)
    if is_postgres(named):
        from cascade.ledger.postgres import PostgresReader  # noqa: PLC0415 - an extra

        return PostgresReader(named)
    from cascade.ledger.sqlite import SqliteReader  # noqa: PLC0415 - as light as the other

    return SqliteReader(Path(named).expanduser())


@contextmanager
def reading(address: str | None) -> Generator[Reader]:
    """A reader for as long as a command needs it. Raises LedgerError for whatever the database says."""
    try:
        reader = open_reader(address)
        try:
            yield reader
        finally:
            reader.close()
    except LedgerDown as down:
        raise LedgerError(str(down)) from None
