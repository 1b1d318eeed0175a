"""What a gateway keeps beside the ledger's entries: its keys, and what callers said of answers. In the ledger's database.

Small tables, read and written whole rows at a time, by commands and by a gateway's background thread. Every method raises LedgerDown if it fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cascade.ledger.small_tables import SmallTables

__all__ = ["Feedback", "GatewayTables"]


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


class GatewayTables(SmallTables):
    """A gateway's tables; see `small_tables`. What only reads makes no ledger where there is none."""

    def keys(self) -> Sequence[str]:
        """The documents of all keys, in the order of their making."""
        return tuple(body for (body,) in self._read("SELECT body FROM gateway_keys ORDER BY at, id", {}))

    def put_key(self, key: str, at: float, body: str) -> None:
        """Add a key, or replace its document."""
        question = (
            "INSERT INTO gateway_keys (id, at, body) VALUES (:id, :at, :body)"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body"
        )
        with self._transaction() as execute:
            execute(question, {"id": key, "at": at, "body": body})

    def add_feedback(self, said: Feedback, *, make: bool = True) -> bool:
        """Add what was said; whether it is of an audited request. Nothing is replaced: who reads it decides what a second word on it means.

        Not `make`: raises NoLedger where there is none.
        """
        question = "INSERT INTO feedback (request, at, score, note, key) VALUES (:request, :at, :score, :note, :key)"
        values = {"request": said.request, "at": said.at, "score": said.score, "note": said.note, "key": said.key}
        with self._transaction(make=make) as execute:
            execute(question, values)
            audited = execute("SELECT 1 FROM audit_samples WHERE request = :request", {"request": said.request})
            return audited.fetchone() is not None

    def feedback(self, since: float = 0.0) -> Sequence[Feedback]:
        """What was said since then, oldest first."""
        question = "SELECT request, score, at, note, key FROM feedback WHERE at >= :since ORDER BY id"
        return tuple(Feedback(*row) for row in self._read(question, {"since": since}))
