"""Where importers read from: lines of JSON, a JSON document, a table (CSV, TSV, Parquet). All bounded, all typed errors."""

from __future__ import annotations

import csv
import json
import os
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final, cast

from pydantic_core import from_json

from cascade.core.errors import CorpusError
from cascade.corpora.decoding import LineError
from cascade.corpora.lines import MAX_LINE_BYTES, Lines, open_bytes

__all__ = ["MAX_DOCUMENT_BYTES", "json_array", "json_document", "json_lines", "parse_object", "refuse_pickle", "table"]

MAX_DOCUMENT_BYTES: Final = 256 * 1024 * 1024
"""A larger JSON document is refused: unlike lines it can only be read whole, at several times its size in memory."""

_BOM = b"\xef\xbb\xbf"
_PICKLES = (".pkl", ".pickle", ".p")


def refuse_pickle(path: str) -> None:
    """Raise CorpusError for a pickle, by its name alone: it is not opened, for loading one runs the code in it."""
    bare = path.removesuffix(".gz")
    if bare.endswith(_PICKLES):
        better = str(Path(bare).with_suffix(".parquet"))
        raise CorpusError(
            "is a pickle, which is never loaded here: loading one runs whatever code it holds",
            where=path,
            hint="if you trust who made it, convert it in a throw-away environment: "
            f'python -c "import pandas; pandas.read_pickle({path!r}).to_parquet({better!r})", and import that',
        )


def parse_object(text: bytes, where: str) -> dict[str, Any]:
    """A JSON object. Raises CorpusError where it is not one.

    NaN, Infinity and unpaired surrogates are read, for harnesses write them: what becomes of them is `joining`'s.
    """
    read = _parse(text, where)
    if not isinstance(read, dict):
        raise CorpusError("is not a JSON object", where=where)
    return cast("dict[str, Any]", read)


def json_lines(path: str) -> Generator[tuple[str, dict[str, Any]]]:
    """Each line's place and object; blank lines are passed over. Raises CorpusError.

    A file that is one JSON list, whatever its name, is read as the lines that its entries would be.
    """
    refuse_pickle(path)
    lines = Lines(path)
    try:
        while line := _read(lines):
            if line.lstrip().startswith(b"["):
                yield from _entries(path)
                return
            if not line.isspace():
                yield lines.where, parse_object(line, lines.where)
    finally:
        lines.close()


def _entries(path: str) -> Generator[tuple[str, dict[str, Any]]]:
    listed = _parse(_whole(path), path)
    for position, entry in enumerate(cast("list[object]", listed) if isinstance(listed, list) else [listed]):
        if not isinstance(entry, dict):
            raise CorpusError("is not a JSON object", where=f"{path}:[{position}]")
        yield f"{path}:[{position}]", cast("dict[str, Any]", entry)


def json_document(path: str) -> dict[str, Any]:
    """The object that a file holds. Raises CorpusError, also for one that is larger than MAX_DOCUMENT_BYTES."""
    return parse_object(_whole(path), path)


def json_array(path: str) -> list[Any]:
    """The array that a file holds. Raises CorpusError, as `json_document` does."""
    read = _parse(_whole(path).removeprefix(_BOM), path)
    if not isinstance(read, list):
        raise CorpusError("is not a JSON array", where=path)
    return cast("list[Any]", read)


def _whole(path: str) -> bytes:
    refuse_pickle(path)
    with open_bytes(path) as file:
        try:
            text = file.read(MAX_DOCUMENT_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise CorpusError(f"cannot be read: {error}", where=path, hint="is the file whole?") from error
    if len(text) > MAX_DOCUMENT_BYTES:
        hint = "export it as lines or in parts"
        raise CorpusError(f"is larger than {MAX_DOCUMENT_BYTES} bytes", where=path, hint=hint)
    return text


def table(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row's place and cells by column, of `.csv`, `.tsv` (both also `.gz`) or `.parquet`. Raises CorpusError.

    A cell of a CSV is a text, a missing one is empty; a row with more or fewer cells than the header is an error.
    """
    refuse_pickle(path)
    return _parquet(path) if path.endswith(".parquet") else _separated(path)


def _separated(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    lines = Lines(path)
    csv.field_size_limit(MAX_LINE_BYTES)  # the module's own bound, 128 kB, is less than a long prompt
    texts = _texts(lines)
    reader = csv.reader(
        texts, delimiter="\t" if path.lower().removesuffix(".gz").endswith(".tsv") else ",", strict=True
    )
    try:
        header = next(reader, list[str]())
        if len(named := [name for name in header if name]) != len(set(named)):
            raise CorpusError("two columns have one name", where=lines.where, hint="rename one of them")
        if not named:
            raise CorpusError("has no header", where=lines.where, hint="its first line names the columns")
        start = lines.number + 1
        for cells in reader:
            where, start = f"{path}:{start}", lines.number + 1
            if len(cells) != len(header):
                raise CorpusError(f"has {len(cells)} cells, the header has {len(header)}", where=where)
            yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise CorpusError(f"is not CSV: {error}", where=lines.where, hint="is a quote left open?") from None
    finally:
        lines.close()


def _texts(lines: Lines) -> Iterator[str]:
    while line := _read(lines):
        try:
            yield line.decode("utf-8", "surrogatepass").removeprefix("\ufeff" if lines.number == 1 else "")
        except UnicodeDecodeError:
            raise CorpusError("is not UTF-8", where=lines.where, hint="export it as UTF-8") from None


def _parquet(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    from cascade.corpora.parquet import open_table, table_rows  # noqa: PLC0415 - only who has such a file needs it

    opened = open_table(path)
    number = 0
    try:
        for number, row in enumerate(table_rows(opened), 1):
            yield f"{path}:row {number}", row
    except LineError as error:
        raise CorpusError(error.problem, where=f"{path}:row {number + 1}", hint=error.hint) from error
    finally:
        opened.close()


def _read(lines: Lines) -> bytes:
    try:
        return lines.read()
    except LineError as error:
        raise CorpusError(error.problem, where=lines.where, hint=error.hint) from error


def _parse(text: bytes, where: str) -> object:
    try:
        return from_json(text)
    except ValueError as error:
        try:
            return json.loads(text.decode("utf-8", "surrogatepass"))  # slower, and it takes unpaired surrogates
        except (ValueError, RecursionError):
            raise CorpusError(f"is not JSON: {os.fspath(str(error))[:120]}", where=where) from None
