"""What a gateway keeps beside the ledger's entries: its keys, and what callers said of answers. In the ledger's database.

Small tables, read and written whole rows at a time, by commands and by a gateway's background thread. Each call opens a
connection of its own. Every method raises LedgerDown if it fails.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cascade.ledger.opening import address_of, is_postgres

__all__ = ["Feedback", "GatewayTables"]

_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a caller said of an answer.

    `score`: 0 (wrong) to 1 (right). `note`: in words, None unless the ledger keeps content. `key`: of the gateway's key that said
    it, "" without keys. `at`: Unix seconds.
    """

    request: str
    score: float
    at: float
    note: str | None = None
    key: str = ""


class _Execute(Protocol):
    def __call__(self, question: str, values: Mapping[str, Any] = {}, /) -> Any: ...


class GatewayTables:
    """The tables at a ledger's address (default: as for the ledger). Raises ConfigurationError if the address is invalid."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address_of(address)
        self._is_postgres = is_postgres(self._address)
        self._is_ready = False

    def keys(self) -> Sequence[str]:
        """The documents of all keys, in the order of their making."""
        if not self._is_postgres and not Path(self._address).exists():
            return ()
        with self._transaction() as execute:
            return tuple(body for (body,) in execute("SELECT body FROM gateway_keys ORDER BY at, id").fetchall())

    def put_key(self, key: str, at: float, body: str) -> None:
        """Add a key, or replace its document."""
        question = (
            "INSERT INTO gateway_keys (id, at, body) VALUES (:id, :at, :body)"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body"
        )
        with self._transaction() as execute:
            execute(question, {"id": key, "at": at, "body": body})

    def add_feedback(self, said: Feedback) -> None:
        """Add what was said. Nothing is replaced: who reads it decides what a second word on the same answer means."""
        question = "INSERT INTO feedback (request, at, score, note, key) VALUES (:request, :at, :score, :note, :key)"
        values = {"request": said.request, "at": said.at, "score": said.score, "note": said.note, "key": said.key}
        with self._transaction() as execute:
            execute(question, values)

    def feedback(self, since: float = 0.0) -> Sequence[Feedback]:
        """What was said since then, oldest first."""
        question = "SELECT request, score, at, note, key FROM feedback WHERE at >= :since ORDER BY id"
        with self._transaction() as execute:
            return tuple(Feedback(*row) for row in execute(question, {"since": since}).fetchall())

    @contextmanager
    def _transaction(self) -> Generator[_Execute]:
        with self._postgres() if self._is_postgres else self._sqlite() as execute:
            yield execute

    @contextmanager
    def _sqlite(self) -> Generator[_Execute]:
        from cascade.ledger.sqlite.connection import (  # noqa: PLC0415 - not needed with Postgres
            connect,
            migrate,
            transaction,
            translate_errors,
        )

        path = Path(self._address)
        with translate_errors(path):
            if not path.exists():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = connect(path)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                migrate(connection, path)
                with transaction(connection):
                    yield connection.execute  # pyright: ignore[reportReturnType] - sqlite3's, whose values may be a mapping
            finally:
                connection.close()

    @contextmanager
    def _postgres(self) -> Generator[_Execute]:
        from cascade.ledger.postgres.connection import Session, transaction  # noqa: PLC0415 - an extra

        session = Session(self._address, seconds=_SECONDS)
        connection = session.connect()
        try:
            if not self._is_ready:
                session.migrate(connection, make=True)
                self._is_ready = True
            with session.translate_errors(), transaction(connection):
                session.begin(connection)
                yield lambda question, values={}: connection.execute(re.sub(r":(\w+)", r"%(\1)s", question), values)
        finally:
            connection.close()
