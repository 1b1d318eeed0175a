"""`ledger upgrade`: brings a ledger's schema up to date before a new version's processes do, which wait only for seconds."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from cascade.ledger.opening import address_of, display_address, is_postgres, open_reader

__all__ = ["upgrade"]

_SECONDS = 30.0


def upgrade(address: str | None) -> tuple[str, bool]:
    """Returns (the address without a password, whether it was not up to date). Raises LedgerDown; NoLedger if there is none."""
    where = address_of(address)
    if is_postgres(where):
        from cascade.ledger.postgres.connection import Session  # noqa: PLC0415 - an extra

        session = Session(where, seconds=_SECONDS)
        with closing(session.connect()) as connection:
            return display_address(where), session.upgrade(connection)
    from cascade.ledger.sqlite.connection import connect, translate_errors, version  # noqa: PLC0415 - not needed with Postgres
    from cascade.ledger.sqlite.schema import MIGRATIONS  # noqa: PLC0415 - as above

    path, made = Path(where), len(MIGRATIONS)
    if path.exists():
        with translate_errors(path), closing(connect(path)) as connection:
            made = version(connection, path)
    open_reader(where).close()  # migrates, or says that there is none
    return display_address(where), made < len(MIGRATIONS)
