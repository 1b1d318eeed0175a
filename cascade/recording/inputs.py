"""What is to be recorded: items without replies, from JSON lines, from another corpus, or from plain lines of text.

Everything is checked here, before a call is paid: what is wrong is one `CorpusError` with the line and the item.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from msgspec.json import encode as to_json
from msgspec.structs import replace

from cascade.core.errors import CorpusError, RequestError
from cascade.core.triage import check_request
from cascade.corpora.decoding import Flaw, decode_item, name_item, parse
from cascade.corpora.items import Item, Manifest
from cascade.corpora.reading import MAX_LINE_BYTES, read_corpus
from cascade.recording.noise_floor import AGAIN_KEY
from cascade.replay.driver import request_of

__all__ = ["Inputs", "read_inputs"]

_WANTED = 'an item is {"id": "…", "input": "…" or messages} and, if wanted, system, task, group, expected, split, at'
_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_BOM = b"\xef\xbb\xbf"
_NOT_KEPT = frozenset(
    {"replies", "baseline", AGAIN_KEY, "line", "extra"}
)  # what another recording said, and what is no key


@dataclass(frozen=True, slots=True)
class Inputs:
    """The items to ask, in their order, none of them with a reply; and the manifest they came with, if any."""

    items: tuple[Item, ...]
    manifest: Manifest | None = None

    @property
    def hash(self) -> str:
        """SHA-256 over every item's id, input and system prompt, in order: what must stay as it was for a resumption."""
        digest = hashlib.sha256()
        for item in self.items:
            system = (item.extra or {}).get("system")
            asked = [item.id, item.input] if system is None else [item.id, item.input, system]
            digest.update(json.dumps(asked, ensure_ascii=False, sort_keys=True).encode())
        return digest.hexdigest()


def read_inputs(path: str | os.PathLike[str], *, max_line_bytes: int = MAX_LINE_BYTES) -> Inputs:
    """Read what is to be recorded; a first line with `{` means JSON lines, one with a `corpus` key a corpus.

    In plain text every line that is not blank is an input of its own, with the id `line-N`. Raises CorpusError for what
    cannot be read or asked: no input, an id that is missing or occurs twice, a prefill, an empty prompt; and for a
    table or JSON that is not one object a line, whose lines are no inputs.
    """
    source = os.fspath(path)
    if source.lower().endswith(_TABLES):
        mend = 'make JSON lines of it: {"id": "…", "input": "…"}'
        raise CorpusError("it is a table, its lines are no inputs", where=source, mend=mend)
    lines = _lines(Path(path), max_line_bytes)
    number, first = next(lines, (0, b""))
    bare = first.removeprefix(_BOM).strip()
    if bare.startswith(b"[") or bare == b"{":
        mend = 'give one JSON object a line: {"id": "…", "input": "…"}'
        raise CorpusError("it is JSON, but not one object a line", where=f"{source}:{number}", mend=mend)
    if not first:
        raise CorpusError("there is no input in it", where=source, mend="give one JSON object or one text a line")
    manifest = None
    if _is_manifest(first):
        lines.close()
        corpus = read_corpus(path, max_line_bytes=max_line_bytes)
        manifest = corpus.manifest
        items = tuple(replace(item, replies={}, extra=_kept(item.extra or {})) for item in corpus.items)
    else:
        as_json = bare.startswith(b"{") or ".jsonl" in Path(path).suffixes
        read = _json_item if as_json else _text_item
        items = (read(first, number, source), *(read(line, at, source) for at, line in lines))
    if not items:
        raise CorpusError("there is no input in it", where=source, mend="give one JSON object or one text a line")
    _check(items, source)
    return Inputs(items, manifest)


def _lines(path: Path, limit: int) -> Generator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers."""
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
                    raise CorpusError(f"the line is longer than {limit} bytes", where=where, mend="shorten the item")
                if not line.isspace():
                    yield number, line
        except (OSError, EOFError, zlib.error) as error:
            where = f"{path}:{number + 1}" if number else f"{path}"
            what = getattr(error, "strerror", None) or error
            raise CorpusError(f"cannot be read: {what}", where=where, mend="check the path and the file") from error


def _is_manifest(line: bytes) -> bool:
    try:
        raw = parse(line)
    except Flaw:
        return False
    return "corpus" in raw and "input" not in raw


def _json_item(line: bytes, number: int, source: str) -> Item:
    where, name = f"{source}:{number}", ""
    try:
        raw = parse(line)
        name = name_item(line)
        known = {key: value for key, value in raw.items() if key not in _NOT_KEPT}
        return replace(decode_item(to_json({**known, "replies": {}}), frozenset()), line=number)
    except Flaw as flaw:
        mend = "" if "--skip-bad" in flaw.mend else flaw.mend  # nothing is passed over here: it would not be asked
        raise CorpusError(flaw.problem, where=where, item=name, mend=mend or _WANTED) from None


def _kept(further: dict[str, Any]) -> dict[str, Any] | None:
    return {key: value for key, value in further.items() if key not in _NOT_KEPT} or None


def _text_item(line: bytes, number: int, source: str) -> Item:
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise CorpusError("the line is not UTF-8 text", where=f"{source}:{number}", mend="save it as UTF-8") from None
    return Item(f"line-{number}", text, {}, line=number)


def _check(items: tuple[Item, ...], source: str) -> None:
    seen: dict[str, int] = {}
    for item in items:
        where = f"{source}:{item.line}"
        if (first := seen.setdefault(item.id, item.line)) != item.line:
            problem = f"the id occurs twice, first on line {first}"
            raise CorpusError(problem, where=where, item=item.id, mend="give each item an id of its own")
        try:
            check_request(request_of(item))
        except RequestError as problem:
            raise CorpusError(f"it cannot be asked: {problem}", where=where, item=item.id) from None
