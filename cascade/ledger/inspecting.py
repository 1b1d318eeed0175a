"""Looks at a ledger as `cascade doctor --deep` does: whether it can be written and read, and what its database says of itself.

It leaves nothing behind: what it writes is rolled back, and a ledger that is not there is not made.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cascade.ledger.opening import address_of, display_address, is_postgres
from cascade.ledger.stores import LedgerDown

__all__ = ["LedgerStatus", "inspect_ledger"]

_SECONDS = 5.0
_PROBE = "cascade doctor"
_INSERT = f"INSERT INTO gateway_keys (id, at, body) VALUES ('{_PROBE}', 0, '{{}}')"  # noqa: S608 - a constant
_SELECT = f"SELECT count(*) FROM gateway_keys WHERE id = '{_PROBE}'"  # noqa: S608 - a constant
_NEXT_MONTH_S = 32 * 86_400


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """What a ledger's database said. None: it does not apply, or was not told.

    `where`: without a password. `is_made`: whether there is a ledger; if not, `may_make`: whether it may be made. `version`, `newest`: of the
    schema, and the one that is known here. `write_ms`: a row written, read and rolled back. `clock_skew_s`: the database's clock
    less this machine's. `free_bytes`, `size_bytes`: of the disk (SQLite), of the database. `is_pooled`: a pooler such as PgBouncer stands between.
    `months`: the months that have a partition, as "2026-11"; `strays`: rows outside of all of them.
    """

    where: str
    is_postgres: bool
    is_made: bool
    may_make: bool = True
    version: int | None = None
    newest: int = 0
    write_ms: float | None = None
    clock_skew_s: float | None = None
    free_bytes: int | None = None
    size_bytes: int | None = None
    is_pooled: bool | None = None
    is_replica: bool = False
    connections: tuple[int, int] | None = None
    months: tuple[str, ...] | None = None
    strays: int | None = None

    def misses_month(self, now: float) -> str | None:
        """This month or the next, where it has no partition yet. `now`: Unix seconds."""
        if self.months is None:
            return None
        this = datetime.fromtimestamp(now, UTC).replace(day=1)
        later = datetime.fromtimestamp(this.timestamp() + _NEXT_MONTH_S, UTC)
        return next((month for one in (this, later) if (month := f"{one:%Y-%m}") not in self.months), None)


def inspect_ledger(address: str | None, wall: Callable[[], float] = time.time) -> LedgerStatus:
    """Look at the ledger at this address (default: as for the ledger). `wall`: Unix seconds.

    Raises LedgerDown if it cannot be reached, read or written, MissingExtra, ConfigurationError.
    """
    where = address_of(address)
    return _postgres(where, wall) if is_postgres(where) else _sqlite(Path(where))


def _sqlite(path: Path) -> LedgerStatus:
    from cascade.ledger.sqlite.connection import connect, translate_errors, version  # noqa: PLC0415 - not needed with Postgres
    from cascade.ledger.sqlite.schema import MIGRATIONS  # noqa: PLC0415 - as above

    try:
        is_there, folder = path.exists(), next(one for one in path.absolute().parents if one.exists())
        free, may = shutil.disk_usage(folder).free, folder.is_dir() and os.access(folder, os.W_OK)
    except OSError as problem:
        raise LedgerDown(f"{path}: {problem.strerror} (check the permissions of its folder)") from None
    if not is_there:
        return LedgerStatus(str(path), False, False, may, free_bytes=free, newest=len(MIGRATIONS))
    with (
        translate_errors(path, _SECONDS),
        closing(connect(path, _SECONDS)) as connection,
    ):
        made = version(connection, path)
        written = None
        if made == len(MIGRATIONS):
            started = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_INSERT)
            _check(str(path), connection.execute(_SELECT).fetchone()[0])
            connection.execute("ROLLBACK")
            written = (time.perf_counter() - started) * 1000
    files = (path, path.with_name(path.name + "-wal"))
    size = sum(one.stat().st_size for one in files if one.exists())
    return LedgerStatus(
        str(path),
        False,
        True,
        version=made,
        newest=len(MIGRATIONS),
        write_ms=written,
        free_bytes=free,
        size_bytes=size,
    )


def _check(where: str, rows: int) -> None:
    if rows != 1:
        raise LedgerDown(f"{where}: a row that was written could not be read in the same transaction")


def _postgres(where: str, wall: Callable[[], float]) -> LedgerStatus:
    from cascade.ledger.postgres.connection import Session, scalar, transaction  # noqa: PLC0415 - an extra
    from cascade.ledger.postgres.schema import MIGRATIONS, SCHEMA  # noqa: PLC0415 - as above

    session, shown = Session(where, seconds=_SECONDS), display_address(where)
    with closing(session.connect()) as opened, session.translate_errors(), transaction(opened):
        connection: Any = opened
        session.begin(connection)
        before = wall()
        now = float(scalar(connection.execute("SELECT extract(epoch FROM clock_timestamp())")))
        after = wall()
        about = connection.execute(
            "SELECT pg_backend_pid(), pg_is_in_recovery(), pg_database_size(current_database()),"
            " has_database_privilege(current_database(), 'CREATE'), (SELECT count(*) FROM pg_stat_activity),"
            " CAST(current_setting('max_connections') AS int)"
        ).fetchone()
        pid, is_replica, size, may, used, most = about
        # By the schema's name: one that this user may not use is none of its search path.
        has_table = (
            f"SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = '{SCHEMA}' AND tablename = 'version')"  # noqa: S608 - a constant
        )
        is_made = bool(scalar(connection.execute(has_table)))
        version = int(scalar(connection.execute(f"SELECT made FROM {SCHEMA}.version"))) if is_made else None  # noqa: S608 - a constant
        written, months, strays = None, None, None
        if version == len(MIGRATIONS):
            months, strays = _months(connection)
            written = None if is_replica else _written(connection, shown)
        return LedgerStatus(
            shown, True, is_made, bool(may), version, len(MIGRATIONS), written, now - (before + after) / 2, None, int(size),
            pid != connection.info.backend_pid, bool(is_replica), (int(used), int(most)), months, strays,
        )  # fmt: skip


def _written(connection: Any, where: str) -> float:
    started = time.perf_counter()
    connection.execute("SAVEPOINT probe")
    connection.execute(_INSERT)
    _check(where, connection.execute(_SELECT).fetchone()[0])
    connection.execute("ROLLBACK TO SAVEPOINT probe")
    return (time.perf_counter() - started) * 1000


def _months(connection: Any) -> tuple[tuple[str, ...] | None, int | None]:
    """The months of `entries` that have a partition, and the rows outside of them; None where it is not partitioned."""
    found = connection.execute(
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = to_regclass('entries') ORDER BY 1"
    ).fetchall()
    if not found:
        return None, None
    months = tuple(name[-7:].replace("_", "-") for name, bound in found if bound != "DEFAULT" and name[-7:-5].isdigit())
    default = next((name for name, bound in found if bound == "DEFAULT"), None)
    count = f'SELECT count(*) FROM "{default}"'  # noqa: S608 - a name from the catalogue
    return months, None if default is None else int(connection.execute(count).fetchone()[0])
