"""The ledger for a command: opened by its address for as long as it is read, its troubles as an error of the command line."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from cascade.core.errors import LedgerError
from cascade.ledger.opening import address_of, open_reader
from cascade.ledger.opening import told_address as where_told
from cascade.ledger.stores import LedgerDown, Reader

__all__ = ["address_of", "open_reader", "reading", "where_told"]


@contextmanager
def reading(address: str | None) -> Generator[Reader]:
    """A reader of the ledger at this address, as `opening` finds it.

    Raises LedgerError for whatever the database says, MissingExtra where it is a Postgres and its driver is not installed.
    """
    try:
        reader = open_reader(address)
        try:
            yield reader
        finally:
            reader.close()
    except LedgerDown as down:
        raise LedgerError(str(down)) from None
