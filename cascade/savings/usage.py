"""Read a usage export: CSV (any of , ; tab), JSON lines, or one JSON document.

A row is either one request or a sum of many (a day of one model). Rows are added up as they are read, by model, batch
and size of the average prompt, since prices depend on those; memory does not grow with the file. A blank token cell is
0; everything else that is not a whole number is an error with its line. Nothing of what users wrote is kept or quoted.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from cascade.core.errors import UsageExportError
from cascade.core.messages import Usage
from cascade.savings.columns import Field, check_columns, find_columns, is_usage, plain, unread

__all__ = ["Slice", "UsageExport", "read_usage", "with_requests"]

SIZE_STEP: Final = 1_000
"""Tokens: average prompts are told apart in steps of this, for price tiers (which start at multiples of it)."""

_MAX_BYTES = 64 * 1024 * 1024  # of one line, and of a JSON document
# 1200, 1,200 and 1200.0; not 1.200 or 1,5, which mean different numbers in different countries.
_WHOLE = re.compile(r"[0-9]{1,18}(?:\.0{1,2})?|[0-9]{1,3}(?:,[0-9]{3}){1,5}")
_TOTALS: Final = {"total", "sum", "grandtotal"}
_Row = tuple[int, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Slice:
    """Usage of one model that is priced alike. `requests` None: the export does not say how many there were.

    `size`: the average prompt lies in (size x 1,000, (size + 1) x 1,000] tokens; None where it is not known.
    `single`: every row was one request, so that its price tier is certain. `where`: file and line of its first row.
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
    """A whole export. `days`: from the first date to the last, both included; None where it has no dates.

    `skipped`: rows without usage; `totals`: rows that are the sum of others, and not counted again. `unread`: columns
    that no field is, though their names say that they might be.
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
        """All requests, or None where the export does not say."""
        counts = [part.requests for part in self.slices]
        return None if None in counts else sum(count or 0 for count in counts)


def read_usage(path: str | os.PathLike[str], given: Mapping[Field, str] | None = None) -> UsageExport:
    """Read an export; `given` says which column a field is, where the known names do not (`--map`).

    Raises UsageExportError with file and line where it cannot be read.
    """
    source = os.fspath(path)
    told = _Told(given or {}, source)
    sums: dict[tuple[str, bool, int | None, bool], tuple[int | None, Usage, str]] = {}
    first: dt.date | None = None
    last: dt.date | None = None
    rows = skipped = totals = 0
    for line, row in _rows(Path(path), source):
        where = f"{source}:{line}"
        columns = told.columns(row, where)
        read = _Reader(row, columns, where)
        usage, model = read.usage(), read.text("model")
        if model is None and usage == Usage():
            skipped += 1  # a span, or a total, without tokens
            continue
        if plain(model or str(next(iter(row.values())))) in _TOTALS:
            totals += 1
            continue
        if model is None:
            raise UsageExportError("has tokens and no model", where=where, mend="group the export by model")
        rows += 1
        requests = read.requests()
        size = _size(usage, requests)
        key = (model, read.is_batch(), size, requests == 1)
        count, total, start = sums.get(key, (0, Usage(), where))
        sums[key] = (None if requests is None or count is None else count + requests, total + usage, start)
        if (day := read.date()) is not None:
            first, last = min(first or day, day), max(last or day, day)
    found = told.all(empty=not rows)
    slices = tuple(Slice(*key, *value) for key, value in sums.items())
    days = (last - first).days + 1 if first and last else None
    return UsageExport(source, slices, rows, skipped, days, found, totals, told.unread(found))


def with_requests(export: UsageExport, requests: int) -> UsageExport:
    """The export with the number of requests that its user knows, spread by their tokens over what it has no counts of.

    It sets the average prompt, and so the price tier. Raises UsageExportError where there is nothing left to say.
    """
    counted = sum(part.requests or 0 for part in export.slices)
    open_ = [part for part in export.slices if part.requests is None]
    if not open_ or requests <= counted:
        problem = f"the export says itself how many there were, {counted:,}" + (" in a part of it" if open_ else "")
        raise UsageExportError(problem, where="--requests", mend="leave it out" if not open_ else "give them all")
    weights = [part.usage.prompt_tokens + part.usage.output_tokens for part in open_]
    total, given, known = sum(weights) or 1, 0, list[Slice]()
    for place, part in enumerate(open_, 1):
        upto = (requests - counted) * sum(weights[:place]) // total
        known.append(replace(part, requests=upto - given, size=_size(part.usage, upto - given)))
        given = upto
    return replace(export, slices=(*(part for part in export.slices if part.requests is not None), *known))


def _size(usage: Usage, requests: int | None) -> int | None:
    return (max(usage.prompt_tokens, 1) - 1) // (requests * SIZE_STEP) if requests else None


class _Told:
    """Which column is which field, for rows that need not have the same keys: one that only a later row has counts."""

    def __init__(self, given: Mapping[Field, str], source: str) -> None:
        self._given, self._source = given, source
        self._by_names: dict[tuple[str, ...], dict[Field, str]] = {}

    def columns(self, row: Mapping[str, Any], where: str) -> dict[Field, str]:
        names = tuple(row)
        if (found := self._by_names.get(names)) is None:
            found = self._by_names[names] = find_columns(names, self._given)
            if is_usage(found):
                check_columns(found, names, where, self._given)
        return found

    def unread(self, found: Mapping[Field, str]) -> tuple[str, ...]:
        """The columns of the whole file that nothing was made of, though they are called as if something were in them."""
        return tuple(unread(dict.fromkeys(name for names in self._by_names for name in names), found))

    def all(self, *, empty: bool) -> dict[Field, str]:
        """Of the whole file. Raises UsageExportError where there was no usage, or a given column was never seen."""
        found: dict[Field, str] = {}
        for columns in self._by_names.values():
            found |= columns
        for field, column in self._given.items():
            if field not in found and self._by_names:
                raise UsageExportError(f"has no column {column!r}", where=self._source, mend=f"mend --map {field}=…")
        if empty:
            for names, columns in self._by_names.items():
                check_columns(columns, names, self._source, self._given)
            raise UsageExportError("has no usage", where=self._source, mend="a row per request, or per model and day")
        return found


class _Reader:
    """One row, by our fields."""

    def __init__(self, row: Mapping[str, Any], columns: Mapping[Field, str], where: str) -> None:
        self._row, self._columns, self._where = row, columns, where

    def _value(self, field: Field) -> Any:
        return self._row.get(self._columns[field]) if field in self._columns else None

    def text(self, field: Field) -> str | None:
        """A text, None where it is blank."""
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
        # A write told both as a whole and by lifetime is one write, as in the API's own usage object.
        five = max(five, self.tokens("cache_write") - hour)
        plain_input = self.tokens("input")
        if "input" not in self._columns:
            plain_input = self.tokens("prompt") - five - hour - read
            if plain_input < 0:
                column = self._columns["prompt"]
                raise UsageExportError(
                    f"{column!r} is less than the cached tokens, so it does not include them",
                    where=self._where,
                    mend=f"--map input={column}",
                )
        return Usage(plain_input, self.tokens("output"), five, hour, read)

    def requests(self) -> int | None:
        """How many requests the row stands for: as it says, or one where it has a request's id; else None."""
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
                mend="mend it, or --map date= another column",
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
                mend=f"mend it, or --map {field}= another column",
            )
        return int(number)


def _rows(path: Path, source: str) -> Iterator[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.read(4096).lstrip()
            file.seek(0)
            if path.suffix.lower() == ".json" or (head[:1] == "[" and path.suffix.lower() != ".csv"):
                yield from _document(file, source)
            elif head[:1] == "{":
                yield from _json_lines(file, source)
            else:
                yield from _table(file, source, head)
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise UsageExportError(problem, where=source, mend="check the path") from error
    except UnicodeDecodeError:
        raise UsageExportError("is not UTF-8 text", where=source, mend="unpack it, or export it as UTF-8") from None


def _table(file: io.TextIOWrapper, source: str, head: str) -> Iterator[_Row]:
    first_line = head.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    no_cells: list[str] = []
    try:
        names = [name.strip() for name in next(reader, no_cells)]
        if not any(names):
            raise UsageExportError("is empty", where=source, mend="the first line names the columns")
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(names):
                raise UsageExportError(
                    f"has {len(cells)} cells, the header {len(names)}", where=f"{source}:{reader.line_num}"
                )
            yield reader.line_num, _expanded(dict(zip(names, cells, strict=True)))
    except csv.Error as error:
        mend = "export it without prompts and answers" if "field larger" in str(error) else "is it CSV?"
        raise UsageExportError(
            f"is not readable CSV: {error}", where=f"{source}:{reader.line_num}", mend=mend
        ) from None


def _expanded(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose usage is one JSON cell (Langfuse's CSV), as if its keys were columns."""
    for name in tuple(row):
        if plain(name) in ("usage", "usagedetails") and str(row[name]).startswith("{"):
            try:
                row |= _flat({name: json.loads(row[name])})
            except (ValueError, RecursionError):
                continue
    return row


def _json_lines(file: io.TextIOWrapper, source: str) -> Iterator[_Row]:
    number = 0
    while line := file.readline(_MAX_BYTES):
        number += 1
        if not line.strip():
            continue
        if len(line) >= _MAX_BYTES:
            raise UsageExportError(f"the line is longer than {_MAX_BYTES} characters", where=f"{source}:{number}")
        for row in _objects(_parse(line, f"{source}:{number}"), f"{source}:{number}"):
            yield number, row


def _document(file: io.TextIOWrapper, source: str) -> Iterator[_Row]:
    text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise UsageExportError(f"is longer than {_MAX_BYTES} characters", where=source, mend="write it as JSON lines")
    yield from enumerate(_objects(_parse(text, source), source), start=1)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply, or a number too long"
        raise UsageExportError(f"is not JSON: {problem}", where=where) from None


def _objects(value: Any, where: str) -> Iterator[dict[str, Any]]:
    """The rows in a JSON value: itself, a list's, or those under `data` and `results` (the Admin API's report)."""
    if isinstance(value, list):
        for one in cast("list[Any]", value):
            yield from _objects(one, where)
        return
    if not isinstance(value, dict):
        raise UsageExportError("is not a JSON object", where=where, mend="a JSON object per row")
    row = cast("dict[str, Any]", value)
    for key in ("data", "results"):
        if isinstance(inner := row.get(key), list):
            around = {name: other for name, other in row.items() if name != key and not isinstance(other, (dict, list))}
            for one in _objects(cast("list[Any]", inner), where):
                yield {**around, **one}
            return
    yield _flat(row)


def _flat(row: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict) and depth < 4:
            flat |= _flat(cast("dict[str, Any]", value), f"{prefix}{key}.", depth + 1)
        elif not isinstance(value, (dict, list)):
            flat[prefix + key] = value
    return flat
