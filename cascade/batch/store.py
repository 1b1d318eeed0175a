"""What a `BatchSender` knows, in SQLite: its calls, the parts of its rounds, and the outcomes.

A part is one batch, sent or to be sent. Its states:

    planned   its calls are known, nothing was sent
    sending   it is being sent: a batch may have been created whose id is not known here
    open      its batch is known
    read      every result is stored

Every change is one transaction, on the disk before the next thing is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from cascade.batch.calls import BatchLimits
from cascade.batch.database import connect, is_made, transaction
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Rung

__all__ = ["CALLS_FILE", "BatchView", "CallStore", "Part", "PartState", "Registered", "views_of"]

PartState = Literal["planned", "sending", "open", "read"]

# `turn`: the last `send` that asked for the call. `part` and `place`: where it stands, or stood last. `is_open`: it has no outcome
# and stands in no batch. `outcome`: the number of its outcome. What is large is in tables of its own: a row that changes is written again
# as a whole, with its page. Results come in no order: they are appended as they come, and `params` are there until the whole part is read.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS endpoints (id INTEGER PRIMARY KEY, name TEXT UNIQUE, rung TEXT);
CREATE TABLE IF NOT EXISTS parts (
    id INTEGER PRIMARY KEY, round INTEGER, endpoint INTEGER, first INTEGER, calls INTEGER, state TEXT, sent_at REAL,
    batch TEXT UNIQUE
);
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, key TEXT UNIQUE, turn INTEGER, endpoint INTEGER, part INTEGER, place INTEGER,
    tries INTEGER DEFAULT 0, is_open INTEGER, bytes INTEGER, digest BLOB, outcome INTEGER
);
CREATE TABLE IF NOT EXISTS outcomes (id INTEGER PRIMARY KEY, kind TEXT, value BLOB);
CREATE TABLE IF NOT EXISTS params (id INTEGER PRIMARY KEY, params BLOB);
CREATE INDEX IF NOT EXISTS open_calls ON calls (id) WHERE is_open;
CREATE INDEX IF NOT EXISTS calls_by_place ON calls (part, place) WHERE part IS NOT NULL;
"""
CALLS_FILE: Final = "calls.sqlite3"
"""The store's name in a run's folder."""

_FIND = "SELECT kind, value FROM calls JOIN outcomes ON outcomes.id = outcome WHERE key = ?"
_PAGE = 2_000  # rows read at once
_MARKS = 30_000  # question marks of one statement; SQLite's own limit is 32,766
_AROUND = 100  # bytes of a request beside its parameters: the longest custom_id, and what is written around both


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a round. `first`: the place of its first call within the round. `batch`: the id at the endpoint."""

    id: int
    round: int
    endpoint: int
    first: int
    calls: int
    state: PartState
    sent_at: float | None
    batch: str | None

    def contains(self, round_number: int, place: int) -> bool:
        """Whether the call at this place of this round stands in the part."""
        return round_number == self.round and self.first <= place < self.first + self.calls


@dataclass(frozen=True, slots=True)
class Registered:
    """A call to be stored: its key, and its parameters as JSON with their digest."""

    key: str
    endpoint: int
    digest: bytes
    params: bytes


class CallStore:
    """One per sender. For one thread at a time."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._database = connect(path, _SCHEMA, read_only=read_only)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def bind(self, name: str, value: str) -> str:
        """The value that was stored first under this name."""
        with transaction(self._database):
            self._database.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
            return self._database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]

    def next_turn(self) -> int:
        """The number of a new `send`."""
        return (self._database.execute("SELECT max(turn) FROM calls").fetchone()[0] or 0) + 1

    # calls

    def is_empty(self) -> bool:
        """Whether there is none."""
        return self._database.execute("SELECT 1 FROM calls LIMIT 1").fetchone() is None

    def endpoint(self, name: str, rung: Rung) -> int:
        """The number of an endpoint; `rung` is one that is asked there."""
        found = self._database.execute("SELECT id FROM endpoints WHERE name = ?", (name,)).fetchone()
        if found is not None:
            return found[0]
        written = rung.model_dump_json(exclude_unset=True)
        return (
            self._database.execute("INSERT INTO endpoints (name, rung) VALUES (?, ?)", (name, written)).lastrowid or 0
        )

    def rung_at(self, endpoint: int) -> Rung:
        """A rung that is asked at this endpoint."""
        written = self._database.execute("SELECT rung FROM endpoints WHERE id = ?", (endpoint,)).fetchone()[0]
        return Rung.model_validate_json(written)

    def register(self, turn: int, given: Sequence[Registered]) -> list[tuple[str, str, bytes]]:
        """Store the calls that are new. Returns key, kind and outcome of those whose outcome is known.

        Raises ConfigurationError if another call was stored under one of the keys.
        """
        with transaction(self._database):
            first = (self._database.execute("SELECT max(id) FROM calls").fetchone()[0] or 0) + 1
            added = self._database.executemany(
                "INSERT OR IGNORE INTO calls (id, key, turn, endpoint, is_open, bytes, digest) VALUES (?, ?, ?, ?, 1, ?, ?)",
                [
                    (number, call.key, turn, call.endpoint, len(call.params), call.digest)
                    for number, call in enumerate(given, first)
                ],
            ).rowcount
            known, new = ([], list(enumerate(given, first))) if added == len(given) else self._known(turn, given, first)
            self._database.executemany(
                "INSERT INTO params VALUES (?, ?)", [(number, call.params) for number, call in new]
            )
        return known

    def _known(
        self, turn: int, given: Sequence[Registered], first: int
    ) -> tuple[list[tuple[str, str, bytes]], list[tuple[int, Registered]]]:
        """Of calls that were to be stored from the number `first` on: outcomes of those that were there before, and those that are new."""
        known: list[tuple[str, str, bytes]] = []
        new: list[tuple[int, Registered]] = []
        execute = self._database.execute
        find = (
            "SELECT calls.id, digest, kind, value FROM calls LEFT JOIN outcomes ON outcomes.id = outcome WHERE key = ?"
        )
        for wanted, call in enumerate(given, first):
            number, digest, kind, outcome = execute(find, (call.key,)).fetchone()
            if number == wanted:
                new.append((number, call))
                continue
            if digest != call.digest:
                raise ConfigurationError(
                    f"{self._path}: the call {call.key} was sent with other parameters before (the inputs, the policy or"
                    " this library changed: begin another run)"
                )
            if kind is not None:
                known.append((call.key, kind, outcome))
            execute("UPDATE calls SET turn = ? WHERE id = ?", (turn, number))
        return known, new

    def outcome(self, key: str) -> tuple[str, bytes] | None:
        """Kind and JSON of a call's outcome; None if it is not known."""
        found = self._database.execute(_FIND, (key,)).fetchone()
        return None if found is None else (found[0], found[1])

    def count_open(self, turn: int | None = None) -> int:
        """How many calls have neither an outcome nor a batch. `turn`: of this `send` only."""
        if turn is None:
            return self._database.execute("SELECT count(*) FROM calls WHERE is_open").fetchone()[0]
        return self._database.execute("SELECT count(*) FROM calls WHERE is_open AND turn = ?", (turn,)).fetchone()[0]

    # parts

    def plan(self, turn: int, limits: BatchLimits) -> None:
        """Put the calls of this `send` that stand nowhere into the parts of a new round, within the limits."""
        with transaction(self._database):
            round_number = (self._database.execute("SELECT max(round) FROM parts").fetchone()[0] or 0) + 1
            place = 0
            for (endpoint,) in self._database.execute("SELECT id FROM endpoints ORDER BY id").fetchall():
                place = self._plan_endpoint(turn, endpoint, round_number, place, limits)

    def _plan_endpoint(self, turn: int, endpoint: int, round_number: int, place: int, limits: BatchLimits) -> int:
        part, count, size = 0, 0, 0
        query = "SELECT id, bytes FROM calls WHERE is_open AND endpoint = ? AND turn = ? AND id > ? ORDER BY id LIMIT ?"
        last = 0
        while page := self._database.execute(query, (endpoint, turn, last, _PAGE)).fetchall():
            moved: list[tuple[int, int, int]] = []
            for number, params in page:
                length = params + _AROUND
                if not part or count == limits.max_requests or size + length > limits.max_bytes:
                    self._set_calls(part, count)
                    part, count, size = self._new_part(round_number, endpoint, place), 0, 0
                moved.append((part, place, number))
                place, count, size = place + 1, count + 1, size + length
            self._database.executemany("UPDATE calls SET part = ?, place = ?, is_open = 0 WHERE id = ?", moved)
            last = page[-1][0]
        self._set_calls(part, count)
        return place

    def _new_part(self, round_number: int, endpoint: int, first: int) -> int:
        query = "INSERT INTO parts (round, endpoint, first, calls, state) VALUES (?, ?, ?, 0, 'planned')"
        return self._database.execute(query, (round_number, endpoint, first)).lastrowid or 0

    def _set_calls(self, part: int, count: int) -> None:
        if part:
            self._database.execute("UPDATE parts SET calls = ? WHERE id = ?", (count, part))

    def parts(self, *states: PartState) -> list[Part]:
        """The parts in these states, in order; without any state, all."""
        query = "SELECT id, round, endpoint, first, calls, state, sent_at, batch FROM parts ORDER BY id"
        found = (Part(*row) for row in self._database.execute(query).fetchall())
        return [part for part in found if not states or part.state in states]

    def params_of(self, part: Part) -> Iterator[tuple[int, bytes]]:
        """Place and parameters of each call of a part, in order."""
        query = (
            "SELECT place, params FROM calls JOIN params USING (id) WHERE part = ? AND place > ? ORDER BY place LIMIT ?"
        )
        last = -1
        while page := self._database.execute(query, (part.id, last, _PAGE)).fetchall():
            yield from page
            last = page[-1][0]

    def params_at(self, part: Part, place: int) -> bytes | None:
        """The parameters of one call of a part; None once the part is read."""
        query = "SELECT params FROM calls JOIN params USING (id) WHERE part = ? AND place = ?"
        found = self._database.execute(query, (part.id, place)).fetchone()
        return None if found is None else found[0]

    def set_sending(self, part: Part, at: float) -> None:
        """The part is being sent."""
        self._database.execute("UPDATE parts SET state = 'sending', sent_at = ? WHERE id = ?", (at, part.id))

    def set_planned(self, part: Part) -> None:
        """The part was not sent, for sure."""
        self._database.execute("UPDATE parts SET state = 'planned' WHERE id = ?", (part.id,))

    def set_open(self, part: Part, batch: str) -> None:
        """The part's batch is known."""
        self._database.execute("UPDATE parts SET state = 'open', batch = ? WHERE id = ?", (batch, part.id))

    def batches(self) -> set[str]:
        """The ids of all batches that are known."""
        return {batch for (batch,) in self._database.execute("SELECT batch FROM parts WHERE batch IS NOT NULL")}

    # outcomes

    def settle(
        self, part: Part, turn: int, outcomes: Sequence[tuple[int, str, bytes, bool]], attempts: int
    ) -> list[tuple[str, int]]:
        """Store outcomes of a part's calls: place, kind, JSON, and whether the call may be sent again.

        Returns key and place of those that are new, final and of this `send`.
        """
        settled: list[tuple[str, int]] = []
        again: list[tuple[int]] = []
        final: list[tuple[int, str, bytes]] = []  # the call, and its outcome
        with transaction(self._database):
            unread = self._unread(part, [place for place, *_ in outcomes])
            for place, kind, written, is_transient in outcomes:
                found = unread.pop(place, None)
                if found is None:  # it was read before
                    continue
                number, key, asked, tries = found
                if is_transient and tries + 1 < attempts:
                    again.append((number,))
                    continue
                final.append((number, kind, written))
                if asked == turn:
                    settled.append((key, place))
            change = self._database.executemany
            change("UPDATE calls SET tries = tries + 1, is_open = 1 WHERE id = ?", again)
            first = (self._database.execute("SELECT max(id) FROM outcomes").fetchone()[0] or 0) + 1
            numbered = list(enumerate(final, first))
            change(
                "INSERT INTO outcomes VALUES (?, ?, ?)", [(at, kind, written) for at, (_, kind, written) in numbered]
            )
            change(
                "UPDATE calls SET tries = tries + 1, outcome = ? WHERE id = ?",
                [(at, number) for at, (number, _, _) in numbered],
            )
        return settled

    def _unread(self, part: Part, places: list[int]) -> dict[int, tuple[int, str, int, int]]:
        """Number, key, turn and tries of the calls at these places of a part which have no outcome yet, by their places."""
        found: dict[int, tuple[int, str, int, int]] = {}
        for first in range(0, len(places), _MARKS):
            some = places[first : first + _MARKS]
            marks = ",".join("?" * len(some))
            query = f"SELECT place, id, key, turn, tries FROM calls WHERE part = ? AND outcome IS NULL AND NOT is_open AND place IN ({marks})"  # noqa: S608 - question marks
            found |= {place: (*row,) for place, *row in self._database.execute(query, (part.id, *some))}
        return found

    def unsettled(self, part: Part) -> list[int]:
        """The places of a part's calls for which no result came."""
        query = "SELECT place FROM calls WHERE part = ? AND outcome IS NULL AND NOT is_open ORDER BY place"
        return [place for (place,) in self._database.execute(query, (part.id,))]

    def set_read(self, part: Part) -> None:
        """Every result of the part is stored."""
        done = "SELECT id FROM calls WHERE part = ? AND outcome IS NOT NULL"
        with transaction(self._database):
            self._database.execute(f"DELETE FROM params WHERE id IN ({done})", (part.id,))  # noqa: S608 - no values in it
            self._database.execute("UPDATE parts SET state = 'read' WHERE id = ?", (part.id,))


@dataclass(frozen=True, slots=True)
class BatchView:
    """A part as it is shown. `state`: "not sent yet", "being sent", "under way" or what the endpoint says, "read"."""

    round: int
    batch: str | None
    calls: int
    state: str
    rung: Rung

    @property
    def fields(self) -> dict[str, object]:
        """For JSON."""
        return {"round": self.round, "batch": self.batch, "requests": self.calls, "state": self.state}


_SHOWN = {"planned": "not sent yet", "sending": "being sent", "open": "under way", "read": "read"}


def views_of(folder: Path, state_of: Callable[[BatchView], str]) -> list[BatchView]:
    """The batches of a run in order. `state_of` says more of one that is under way."""
    if not is_made(folder / CALLS_FILE):
        return []
    store = CallStore(folder / CALLS_FILE, read_only=True)
    try:
        views = [
            BatchView(part.round, part.batch, part.calls, _SHOWN[part.state], store.rung_at(part.endpoint))
            for part in store.parts()
        ]
    finally:
        store.close()
    return [replace(view, state=state_of(view)) if view.state == _SHOWN["open"] else view for view in views]
