"""Small tables in the ledger's database, beside its entries: each call is one transaction, in Postgres on a connection of the process's pool."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from cascade.ledger.opening import address_of, is_postgres
from cascade.ledger.stores import NoLedger

__all__ = ["Execute", "SmallTables"]


class Execute(Protocol):
    """Runs a statement whose values are named `:name`; returns the driver's cursor."""

    def __call__(self, question: str, values: Mapping[str, Any] = {}, /) -> Any:
        """Run it in the transaction."""
        ...


class SmallTables:
    """The tables at a ledger's address (default: as for the ledger). Raises ConfigurationError if the address is invalid.

    `seconds`: how long a call waits for another's lock.
    """

    def __init__(self, address: str | None = None, *, seconds: float = 2.0) -> None:
        self._seconds = seconds
        self._address = address_of(address)
        self._is_postgres = is_postgres(self._address)
        self._is_ready = False

    @contextmanager
    def _transaction(self, *, make: bool = True, writes: bool = True) -> Generator[Execute]:
        """Commit, or roll back. Not `make`: raises NoLedger if there is none. Not `writes`: one query, which holds up no writer."""
        how = self._postgres(make=make) if self._is_postgres else self._sqlite(make=make, writes=writes)
        with how as execute:
            yield execute

    def _read(self, question: str, values: Mapping[str, Any]) -> Sequence[Any]:
        """The rows of one query; none if there is no ledger."""
        try:
            with self._transaction(make=False, writes=False) as execute:
                return execute(question, values).fetchall()
        except NoLedger:
            return ()

    @contextmanager
    def _sqlite(self, *, make: bool, writes: bool) -> Generator[Execute]:
        from cascade.ledger.sqlite.connection import (  # noqa: PLC0415 - not needed with Postgres
            connect,
            migrate,
            transaction,
            translate_errors,
            use_wal,
        )

        path = Path(self._address)
        with translate_errors(path, self._seconds):
            if not path.exists():
                if not make:
                    raise NoLedger(f"{path}: there is no ledger yet (send a request first, or name another)")
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = connect(path, self._seconds)
            try:
                use_wal(connection, self._seconds)
                migrate(connection, path)
                with transaction(connection) if writes else nullcontext():
                    yield connection.execute  # pyright: ignore[reportReturnType] - sqlite3's, whose values may be a mapping
            finally:
                connection.close()

    @contextmanager
    def _postgres(self, *, make: bool) -> Generator[Execute]:
        from cascade.ledger.postgres.connection import Session, transaction  # noqa: PLC0415 - an extra

        session = Session(self._address, seconds=self._seconds)
        connection = session.borrow()
        try:
            if not self._is_ready:
                session.migrate(connection, make=make)
                self._is_ready = True
            with session.translate_errors(), transaction(connection):
                session.begin(connection)
                yield lambda question, values={}: connection.execute(re.sub(r":(\w+)", r"%(\1)s", question), values)
        finally:
            session.give_back(connection)
