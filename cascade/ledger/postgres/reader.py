"""The ledger in Postgres: the reader's connection.

Entries get their ids when inserted, but become visible when committed. So `entries` and `last` wait for running transactions: a reader
that continues after the last id misses none.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import msgspec

from cascade.ledger.metadata import matches
from cascade.ledger.naming import audit_id
from cascade.ledger.postgres import rows
from cascade.ledger.postgres.connection import ORDER, Connection, Session, disconnect, scalar, transaction
from cascade.ledger.postgres.schema import SCHEMA
from cascade.ledger.records import BUCKET_S, Anchor, Content, Entry
from cascade.ledger.stores import CANNOT_BE_GRADED, FORGET, Filter, LedgerDown, anchors_from
from cascade.ledger.sums import parts_of

__all__ = ["PostgresReader"]

_READ_S = 30.0
_AT_ONCE = 2_000  # rows that a reader fetches at once
_numbers = count(1)  # of cursors
_BEHIND = (
    "SELECT CAST(CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()"
    " AND EXISTS (SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL) THEN 0"
    " ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END AS DOUBLE PRECISION)"
)

_ENTRIES = (
    "SELECT e.id, w.name, e.seq, e.at, e.kind, e.request, e.body, e.digest"
    " FROM entries e JOIN writers w ON w.id = e.writer"
)


def _entry(row: Sequence[Any]) -> Entry:
    number, writer, seq, at, kind, request, body, digest = row
    return Entry(number, writer, seq, at, kind, request, body.encode(), bytes(digest))


class PostgresReader:
    """The reader's connection; one thread at a time. `seconds`: the time limit of a query. After a LedgerDown the next query reconnects.

    `is_replica`: the server must be a hot standby. Its entries are those of some moment a little while ago (`behind`), and whoever goes on after the
    last one may miss some.

    Raises LedgerDown if there is no ledger (a reader makes none), MissingExtra if the extra is not installed.
    """

    __slots__ = ("_connection", "_in_snapshot", "_session", "_users", "is_replica")

    def __init__(self, url: str, *, seconds: float = _READ_S, is_replica: bool = False) -> None:
        self.is_replica = is_replica
        self._session = Session(url, seconds=seconds)
        self._connection: Connection | None = None
        self._users = 0  # open snapshots and streams in the transaction
        self._in_snapshot = False
        with self._reading():
            pass

    @property
    def where(self) -> str:
        """The ledger's address, without user, password and parameters."""
        return self._session.where

    def behind(self) -> float | None:
        """How many seconds a replica is behind its primary; None if it does not know. 0 for a primary."""
        return next(self._rows(_BEHIND))[0] if self.is_replica else 0.0

    @contextmanager
    def _reading(self, *, level: str = "") -> Generator[Connection]:
        """A transaction, shared by all reads that are open at the same time."""
        if self._connection is None:
            connection = self._session.borrow()
            try:
                self._session.migrate(connection, make=False)
                if self.is_replica:
                    self._session.expect_replica(connection)
            except BaseException:
                self._session.give_back(connection)
                raise
            self._connection = connection
        connection: Connection = self._connection
        try:
            with self._session.translate_errors():
                if not self._users:
                    if level:
                        connection.execute(f"SET TRANSACTION {level}")
                    self._session.begin(connection)
                self._users += 1
                try:
                    yield connection
                finally:
                    self._users -= 1
                    if not self._users and connection is self._connection:
                        connection.rollback()
        except LedgerDown:
            self.close()
            raise

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """All reads inside see the same moment."""
        with self._reading(level="ISOLATION LEVEL REPEATABLE READ, READ ONLY"):
            self._in_snapshot = True
            try:
                yield
            finally:
                self._in_snapshot = False

    def _rows(self, question: str, **values: Any) -> Iterator[Any]:
        # A server-side cursor; it needs a name, and several may be open at once.
        with self._reading() as connection, connection.cursor(name=f"rows_{next(_numbers)}") as cursor:
            cursor.itersize = _AT_ONCE
            yield from cursor.execute(question, values)

    def _horizon(self) -> int:
        """An id below which no entry can still appear: every transaction with a smaller one has ended."""
        if self._in_snapshot or self.is_replica:  # later entries are invisible in a snapshot; a replica cannot know
            return 2**63 - 1
        # On its own connection: the lock is held until its transaction ends, and a stream may keep the other one open.
        connection = self._session.borrow()
        try:
            with self._session.translate_errors(), transaction(connection):
                self._session.begin(connection)
                connection.execute(f"SELECT pg_advisory_xact_lock({ORDER})")
                return int(scalar(connection.execute("SELECT coalesce(max(id), 0) FROM entries")))
        finally:
            self._session.give_back(connection)

    def writers(self) -> Sequence[str]:
        """All writers, oldest first."""
        return tuple(name for (name,) in self._rows("SELECT name FROM writers ORDER BY id"))

    def chain(self, writer: str) -> Iterator[Entry]:
        """One writer's entries by seq."""
        question = (
            "SELECT e.id, %(writer)s, e.seq, e.at, e.kind, e.request, e.body, e.digest FROM entries e"
            " WHERE e.writer = (SELECT id FROM writers WHERE name = %(writer)s) ORDER BY e.seq"
        )  # not joined: so the partitions' indexes give the order
        return map(_entry, self._rows(question, writer=writer))

    def anchors(self) -> Mapping[str, Anchor]:
        """Where the chains begin that `ledger prune` has shortened, by writer."""
        return anchors_from(self._rows)

    def entries(self, *, after: int = 0, since: float | None = None, until: float | None = None) -> Iterator[Entry]:
        """Entries in the order of storing: those with an id above `after`, in [since, until)."""
        question, values = f"{_ENTRIES} WHERE e.id > %(after)s AND e.id <= %(horizon)s", dict[str, Any](after=after)
        if since is not None:
            question, values["since"] = f"{question} AND e.at >= %(since)s", since
        if until is not None:
            question, values["until"] = f"{question} AND e.at < %(until)s", until
        return map(_entry, self._rows(f"{question} ORDER BY e.id", horizon=self._horizon(), **values))

    def last(self, count: int) -> Sequence[Entry]:
        """The last entries, oldest first."""
        question = f"{_ENTRIES} WHERE e.id <= %(horizon)s ORDER BY e.id DESC LIMIT %(count)s"
        return tuple(map(_entry, self._rows(question, horizon=self._horizon(), count=count)))[::-1]

    def contents(self, requests: Sequence[str]) -> Iterator[Content]:
        """The stored texts of these requests."""
        question = (
            "SELECT request, part, at, salt, text FROM contents WHERE request = ANY(CAST(%(requests)s AS text[]))"
        )
        for request, part, at, salt, kept in self._rows(question, requests=list(requests)):
            yield Content(request, part, at, bytes(salt), kept)

    def find(self, where: Filter) -> Sequence[str]:
        """The ids of the requests whose metadata match."""
        wanted = {name: value for name, value in where.items() if name != "request"}
        question, values = "SELECT request, body FROM entries WHERE kind = 'request'", dict[str, Any]()
        if "request" in where:
            question, values["request"] = f"{question} AND request = %(request)s", where["request"]
        for place, value in enumerate(wanted.values()):  # filters on the server what cannot match
            needle = msgspec.json.encode(value.encode("utf-8", "replace").decode()).decode()
            question, values[f"needle_{place}"] = f"{question} AND strpos(body, %(needle_{place})s) > 0", needle
        found: list[str] = []
        for request, body in self._rows(f"{question} ORDER BY id", **values):
            if matches(body, wanted):
                found.append(request)
        return tuple(found)

    def erase(self, requests: Sequence[str]) -> int:
        """Remove their texts (and salts) for good; returns how many texts. The entries stay.

        The table is vacuumed at once. The server's log and backups may still contain the texts.
        """
        which = "request = ANY(CAST(%(requests)s AS text[]))"
        values, count = {"requests": [*requests, *map(audit_id, requests)]}, 0
        with self._reading() as connection:
            for forget in ("DELETE FROM contents WHERE", *FORGET):
                count += connection.execute(f"{forget} {which}", values).rowcount
            connection.execute(f"{CANNOT_BE_GRADED} {which}", values)
            connection.commit()
            connection.autocommit = True
            try:
                connection.execute(f"VACUUM {SCHEMA}.contents, {SCHEMA}.feedback, {SCHEMA}.audit_samples")
            finally:
                connection.autocommit = False
        return count

    def spend(self, since: int, until: int, *, by_days: bool = True) -> Iterator[tuple[str | int, ...]]:
        """Sums of steps over the buckets in [since, until), see `stores`."""
        return self._sums(rows.SPEND, rows.SPEND_SUMS, parts_of("spend", since, until, by_days=by_days))

    def traffic(self, since: int, until: int, *, by_days: bool = True) -> Iterator[tuple[str | int | float, ...]]:
        """Sums of requests, the same way."""
        return self._sums(rows.TRAFFIC, rows.TRAFFIC_SUMS, parts_of("traffic", since, until, by_days=by_days))

    def _sums(self, columns: Mapping[str, str], sums: int, parts: Sequence[tuple[str, int, int]]) -> Iterator[Any]:
        names = [*columns]
        by = ", ".join(["bucket / 86400", *names[1:-sums]])
        added = ", ".join(f"CAST(sum({name}) AS {columns[name]})" for name in names[-sums:])
        # Constants, and whole numbers.
        each = " UNION ALL ".join(
            f"SELECT * FROM {part} WHERE bucket >= {since:d} AND bucket < {until:d}"  # noqa: S608
            for part, since, until in parts
        )
        return self._rows(f"SELECT {by}, {added} FROM ({each}) AS parts GROUP BY {by}")  # noqa: S608

    def select(self, question: str, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, see `stores`."""
        return self._rows(re.sub(r":(\w+)", r"%(\1)s", question), **values)

    def spent(
        self, policy: str, scope: str, value: str, since: float, until: float, *, alive: Sequence[str] = ()
    ) -> int:
        """What the steps of a policy cost in [since, until), and calls without a step at their bound, see `stores`."""
        values: dict[str, Any] = {
            "since": since // BUCKET_S * BUCKET_S,
            "until": until,
            "policy": policy,
            "alive": list(alive),
        }
        of = "policy = %(policy)s"
        if scope != "arm":
            of += " AND arm <> 'audit'"
        if scope != "policy":
            of += f" AND { ({'task': 'task', 'workflow': 'workflow', 'key': 'key', 'arm': 'arm'}[scope]) } = %(value)s"
            values["value"] = value
        question = (
            "SELECT CAST((SELECT coalesce(sum(cost), 0) FROM spend"  # noqa: S608 - constants
            f" WHERE bucket >= %(since)s AND bucket < %(until)s AND {of})"
            f" + (SELECT coalesce(sum(bound), 0) FROM calls WHERE at >= %(since)s AND at < %(until)s AND {of}"
            " AND writer NOT IN (SELECT id FROM writers WHERE name = ANY(CAST(%(alive)s AS text[])))) AS bigint)"
        )
        return int(next(iter(tuple(self._rows(question, **values))))[0])

    def large(self, at_least: int, since: float, until: float, most: int) -> Sequence[tuple[str, int]]:
        """Requests that cost more than `at_least` nano-USD, most expensive first: (id, cost); at most `most`."""
        cost = "CAST(CAST(body AS jsonb) ->> 'cost' AS BIGINT)"
        question = (
            f"SELECT request, {cost} AS cost FROM entries WHERE kind = 'outcome' AND {cost} > %(at_least)s"  # noqa: S608 - constants
            " AND at >= %(since)s AND at < %(until)s ORDER BY 2 DESC, id LIMIT %(most)s"
        )
        return tuple(self._rows(question, at_least=at_least, since=since, until=until, most=most))

    def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if (
            connection is not None and self._users
        ):  # a stream that is left open would close its cursor in another's transaction
            disconnect(connection)
        self._session.give_back(connection)

    def __del__(self) -> None:
        """Nobody closed it: the pool has few connections."""
        connection: Connection | None = getattr(self, "_connection", None)
        if connection is not None:
            disconnect(connection)
            connection.lender.leave(connection)
