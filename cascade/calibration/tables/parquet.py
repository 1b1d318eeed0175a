"""Tables of counts as Parquet files, made by `cascade tabulate` or by any query engine's GROUP BY (extra `parquet`).

A row stands for all items of one part whose replies have the same confidence at every rung below the top:

| column | type | holds |
|---|---|---|
| `part` | text | `tune` or `certify`; without this column all rows are `tune` |
| `<rung>.confidence` | double | below the top only; null: the reply never ships on its own (none, declined, malformed, a failed check, below its floor); infinite: the climb always ends there (the task's ceiling) |
| `items` | int64 | how many items: COUNT(*) |
| `<rung>.score` | double | the sum of the scores of what is returned if the climb ends at that rung |
| `<rung>.cost_nano_usd` | int64 | the sum of the rung's own costs, in 1e-9 USD |
| `<rung>.wrong` | int64 | how many of those scores are below `right_at` |
| `<rung>.regressed` | int64 | how many of these the top rung has right; left out for the top rung, where it is 0 |
| `<rung>.false_confident` | int64 | optional; default: `wrong` below the top rung, 0 at the top |

Counts are whole, 0 <= regressed <= wrong <= items and 0 <= false_confident <= wrong; a confidence is 0 to 1.

`cascade.counts` in the file's key-value metadata is JSON. Every key is optional:

- `rungs`: cheapest first, each with its `model` or null. Default: in the order of the columns, with unknown models.
- `right_at`: default 0.5. `scores`: the range of each score, default 0 and 1. `grader`, `synthetic`.
- `corpora`: names. `sources`: their files' SHA-256, so that none is counted twice.
- `grouped`, default true: false guarantees that every item is a group of its own over all tables that are ever added.
  Only then can the counts be certified. Items with the same input form one group, unless they name groups.
- `named_groups`, default as `grouped`: whether any item names its group. Two such tables may share groups, so their sum is
  `grouped`. An input that occurs in two files is not detected: count such files as one corpus.
- `counted_as`: a hash of the policy's tasks, checks and scorer, which also decide what ships.
- `items`: the number of items by part. `alone`: by part, the single models' sums of `score` and `wrong`, if best held
  answers or a ceiling make them differ from the rows'. Both are required if `false_confident` differs from its default.

Add tables with `calibrate --counts`, never by concatenating files: the metadata of one would be taken for all. A subset of
the rows is a valid table, unless `alone` was given.

In SQL, for a ladder of two: `SELECT part, "a.confidence", COUNT(*) AS items, SUM(a_score) AS "a.score", … GROUP BY 1, 2`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from cascade.calibration.search.counts import GRID, Counts
from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.calibration.tables.checks import SLACK, CountsMetadata, checked_columns, read_metadata
from cascade.core.errors import ConfigurationError, CorpusError
from cascade.core.policy import Policy
from cascade.corpora.items import Item
from cascade.corpora.parquet import COUNTS_KEY, load_pyarrow, open_table
from cascade.corpora.reading import open_corpus
from cascade.corpora.shards import files_of
from cascade.corpora.splits import Split
from cascade.policy.certificates import hash_of, hash_of_file
from cascade.replay.arrays import np
from cascade.replay.building import read_columns
from cascade.replay.mapping import mapping_for

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Floats

__all__ = [
    "COUNTS_KEY",
    "PARTS",
    "CountsTable",
    "counted_as",
    "read_counts",
    "refuse_uncountable",
    "tabulate_coded",
    "tabulate_corpus",
    "write_counts",
]

PARTS: Final = ("tune", "certify")
"""The parts of a table, in order."""


@dataclass(frozen=True, slots=True, eq=False)
class CountsTable:
    """A table of counts with its metadata. The parts share their levels, so an operating point applies to both.

    models        by rung; None if not known
    corpora       the names of the corpora counted; `sources`: SHA-256 of their files, if known
    grouped       whether a group may have several items, so that the counts cannot be certified
    named_groups  whether an item may name its group, so that another table may have more items of it
    counted_as    see the function `counted_as`; None if not known
    scores        the range of each score
    """

    parts: Mapping[str, Counts]
    models: tuple[str | None, ...]
    corpora: tuple[str, ...]
    grouped: bool = True
    synthetic: bool = False
    grader: str | None = None
    counted_as: str | None = None
    sources: tuple[str, ...] = ()
    named_groups: bool = True
    scores: tuple[float, float] = (0.0, 1.0)

    @property
    def rungs(self) -> tuple[str, ...]:
        """The ladder's rungs, cheapest first."""
        return self.parts["tune"].rungs

    @property
    def whole(self) -> Counts:
        """Both parts together."""
        return self.parts["tune"] + self.parts["certify"]

    def __add__(self, other: CountsTable) -> CountsTable:
        """The counts of both. Raises CorpusError for different ladders, models or policies, and for a file that is in both.

        If both have named groups, they may share some, so the sum is `grouped`.
        """
        if self.models != other.models:
            models = " and ".join(", ".join(str(model) for model in one.models) for one in (self, other))
            raise CorpusError(
                f"these are of different models: {models}", where="counts", hint="calibrate them separately"
            )
        if self.counted_as != other.counted_as:
            raise CorpusError("these were counted under different policies", where="counts", hint="use one for all")
        if both := set(self.sources) & set(other.sources):
            raise CorpusError(
                f"both tables count {self._names_of(both)}", where="counts", hint="count each corpus once"
            )
        sums = {part: self.parts[part] + other.parts[part] for part in PARTS}
        joint = (sums["tune"] + sums["certify"]).levels
        parts = {part: counts.at_levels(joint) for part, counts in sums.items()}
        return replace(
            self,
            parts=parts,
            corpora=self.corpora + other.corpora,
            sources=self.sources + other.sources,
            grouped=self.grouped or other.grouped or (self.named_groups and other.named_groups),
            named_groups=self.named_groups or other.named_groups,
            scores=(min(self.scores[0], other.scores[0]), max(self.scores[1], other.scores[1])),
            synthetic=self.synthetic or other.synthetic,
            grader=self.grader if self.grader == other.grader else None,
        )

    def _names_of(self, sources: set[str]) -> str:
        """The corpora that these are the sources of, or how many shards."""
        if len(self.corpora) != len(self.sources):
            files = "one shard" if len(sources) == 1 else f"{len(sources):,} shards"
            return f"the same {files} of {' and '.join(dict.fromkeys(self.corpora))}"
        return " and ".join(name for name, one in zip(self.corpora, self.sources, strict=True) if one in sources)


def counted_as(policy: Policy) -> str:
    """A hash of what, besides thresholds, decides which replies ship: tasks, checks and scorer."""
    decides = policy.model_dump(
        mode="json", by_alias=True, include={"tasks", "checks", "scorer"}, exclude_defaults=True
    )
    tasks = [{key: value for key, value in task.items() if key != "thresholds"} for task in decides.get("tasks", ())]
    bare = [task for task in tasks if set(task) != {"name"}]  # a task with nothing but a name decides nothing
    return hash_of(json.dumps({**decides, "tasks": bare}, sort_keys=True).encode())


def refuse_uncountable(policy: Policy | None) -> None:
    """Raises ConfigurationError for a policy that a table of counts cannot hold: it has one reply a rung, at one cost."""
    if policy is None:
        return
    if policy.early_stop:
        raise ConfigurationError(
            f"policy {policy.name} stops early: tables of counts hold what whole replies cost, not closed ones"
            " (calibrate the corpora themselves)"
        )
    if any(check.kind == "review" for one in (policy, *policy.tasks) for check in one.checks):
        raise ConfigurationError(
            f"policy {policy.name} has a review gate: tables of counts do not hold what reviews say and cost (calibrate the"
            " corpora themselves)"
        )
    asked = {rung.rung for rung in policy.ladder if rung.samples is not None}
    asked |= {rung for task in policy.tasks for rung, samples in task.samples.items() if samples is not None}
    if asked:
        names = " and ".join(rung.rung for rung in policy.ladder if rung.rung in asked)
        raise ConfigurationError(
            f"policy {policy.name} asks {names} more than once: tables of counts have one reply a rung and cannot hold votes"
            " (calibrate the corpora themselves)"
        )


def tabulate_corpus(
    path: str | os.PathLike[str], policy: Policy | None = None, split: Split | None = None
) -> CountsTable:
    """Count a corpus under `policy` (None: its own ladder).

    Raises CorpusError, PolicyError and MissingExtra; ConfigurationError for a policy with samples, early stop or a review gate.
    """
    refuse_uncountable(policy)
    split, tunes, named = split or Split(), list[bool](), False

    def each(items: Sequence[Item]) -> None:
        nonlocal named
        named = named or any(item.group is not None for item in items)
        tunes.extend(split.part_of(item) == "tune" for item in items)

    with open_corpus(path) as reader:
        manifest = reader.manifest
        mapping = mapping_for(policy, manifest, reader.source)
        columns, (view,) = read_columns(reader, manifest, [mapping], source=reader.source, on_items=each)
        if not len(columns):
            raise CorpusError("has no items", where=reader.source, hint="record some")
    models = {entry.rung: entry.model for entry in manifest.ladder}
    coded = code_columns(columns, view)
    parts = tabulate_coded(coded, np.array(tunes, np.bool_))
    both = (coded.score, coded.alone)
    scores = min(0.0, *(float(one.min()) for one in both)), max(1.0, *(float(one.max()) for one in both))
    grouped = len(np.unique(columns.group)) < len(columns)
    return CountsTable(
        parts, tuple(models[rung] for rung in mapping.rungs), (manifest.name,), grouped, manifest.synthetic, manifest.grader,
        counted_as(mapping.plan.policy), tuple(map(hash_of_file, files_of(path))), named, scores,
    )  # fmt: skip


def tabulate_coded(coded: CodedCorpus, tunes: Bools) -> dict[str, Counts]:
    """The tables of the two parts; `tunes`: whether each item is in the tune part."""
    return {part: coded.rows(rows).counts().merged() for part, rows in zip(PARTS, (tunes, ~tunes), strict=True)}


def write_counts(path: str | os.PathLike[str], table: CountsTable) -> int:
    """Write the table atomically; returns the number of rows. Raises CorpusError and MissingExtra."""
    pa, target = load_pyarrow(), Path(path)
    columns = {name: np.concatenate([one[name] for one in (_columns(part, table.parts[part]) for part in PARTS)])
               for name in _columns("tune", table.parts["tune"])}  # fmt: skip
    arrays = {name: pa.array(column, mask=np.isnan(column) if name.endswith(".confidence") else None)
              for name, column in columns.items()}  # fmt: skip
    metadata = {
        "version": 1,
        "rungs": [{"rung": rung, "model": model} for rung, model in zip(table.rungs, table.models, strict=True)],
        "right_at": table.parts["tune"].right_at,
        "corpora": list(table.corpora),
        "sources": list(table.sources),
        "grader": table.grader,
        "synthetic": table.synthetic,
        "grouped": table.grouped,
        "counted_as": table.counted_as,
        "named_groups": table.named_groups,
        "scores": list(table.scores),
        "items": {part: one.n for part, one in table.parts.items()},
        "alone": {part: {"score": one.alone.tolist(), "wrong": one.alone_wrong.tolist()}
                  for part, one in table.parts.items() if _stores_alone(one)},
    }  # fmt: skip
    made = pa.table(arrays).replace_schema_metadata({COUNTS_KEY: json.dumps(metadata, ensure_ascii=False).encode()})
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        pa.parquet.write_table(made, draft, compression="zstd")
        draft.replace(target)
    except OSError as error:
        problem = f"cannot be written: {error.strerror or error}"
        raise CorpusError(problem, where=os.fspath(path), hint="check the path and its permissions") from error
    finally:
        draft.unlink(missing_ok=True)
    return made.num_rows


def read_counts(path: str | os.PathLike[str]) -> CountsTable:
    """Read a table of counts. Raises CorpusError if it is not a valid one, and MissingExtra."""
    pa, where = load_pyarrow(), os.fspath(path)
    with open_table(path) as file:
        try:
            table = file.read()
        except (pa.ArrowException, OSError) as error:
            raise CorpusError(
                f"cannot be read: {str(error)[:200]}", where=where, hint="check that the file is complete"
            ) from error
    metadata = read_metadata(table, where)
    rungs = tuple(one.rung for one in metadata.rungs)
    columns = checked_columns(pa, table, rungs, metadata.scores, where)
    parts = np.array(
        table.column("part").to_pylist() if "part" in table.column_names else ["tune"] * len(table), object
    )
    for strange in sorted({str(part) for part in parts.tolist()} - {*PARTS}):
        raise CorpusError(f"part: is {strange!r}, must be tune or certify", where=where, hint="correct the column")
    levels = tuple(_levels(columns[f"{rung}.confidence"]) for rung in rungs[:-1])
    made: dict[str, Counts] = {}
    for part in PARTS:
        some = {name: column[parts == part] for name, column in columns.items()}
        made[part] = _with_alone(_counts_of(some, rungs, levels, metadata.right_at), part, metadata, where)
    named = metadata.grouped if metadata.named_groups is None else metadata.named_groups
    return CountsTable(
        made, tuple(one.model for one in metadata.rungs), metadata.corpora, metadata.grouped, metadata.synthetic, metadata.grader,
        metadata.counted_as, metadata.sources, named, metadata.scores,
    )  # fmt: skip


def _columns(part: str, counts: Counts) -> dict[str, Any]:
    columns: dict[str, Any] = {"part": np.full(len(counts), part, dtype="<U7")}
    for index, (rung, own) in enumerate(zip(counts.rungs, counts.levels, strict=False)):
        columns[f"{rung}.confidence"] = np.concatenate([[np.nan], own, [np.inf]])[counts.codes[:, index]]
    columns["items"] = counts.items
    for index, rung in enumerate(counts.rungs):
        columns[f"{rung}.score"] = counts.score[:, index]
        columns[f"{rung}.cost_nano_usd"] = counts.cost[:, index]
        for name in ("wrong", "regressed", "false_confident"):
            columns[f"{rung}.{name}"] = getattr(counts, name)[:, index]
    return columns


def _has_held_answers(counts: Counts) -> bool:
    """Whether the losses show that another answer than the rung's own was returned for some items."""
    below = counts.false_confident[:, :-1] != counts.wrong[:, :-1]
    return bool(below.any() or counts.false_confident[:, -1].any())


def _stores_alone(counts: Counts) -> bool:
    """Whether the single models' sums must be stored because they do not follow from the rows."""
    same = np.array_equal(counts.alone, counts.score.sum(axis=0))
    return not same or not np.array_equal(counts.alone_wrong, counts.wrong.sum(axis=0)) or _has_held_answers(counts)


def _with_alone(counts: Counts, part: str, metadata: CountsMetadata, where: str) -> Counts:
    """The counts with the single models' sums from the metadata. Raises CorpusError if they are needed and missing."""
    n, items, alone = counts.n, metadata.items.get(part), metadata.alone.get(part)
    if items is not None and n > items:
        problem = f"part {part}: its rows count {n:,} items, its metadata {items:,}, as in a concatenated file"
        raise CorpusError(problem, where=where, hint="give the tables one by one, --counts adds them; or count again")
    if not n or (alone is None and not _has_held_answers(counts)):
        return counts
    if alone is None or n != items:
        problem = f"part {part}: its {n:,} items include held answers, so single models need `items` and `alone` in the metadata"
        raise CorpusError(problem, where=where, hint="count again, or give both for these rows")
    score, wrong = np.array(alone.score, np.float64), np.array(alone.wrong, np.float64)
    low, high = (bound * n for bound in metadata.scores)
    slack = SLACK * (high - low)
    fits = score.shape == wrong.shape == (len(counts.rungs),) and bool(((wrong >= 0) & (wrong <= n)).all())
    if not fits or bool(((score < low - slack) | (score > high + slack)).any()):
        raise CorpusError(f"its {COUNTS_KEY.decode()} metadata is damaged: `alone`", where=where, hint="count again")
    return replace(counts, alone=score, alone_wrong=wrong.astype(np.int64))


def _levels(confidence: Floats) -> Floats:
    return np.unique(confidence[np.isfinite(confidence)])


def _counts_of(
    columns: Mapping[str, Any],
    rungs: tuple[str, ...],
    levels: tuple[Floats, ...],
    right_at: float,
) -> Counts:
    """One part's counts, with the single models' sums computed from the rows."""
    n, top = len(columns["items"]), rungs[-1]
    codes = np.zeros((n, len(levels)), np.int32, order="F")
    for index, (rung, own) in enumerate(zip(rungs, levels, strict=False)):
        confidence = columns[f"{rung}.confidence"]
        codes[:, index] = np.searchsorted(own, confidence) + 1  # infinite: one past the last
        codes[np.isnan(confidence), index] = 0

    def stacked(name: str, kind: type, absent: Mapping[str, Any] | None = None) -> Any:
        some = {rung: columns.get(f"{rung}.{name}", (absent or {}).get(rung)) for rung in rungs}
        matrix = cast("Any", np.empty((n, len(rungs)), kind, order="F"))
        for index, column in enumerate(some.values()):
            matrix[:, index] = column
        return matrix

    nothing = np.zeros(n, np.int64)
    wrong = stacked("wrong", np.int64)
    usual = {rung: nothing if rung == top else wrong[:, index] for index, rung in enumerate(rungs)}
    score = np.rint(stacked("score", np.float64) * GRID) / GRID
    return Counts(
        rungs,
        levels,
        codes,
        columns["items"],
        score,
        stacked("cost_nano_usd", np.int64),
        wrong,
        stacked("false_confident", np.int64, usual),
        stacked("regressed", np.int64, {top: nothing}),
        score.sum(axis=0),
        wrong.sum(axis=0),
        right_at,
    )
