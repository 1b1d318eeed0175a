"""`ledger export --parquet`: a folder of Parquet that DuckDB, Polars and Spark read as tables partitioned by month.

    FOLDER/steps/month=2026-11/part-0000.parquet        likewise requests, outcomes and opens (`exporting_tables`)

An entry is in the month (UTC) of its own time, as in the sums: a request's outcome may be in the month after. A month is written
whole, so exporting again replaces its files and doubles nothing. Months that the ledger has no entry of are left alone, and so are those
that `ledger prune` has dropped, whatever stayed of them. Files are written in a hidden folder, and moved to their places when all are
whole: who reads meanwhile, or after a kill, finds whole files.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cascade.core.errors import LedgerError, MissingExtra
from cascade.disk import sync_file, sync_folder, try_lock
from cascade.ledger.exporting_tables import (
    TABLES,
    Shared,
    Table,
    open_row,
    outcome_row,
    request_row,
    shared_of,
    step_row,
)
from cascade.ledger.records import Entry, OpenBody, OutcomeBody, RequestBody, StepBody
from cascade.ledger.stores import Reader
from cascade.ledger.utc_months import moment_text, month_name, month_of, next_month

__all__ = ["EARLIER_S", "MonthsWritten", "export_months"]

EARLIER_S = 7 * 86_400.0
"""A request is looked for so long before the first month: a batch's may be days older than its last step."""

_PART = "part-0000.parquet"
_UNFINISHED = ".unfinished"
_METADATA = b"cascade.ledger"
_ROWS = 1_000  # as Python's values, of one file
_ROWS_WITH_TEXTS = 100
_GROUP_ROWS = 65_536
_GROUP_BYTES = 32_000_000
_ALL_BYTES = 96_000_000  # of all files that wait to be written
_FORGET_EVERY = 100_000  # entries


@dataclass(frozen=True, slots=True)
class MonthsWritten:
    """What was written. `rows`: by table; `months`: oldest first; `unplaced`: rows whose request was not found, see `EARLIER_S`.

    `left`: months that `ledger prune` has dropped since they were exported: their files are as they were.
    """

    rows: Mapping[str, int]
    months: Sequence[str]
    unplaced: int
    left: Sequence[str]


def export_months(
    reader: Reader,
    folder: Path,
    since: float | None = None,
    until: float | None = None,
    *,
    content: bool = False,
    force: bool = False,
) -> MonthsWritten:
    """Write the months that contain [since, until), each whole. Read in a snapshot (`Reader.snapshot`).

    `content`: with prompts and answers, where they are stored. Not `force`: files of another ledger are not replaced. Raises
    LedgerError, and MissingExtra if pyarrow is not installed.
    """
    _arrow()
    first = None if since is None else month_of(since)
    last = None if until is None else next_month(month_of(math.ceil(until) - 1))
    with _staged(folder) as staging, closing(_Files(reader, staging, content=content)) as files:
        for table, month, row in _rows(reader, first, last):
            files.add(table, month, row)
        places = files.finish()
        left = _pruned(reader, folder, places)
        for place in left:
            del places[place]
        if not force:
            _refuse_others(folder, places, files.ledger)
        for place, staged in places.items():
            (folder / place).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            staged.replace(folder / place)
            sync_folder((folder / place).parent)
    written = {(place.parts[0], _month_in(place)) for place in places}
    rows = {
        table.name: sum(count for name, count in files.counts.items() if name in written and name[0] == table.name)
        for table in TABLES.values()
    }
    return MonthsWritten(
        rows, sorted({month for _, month in written}), files.unplaced, sorted(set(map(_month_in, left)))
    )


def _month_in(place: Path) -> str:
    return place.parts[1].removeprefix("month=")


def _pruned(reader: Reader, folder: Path, places: Mapping[Path, Path]) -> Sequence[Path]:
    """The places of months of which entries are gone, and that are exported already."""
    ends = max((anchor.ends for anchor in reader.anchors().values()), default=None)
    if ends is None:
        return ()
    return [place for place in places if _month_in(place) < moment_text(ends, "%Y-%m") and (folder / place).exists()]


_READ: Mapping[str, tuple[Callable[[bytes], Any], Callable[[Entry, Any, Shared], Sequence[Any]]]] = {
    "request": (msgspec.json.Decoder(RequestBody).decode, request_row),
    "open": (msgspec.json.Decoder(OpenBody).decode, open_row),
    "step": (msgspec.json.Decoder(StepBody).decode, step_row),
    "outcome": (msgspec.json.Decoder(OutcomeBody).decode, outcome_row),
}
_NOT_FOUND: Shared = (None,) * 6


def _rows(reader: Reader, first: float | None, last: float | None) -> Iterator[tuple[Table, str, Sequence[Any]]]:
    """Each entry of the period as (its table, its month, its row)."""
    begun: dict[str, tuple[float, Shared]] = {}
    for number, entry in enumerate(reader.entries(since=None if first is None else first - EARLIER_S, until=last), 1):
        decode, row_of = _READ[entry.kind]
        try:
            body = decode(entry.body)
        except msgspec.MsgspecError:
            message = f"seq {entry.seq} of {entry.writer} cannot be read (`cascade ledger verify` explains)"
            raise LedgerError(f"{reader.where}: {message}") from None
        if isinstance(body, RequestBody):
            shared = shared_of(body)
            begun[entry.request] = entry.at, shared
        else:
            _, shared = begun.get(entry.request, (0.0, _NOT_FOUND))
            if entry.kind == "outcome":
                begun.pop(entry.request, None)
        if number % _FORGET_EVERY == 0:  # what never ended
            begun = {name: one for name, one in begun.items() if one[0] >= entry.at - EARLIER_S}
        if first is None or entry.at >= first:
            try:
                month = month_name(entry.at)
            except ValueError:
                message = f"seq {entry.seq} of {entry.writer} has a time that no calendar has, {entry.at:g} s"
                raise LedgerError(f"{reader.where}: {message} (export a period without it: --since, --until)") from None
            yield TABLES[entry.kind], month, row_of(entry, body, shared)


class _Files:
    """The months' files while they are written. `counts`: rows by (table's name, month)."""

    def __init__(self, reader: Reader, staging: Path, *, content: bool) -> None:
        self.ledger = next(
            iter(reader.writers()), ""
        )  # the first writer's name: the same wherever the ledger is moved to
        self.counts: dict[tuple[str, str], int] = {}
        self.unplaced = 0
        self._reader, self._staging, self._content = reader, staging, content
        self._open: dict[tuple[str, str], _File] = {}
        self._arrow = _arrow()

    def add(self, table: Table, month: str, row: Sequence[Any]) -> None:
        """Add a row to its file."""
        name = table.name, month
        file = self._open.get(name)
        if file is None:
            place = self._staging / f"{table.name}-{month}"
            texts = self._reader if self._content and table.content is not None else None
            stamp = msgspec.json.encode({"version": 1, "ledger": self.ledger, "table": table.name, "month": month})
            file = self._open[name] = _File(self._arrow, table, place, stamp, texts)
        self.counts[name] = self.counts.get(name, 0) + 1
        self.unplaced += row[4] is None
        if file.add(row) and sum(one.waiting for one in self._open.values()) >= _ALL_BYTES:
            for one in self._open.values():
                one.write()

    def finish(self) -> dict[Path, Path]:
        """Complete the files; returns where they are, by where in the folder they belong."""
        for file in self._open.values():
            file.finish()
        return {Path(name) / f"month={month}" / _PART: file.path for (name, month), file in self._open.items()}

    def close(self) -> None:
        """Close the files, complete or not."""
        for file in self._open.values():
            file.close()


class _File:
    """One month of a table. `waiting`: bytes that are not written yet."""

    def __init__(self, arrow: Any, table: Table, path: Path, stamp: bytes, texts: Reader | None) -> None:
        self.path, self.waiting = path, 0
        self._arrow, self._table, self._texts = arrow, table, texts
        self._rows: list[Sequence[Any]] = []
        self._batches: list[Any] = []
        self._batched = 0
        types = {
            "text": arrow.string(), "integer": arrow.int64(), "real": arrow.float64(), "flag": arrow.bool_(),
            "time": arrow.timestamp("us", "UTC"), "texts": arrow.list_(arrow.string()), "usd": arrow.decimal128(18, 9),
        }  # fmt: skip
        columns = {name: types[kind] for name, kind in table.columns.items()}
        if texts is not None and table.content is not None:
            columns[table.content] = arrow.string()
        self._schema = arrow.schema(columns).with_metadata({_METADATA: stamp})
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._writer = arrow.parquet.ParquetWriter(self._file, self._schema, compression="zstd")

    def add(self, row: Sequence[Any]) -> bool:
        """Add a row; True if more waits now as columns."""
        self._rows.append(row)
        if len(self._rows) < (_ROWS if self._texts is None else _ROWS_WITH_TEXTS):
            return False
        self._batch()
        if self._batched >= _GROUP_ROWS or self.waiting >= _GROUP_BYTES:
            self.write()
        return True

    def _batch(self) -> None:
        """Turn the rows into columns."""
        arrow, given = self._arrow, iter(zip(*self._rows, strict=True))
        arrays: dict[str, Any] = {}
        for name, kind in self._table.columns.items():
            if kind == "usd":
                arrays[name] = _usd(arrow, arrays[name.removesuffix("_usd")])
                continue
            try:
                arrays[name] = arrow.array(next(given), self._schema.field(name).type)
            except (OverflowError, ValueError):  # changed: nothing that is written has more than 64 bits
                raise LedgerError(
                    f"{self.path.name}: {name} has a number of more than 64 bits (`cascade ledger verify` explains)"
                ) from None
        if self._texts is not None and self._table.content is not None:
            arrays[self._table.content] = arrow.array(self._contents(self._texts), arrow.string())
        batch = arrow.RecordBatch.from_arrays(list(arrays.values()), schema=self._schema)
        self._batches.append(batch)
        self._batched, self.waiting = self._batched + len(self._rows), self.waiting + batch.nbytes
        self._rows.clear()

    def _contents(self, texts: Reader) -> list[str | None]:
        """The stored text of each row: the prompt, or the call's answer."""
        found = {(one.request, one.part): one.text for one in texts.contents(sorted({row[0] for row in self._rows}))}
        if self._table.content == "prompt":
            return [found.get((row[0], "prompt")) for row in self._rows]
        return [found.get((row[0], _part_of(self._table, row))) for row in self._rows]

    def write(self) -> None:
        """Write what waits as one row group."""
        if self._batches:
            self._writer.write_table(
                self._arrow.Table.from_batches(self._batches, self._schema), row_group_size=_GROUP_ROWS * 2
            )
            self._batches.clear()
            self._batched = self.waiting = 0

    def finish(self) -> None:
        """Write the rest; the file is whole, and on the disk."""
        if self._rows:
            self._batch()
        self.write()
        self._writer.close()
        self._file.close()
        sync_file(self.path)

    def close(self) -> None:
        """Close it, complete or not."""
        with suppress(OSError, ValueError):  # its end cannot be written; it is removed
            self._writer.close()
        with suppress(OSError):
            self._file.close()


def _part_of(table: Table, row: Sequence[Any]) -> str:
    """The name of a step's text."""
    places = {name: place for place, name in enumerate(one for one, kind in table.columns.items() if kind != "usd")}
    body = StepBody(
        row[places["step"]], "", "", "", 0, call=row[places["call"]], sample=row[places["sample"]],
        judge=row[places["judge"]], review=row[places["review"]], auxiliary=row[places["auxiliary"]],
    )  # fmt: skip
    return body.part


def _usd(arrow: Any, nano: Any) -> Any:
    """Whole nano-USD as decimals with nine places: the same digits, read otherwise."""
    digits = nano.cast(arrow.decimal128(19, 0))
    return arrow.Array.from_buffers(arrow.decimal128(18, 9), len(digits), digits.buffers(), digits.null_count)


def _arrow() -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]
        import pyarrow.parquet  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs, reportUnusedImport]
    except ImportError:
        raise MissingExtra("Parquet", "parquet") from None
    return pa


@contextmanager
def _staged(folder: Path) -> Generator[Path]:
    """An empty hidden folder in this one, for this process alone; removed at the end."""
    staging = folder / _UNFINISHED
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            if not try_lock(descriptor):
                raise LedgerError(f"{folder}: another export writes to it (let it end, or name another folder)")
            if staging.exists():  # of one that was killed
                shutil.rmtree(staging)
            staging.mkdir(mode=0o700)
            try:
                yield staging
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        finally:
            os.close(descriptor)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise LedgerError(f"{folder}: cannot be written: {reason} (check the path and the disk)") from None


def _refuse_others(folder: Path, places: Mapping[Path, Path], ledger: str) -> None:
    """Raise LedgerError if a file that would be replaced is not of this ledger."""
    arrow = _arrow()
    for place in places:
        path = folder / place
        if not path.exists():
            continue
        try:
            metadata: dict[bytes, bytes] = arrow.parquet.read_schema(path).metadata or {}
            stamp = msgspec.json.decode(metadata.get(_METADATA, b"{}"), type=dict[str, Any])
        except (arrow.ArrowException, OSError, msgspec.MsgspecError):
            stamp = {}
        if stamp.get("ledger") != ledger:
            raise LedgerError(f"{path}: is not of this ledger (name another folder, or --force to replace it)")
