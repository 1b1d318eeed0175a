"""Read a usage export (`files` reads its rows).

A row is one request, or a sum of many (a day of one model). Rows are added up as they are read, by model, batch and size of
the average prompt, since prices depend on those; memory does not grow with the file. A blank token cell is 0. Any other
cell that is not a whole number is an error that names its line. Prompts and answers are neither kept nor quoted.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cascade.core.errors import UsageExportError
from cascade.core.messages import Usage
from cascade.savings.columns import Field, check_columns, find_columns, is_usage, plain, unread
from cascade.savings.files import rows_of

__all__ = ["Slice", "UsageExport", "read_usage", "with_requests"]

SIZE_STEP: Final = 1_000
"""Tokens: average prompts are grouped in steps of this, for price tiers (which start at multiples of it)."""

# 1200, 1,200 and 1200.0; not 1.200 or 1,5, which mean different numbers in different countries.
_WHOLE = re.compile(r"[0-9]{1,18}(?:\.0{1,2})?|[0-9]{1,3}(?:,[0-9]{3}){1,5}")
_TOTALS: Final = {"total", "sum", "grandtotal"}
_INCLUDES: Final = {True: "includes", False: "does not include"}


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
    where: str = "usage"


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


def read_usage(path: str | os.PathLike[str], given: Mapping[Field, str] | None = None) -> UsageExport:
    """Read an export. `given`: columns by field, from `--map`, in addition to the known names.

    Raises UsageExportError with file and line if it cannot be read.
    """
    source = os.fspath(path)
    column_map = _ColumnMap(given or {}, source)
    sums: dict[tuple[str, bool, int | None, bool], tuple[int | None, Usage, str]] = {}
    first: dt.date | None = None
    last: dt.date | None = None
    rows = skipped = totals = 0
    for line, row in rows_of(Path(path), source):
        where = f"{source}:{line}"
        columns = column_map.columns(row, where)
        read = _Reader(row, columns, where, column_map)
        usage, model = read.usage(), read.text("model")
        if model is None and usage == Usage():
            skipped += 1  # a span, or a total, without tokens
            continue
        if plain(model or str(next(iter(row.values())))) in _TOTALS:
            totals += 1
            continue
        if model is None:
            raise UsageExportError("has tokens but no model", where=where, hint="group the export by model")
        rows += 1
        requests = read.requests()
        size = _size(usage, requests)
        key = (model, read.is_batch(), size, requests == 1)
        count, total, start = sums.get(key, (0, Usage(), where))
        sums[key] = (None if requests is None or count is None else count + requests, total + usage, start)
        if (day := read.date()) is not None:
            first, last = min(first or day, day), max(last or day, day)
    found = column_map.all(empty=not rows)
    slices = tuple(Slice(*key, *value) for key, value in sums.items())
    days = (last - first).days + 1 if first and last else None
    return UsageExport(source, slices, rows, skipped, days, found, totals, column_map.unread(found))


def with_requests(export: UsageExport, requests: int) -> UsageExport:
    """The export with a total number of requests, distributed by tokens over the slices without a count.

    This sets the average prompt, and so the price tier. Raises UsageExportError if the export already counts as many.
    """
    counted = sum(part.requests or 0 for part in export.slices)
    open_ = [part for part in export.slices if part.requests is None]
    if not open_ or requests <= counted:
        problem = f"the export already gives the number of requests, {counted:,}" + (
            " for a part of it" if open_ else ""
        )
        raise UsageExportError(
            problem,
            where="--requests",
            hint="leave it out" if not open_ else "give the number of all requests, above that",
        )
    weights = [part.usage.prompt_tokens + part.usage.output_tokens for part in open_]
    total, given, known = sum(weights) or 1, 0, list[Slice]()
    for place, part in enumerate(open_, 1):
        upto = (requests - counted) * sum(weights[:place]) // total
        known.append(replace(part, requests=upto - given, size=_size(part.usage, upto - given)))
        given = upto
    return replace(export, slices=(*(part for part in export.slices if part.requests is not None), *known))


def _size(usage: Usage, requests: int | None) -> int | None:
    return (max(usage.prompt_tokens, 1) - 1) // (requests * SIZE_STEP) if requests else None


class _ColumnMap:
    """The column of each field, for rows whose keys may differ: a column that only a later row has counts, too."""

    def __init__(self, given: Mapping[Field, str], source: str) -> None:
        self._given, self._source = given, source
        self._by_names: dict[tuple[str, ...], dict[Field, str]] = {}
        self._settled: dict[str, tuple[bool, str]] = {}
        self.is_given = bool(given.keys() & {"input", "prompt"})

    def columns(self, row: Mapping[str, Any], where: str) -> dict[Field, str]:
        names = tuple(row)
        if (found := self._by_names.get(names)) is None:
            found = self._by_names[names] = find_columns(names, self._given)
            if is_usage(found):
                check_columns(found, names, where, self._given)
        return found

    def settle(self, column: str, where: str, *, includes: bool) -> None:
        """Note whether an input column includes cached tokens. Raises UsageExportError if an earlier row differs."""
        before, first = self._settled.setdefault(column, (includes, where))
        if before != includes:
            raise UsageExportError(
                f"{column!r} {_INCLUDES[includes]} the cached tokens here, but {_INCLUDES[before]} them at {first}",
                where=where,
                hint=_map_hint(column),
            )

    def unread(self, found: Mapping[Field, str]) -> tuple[str, ...]:
        """Columns of the whole file that were not read although their names suggest usage."""
        return tuple(unread(dict.fromkeys(name for names in self._by_names for name in names), found))

    def all(self, *, empty: bool) -> dict[Field, str]:
        """The columns of the whole file. Raises UsageExportError without usage, or if a column from `--map` is missing."""
        found: dict[Field, str] = {}
        for columns in self._by_names.values():
            found |= columns
        for field, column in self._given.items():
            if field not in found and self._by_names:
                raise UsageExportError(
                    f"has no column {column!r}", where=self._source, hint=f"correct --map {field}=COLUMN"
                )
        if empty:
            for names, columns in self._by_names.items():
                check_columns(columns, names, self._source, self._given)
            raise UsageExportError(
                "has no rows with token counts",
                where=self._source,
                hint="export a row per request, or per model and day",
            )
        return found


class _Reader:
    """One row, read by field."""

    def __init__(
        self, row: Mapping[str, Any], columns: Mapping[Field, str], where: str, column_map: _ColumnMap
    ) -> None:
        self._row, self._columns, self._where, self._map = row, columns, where, column_map

    def _value(self, field: Field) -> Any:
        return self._row.get(self._columns[field]) if field in self._columns else None

    def text(self, field: Field) -> str | None:
        """A text; None if blank."""
        value = self._value(field)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        return str(value).strip()

    def tokens(self, field: Field) -> int:
        """A count of tokens; blank is 0."""
        return self._whole(field) or 0

    def usage(self) -> Usage:
        """The billed tokens."""
        five, hour, read = self.tokens("cache_write_5m"), self.tokens("cache_write_1h"), self.tokens("cache_read")
        # A write given both as a total and by lifetime is counted once, as in the API's usage object.
        five = max(five, self.tokens("cache_write") - hour)
        cached, output = five + hour + read, self.tokens("output")
        field: Field = "input" if "input" in self._columns else "prompt"
        tokens = self.tokens(field)
        if cached and self._includes(field, tokens, cached, output):
            tokens -= cached
            if tokens < 0:
                column = self._columns[field]
                raise UsageExportError(
                    f"{column!r} is less than the cached tokens, so it does not include them",
                    where=self._where,
                    hint=f"--map input={column}",
                )
        return Usage(tokens, output, five, hour, read)

    def _includes(self, field: Field, tokens: int, cached: int, output: int) -> bool:
        """Whether the input includes the cached tokens: by the row's total if it has one, else by the column's name.

        Raises UsageExportError if the total fits neither, or if the rows of a file disagree.
        """
        by_name = field == "prompt"
        total = self._whole("total")
        if field not in self._columns or self._map.is_given:
            return by_name
        column = self._columns[field]
        if not total:
            includes = by_name
        elif total == tokens + cached + output:
            includes = False
        elif total == tokens + output:
            # An input below the cached tokens cannot include them; then the total leaves them out.
            includes = cached <= tokens
        else:
            names = ", ".join(
                repr(self._columns[one])
                for one in (field, "output", "cache_read", "cache_write", "cache_write_5m", "cache_write_1h")
                if one in self._columns
            )
            raise UsageExportError(
                f"{self._columns['total']!r} is {total:,}, which neither {tokens + output:,} (with the cached tokens in"
                f" {column!r}) nor {tokens + cached + output:,} (without) explains: {names} do not add up to it",
                where=self._where,
                hint=_map_hint(column),
            )
        self._map.settle(column, self._where, includes=includes)
        return includes

    def requests(self) -> int | None:
        """How many requests the row stands for: its count, or 1 if it has a request id; else None."""
        if "requests" in self._columns:
            return self._whole("requests") or None
        return 1 if self.text("request_id") else None

    def is_batch(self) -> bool:
        """Whether it was billed as a batch."""
        return (self.text("tier") or "").casefold() in ("batch", "batches", "true", "message_batch")

    def date(self) -> dt.date | None:
        """The day, from an ISO date or time, or from Unix seconds."""
        text = self.text("date")
        if text is None:
            return None
        try:
            if text.replace(".", "", 1).isdigit() and len(text.partition(".")[0]) >= 9:
                seconds = float(text) / (1000 if len(text.partition(".")[0]) >= 12 else 1)
                return dt.datetime.fromtimestamp(seconds, dt.UTC).date()
            return dt.date.fromisoformat(text[:10].replace("/", "-"))
        except (ValueError, OverflowError, OSError):
            column = self._columns["date"]
            raise UsageExportError(
                f"{column!r} is not a date such as 2026-11-30",
                where=self._where,
                hint="correct it, or --map date=COLUMN with another column",
            ) from None

    def _whole(self, field: Field) -> int | None:
        value = self._value(field)
        if value is None or value == "":
            return None
        number: float | int | None = None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            number = value
        elif isinstance(value, str):
            text = value.strip()
            if not text:
                return None
            if _WHOLE.fullmatch(text):
                number = int(text.partition(".")[0].replace(",", ""))
        if number is None or not 0 <= number < 10**18 or number != int(number):
            raise UsageExportError(
                f"{self._columns[field]!r} is not a whole number of 0 or more",
                where=self._where,
                hint=f"correct it, or --map {field}=COLUMN with another column",
            )
        return int(number)


def _map_hint(column: str) -> str:
    return f"--map prompt={column} if it includes them, --map input={column} if not"
