"""Check a Parquet file read as a table of counts: its metadata, its columns and their ranges.

An impossible count would not fail later but make a false certificate. `tables.parquet` describes the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

from msgspec import Meta, MsgspecError, Struct, structs
from msgspec import json as msgjson

from cascade.core.errors import CorpusError
from cascade.core.text.suggestions import did_you_mean, listed
from cascade.corpora.parquet import COUNTS_KEY
from cascade.replay.arrays import np

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools

__all__ = ["SLACK", "CountsMetadata", "checked_columns", "read_metadata"]

SLACK: Final = 1e-9
"""Tolerance for a query engine's sum of scores, as a share of the sum's range."""

_MOST = 2.0**53  # beyond it floats, which sums pass through, are not exact

_HINT = "make it with `cascade tabulate`, or with the columns that cascade.calibration.tables.parquet describes"


_Score = Annotated[float, Meta(ge=-1e6, le=1e6)]  # as in a corpus


class _Rung(Struct, frozen=True):
    rung: str
    model: str | None = None


class _Alone(Struct, frozen=True):
    score: tuple[float, ...]
    wrong: tuple[int, ...]


class CountsMetadata(Struct, frozen=True):
    """The file's metadata, with defaults."""

    rungs: tuple[_Rung, ...] = ()
    right_at: float = 0.5
    corpora: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    grader: str | None = None
    synthetic: bool = False
    grouped: bool = True
    named_groups: bool | None = None
    counted_as: str | None = None
    scores: tuple[_Score, _Score] = (0.0, 1.0)
    items: dict[str, int] = {}
    alone: dict[str, _Alone] = {}


def read_metadata(table: Any, where: str) -> CountsMetadata:
    """Read the metadata. Rungs default to those of the columns, the corpus's name to the file's."""
    ending, names = ".cost_nano_usd", cast("list[str]", table.column_names)
    for name in sorted({name for name in names if names.count(name) > 1}):
        raise CorpusError(f"two columns are called {name!r}", where=where, hint="rename one of them")
    raw = cast("dict[bytes, bytes]", table.schema.metadata or {}).get(COUNTS_KEY)
    try:
        metadata = msgjson.decode(raw, type=CountsMetadata) if raw else CountsMetadata()
    except (MsgspecError, UnicodeDecodeError):
        raise CorpusError(f"its {COUNTS_KEY.decode()} metadata is damaged", where=where, hint=_HINT) from None
    rungs = metadata.rungs or tuple(_Rung(name.removesuffix(ending)) for name in names if name.endswith(ending))
    if len({one.rung for one in rungs}) < max(2, len(rungs)):
        raise CorpusError("is not a table of counts: it has no two rungs", where=where, hint=_HINT)
    return structs.replace(metadata, rungs=rungs, corpora=metadata.corpora or (Path(where).name.partition(".")[0],))


def checked_columns(
    pa: Any, table: Any, rungs: Sequence[str], scores: tuple[float, float], where: str
) -> dict[str, Any]:
    """The columns as arrays: counts as int64, the others as float64. Raises CorpusError for missing or impossible values."""
    columns: dict[str, Any] = {}
    for name, needed in _expected_columns(rungs):
        if name in table.column_names:
            columns[name] = _checked(name, _numbers(pa, table.column(name)), where)
        elif needed:
            names = cast("list[str]", table.column_names)
            hint = f"{did_you_mean(name, names)}it has {listed(names)}; {_HINT}"
            raise CorpusError(f"is not a table of counts: it has no column {name!r}", where=where, hint=hint)
    for rung in rungs:
        _check_sums(columns, rung, scores, where)
    return columns


def _checked(name: str, column: Any, where: str) -> Any:
    """Check one column."""
    if column.dtype.kind not in "iuf":
        raise CorpusError(f"column {name!r} does not hold numbers", where=where, hint=_HINT)
    kind = name.rpartition(".")[2]
    if kind == "confidence":
        outside = (column < 0) | ((column > 1) & (column != np.inf))
        _refuse(name, column, outside, "is not a confidence", where=where, hint="give 0 to 1, null or infinite")
        return column.astype(np.float64)
    hint = "give every row a number, 0 for an empty sum"
    _refuse(name, column, ~np.isfinite(column), "is not a number", where=where, hint=hint)
    if kind == "score":
        return column.astype(np.float64)
    _refuse(name, column, column < 0, "is below 0", where=where, hint="sum what is 0 or more")
    hint = "count whole items, and costs in whole nano-USD"
    _refuse(name, column, np.rint(column) != column, "is not whole", where=where, hint=hint)
    if column.sum(dtype=np.float64) > _MOST:
        raise CorpusError(f"column {name!r} sums to more than 2**53", where=where, hint="check its unit")
    return column.astype(np.int64)


def _check_sums(columns: Mapping[str, Any], rung: str, scores: tuple[float, float], where: str) -> None:
    """Check a rung's columns against each other."""
    items, name = columns["items"], f"{rung}.score"
    score, (low, high) = columns[name], (bound * items for bound in scores)
    slack = SLACK * (high - low)
    hint = "scale the scores to 0..1, or give their range in the metadata's `scores`"
    _refuse(name, score, score < low - slack, "is less than its items can score", where=where, hint=hint)
    _refuse(name, score, score > high + slack, "is more than its items can score", where=where, hint=hint)
    name, wrong = f"{rung}.wrong", columns[f"{rung}.wrong"]
    _refuse(name, wrong, wrong > items, "is more than its items", where=where, hint="count each item once")
    for part in (f"{rung}.regressed", f"{rung}.false_confident"):
        if part in columns:
            what, hint = f"is more than its {name!r}", "count only those that are wrong"
            _refuse(part, columns[part], columns[part] > wrong, what, where=where, hint=hint)


def _refuse(name: str, column: Any, bad: Bools, what: str, *, where: str, hint: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        value = "an empty cell" if np.isnan(column[row]) else f"{column[row]:.12g}"
        raise CorpusError(f"column {name!r}, row {row + 1}: {value} {what}", where=where, hint=hint)


def _expected_columns(rungs: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """The columns of a table except `part`, and whether each is required."""
    yield "items", True
    for rung in rungs:
        below = rung != rungs[-1]
        if below:
            yield f"{rung}.confidence", True
        yield from ((f"{rung}.{name}", True) for name in ("score", "cost_nano_usd", "wrong"))
        yield from ((f"{rung}.regressed", below), (f"{rung}.false_confident", False))


def _numbers(pa: Any, column: Any) -> Any:
    """A column as an array, empty cells as NaN. Some engines return sums of integers as decimals."""
    is_odd = pa.types.is_decimal(column.type) or pa.types.is_null(column.type)
    return (column.cast(pa.float64()) if is_odd else column).to_numpy()
