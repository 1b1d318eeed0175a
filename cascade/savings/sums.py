"""What is counted of a usage export: sums by model and price, which add up over the files of an export.

Each file is counted by itself, by whatever engine, and the sums are added in the order of the files' names. So the export is the same
whether one process read all of it or many read a part each.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cascade.core.errors import UsageExportError
from cascade.core.messages import Usage
from cascade.savings.columns import Field, check_columns, find_columns, unread

__all__ = ["SIZE_STEP", "Slice", "UsageExport", "UsageSums", "Where", "map_hint", "total_of"]

SIZE_STEP: Final = 1_000
"""Tokens: average prompts are grouped in steps of this, for price tiers (which start at multiples of it)."""

Where = str
"""A file and its line (of a Parquet file, its row)."""

_INCLUDES = {True: "includes", False: "does not include"}


@dataclass(frozen=True, slots=True)
class Slice:
    """Usage of one model at one price. `requests` None: the export does not give their number.

    `size`: the average prompt is in (size x 1,000, (size + 1) x 1,000] tokens; None if not known.
    `single`: every row was one request, so its price tier is certain. `where`: file and line of its first row.
    """

    model: str
    batch: bool
    size: int | None
    single: bool
    requests: int | None
    usage: Usage
    where: Where = "usage"


@dataclass(frozen=True, slots=True)
class UsageExport:
    """A whole export. `days`: from the first date to the last, both included; None without dates.

    `skipped`: rows without usage. `totals`: rows that are the sum of others, not counted again. `unread`: columns not read
    although their names suggest usage.
    """

    source: str
    slices: tuple[Slice, ...]
    rows: int
    skipped: int
    days: int | None
    columns: Mapping[Field, str]
    totals: int = 0
    unread: tuple[str, ...] = ()

    @property
    def usage(self) -> Usage:
        """All tokens together."""
        total = Usage()
        for part in self.slices:
            total += part.usage
        return total

    @property
    def requests(self) -> int | None:
        """The number of requests; None if the export does not give it."""
        counts = [part.requests for part in self.slices]
        return None if None in counts else sum(count or 0 for count in counts)


_Key = tuple[str, bool, int | None, bool]


@dataclass(slots=True)
class UsageSums:
    """Sums of rows, to which rows and other sums are added. `names`: the rows' columns, as each kind of row has them.

    `settled`: by input column, whether it includes cached tokens, and where that was seen first.
    """

    slices: dict[_Key, tuple[int | None, Usage, Where]] = field(
        default_factory=dict[_Key, tuple[int | None, Usage, Where]]
    )
    rows: int = 0
    skipped: int = 0
    totals: int = 0
    first: dt.date | None = None
    last: dt.date | None = None
    names: dict[tuple[str, ...], None] = field(default_factory=dict[tuple[str, ...], None])
    settled: dict[str, tuple[bool, Where]] = field(default_factory=dict[str, tuple[bool, Where]])

    def add(self, key: _Key, requests: int | None, usage: Usage, where: Where) -> None:
        """Add rows of one slice. `key`: model, batch, size and single, as `Slice` has them."""
        count, total, start = self.slices.get(key, (0, Usage(), where))
        self.slices[key] = (None if requests is None or count is None else count + requests, total + usage, start)

    def see_day(self, day: dt.date) -> None:
        """Widen the period to a day."""
        self.first, self.last = min(self.first or day, day), max(self.last or day, day)

    def settle(self, column: str, where: Where, *, includes: bool) -> None:
        """Note whether an input column includes cached tokens. Raises UsageExportError if an earlier row differs."""
        before, first = self.settled.setdefault(column, (includes, where))
        if before != includes:
            raise UsageExportError(
                f"{column!r} {_INCLUDES[includes]} the cached tokens here, but {_INCLUDES[before]} them at {first}",
                where=where,
                hint=map_hint(column),
            )

    def merge(self, other: UsageSums) -> None:
        """Add the sums of the rows that come after these. Raises UsageExportError if both read a column differently."""
        for column, (includes, where) in other.settled.items():
            self.settle(column, where, includes=includes)
        for key, value in other.slices.items():
            self.add(key, *value)
        self.rows += other.rows
        self.skipped += other.skipped
        self.totals += other.totals
        for day in (other.first, other.last):
            if day is not None:
                self.see_day(day)
        self.names |= other.names

    def export(self, source: str, given: Mapping[Field, str]) -> UsageExport:
        """The export that these are the sums of. `given`: columns by field, from `--map`.

        Raises UsageExportError without usage, or if a column from `--map` is missing.
        """
        columns = self._columns(source, given)
        slices = tuple(Slice(*key, *value) for key, value in self.slices.items())
        days = (self.last - self.first).days + 1 if self.first and self.last else None
        unknown = tuple(unread(dict.fromkeys(name for names in self.names for name in names), columns))
        return UsageExport(source, slices, self.rows, self.skipped, days, columns, self.totals, unknown)

    def _columns(self, source: str, given: Mapping[Field, str]) -> dict[Field, str]:
        found: dict[Field, str] = {}
        for names in self.names:
            found |= find_columns(names, given)
        for one, column in given.items():
            if one not in found and self.names:
                raise UsageExportError(f"has no column {column!r}", where=source, hint=f"correct --map {one}=COLUMN")
        if not self.rows:
            for names in self.names:
                check_columns(find_columns(names, given), names, source, given)
            hint = "export a row per request, or per model and day"
            raise UsageExportError("has no rows with token counts", where=source, hint=hint)
        return found


def total_of(parts: Iterable[UsageSums]) -> UsageSums:
    """The sums of all parts, which are in the order of the rows."""
    whole = UsageSums()
    for part in parts:
        whole.merge(part)
    return whole


def map_hint(column: str) -> str:
    """How to say whether a column includes cached tokens."""
    return f"--map prompt={column} if it includes them, --map input={column} if not"
