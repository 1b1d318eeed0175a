"""The rows of a usage export: CSV (any of , ; tab), JSON lines, one JSON document, or Parquet (extra `parquet`)."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from cascade.core.errors import CorpusError, UsageExportError
from cascade.corpora.decoding import LineError
from cascade.savings.columns import plain

__all__ = ["USAGE_CELLS", "rows_of"]

USAGE_CELLS = ("usage", "usagedetails")
"""Columns whose cells may hold a whole usage as JSON, without case and punctuation."""

_MAX_BYTES = 64 * 1024 * 1024  # of one line, and of a JSON document
_Row = tuple[int | str, dict[str, Any]]


def rows_of(path: Path, source: str) -> Iterator[_Row]:
    """Every row with its line (or number). Raises UsageExportError if the file cannot be read, MissingExtra for Parquet."""
    if path.suffix == ".parquet":
        yield from _parquet(path, source)
        return
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
        raise UsageExportError(problem, where=source, hint="check the path") from error
    except UnicodeDecodeError:
        raise UsageExportError("is not UTF-8 text", where=source, hint="decompress it, or export it as UTF-8") from None


def _parquet(path: Path, source: str) -> Iterator[_Row]:
    from cascade.corpora.parquet import open_table, table_rows  # noqa: PLC0415 - an extra

    number = 0
    try:
        with open_table(path) as table:
            for number, row in enumerate(table_rows(table), 1):
                cells = {name: _plain_cell(cell) for name, cell in row.items()}
                yield f"row {number}", _expanded(_flat(cells))
    except CorpusError as error:
        raise UsageExportError(error.problem, where=source, hint=error.hint) from None
    except LineError as error:
        raise UsageExportError(error.problem, where=f"{source}:row {number + 1}", hint=error.hint) from None


def _plain_cell(cell: object) -> object:
    """A number or a text where Parquet has a type of its own: 12.00 as a decimal, a date, a time."""
    if isinstance(cell, Decimal):
        return int(cell) if cell == cell.to_integral_value() else float(cell)
    return cell.isoformat() if isinstance(cell, (dt.date, dt.datetime)) else cell


def _table(file: io.TextIOWrapper, source: str, head: str) -> Iterator[_Row]:
    first_line = head.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    no_cells: list[str] = []
    try:
        names = [name.strip() for name in next(reader, no_cells)]
        if not any(names):
            raise UsageExportError("is empty", where=source, hint="its first line must name the columns")
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(names):
                raise UsageExportError(
                    f"has {len(cells)} cells, the header {len(names)}", where=f"{source}:{reader.line_num}"
                )
            yield reader.line_num, _expanded(dict(zip(names, cells, strict=True)))
    except csv.Error as error:
        hint = "export it without prompts and answers" if "field larger" in str(error) else "check that it is CSV"
        raise UsageExportError(
            f"is not readable CSV: {error}", where=f"{source}:{reader.line_num}", hint=hint
        ) from None


def _expanded(row: dict[str, Any]) -> dict[str, Any]:
    """The row with a usage cell in JSON (Langfuse's CSV) expanded into columns."""
    for name in tuple(row):
        if plain(name) in USAGE_CELLS and str(row[name]).startswith("{"):
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
        raise UsageExportError(f"is longer than {_MAX_BYTES} characters", where=source, hint="write it as JSON lines")
    yield from enumerate(_objects(_parse(text, source), source), start=1)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply, or a number too long"
        raise UsageExportError(f"is not JSON: {problem}", where=where) from None


def _objects(value: Any, where: str) -> Iterator[dict[str, Any]]:
    """The rows of a JSON value: the object itself, a list's objects, or those under `data` and `results` (Admin API)."""
    if isinstance(value, list):
        for one in cast("list[Any]", value):
            yield from _objects(one, where)
        return
    if not isinstance(value, dict):
        raise UsageExportError("is not a JSON object", where=where, hint="write one JSON object per row")
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
