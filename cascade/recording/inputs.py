"""Read the inputs of a recording: items without replies, from a table, JSON, another corpus, or lines of text.

All inputs are checked here, before any paid call. A problem is a `CorpusError` that names the line and the item.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from msgspec.json import encode as to_json
from msgspec.structs import replace

from cascade.core.errors import ConfigurationError, CorpusError, RequestError
from cascade.core.triage import check_request
from cascade.corpora.decoding import LineError, decode_item, name_item, parse
from cascade.corpora.items import Item, Manifest
from cascade.corpora.reading import MAX_LINE_BYTES, read_corpus
from cascade.importing.csv_map import read_items
from cascade.importing.rows import Row
from cascade.importing.sources import json_array, table
from cascade.recording.noise_floor import BASELINE_AGAIN_KEY
from cascade.replay.driver import request_of

__all__ = ["Inputs", "input_lines", "is_manifest", "read_inputs"]

_ITEM_HINT = 'an item is {"id": "…", "input": "…" or messages} and, if wanted, system, task, group, expected, split, at'
_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_EMPTY_HINT = "give a table with a header, one JSON object or one text a line"
_BOM = b"\xef\xbb\xbf"
# Results of another recording, and fields of `Item` that are not keys of the format.
_DROPPED_KEYS = frozenset({"replies", "baseline", BASELINE_AGAIN_KEY, "line", "extra"})


@dataclass(frozen=True, slots=True)
class Inputs:
    """The items in order, without replies, and the manifest of the corpus they came from, if any.

    `unused`: the table's columns that were not read.
    """

    items: tuple[Item, ...]
    manifest: Manifest | None = None
    unused: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """SHA-256 of every item's id, input and system prompt, in order. A recording resumes only with the same hash."""
        digest = hashlib.sha256()
        for item in self.items:
            system = (item.extra or {}).get("system")
            request = [item.id, item.input] if system is None else [item.id, item.input, system]
            digest.update(json.dumps(request, ensure_ascii=False, sort_keys=True).encode())
        return digest.hexdigest()


def read_inputs(
    path: str | os.PathLike[str],
    *,
    maps: tuple[tuple[str, str], ...] = (),
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Inputs:
    """Read a table (named .csv or .tsv), a corpus (known by its first line), JSON lines, a JSON array, or lines of text.

    `maps`: pairs of an item's field and the column or JSON key that holds it. In a plain text every non-blank line is an
    input with the id `line-N`; a table's row without an id is `row-N`. Raises CorpusError if the file cannot be read, has
    no input, is JSON of another shape, or has an item that cannot be asked: without an id or with a repeated one, with a
    prefill or an empty prompt. Raises ConfigurationError for invalid maps.
    """
    source = os.fspath(path)
    if source.lower().endswith(_TABLES):
        return _mapped(table(source), maps, source)
    lines = input_lines(Path(path), max_line_bytes)
    number, first = next(lines, (0, b""))
    start = first.removeprefix(_BOM).strip()
    if start.startswith(b"["):
        lines.close()
        return _array(source, maps)
    if start == b"{":
        hint = 'give one JSON object a line: {"id": "…", "input": "…", "expected": "…"}'
        raise CorpusError("is JSON, but not one object a line", where=f"{source}:{number}", hint=hint)
    if not first:
        raise CorpusError("has no input", where=source, hint=_EMPTY_HINT)
    manifest = None
    as_json = start.startswith(b"{") or ".jsonl" in Path(path).suffixes
    if is_manifest(first):
        lines.close()
        _refuse_maps(maps, "a corpus has the fields already")
        corpus = read_corpus(path, max_line_bytes=max_line_bytes)
        manifest = corpus.manifest
        items = tuple(replace(item, replies={}, extra=_without_dropped(item.extra or {})) for item in corpus.items)
    elif as_json and maps:
        objects = ((f"{source}:{at}", _object(line, f"{source}:{at}")) for at, line in chain([(number, first)], lines))
        return _mapped(objects, maps, source)
    else:
        if not as_json:
            _refuse_maps(maps, "plain lines of text have no columns; a table's name ends in .csv or .tsv")
        read = _json_item if as_json else _text_item
        items = (read(first, number, source), *(read(line, at, source) for at, line in lines))
    return _checked(items, source, manifest)


def _checked(
    items: tuple[Item, ...], source: str, manifest: Manifest | None = None, unused: tuple[str, ...] = ()
) -> Inputs:
    if not items:
        raise CorpusError("has no input", where=source, hint=_EMPTY_HINT)
    _check(items, source)
    return Inputs(items, manifest, unused)


def _mapped(rows: Iterator[tuple[str, dict[str, Any]]], maps: tuple[tuple[str, str], ...], source: str) -> Inputs:
    """Rows as items, with columns mapped to fields."""
    read = list(read_items(rows, maps))
    return _checked(tuple(map(_row_item, read)), source, unused=read[0].unmapped if read else ())


def _row_item(row: Row) -> Item:
    try:
        item = decode_item(to_json({**row.fields, "id": row.id, "replies": {}}), frozenset())
    except LineError as error:
        raise _error(error, row.where, row.id) from None
    return replace(item, line=int("".join(filter(str.isdecimal, row.where.rpartition(":")[2])) or 0))


def _array(source: str, maps: tuple[tuple[str, str], ...]) -> Inputs:
    """A JSON array of objects or of texts."""
    values = json_array(source)
    if all(isinstance(value, str) for value in values):
        values = [{"input": value} for value in values]
    if not all(isinstance(value, dict) for value in values):
        hint = 'give [{"id": "…", "input": "…", "expected": "…"}, …], or one object a line'
        raise CorpusError("is JSON, but not an array of objects", where=source, hint=hint)
    objects = cast("list[dict[str, Any]]", values)
    if maps or not all("id" in one for one in objects):
        return _mapped(((f"{source}:{at}", one) for at, one in enumerate(objects, 1)), maps, source)
    return _checked(tuple(_json_item(to_json(one), at, source) for at, one in enumerate(objects, 1)), source)


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        return parse(line)
    except LineError as error:
        raise _error(error, where) from None


def _error(error: LineError, where: str, item: str = "") -> CorpusError:
    hint = "" if "--skip-bad" in error.hint else error.hint  # `record` has no such option
    return CorpusError(error.problem, where=where, item=item, hint=hint or _ITEM_HINT)


def _refuse_maps(maps: tuple[tuple[str, str], ...], why: str) -> None:
    if maps:
        raise ConfigurationError(f"--map {'='.join(maps[0])}: {why}")


def input_lines(path: Path, limit: int) -> Generator[tuple[int, bytes]]:
    """The non-blank lines with their numbers. Raises CorpusError for a file that cannot be read, or a line longer than `limit` bytes."""
    number = 0
    with ExitStack() as stack:
        try:
            file: BinaryIO = stack.enter_context(path.open("rb"))
            if path.suffix == ".gz":
                file = cast("BinaryIO", stack.enter_context(gzip.GzipFile(fileobj=file)))
            while line := file.readline(limit + 1):
                number += 1
                if len(line) > limit:
                    where = f"{path}:{number}"
                    raise CorpusError(f"is longer than {limit} bytes", where=where, hint="shorten the item")
                if not line.isspace():
                    yield number, line
        except (OSError, EOFError, zlib.error) as error:
            where = f"{path}:{number + 1}" if number else f"{path}"
            reason = getattr(error, "strerror", None) or error
            raise CorpusError(f"cannot be read: {reason}", where=where, hint="check the path and the file") from error


def is_manifest(line: bytes) -> bool:
    """Whether it is the first line of a corpus."""
    try:
        raw = parse(line)
    except LineError:
        return False
    return "corpus" in raw and "input" not in raw


def _json_item(line: bytes, number: int, source: str) -> Item:
    where, name = f"{source}:{number}", ""
    try:
        raw = parse(line)
        name = name_item(line)
        known = {key: value for key, value in raw.items() if key not in _DROPPED_KEYS}
        return replace(decode_item(to_json({**known, "replies": {}}), frozenset()), line=number)
    except LineError as error:
        raise _error(error, where, name) from None


def _without_dropped(extra: dict[str, Any]) -> dict[str, Any] | None:
    return {key: value for key, value in extra.items() if key not in _DROPPED_KEYS} or None


def _text_item(line: bytes, number: int, source: str) -> Item:
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise CorpusError("is not UTF-8", where=f"{source}:{number}", hint="save it as UTF-8") from None
    return Item(f"line-{number}", text, {}, line=number)


def _check(items: tuple[Item, ...], source: str) -> None:
    seen: dict[str, int] = {}
    for item in items:
        where = f"{source}:{item.line}"
        if (first := seen.setdefault(item.id, item.line)) != item.line:
            problem = f"the id occurs twice, first on line {first}"
            raise CorpusError(problem, where=where, item=item.id, hint="give each item an id of its own")
        try:
            check_request(request_of(item))
        except RequestError as problem:
            raise CorpusError(f"it cannot be asked: {problem}", where=where, item=item.id) from None
