"""Opens the ledger for a command and turns its errors into the command line's."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from cascade.core.errors import LedgerError
from cascade.ledger.opening import address_of, display_address, open_reader
from cascade.ledger.stores import LedgerDown, Reader

__all__ = ["address_of", "display_address", "open_reader", "reading"]


@contextmanager
def reading(address: str | None, *, from_replica: bool = False) -> Generator[Reader]:
    """A reader of the ledger at this address (`opening`), closed at the end. `from_replica`: as for `open_reader`.

    Raises LedgerError for every database error, MissingExtra if Postgres is named and its driver is not installed.
    """
    try:
        reader = open_reader(address, from_replica=from_replica)
        try:
            yield reader
        finally:
            reader.close()
    except LedgerDown as down:
        raise LedgerError(str(down)) from None
