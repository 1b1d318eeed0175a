"""Tables of counts as Parquet files, made from corpora here or by any engine's GROUP BY (extra `parquet`).

A row stands for all items of one part whose replies have the same confidence at every rung below the top:

| column | type | holds |
|---|---|---|
| `part` | text | `tune` or `certify`; no such column: all of it tunes |
| `<rung>.confidence` | double | below the top only; null: the reply never ships on its own (none, declined, malformed, a failed check, below its floor); infinite: the climb always ends there (the task's ceiling) |
| `items` | int64 | how many items: COUNT(*) |
| `<rung>.score` | double | the sum of the scores of what is returned where the climb ends at that rung |
| `<rung>.cost_nano_usd` | int64 | the sum of the rung's own costs, in 1e-9 USD |
| `<rung>.wrong` | int64 | how many of those scores are below `right_at` |
| `<rung>.regressed` | int64 | of these, where the top rung is right; not for the top, where it is 0 |
| `<rung>.false_confident` | int64 | may be left out: as `wrong` below the top, and 0 there |

`cascade.counts` in the file's key-value metadata is JSON: `rungs` (cheapest first, each with its `model` or null),
`right_at`, `corpora` (names), `sources` (their files' SHA-256, so that none counts twice), `grader`, `synthetic`, `grouped` (false only where every item is a group of its own: then
its counts can carry a certificate), `counted_as` (a hash of what else decides shipping: tasks, checks, scorer), and
`alone`, the single models' sums where a best held or a ceiling makes them differ. Without it the rungs are taken in the
order of the columns, `right_at` is 0.5 and `grouped` true.

In SQL, for a ladder of two: `SELECT part, "a.confidence", COUNT(*) AS items, SUM(a_score) AS "a.score", … GROUP BY 1, 2`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from cascade.calibration.coded import Coded, code_columns
from cascade.calibration.counts import GRID, Counts
from cascade.certificates import hash_of, hash_of_file
from cascade.core.errors import CorpusError
from cascade.core.policy import Policy
from cascade.corpora.arrays import np
from cascade.corpora.columns import read_columns
from cascade.corpora.items import Item
from cascade.corpora.lenses import lens_of, own_lens
from cascade.corpora.parquet import COUNTS_KEY, load_pyarrow, open_table
from cascade.corpora.reading import open_corpus
from cascade.corpora.splits import Split

if TYPE_CHECKING:
    from cascade.corpora.arrays import Floats, Truths

__all__ = [
    "COUNTS_KEY",
    "PARTS",
    "Tabulated",
    "counted_as",
    "read_counts",
    "tabulate_coded",
    "tabulate_corpus",
    "write_counts",
]

PARTS: Final = ("tune", "certify")
"""The parts of a table, in this order."""

_MEND = "make it with `cascade tabulate`, or with the columns that cascade.calibration.tabulating describes"


@dataclass(frozen=True, slots=True, eq=False)
class Tabulated:
    """A table of counts with what must be known of it. The parts share their levels, so a point holds for both.

    `models`: by rung, None where it is not known. `corpora`: the names of what was counted. `grouped`: a group may have
    several items, so that counts alone prove nothing. `counted_as`: see `counted_as`; None where it is not known.
    `sources`: SHA-256 of the files that were counted, where they are known.
    """

    parts: Mapping[str, Counts]
    models: tuple[str | None, ...]
    corpora: tuple[str, ...]
    grouped: bool = True
    synthetic: bool = False
    grader: str | None = None
    counted_as: str | None = None
    sources: tuple[str, ...] = ()

    @property
    def rungs(self) -> tuple[str, ...]:
        """The ladder's rungs, cheapest first."""
        return self.parts["tune"].rungs

    @property
    def whole(self) -> Counts:
        """Both parts together."""
        return self.parts["tune"] + self.parts["certify"]

    def __add__(self, other: Tabulated) -> Tabulated:
        """The counts of both. Raises CorpusError for another ladder; where they overlap cannot be seen."""
        if self.models != other.models:
            told = " and ".join(", ".join(str(model) for model in one.models) for one in (self, other))
            raise CorpusError(f"these are of other models: {told}", where="counts", mend="calibrate them apart")
        if self.counted_as != other.counted_as:
            raise CorpusError("these were counted under other policies", where="counts", mend="count all under one")
        if both := set(self.sources) & set(other.sources):
            names = [name for name, source in zip(self.corpora, self.sources, strict=False) if source in both]
            raise CorpusError(f"{' and '.join(names)} counted in both", where="counts", mend="count each corpus once")
        sums = {part: self.parts[part] + other.parts[part] for part in PARTS}
        joint = (sums["tune"] + sums["certify"]).levels
        parts = {part: counts.at_levels(joint) for part, counts in sums.items()}
        return replace(
            self,
            parts=parts,
            corpora=self.corpora + other.corpora,
            sources=self.sources + other.sources,
            grouped=self.grouped or other.grouped,
            synthetic=self.synthetic or other.synthetic,
            grader=self.grader if self.grader == other.grader else None,
        )


def counted_as(policy: Policy) -> str:
    """A hash of what decides which replies may ship at which threshold: tasks but for their thresholds, checks, scorer."""
    decides = policy.model_dump(
        mode="json", by_alias=True, include={"tasks", "checks", "scorer"}, exclude_defaults=True
    )
    tasks = [{key: value for key, value in task.items() if key != "thresholds"} for task in decides.get("tasks", ())]
    bare = [task for task in tasks if set(task) != {"name"}]  # such a task is a name for what the caller says
    return hash_of(json.dumps({**decides, "tasks": bare}, sort_keys=True).encode())


def tabulate_corpus(
    path: str | os.PathLike[str], policy: Policy | None = None, split: Split | None = None
) -> Tabulated:
    """Count a corpus as `policy` sees it (None: its own ladder). Raises CorpusError, PolicyError and MissingExtra."""
    split, tunes = split or Split(), list[bool]()

    def each(items: Sequence[Item]) -> None:
        tunes.extend(split.part_of(item) == "tune" for item in items)

    with open_corpus(path) as reader:
        manifest = reader.manifest
        try:
            lens = own_lens(manifest) if policy is None else lens_of(policy, manifest)
        except CorpusError as problem:  # the lens does not know where the corpus is from
            raise CorpusError(problem.problem, where=reader.source, mend=problem.mend) from None
        columns, (view,) = read_columns(reader, manifest, [lens], source=reader.source, each=each)
        if not len(columns):
            raise CorpusError("has no items", where=reader.source, mend="record some")
    models = {entry.rung: entry.model for entry in manifest.ladder}
    parts = tabulate_coded(code_columns(columns, view), np.array(tunes, np.bool_))
    grouped = len(np.unique(columns.group)) < len(columns)
    return Tabulated(
        parts, tuple(models[rung] for rung in lens.rungs), (manifest.name,), grouped, manifest.synthetic, manifest.grader,
        counted_as(lens.plan.policy), (hash_of_file(path),),
    )  # fmt: skip


def tabulate_coded(coded: Coded, tunes: Truths) -> dict[str, Counts]:
    """The two parts' tables; `tunes` says of each item whether it is of the first."""
    return {part: coded.rows(rows).counts().merged() for part, rows in zip(PARTS, (tunes, ~tunes), strict=True)}


def write_counts(path: str | os.PathLike[str], table: Tabulated) -> int:
    """Write the table; returns its rows. The file appears whole or not at all. Raises CorpusError and MissingExtra."""
    pa, target = load_pyarrow(), Path(path)
    columns = {name: np.concatenate([one[name] for one in (_columns(part, table.parts[part]) for part in PARTS)])
               for name in _columns("tune", table.parts["tune"])}  # fmt: skip
    arrays = {name: pa.array(column, mask=np.isnan(column) if name.endswith(".confidence") else None)
              for name, column in columns.items()}  # fmt: skip
    told = {
        "version": 1,
        "rungs": [{"rung": rung, "model": model} for rung, model in zip(table.rungs, table.models, strict=True)],
        "right_at": table.parts["tune"].right_at,
        "corpora": list(table.corpora),
        "sources": list(table.sources),
        "grader": table.grader,
        "synthetic": table.synthetic,
        "grouped": table.grouped,
        "counted_as": table.counted_as,
        "alone": {part: {"score": one.alone.tolist(), "wrong": one.alone_wrong.tolist()}
                  for part, one in table.parts.items()},
    }  # fmt: skip
    made = pa.table(arrays).replace_schema_metadata({COUNTS_KEY: json.dumps(told, ensure_ascii=False).encode()})
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        pa.parquet.write_table(made, draft, compression="zstd")
        draft.replace(target)
    except OSError as error:
        problem = f"cannot be written: {error.strerror or error}"
        raise CorpusError(problem, where=os.fspath(path), mend="check the path and its rights") from error
    finally:
        draft.unlink(missing_ok=True)
    return made.num_rows


def read_counts(path: str | os.PathLike[str]) -> Tabulated:
    """Read a table of counts, whoever made it. Raises CorpusError where it is not one, and MissingExtra."""
    pa, where = load_pyarrow(), os.fspath(path)
    with open_table(path) as file:
        try:
            table = file.read()
        except (pa.ArrowException, OSError) as error:
            raise CorpusError(f"cannot be read: {str(error)[:200]}", where=where, mend="is the file whole?") from error
    told = _told(table, where)
    rungs = tuple(str(one["rung"]) for one in told["rungs"])
    columns = {name: _numbers(pa, table.column(name)) for name in table.column_names if name != "part"}
    _check(columns, rungs, where)
    parts = np.array(table.column("part").to_pylist() if "part" in table.column_names else ["tune"] * len(table))
    for strange in sorted({str(part) for part in parts.tolist()} - {*PARTS}):
        raise CorpusError(f"there is a part {strange!r}", where=where, mend="a part is tune or certify")
    levels = tuple(_levels(columns[f"{rung}.confidence"]) for rung in rungs[:-1])
    alone = told.get("alone", {})
    made = {
        part: _counts_of({name: column[parts == part] for name, column in columns.items()}, rungs, levels,
                         float(told["right_at"]), alone.get(part))
        for part in PARTS
    }  # fmt: skip
    models = tuple(one.get("model") for one in told["rungs"])
    return Tabulated(
        made, models, tuple(told["corpora"]), bool(told["grouped"]), bool(told["synthetic"]), told["grader"],
        told["counted_as"], tuple(told["sources"]),
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


def _told(table: Any, where: str) -> dict[str, Any]:
    """What the metadata say, or what may be assumed without them."""
    ending = ".cost_nano_usd"
    rungs = [name.removesuffix(ending) for name in table.column_names if name.endswith(ending)]
    assumed: dict[str, Any] = {
        "rungs": [{"rung": rung} for rung in rungs],
        "right_at": 0.5,
        "corpora": [Path(where).name.partition(".")[0]],
        "grader": None,
        "synthetic": False,
        "grouped": True,
        "counted_as": None,
        "sources": [],
    }
    raw = cast("dict[bytes, bytes]", table.schema.metadata or {}).get(COUNTS_KEY)
    try:
        told: dict[str, Any] = {**assumed, **(json.loads(raw) if raw else {})}
        if len(told["rungs"]) < 2 or not all(isinstance(one["rung"], str) for one in told["rungs"]):
            raise CorpusError("is not a table of counts: it has no two rungs", where=where, mend=_MEND)
        float(told["right_at"])
    except (ValueError, TypeError, KeyError):
        raise CorpusError(f"its {COUNTS_KEY.decode()} metadata is damaged", where=where, mend=_MEND) from None
    return told


def _numbers(pa: Any, column: Any) -> Any:
    """A column as an array, an empty cell as NaN; engines give sums of whole numbers as decimals."""
    return (column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column).to_numpy()


def _check(columns: Mapping[str, Any], rungs: Sequence[str], where: str) -> None:
    for name in _needed(rungs):
        if name not in columns:
            raise CorpusError(f"is not a table of counts: it has no column {name!r}", where=where, mend=_MEND)
        column = columns[name]
        if column.dtype.kind not in "iuf":
            raise CorpusError(f"column {name!r} does not hold numbers", where=where, mend=_MEND)
        if not name.endswith(".confidence") and not np.isfinite(column).all():
            raise CorpusError(f"column {name!r} has empty cells", where=where, mend=_MEND)
        if not name.endswith((".confidence", ".score")) and (column < 0).any():
            raise CorpusError(f"column {name!r} has a count below 0", where=where, mend=_MEND)


def _needed(rungs: Sequence[str]) -> Iterator[str]:
    yield "items"
    for index, rung in enumerate(rungs):
        below = () if index == len(rungs) - 1 else ("confidence", "regressed")
        yield from (f"{rung}.{name}" for name in (*below, "score", "cost_nano_usd", "wrong"))


def _levels(confidence: Floats) -> Floats:
    return np.unique(confidence[np.isfinite(confidence)])


def _counts_of(
    columns: Mapping[str, Any],
    rungs: tuple[str, ...],
    levels: tuple[Floats, ...],
    right_at: float,
    alone: Mapping[str, Any] | None,
) -> Counts:
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
        columns["items"].astype(np.int64),
        score,
        stacked("cost_nano_usd", np.int64),
        wrong,
        stacked("false_confident", np.int64, usual),
        stacked("regressed", np.int64, {top: nothing}),
        np.array(alone["score"], np.float64) if alone else score.sum(axis=0),
        np.array(alone["wrong"], np.int64) if alone else wrong.sum(axis=0),
        right_at,
    )
