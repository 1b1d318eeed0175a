"""Whether an id occurs twice in all shards, and whether two items are of one group: exact, in bounded memory.

An engine looks for 64-bit hashes that occur twice, in memory as far as it goes and on the disk beyond it. Nearly always there are none: then
no two texts are equal. The texts of those that there are are compared. A pass over hashes takes half the memory of one over texts, which does
not get through 1e8 ids in 1 GiB.
"""

# ruff: noqa: S608 - names and texts are quoted, and the rest of a query is ours

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Final, cast

from pydantic_core import from_json

from cascade.cluster import Cluster, InProcess, Task
from cascade.core.errors import CorpusError
from cascade.corpora.parquet import load_pyarrow
from cascade.corpora.shards.duckdb import Engine, Limits, QueryFailed, files, open_engine, quoted
from cascade.corpora.shards.finding import Shards
from cascade.corpora.sources import place_of

__all__ = ["Twice", "find_twice", "has_shared_groups", "refuse_repeated_ids"]

_MEMORY_HINT: Final = "give more --memory, or more room in the temporary folder"


@dataclass(frozen=True, slots=True)
class Twice:
    """An id that occurs twice, and the two first rows (counted over all shards, from 1) that have it. Of a group, `text` is empty."""

    text: str
    first: int
    second: int


def refuse_repeated_ids(shards: Shards, limits: Limits, cluster: Cluster | None = None, pieces: int = 1) -> None:
    """Raise CorpusError that names an id that occurs twice, and both shards with their rows."""
    found = _spread(shards, "id", limits, cluster, pieces)
    if found is not None:
        raise CorpusError(
            f"the id occurs twice, first in {place_of(shards.source, found.first)}",
            where=place_of(shards.source, found.second),
            item=found.text,
            hint="give each item an id of its own",
        )


def has_shared_groups(shards: Shards, limits: Limits, cluster: Cluster | None = None, pieces: int = 1) -> bool:
    """Whether any two items are of one group, as `splits.group_key` has it."""
    return _spread(shards, "group", limits, cluster, pieces) is not None


def _spread(shards: Shards, what: str, limits: Limits, cluster: Cluster | None, pieces: int) -> Twice | None:
    """Search by ranges of the hash: each task reads the column of every shard, and holds a part of the hashes."""
    pieces = max(1, pieces)
    tasks = [Task(f"{what} {n + 1} of {pieces}", find_twice, (shards, what, limits, n, pieces)) for n in range(pieces)]
    found = [done.result for done in (cluster or InProcess()).run(tasks)]
    return min((one for one in found if one is not None), key=lambda one: (one.second, one.first), default=None)


def find_twice(shards: Shards, what: str, limits: Limits, piece: int = 0, pieces: int = 1) -> Twice | None:
    """Of the ids, or of the groups, with a hash in this piece: the first that occurs twice; None if none does.

    Raises CorpusError for a shard that cannot be read, or if memory or disk do not suffice; MissingExtra without DuckDB.
    """
    key = _key_of(what, shards.columns)
    try:
        with open_engine(limits) as engine:
            if what == "group" and "messages" in shards.columns:
                engine.add_function("in_order", _in_order, 1, returns="VARCHAR")
            rows = f"(SELECT {key} AS key, file_index, file_row_number FROM {files(shards.paths)})"
            share = f"hash(key) % {pieces} = {piece}" if pieces > 1 else "true"
            found = f"FROM {rows} WHERE key IS NOT NULL AND {share} GROUP BY hash(key) HAVING count(*) > 1"
            # Of groups any two will do, and a corpus that has some has many: a few are looked at first.
            for limit in ("LIMIT 1000", "") if what == "group" else ("",):
                engine.run(f"CREATE OR REPLACE TEMP TABLE twice AS SELECT hash(key) AS h {found} {limit}")
                if not engine.table("SELECT h FROM twice LIMIT 1").num_rows:
                    return None
                if (twice := _compared(engine, rows, shards)) is not None:
                    return twice if what == "id" else replace(twice, text="")
            return None
    except QueryFailed as failed:
        raise _told(failed, shards, what, limits) from failed


def _compared(engine: Engine, rows: str, shards: Shards) -> Twice | None:
    """Compare the texts themselves, of those whose hashes are equal."""
    query = f"""
        WITH same AS (
            SELECT key, min(struct_pack(f := file_index, r := file_row_number)) AS first,
                min(struct_pack(f := file_index, r := file_row_number), 2)[2] AS second
            FROM {rows} WHERE hash(key) IN (SELECT h FROM twice) GROUP BY key HAVING count(*) > 1
        )
        SELECT key, first.f AS f1, first.r AS r1, second.f AS f2, second.r AS r2 FROM same ORDER BY f2, r2 LIMIT 1"""
    found = cast("list[dict[str, Any]]", engine.table(query).to_pylist())
    if not found:
        return None
    one, starts = found[0], [0, *accumulate(shard.rows for shard in shards.shards)]
    first, second = (starts[cast("int", one[f"f{n}"])] + cast("int", one[f"r{n}"]) + 1 for n in (1, 2))
    return Twice(one["key"], first, second)


def _key_of(what: str, columns: frozenset[str]) -> str:
    def column(name: str) -> str:
        return f"CAST({quoted(name)} AS VARCHAR)" if name in columns else "CAST(NULL AS VARCHAR)"

    if what == "id":
        return column("id")
    messages = f"'m' || in_order({column('messages')})" if "messages" in columns else "NULL"
    return (
        f"CASE WHEN {column('group')} IS NOT NULL THEN 'g' || {column('group')}"
        f" WHEN {column('messages')} IS NOT NULL THEN {messages} ELSE 'i' || {column('input')} END"
    )


def _in_order(column: Any) -> Any:
    """Messages as `splits.group_key` compares them, their keys in order; what is no JSON is refused where rows are counted."""
    pa = load_pyarrow()
    return pa.array([None if text is None else _one_in_order(text) for text in column.to_pylist()], pa.string())


def _one_in_order(text: str) -> str:
    try:
        return json.dumps(from_json(text, allow_inf_nan=False), sort_keys=True, ensure_ascii=False)
    except ValueError:
        return text


def _told(failed: QueryFailed, shards: Shards, what: str, limits: Limits) -> CorpusError:
    if failed.kind == "memory":
        return CorpusError(f"its {what}s do not fit: {failed.told}", where=shards.source, hint=_MEMORY_HINT)
    shards.refuse_changed()
    where = next((path for path in shards.paths if not _can_be_read(path, shards.columns, limits)), shards.source)
    return CorpusError(f"cannot be read: {failed.told}", where=where, hint="is the file complete?")


def _can_be_read(path: str, columns: frozenset[str], limits: Limits) -> bool:
    """Whether the texts that are compared can be read in one shard: an engine's error need not name the file."""
    names = [name for name in ("id", "group", "input", "messages") if name in columns]
    try:
        with open_engine(limits) as engine:
            here = {row["column_name"] for row in engine.table(f"DESCRIBE SELECT * FROM {files([path])}").to_pylist()}
            sums = ", ".join(f"sum(hash({quoted(name)}) % 2)" for name in names if name in here)
            engine.table(f"SELECT {sums or 'count(*)'} FROM {files([path])}")
    except QueryFailed:
        return False
    return True
