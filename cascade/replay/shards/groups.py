"""The second pass, for the intervals: the scores of what was shipped, summed by group.

Up to 100,000 items the sums themselves are kept, for a bootstrap; above that their moments, which an engine adds up out of core. A task of
fewer items in a larger corpus has its sums kept too.
"""

# ruff: noqa: S608 - queries are built of our own names, and of what `text` has quoted

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from cascade.core.policy import OTHER
from cascade.corpora.parquet import load_pyarrow
from cascade.corpora.shards.duckdb import text
from cascade.corpora.splits import group_key
from cascade.replay.arrays import np
from cascade.replay.building import checksum_of
from cascade.replay.columns import DECLINED
from cascade.replay.intervals import GroupSums, Moments
from cascade.replay.outcomes import Outcomes, scores_of
from cascade.replay.shards.columns import CellColumns
from cascade.replay.shards.counting import Counting, Reading, open_reading
from cascade.replay.sums import on_grid, sums_by
from cascade.replay.vectorised import evaluate

if TYPE_CHECKING:
    from cascade.replay.arrays import Ints

__all__ = ["GroupQuestion", "Groups", "KeptSums", "outcome_table", "sum_groups"]

_KINDS = ("input", "group", "messages")


@dataclass(frozen=True, slots=True, eq=False)
class GroupQuestion:
    """What is summed by group. `outcome`: of `outcome_table`; `alone`: the rungs that are also summed alone, by number.

    kept      the tasks whose sums are kept; None: all of them
    moments   whether moments over all tasks are wanted; `large`: the tasks of which they are wanted too
    grouped   whether any two items are of one group
    bucket    only groups whose hash is this modulo `buckets`
    """

    outcome: Any
    alone: tuple[int, ...]
    kept: tuple[str, ...] | None
    moments: bool
    large: tuple[str, ...] = ()
    grouped: bool = True
    bucket: int = 0
    buckets: int = 1

    @property
    def series(self) -> dict[str, tuple[str, str]]:
        """By name, what is summed: its two integers. "": what was shipped; `1`: rung 1 alone; `-1`: what was shipped, less that."""
        made = {"": ("hs", "ls")}
        for number in self.alone:
            made[str(number)] = f"h{number}", f"l{number}"
            made[f"-{number}"] = f"(hs - h{number})", f"(ls - l{number})"
        return made


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Sums by group: `kept` as a `pyarrow.Table`, `moments` by task ("": of all) and by series."""

    kept: Any
    moments: dict[tuple[str, str], Moments]

    def __add__(self, other: Groups) -> Groups:
        """Those of both, which have no group in common."""
        both = {
            key: one if (more := other.moments.get(key)) is None else one + more for key, one in self.moments.items()
        }
        kept = load_pyarrow().concat_tables([self.kept, other.kept])
        return Groups(kept, {**other.moments, **both})


def outcome_table(rows: CellColumns, outcomes: Outcomes) -> Any:
    """For each cell that plain rows may be of, which rung of the policy shipped: `state`, `task`, `c0` … (-1 for none), `ship`."""
    pa, mapped = load_pyarrow(), rows.mapped
    state = np.zeros(len(rows.items), np.int64)
    fits = np.ones(len(rows.items), np.bool_)
    names: dict[str, Any] = {}
    for index, rung in enumerate(mapped.mapping.rungs):
        kind = rows.columns.rungs[rung].answer.astype(np.int64)
        fits &= (kind > 0) & (kind < 4)
        if (failed := mapped.failed[index]) is not None:  # of plain rows, only a declined answer of the top rung fails
            fits &= ~failed | (kind == DECLINED)
        state += kind * 4**index
        if index < len(mapped.mapping.rungs) - 1:
            names[f"c{index}"] = np.nan_to_num(rows.columns.rungs[rung].confidence, nan=-1.0)
    columns = {
        "state": state,
        "task": pa.array([mapped.tasks[code] for code in mapped.task.tolist()], pa.string()),
        **names,
    }
    table = pa.table({**columns, "ship": outcomes.shipped}).filter(pa.array(fits))
    made = table.group_by(list(columns), use_threads=False).aggregate([("ship", "min")])
    return made.select([*columns, "ship_min"]).rename_columns([*columns, "ship"])


def sum_groups(counting: Counting, numbers: tuple[int, ...], question: GroupQuestion) -> Groups:
    """Sum the shards of these numbers. Raises as `count_shards`."""
    with open_reading(counting, numbers) as reading:
        engine = reading.engine
        engine.lend("outcome", question.outcome)
        _put_left(reading, question)
        if not question.grouped and question.kept == ():
            source = f"(SELECT task, 1 AS c, {_summed(question)} FROM ({_rows(reading, question)}))"
            return Groups(_none(question), dict(_moments(reading, question, source, ())))
        sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in _names(question))
        engine.run(
            "CREATE TEMP TABLE sums AS SELECT task, kind, name, count(*) AS c, min(at_row) AS first,"
            f" {sums} FROM ({_rows(reading, question)}) GROUP BY task, kind, name"
        )
        where = "" if question.kept is None else f" WHERE task IN ({', '.join(map(text, question.kept)) or 'NULL'})"
        kept = engine.table(f"SELECT * FROM sums{where}")
        return Groups(kept, dict(_moments(reading, question, "sums", ("kind", "name"))))


def _names(question: GroupQuestion) -> list[str]:
    return ["hs", "ls", *(f"{kind}{number}" for number in question.alone for kind in "hl")]


def _summed(question: GroupQuestion) -> str:
    return ", ".join(_names(question))


def _none(question: GroupQuestion) -> Any:
    pa = load_pyarrow()
    kinds = {"task": pa.string(), "kind": pa.int8(), "name": pa.string()}
    numbers = dict.fromkeys(("c", "first", *_names(question)), pa.int64())
    return pa.schema(list({**kinds, **numbers}.items())).empty_table()


def _rows(reading: Reading, question: GroupQuestion) -> str:
    """All rows of the pass: those that are plain, with what their cell shipped, and those that the reader read."""
    asked, rungs = reading.mapping.rungs, reading.counting.manifest.rungs
    named, name = reading.scan.group()
    more = (f"CASE WHEN {named} THEN 1 ELSE 0 END::TINYINT AS kind", f"{name} AS name")
    places = [rungs.index(rung) for rung in asked]

    def shipped(kind: str) -> str:
        cases = " ".join(f"WHEN {index} THEN {kind}{place}" for index, place in enumerate(places))
        return f"CASE o.ship {cases} ELSE 0 END AS {kind}s"

    # A baseline that was asked separately has no column of its own: every row of such a corpus is left to the reader.
    alone = [
        f"{kind}{number}" if number < len(rungs) else f"0 AS {kind}{number}"
        for number in question.alone
        for kind in "hl"
    ]
    only = OTHER if reading.scan.only_task is None else reading.scan.only_task
    task = f"coalesce(r.task, {text(OTHER)})" if reading.scan.has_tasks else text(only)
    joined = ["r.state = o.state", f"{task} = o.task"]
    joined += [f"coalesce(r.c{n}, -1.0) = o.c{n}" for n in range(len(asked) - 1)]
    plain = (
        f"SELECT {task} AS task, r.kind, r.name, at_row, {shipped('h')}, {shipped('l')}{''.join(f', {one}' for one in alone)}"
        f" FROM ({reading.scan.rows(more=more)}) AS r JOIN outcome AS o ON {' AND '.join(joined)} WHERE r.state IS NOT NULL"
    )
    every = f"{plain} UNION ALL SELECT * FROM left_rows"
    if question.buckets == 1:
        return every
    return f"SELECT * FROM ({every}) WHERE hash(kind, name) % {question.buckets} = {question.bucket}"


def _put_left(reading: Reading, question: GroupQuestion) -> None:
    """Put what was left to the reader into a table of the engine's, which may be written to disk."""
    pa, engine = load_pyarrow(), reading.engine
    kinds = {"task": "VARCHAR", "kind": "TINYINT", "name": "VARCHAR", "at_row": "BIGINT"}
    kinds |= dict.fromkeys(_names(question), "BIGINT")
    engine.run(f"CREATE TEMP TABLE left_rows ({', '.join(f'{name} {kind}' for name, kind in kinds.items())})")
    for columns, mapped, items in reading.left():
        outcomes = evaluate(columns, mapped)
        keys = [group_key(item) for item in items]
        values: list[Any] = [
            pa.array([mapped.tasks[code] for code in mapped.task.tolist()], pa.string()),
            pa.array([_KINDS.index(kind) for kind, _ in keys], pa.int8()),
            pa.array([name for _, name in keys], pa.string()),
            columns.line.astype(np.int64),
            *on_grid(scores_of(columns, mapped, outcomes)),
        ]
        own = list(columns.rungs.values())
        for number in question.alone:
            values += on_grid(own[number].score)
        engine.lend("piece", pa.table(values, names=list(kinds)))
        engine.run("INSERT INTO left_rows SELECT * FROM piece")


def _moments(
    reading: Reading, question: GroupQuestion, source: str, by: Sequence[str]
) -> Iterator[tuple[tuple[str, str], Moments]]:
    """Moments of all tasks together, and of each large one. `by`: what names a group; nothing if each row is one."""
    series = question.series
    parts = ["count(*)", "sum(c)", "sum(c::HUGEINT * c)"]
    for high, low in series.values():
        wide = f"{high}::HUGEINT"
        parts += [f"sum({high})", f"sum({low})", f"sum({wide} * {wide})", f"sum({wide} * c)"]
    told = ", ".join(f"coalesce({one}, 0)::VARCHAR AS m{n}" for n, one in enumerate(parts))
    if question.moments:
        whole = source
        if by:
            sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in ("c", *_names(question)))
            whole = f"(SELECT {', '.join(by)}, {sums} FROM {source} GROUP BY {', '.join(by)})"
        yield from _told(reading.engine.table(f"SELECT '' AS part, {told} FROM {whole}"), series)
    if question.large:
        chosen = ", ".join(map(text, question.large))
        table = reading.engine.table(
            f"SELECT 'task:' || task AS part, {told} FROM {source} WHERE task IN ({chosen}) GROUP BY task"
        )
        yield from _told(table, series)


def _told(table: Any, series: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Moments]]:
    for row in cast("list[dict[str, str]]", table.to_pylist()):
        values = [int(row[f"m{n}"]) for n in range(3 + 4 * len(series))]
        for n, name in enumerate(series):
            yield (row["part"], name), Moments(*values[:3], *values[3 + 4 * n : 7 + 4 * n])


class KeptSums:
    """The sums that were kept, with their groups in the order of their numbers (`replay.building`)."""

    def __init__(self, groups: Groups) -> None:
        table = groups.kept
        keys = list(zip(table.column("kind").to_pylist(), table.column("name").to_pylist(), strict=True))
        codes = {key: code for code, key in enumerate(dict.fromkeys(keys))}
        code: Ints = np.array([codes[key] for key in keys], np.int64)
        order: Ints = np.array([checksum_of(("", name)) for _, name in codes], np.int64)
        first: Ints = np.full(len(codes), np.iinfo(np.int64).max, np.int64)
        np.minimum.at(first, code, table.column("first").to_numpy())
        rank = np.empty(len(codes), np.int64)
        rank[np.lexsort((first, order))] = np.arange(len(codes))
        self._group: Ints = rank[code] if codes else code
        self._table = table
        self._tasks = np.array(table.column("task").to_pylist(), object)

    def sums(self, series: str, task: str | None = None) -> GroupSums:
        """Of one series, over all tasks or one of them."""
        rows = slice(None) if task is None else np.flatnonzero(self._tasks == task)
        high, low = (self._column(kind, series)[rows] for kind in "hl")
        items = self._table.column("c").to_numpy()[rows]
        _, (count, highs, lows) = sums_by(self._group[rows], items, high, low)
        return GroupSums(count, highs, lows)

    def _column(self, kind: str, series: str) -> Ints:
        if not series:
            return self._table.column(f"{kind}s").to_numpy()
        alone: Ints = self._table.column(f"{kind}{series.removeprefix('-')}").to_numpy()
        return self._table.column(f"{kind}s").to_numpy() - alone if series.startswith("-") else alone
