"""The pass over shards that gives cells. Its arguments can be pickled, and its results add up: any scheduler may run it by shard."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any

from cascade.core.bound_policy import BoundPolicy
from cascade.core.errors import ConfigurationError, CorpusError
from cascade.core.policy import OTHER, Policy
from cascade.corpora.items import Item, Manifest
from cascade.corpora.parquet import load_pyarrow
from cascade.corpora.shards.duckdb import Engine, Limits, QueryFailed, open_engine
from cascade.corpora.shards.lean import cells_of
from cascade.corpora.shards.picking import pick_items
from cascade.corpora.shards.scan import Question, Scan
from cascade.corpora.sources import Shard, ShardedSource
from cascade.corpora.splits import Part, Split
from cascade.replay.arrays import np
from cascade.replay.building import read_columns
from cascade.replay.cold import climbs_cold
from cascade.replay.columns import DECLINED, MISSING, Columns, MappedColumns, PolicyMapping
from cascade.replay.mapping import Override, mapping_of, own_mapping
from cascade.replay.reviews import has_reviews
from cascade.replay.shards.cells import MOST_CELLS, Cells, added, cells_of_items, too_large, too_many
from cascade.replay.shards.undecided import Undecided

if TYPE_CHECKING:
    from cascade.replay.arrays import Ints

__all__ = ["Counting", "Reading", "count_shards", "open_reading"]

_CHUNK = 20_000  # items read one by one that are held at once


@dataclass(frozen=True, slots=True)
class Counting:
    """What is counted: all shards of a corpus in their order, under a policy (None: its own ladder).

    `parted`: whether the cells are told apart by part (tune, certify), as tables of counts need it. `part`: only the items of this one.
    `memory` bytes and `threads` are those of each process that counts; `folder` is where it may write what does not fit (None: the
    system's for temporary files). `source`: the corpus's name, for errors.
    """

    shards: tuple[Shard, ...]
    manifest: Manifest
    policy: Policy | None = None
    overrides: tuple[Override, ...] = ()
    reprice: bool = False
    parted: bool = False
    part: Part = "all"
    split: Split = field(default_factory=Split)
    memory: int = 1 << 30
    threads: int | None = None
    folder: str | None = None
    source: str = "corpus"

    @property
    def named(self) -> ShardedSource:
        """The corpus's name, which can say where a row is."""
        made = ShardedSource(self.source)
        made.shards = self.shards
        return made

    @property
    def columns(self) -> tuple[str, ...]:
        """The rungs that cells are numbered by: the manifest's, and a baseline that was asked separately."""
        baseline = self.manifest.separate_baseline
        return (*self.manifest.rungs, baseline) if baseline else self.manifest.rungs

    def mapping(self) -> PolicyMapping:
        """The policy's rungs among the corpus's. Raises as `mapping_of`, and Undecided for what cells cannot say."""
        try:
            if self.policy is None:
                made = own_mapping(self.manifest, self.overrides, reprice=self.reprice)
            else:
                made = mapping_of(self.policy, self.manifest, self.overrides, reprice=self.reprice)
        except CorpusError as problem:  # a mapping does not know the corpus's path
            raise CorpusError(problem.problem, where=self.source, hint=problem.hint) from None
        _refuse_undecided(made)
        return made

    @property
    def before(self) -> list[int]:
        """By shard: how many rows come before it."""
        return [0, *accumulate(shard.rows for shard in self.shards)][:-1]


def _refuse_undecided(mapping: PolicyMapping) -> None:
    plan, policy = mapping.plan, mapping.plan.policy
    if policy.early_stop:
        raise Undecided("early_stop", "what a closed reply costs depends on its tokens")
    if has_reviews(plan):
        raise Undecided("checks", "a review gate needs what each review said")
    if any(rung.samples is not None for rung in policy.ladder) or any(
        any(task.samples.values()) for task in policy.tasks
    ):
        raise Undecided("samples", "a vote compares the answers of one item")
    if policy.scorer:
        raise Undecided("scorer", "it scores each item by itself")
    if any(task.when is not None for task in policy.tasks):
        raise Undecided("tasks.when", "the text of each item tells its task")
    if plan.shared_verifiers or any(plan.verifiers.values()) or not all(one.by_first for one in _checks(plan)):
        raise Undecided("checks", "they read each answer's text (not_empty alone is counted)")
    if any(climbs_cold(policy, index, mapping.cost_of) for index in range(len(mapping.rungs))):
        raise Undecided("prompt_cache", "what a cold cache costs depends on each prompt (with --reprice)")


def _checks(plan: BoundPolicy) -> Iterator[Any]:
    yield from plan.shared_checks
    for own in plan.checks.values():
        yield from own


@dataclass(frozen=True, slots=True)
class Reading:
    """Some shards, open: the engine, the plain rows, and all that the rule needs. From `open_reading`."""

    counting: Counting
    numbers: tuple[int, ...]
    mapping: PolicyMapping
    engine: Engine
    scan: Scan

    def left(self) -> Iterator[tuple[Columns, MappedColumns, list[Item]]]:
        """The items that SQL leaves to the reader, in pieces. Raises CorpusError for an invalid one."""
        own, before = self.counting, self.counting.before
        source = own.named
        for file, rows in self.scan.left_to_reader():
            number = self.numbers[file]
            picked = pick_items(
                own.shards[number].path, own.manifest, None if rows is None else rows.tolist(), before[number]
            )
            stream = own.split.only(own.part, picked)
            while chunk := list(islice(stream, _CHUNK)):
                columns, (mapped,) = read_columns(chunk, own.manifest, [self.mapping], source=source)
                if (
                    not own.parted
                    and self.mapping.plan.policy.storm_guard is not None
                    and np.isfinite(columns.at).any()
                ):
                    raise _storm()
                yield columns, mapped, chunk


def _storm() -> Undecided:
    return Undecided("storm_guard", "items have arrival times (`at`), and the guard takes them one by one")


@contextmanager
def open_reading(counting: Counting, numbers: Sequence[int]) -> Generator[Reading]:
    """Open some shards for a pass. A query that fails is raised as what it means: CorpusError naming the shard, or Undecided."""
    mapping = counting.mapping()
    try:
        with open_engine(Limits(counting.memory, counting.threads, counting.folder)) as engine:
            yield _reading(counting, tuple(numbers), mapping, engine)
    except QueryFailed as error:
        raise _meaning(counting, numbers, error) from error


def _reading(counting: Counting, numbers: tuple[int, ...], mapping: PolicyMapping, engine: Engine) -> Reading:
    paths, before = [counting.shards[number].path for number in numbers], counting.before
    scan = Scan(engine, paths, [before[number] for number in numbers], question_of(counting, mapping))
    if not counting.parted and mapping.plan.policy.storm_guard is not None and scan.is_filled("at"):
        raise _storm()
    if counting.parted or counting.part != "all":
        engine.add_function("part_of", _part_of(counting.split), 2)
    return Reading(counting, numbers, mapping, engine, scan)


def _meaning(counting: Counting, numbers: Sequence[int], error: QueryFailed) -> Exception:
    if error.kind == "memory":
        return ConfigurationError(f"--memory: {counting.memory:,} bytes are too few ({error.told})")
    if error.kind == "overflow":
        return too_large()
    for number in numbers:  # the engine does not always say which file it could not read
        path = counting.shards[number].path
        try:
            with open_engine(Limits(counting.memory, 1, counting.folder)) as engine:
                _reading(counting, (number,), counting.mapping(), engine).scan.read_all()
        except QueryFailed as found:
            return CorpusError(f"cannot be read: {found.told}", where=path, hint="is the file complete?")
        except CorpusError as found:
            return found
    return CorpusError(f"cannot be read: {error.told}", where=counting.source)


def question_of(counting: Counting, mapping: PolicyMapping) -> Question:
    """What the rows are asked."""
    prices = None
    if counting.reprice:
        rates = (mapping.plan.rates[index] for index in range(len(mapping.rungs)))
        prices = tuple(tuple((above, tier.input, tier.output) for above, tier in one.tiers) for one in rates)
    return Question(
        counting.manifest.rungs,
        mapping.rungs,
        counting.manifest.right_at,
        visible=any(True for _ in _checks(mapping.plan)),
        prices=prices,
        part=counting.part,
        parted=counting.parted,
        exact=not counting.parted,
        regressed=counting.parted,
    )


def _part_of(split: Split) -> Any:
    pa = load_pyarrow()
    known: dict[tuple[str, str], int] = {}

    def part(kind: str | None, key: str | None) -> int | None:
        if kind is None or key is None:
            return None
        if (found := known.get((kind, key))) is None:
            if len(known) >= _CHUNK:
                known.clear()
            found = known[kind, key] = 0 if split.tunes(kind, key) else 1
        return found

    def parts(kinds: Any, keys: Any) -> Any:
        return pa.array(map(part, kinds.to_pylist(), keys.to_pylist()), pa.int8())

    return parts


def count_shards(counting: Counting, numbers: tuple[int, ...]) -> Cells:
    """The cells of the shards of these numbers (from 0), which are not none.

    Raises CorpusError, PolicyError, MissingExtra; Undecided; ConfigurationError if the memory is too small.
    """
    with open_reading(counting, numbers) as reading:
        table = cells_of(reading.scan, MOST_CELLS + 1)
        if table.num_rows > MOST_CELLS:
            raise too_many()
        plain = table.filter(table.column("state").is_valid())
        parts = [_cells_of_rows(reading, plain)]
        named = reading.scan.is_filled("group")
        if plain.num_rows < table.num_rows or reading.scan.unusual:
            for columns, mapped, items in reading.left():
                certifies = _certifies(counting, items)
                parts.append(cells_of_items(columns, mapped, certifies))
                named = named or any(item.group is not None for item in items)
                if len(parts) > 16:
                    parts = [added(parts)]
        made = added(parts)
    return Cells(made.rungs, made.table, made.read, named)


def _certifies(counting: Counting, items: Sequence[Item]) -> Ints:
    if not counting.parted:
        return np.zeros(len(items), np.int64)
    return np.array([counting.split.part_of(item) == "certify" for item in items], np.int64)


def _cells_of_rows(reading: Reading, table: Any) -> Cells:
    """The cells of plain rows, as the query gives them."""
    pa, own, mapping, n = load_pyarrow(), reading.counting, reading.mapping, table.num_rows
    state = table.column("state").to_numpy().astype(np.int64)
    asked = {rung: index for index, rung in enumerate(mapping.rungs)}
    tasks: list[str] = (
        [OTHER if one is None else one for one in table.column("task").to_pylist()]
        if reading.scan.has_tasks
        else [OTHER if reading.scan.only_task is None else reading.scan.only_task] * n
    )
    zeros, yes, no = np.zeros(n, np.int64), np.ones(n, np.bool_), np.zeros(n, np.bool_)
    low, high = reading.scan.score_range() if own.parted and n else (0, 0)
    part = state // 4 ** len(asked) if own.parted else zeros
    arrays: dict[str, Any] = {"part": pa.array(part, pa.int8()), "task": pa.array(tasks, pa.string())}
    checked = np.array([bool(mapping.plan.checks_for(task).functions) for task in tasks], np.bool_)
    for number, rung in enumerate(own.columns):
        index, known = asked.get(rung), rung in own.manifest.rungs
        kind = np.full(n, 1 if known else MISSING, np.int64) if index is None else state // 4**index % 4
        is_key = index is not None and index < len(asked) - 1
        # The top rung is asked plainly, so a declined answer is an empty one there: no check for text passes it.
        failed = checked & (kind == DECLINED) if index == len(asked) - 1 else no

        def summed(name: str, known: bool = known, number: int = number) -> Any:
            found = known and f"{name}{number}" in table.column_names
            return table.column(f"{name}{number}").fill_null(0).to_numpy().astype(np.int64) if found else zeros

        arrays |= {
            f"a{number}": pa.array(kind, pa.int8()),
            f"c{number}": table.column(f"c{index}").combine_chunks().cast(pa.float64())
            if is_key
            else pa.nulls(n, pa.float64()),
            f"f{number}": failed,
            f"g{number}": yes if known else no,
            f"p{number}": yes if known and (index is not None or not own.reprice) else no,
            **{f"{name}{number}": summed(name) for name in "hlnwr"},
        }
    arrays |= {
        "items": table.column("items").to_numpy().astype(np.int64),
        "first": table.column("first").to_numpy().astype(np.int64),
        "low": np.full(n, min(0, low), np.int64),
        "high": np.full(n, high, np.int64),
    }
    return Cells(own.columns, pa.table(arrays))
