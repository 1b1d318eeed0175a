"""Opens the ledger for a command that only reads, from its replica where there is one; and says how far that is behind."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from cascade.cli.output import stderr
from cascade.ledger.reading import reading
from cascade.ledger.stores import Reader

__all__ = ["reading_behind"]


@contextmanager
def reading_behind(address: str | None) -> Generator[Reader]:
    """As `ledger.reading.reading`; of a replica it is told on stderr."""
    with reading(address, from_replica=True) as reader:
        if reader.is_replica:
            seconds = reader.behind()
            behind = "nobody knows how far behind" if seconds is None else f"{seconds:.1f} s behind"
            stderr.print(f"read from the replica {reader.where}, {behind}")
        yield reader
