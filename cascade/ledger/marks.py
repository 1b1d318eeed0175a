"""What happened beside the requests: storms, outages of a rung, alerts of budgets. Few and small: a mark is names and numbers, never a text.

A mark has a name that says what it is, and is kept once: whoever is second changes nothing. The newest `MOST` are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, Literal

from cascade.ledger.naming import storable
from cascade.ledger.small_tables import SmallTables
from cascade.ledger.stores import Reader

__all__ = ["MOST", "HappenedMark", "Happening", "MarkTables", "read_marks"]

MOST: Final = 20_000
"""Marks that are kept."""

Happening = Literal[
    "storm_tripped", "storm_released", "storm_limit_wrong", "errors_tripped", "errors_released", "errors_continue", "budget_alert",
    "budget_refused",
]  # fmt: skip
"""The events that are marked, as they are logged."""

_ADD = (
    # Not left to the conflict alone: Postgres counts an id for each, and the oldest go by their ids.
    (
        "INSERT INTO marks (name, at, policy, kind, details) SELECT :name, :at, :policy, :kind, :details"
        " WHERE NOT EXISTS (SELECT 1 FROM marks WHERE name = :name) ON CONFLICT DO NOTHING"
    ),
    "DELETE FROM marks WHERE id <= (SELECT max(id) FROM marks) - :most",
)


@dataclass(frozen=True, slots=True)
class HappenedMark:
    """A mark. `at`: Unix seconds. `once`: what makes it this one, beside policy and kind: of several with the same, the first is kept.

    `details`: JSON values, without content.
    """

    at: float
    policy: str
    kind: Happening
    once: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def name(self) -> str:
        """Its name: a digest, since tasks and workflows may be of any length."""
        named = json.dumps([self.policy, self.kind, *self.once])
        return blake2b(named.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class MarkTables(SmallTables):
    """The marks in the ledger's database. Raises as `SmallTables`."""

    def add(self, mark: HappenedMark) -> None:
        """Put it on record, unless it is; makes the ledger if there is none. Raises LedgerDown."""
        values = {
            "name": mark.name, "at": mark.at, "policy": storable(mark.policy), "kind": mark.kind,
            "details": json.dumps(dict(mark.details), sort_keys=True),
        }  # fmt: skip
        with self._transaction() as execute:
            execute(_ADD[0], values)
            execute(_ADD[1], {"most": MOST})


def read_marks(
    reader: Reader, since: float, until: float, kinds: Sequence[str] = (), most: int = 1_000
) -> tuple[HappenedMark, ...]:
    """The newest marks in [since, until), oldest first; of these kinds (none: of all). Without their names. Raises LedgerDown."""
    names = {f"kind_{place}": kind for place, kind in enumerate(kinds)}
    of = f" AND kind IN ({', '.join(f':{name}' for name in names)})" if names else ""
    question = f"SELECT at, policy, kind, details FROM marks WHERE at >= :since AND at < :until{of} ORDER BY at DESC, id DESC LIMIT {most:d}"  # noqa: S608 - constants and a number
    found = tuple(reader.select(question, {"since": since, "until": until, **names}))
    return tuple(HappenedMark(at, policy, kind, (), json.loads(details)) for at, policy, kind, details in found[::-1])
