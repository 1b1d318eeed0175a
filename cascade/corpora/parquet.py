"""A corpus as Parquet (extra `parquet`): one row per item, in flat columns that any engine can query.

| column | type | holds |
|---|---|---|
| `id`, `task`, `group`, `split` | text | as in the JSON form |
| `at` | double | seconds |
| `input` / `messages` | text | the input if it is text / the list of messages, as JSON |
| `expected` | text | JSON, so that `1` and `"1"` differ |
| `<rung>.confidence`, `.score`, `.cost_usd` | double | null if absent |
| `<rung>.answer` | text | JSON: `null` is a declined answer, a null cell an answer whose text was not recorded |
| `<rung>.input_tokens`, `.output_tokens` | int64 | from its usage |
| `<rung>.variant` | text | the prompt it was asked with |
| `<rung>.samples` | text | JSON: the list of the further samples, each as in the JSON form |
| `<rung>.more` | text | JSON: the rest of its usage, signals, checks, groups, unknown keys. All of a rung's cells null: no reply |
| `extra` | text | JSON: unknown keys of the item |

The manifest is JSON under `cascade.corpus` in the file's key-value metadata. Unknown columns become unknown keys of the
item. A row is converted to its line of JSON, so both forms are checked alike.
"""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

from pydantic_core import from_json, to_json

from cascade.core.errors import CorpusError, MissingExtra
from cascade.corpora.decoding import LineError, Unreadable
from cascade.corpora.encoding import encode_line, raw_item, raw_manifest
from cascade.corpora.items import Item, Manifest
from cascade.corpora.lines import MAX_LINE_BYTES

__all__ = [
    "COUNTS_KEY",
    "MANIFEST_KEY",
    "Rows",
    "line_of",
    "load_pyarrow",
    "open_table",
    "some_rows",
    "table_rows",
    "write_rows",
]

MANIFEST_KEY: Final = b"cascade.corpus"

COUNTS_KEY: Final = b"cascade.counts"
"""The metadata key of a table of counts, which is not a corpus: see `calibration.tables.parquet`."""

_TEXTS = ("id", "task", "group", "split", "input")
_JSONS = ("messages", "expected", "extra")
_NUMBERS = ("confidence", "score", "cost_usd")
_TOKENS = ("input_tokens", "output_tokens")
_REPLY_TEXTS = ("answer", "variant", "samples", "more")
_ROW_GROUP = 4096  # rows: small enough to stream, large enough to compress and prune
_BATCH = 64  # rows held at once; a repeated text is held once (see `open_table`)
_BOMB_BYTES, _BOMB_RATIO = 256 * 1024 * 1024, 100  # a column chunk that decompresses to more than both is refused


def load_pyarrow() -> Any:
    """Import `pyarrow` with `pyarrow.parquet`. Raises MissingExtra if not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]
        import pyarrow.parquet  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs, reportUnusedImport]
    except ImportError:
        raise MissingExtra("Parquet", "parquet") from None
    return pa


def open_table(path: str | os.PathLike[str]) -> Any:
    """Open a Parquet file (a `pyarrow.parquet.ParquetFile`) for reading rows in bounded memory.

    Raises CorpusError if it is not Parquet, or if a column looks like a decompression bomb.
    """
    pa, where = load_pyarrow(), os.fspath(path)
    try:
        with Path(path).open("rb"):  # for a stable error if the file is missing: Arrow's differs between versions
            pass
        schema = pa.parquet.read_schema(where)
        # Read as dictionaries, a long text in a million rows is held once.
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        table = pa.parquet.ParquetFile(where, read_dictionary=texts, pre_buffer=False)
    except pa.ArrowException as error:
        raise CorpusError(f"is not Parquet: {_first_line(error)}", where=where, hint="is the file complete?") from None
    except OSError as error:
        problem = f"cannot be read: {error.strerror or _first_line(error)}"
        raise CorpusError(problem, where=where, hint="check the path") from error
    groups = [table.metadata.row_group(number) for number in range(table.metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    for chunk in chunks:
        if chunk.total_uncompressed_size > max(_BOMB_BYTES, _BOMB_RATIO * chunk.total_compressed_size):
            table.close()
            problem = f"column {chunk.path_in_schema!r} would decompress to {chunk.total_uncompressed_size} bytes"
            raise CorpusError(problem, where=where, hint="write it again with smaller row groups")
    return table


def table_rows(table: Any) -> Generator[dict[str, Any]]:
    """The rows of an open Parquet file as Python values. Raises Unreadable if it is damaged."""
    pa = load_pyarrow()
    try:
        for batch in table.iter_batches(batch_size=_BATCH, use_threads=False):
            yield from _rows_of(batch)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # a damaged page raises any of these
        raise Unreadable(f"cannot be read further: {_first_line(error)}", "is the file complete?") from error


def some_rows(table: Any, numbers: Iterable[int]) -> Generator[tuple[int, dict[str, Any]]]:
    """The rows of these numbers (from 0, ascending) as `table_rows` gives them, each with its number."""
    pa = load_pyarrow()
    wanted, start = sorted(numbers), 0
    place = 0
    try:
        for group in range(table.metadata.num_row_groups):
            end = start + table.metadata.row_group(group).num_rows
            first, place = place, bisect_left(wanted, end, place)
            if first < place:
                yield from _rows_at(table, group, [number - start for number in wanted[first:place]], start)
            start = end
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise Unreadable(f"cannot be read further: {_first_line(error)}", "is the file complete?") from error


def _rows_at(table: Any, group: int, wanted: list[int], before: int) -> Iterator[tuple[int, dict[str, Any]]]:
    pa, place, start = load_pyarrow(), 0, 0
    for batch in table.iter_batches(batch_size=_BATCH, row_groups=[group], use_threads=False):
        first, place = place, bisect_left(wanted, start + batch.num_rows, place)
        if first < place:
            own = wanted[first:place]
            chosen = batch.take(pa.array([number - start for number in own], pa.int64()))
            yield from zip((before + number for number in own), _rows_of(chosen), strict=True)
        start += batch.num_rows


def _rows_of(batch: Any) -> Iterator[dict[str, Any]]:
    columns = {name: batch.column(number) for number, name in enumerate(batch.schema.names)}
    if len(columns) < batch.num_columns:
        raise Unreadable("two columns have the same name", "rename one of them")
    lists = [_values(column) for column in columns.values()]
    for values in zip(*lists, strict=True):
        yield dict(zip(columns, values, strict=True))


def _values(column: Any) -> list[Any]:
    """A column's values in a batch. A dictionary's entry is converted once, not once per row."""
    if not hasattr(column, "dictionary"):
        return cast("list[Any]", column.to_pylist())
    converted: dict[int | None, Any] = {None: None}
    indices = cast("list[int | None]", column.indices.to_pylist())
    for index in indices:
        if index not in converted:
            converted[index] = column.dictionary[index].as_py()
    return [converted[index] for index in indices]


class Rows:
    """The rows of a Parquet file, each as its line of JSON. The same interface as `Lines`."""

    def __init__(self, path: str | os.PathLike[str], limit: int = MAX_LINE_BYTES) -> None:
        self.source = os.fspath(path)
        self.number = 0
        self._limit = limit
        self._rungs: tuple[str, ...] = ()
        self._table = open_table(path)
        self._rows = table_rows(self._table)

    @property
    def where(self) -> str:
        """The file and the row read last, from 1."""
        return f"{self.source}:row {self.number}"

    @property
    def count(self) -> int:
        """How many rows the file's footer counts."""
        return cast("int", self._table.metadata.num_rows)

    @property
    def columns(self) -> frozenset[str]:
        """The names of the file's columns."""
        return frozenset(cast("list[str]", self._table.schema_arrow.names))

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._rows.close()
        self._table.close()

    def read_manifest(self) -> bytes:
        """The manifest's JSON. Raises LineError if the file has none."""
        metadata = cast("dict[bytes, bytes]", self._table.metadata.metadata or {})
        if (manifest := metadata.get(MANIFEST_KEY)) is None:
            if COUNTS_KEY in metadata:
                raise LineError("is a table of counts", "`cascade calibrate --counts` reads it")
            key = MANIFEST_KEY.decode()
            raise LineError(f"has no manifest under {key!r} in its metadata", "see the corpus format")
        try:
            ladder = from_json(manifest)["ladder"]
            self._rungs = tuple(str(entry["rung"]) for entry in ladder)
        except (ValueError, KeyError, TypeError):
            pass  # decode_manifest describes the error
        return manifest

    def read(self) -> bytes:
        """The next row as JSON, b"" at the end. Raises LineError for an invalid cell, Unreadable for a damaged file."""
        self.number += 1
        row = next(self._rows, None)
        if row is None:
            return b""
        return line_of(row, self._rungs, self._limit)


def line_of(row: dict[str, Any], rungs: Iterable[str], limit: int = MAX_LINE_BYTES) -> bytes:
    """A row of a corpus with these rungs as its line of JSON. Raises LineError for an invalid cell, Unreadable if it is too long."""
    name = row["id"][:80] if isinstance(row.get("id"), str) else ""
    try:
        line = to_json(_item_of(row, rungs), inf_nan_mode="constants")
    except LineError as error:
        raise LineError(error.problem, error.hint, name) from None
    except ValueError as error:
        raise LineError("a cell holds what JSON cannot", "cast it to text or a number", name) from error
    if len(line) > limit:
        raise Unreadable(f"the row is longer than {limit} bytes", "split or shorten the item")
    return line


def _item_of(row: dict[str, Any], rungs: Iterable[str]) -> dict[str, Any]:
    raw: dict[str, Any] = {}
    replies = {rung: reply for rung in rungs if (reply := _reply_of(row, rung)) is not None}
    parsed = {name: _from_json(name, row.pop(name, None)) for name in _JSONS}
    for name in (*_TEXTS, "at"):
        value = row.pop(name, None)
        if value is not None:
            raw[name] = _finite(name, value)
    if parsed["messages"] is not None:
        raw["input"] = parsed["messages"]
    extra: Any = {} if parsed["extra"] is None else parsed["extra"]
    if not isinstance(extra, dict):
        raise LineError("extra: is not a JSON object")
    unknown = {name: _finite(name, value) for name, value in row.items() if value is not None}
    return {**unknown, **extra, **raw, "expected": parsed["expected"], "replies": replies}


def _reply_of(row: dict[str, Any], rung: str) -> dict[str, Any] | None:
    flat = {name: row.pop(f"{rung}.{name}", None) for name in (*_NUMBERS, *_TOKENS)}
    texts = {name: row.pop(f"{rung}.{name}", None) for name in _REPLY_TEXTS}
    if all(value is None for value in (*flat.values(), *texts.values())):
        return None
    more: Any = _from_json(f"{rung}.more", texts["more"])
    reply: dict[str, Any] = {} if more is None else more
    if not isinstance(reply, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise LineError(f"{rung}.more: is not a JSON object")
    tokens = {name: _whole(flat.pop(name)) for name in _TOKENS}
    if known := _without_nulls(tokens):
        if not isinstance(usage := reply.get("usage", {}), dict):
            raise LineError(f"{rung}.more: its usage is not a JSON object")
        reply["usage"] = {**cast("dict[str, Any]", usage), **known}
    for name in ("answer", "samples"):
        if texts[name] is not None:
            reply[name] = _from_json(f"{rung}.{name}", texts[name])
    if texts["variant"] is not None:
        reply["variant"] = texts["variant"]
    return {**reply, **_without_nulls({name: _finite(f"{rung}.{name}", value) for name, value in flat.items()})}


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _finite(name: str, value: object) -> object:
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise LineError(f"{name}: is NaN or infinite", "write null for an absent value")
    return value


def _whole(value: object) -> object:
    """Tools without nullable integers write 12 as 12.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _from_json(name: str, text: object) -> Any:
    if text is None:
        return None
    try:
        return from_json(cast("str", text), allow_inf_nan=False)
    except (ValueError, TypeError):
        raise LineError(f"{name}: is not JSON", "text needs quotes there") from None


def write_rows(path: Path, manifest: Manifest, items: Iterable[Item], where: str) -> int:
    """Write items as rows, and return how many. Raises CorpusError for invalid values, OSError if writing fails."""
    pa = load_pyarrow()
    types = {name: pa.string() for name in (*_TEXTS, *_JSONS)} | {"at": pa.float64()}
    for rung in manifest.rungs:
        types |= {f"{rung}.{name}": pa.float64() for name in _NUMBERS}
        types |= {f"{rung}.{name}": pa.int64() for name in _TOKENS}
        types |= {f"{rung}.{name}": pa.string() for name in _REPLY_TEXTS}
    line = encode_line(raw_manifest(manifest), f"{where}:manifest", "")
    schema = pa.schema(types, metadata={MANIFEST_KEY: line.strip()})
    rest, count = iter(items), 0
    with pa.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while chunk := tuple(islice(rest, _ROW_GROUP)):
            rows = [_row_of(item, f"{where}:row {count + number}") for number, item in enumerate(chunk, 1)]
            count += len(chunk)
            try:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
            except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
                raise CorpusError(f"cannot be written as Parquet: {_first_line(error)}", where=where) from error
    return count


def _row_of(item: Item, where: str) -> dict[str, Any]:
    raw = raw_item(item)
    encode_line(raw, where, item.id)  # raises for what the JSON form refuses (NaN, unpaired surrogates)
    known = {name: raw.pop(name, None) for name in (*_TEXTS, "at", "expected", "replies")}
    row = {name: known[name] for name in (*_TEXTS, "at")}
    if not isinstance(known["input"], str):
        row |= {"input": None, "messages": _to_json(known["input"])}
    row["expected"] = None if known["expected"] is None else _to_json(known["expected"])
    row["extra"] = _to_json(raw) if raw else None
    for rung, reply in cast("dict[str, dict[str, Any]]", known["replies"]).items():
        row |= {f"{rung}.{name}": cell for name, cell in _cells_of(reply).items()}
    return row


def _cells_of(reply: dict[str, Any]) -> dict[str, Any]:
    cells = {name: reply.pop(name, None) for name in (*_NUMBERS, "variant")}
    for name in ("answer", "samples"):
        if name in reply:
            cells[name] = _to_json(reply.pop(name))
    usage = dict(reply.pop("usage", None) or {}) if (used := "usage" in reply) else {}
    for name in _TOKENS:
        if isinstance(tokens := usage.get(name), int) and abs(tokens) < 1 << 63:
            cells[name] = usage.pop(name)
    if usage or (used and not any(name in cells for name in _TOKENS)):
        reply["usage"] = usage
    if reply or all(cell is None for cell in cells.values()):
        cells["more"] = _to_json(reply)
    return cells


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
