"""Read a corpus (version 1; the README shows the format): JSON lines, plain or gzip; the first is the manifest, each of the others is one item.

A corpus comes from elsewhere, so nothing of it is taken on trust: lines are bounded (a decompression bomb never
grows in memory), every field is checked, and what is wrong is one `CorpusError` that names the file, the line and the
item, and quotes nothing of what users wrote.

A line is decoded and checked in one go by pydantic's core. Only a line that this refuses is looked at again, slowly:
to keep the keys that this version does not know, or to say what is wrong.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn, Self, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from cascade.core.errors import CorpusError
from cascade.corpora.items import Corpus, Item, LadderEntry, Manifest, RecordedReply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["MAX_LINE_BYTES", "CorpusReader", "open_corpus", "read_corpus"]

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""A longer line is refused: a conversation of a million tokens is some 4 MB, so this leaves room and bounds memory."""

_BLOCK = 1 << 18
_ITEM = TypeAdapter(Item).validator
_MANIFEST = TypeAdapter(Manifest).validator
_OURS = {"extra", "line"}  # fields of the values that are not keys of the format
_ITEM_KEYS = frozenset(field.name for field in dataclasses.fields(Item)) - _OURS
_REPLY_KEYS = frozenset(field.name for field in dataclasses.fields(RecordedReply)) - _OURS
_RUNG_KEYS = frozenset(field.name for field in dataclasses.fields(LadderEntry)) - _OURS
_MANIFEST_KEYS = frozenset(field.name for field in dataclasses.fields(Manifest)) - _OURS - {"name"}


class _Flaw(Exception):
    """What is wrong with a line, and how to mend it."""

    def __init__(self, problem: str, mend: str = "") -> None:
        super().__init__(problem)
        self.problem, self.mend = problem, mend


class CorpusReader:
    """An open corpus: `manifest` at once, the items by iterating, once. A context manager; made by `open_corpus`."""

    def __init__(self, path: str | os.PathLike[str], max_line_bytes: int) -> None:
        self.source = os.fspath(path)
        self._limit = max_line_bytes
        self._line = 0
        self._file = self._open(Path(path))
        try:
            self.manifest = self._read_manifest()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        self._file.close()

    def __iter__(self) -> Iterator[Item]:
        rungs = frozenset(self.manifest.rungs)
        seen = 0
        while line := self._read_line():
            try:
                item = _decode_item(line, rungs)
            except _Flaw as flaw:
                self._refuse(flaw, item=_name_item(line))
            object.__setattr__(item, "line", self._line)  # still being made: nobody else has seen it
            seen += 1
            yield item
        if self.manifest.items not in (None, seen):
            said = self.manifest.items
            self._refuse(_Flaw(f"the file ends after {seen} items, its manifest says {said}", "is it cut short?"))

    def _open(self, path: Path) -> BinaryIO:
        try:
            raw = path.open("rb")
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
            raise CorpusError(problem, where=self.source, mend="check the path") from error
        return _Unzipped(raw) if path.suffix == ".gz" else raw

    def _read_line(self) -> bytes:
        self._line += 1
        try:
            line = self._file.readline(self._limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            self._refuse(_Flaw(f"cannot be read further: {error}", "is the file whole, and truly gzip?"), cause=error)
        if len(line) > self._limit:
            self._refuse(_Flaw(f"the line is longer than {self._limit} bytes", "split or shorten the item"))
        return line

    def _read_manifest(self) -> Manifest:
        line = self._read_line()
        try:
            return _decode_manifest(_parse(line))
        except _Flaw as flaw:
            self._refuse(flaw)

    def _refuse(self, flaw: _Flaw, *, item: str = "", cause: BaseException | None = None) -> NoReturn:
        where = f"{self.source}:{self._line}"
        raise CorpusError(flaw.problem, where=where, item=item, mend=flaw.mend) from cause


class _Unzipped(io.BufferedReader):
    """A gzip file with a large buffer over it, for GzipFile's own `readline` is slow; closes the file below too."""

    def __init__(self, raw: BinaryIO) -> None:
        self._below = raw
        super().__init__(cast("io.RawIOBase", gzip.GzipFile(fileobj=raw)), _BLOCK)

    def close(self) -> None:
        super().close()
        self._below.close()


def open_corpus(path: str | os.PathLike[str], *, max_line_bytes: int = MAX_LINE_BYTES) -> CorpusReader:
    """Open a corpus (`.jsonl` or `.jsonl.gz`) for streaming. Memory is bounded by the longest line.

    Raises CorpusError where it, or while iterating a line of it, cannot be read.
    """
    return CorpusReader(path, max_line_bytes)


def read_corpus(path: str | os.PathLike[str], *, max_line_bytes: int = MAX_LINE_BYTES) -> Corpus:
    """Read a whole corpus into memory. Raises CorpusError; unlike streaming, also for an id that occurs twice."""
    with open_corpus(path, max_line_bytes=max_line_bytes) as reader:
        items: dict[str, Item] = {}
        for item in reader:
            if (first := items.setdefault(item.id, item)) is not item:
                where = f"{reader.source}:{item.line}"
                problem = f"the id occurs twice, first on line {first.line}"
                raise CorpusError(problem, where=where, item=item.id, mend="give each item an id of its own")
        return Corpus(reader.manifest, tuple(items.values()), reader.source)


def _decode_manifest(raw: dict[str, Any]) -> Manifest:
    if "corpus" not in raw:
        raise _Flaw("line 1 is not a manifest, it has no 'corpus'", "see the corpus format")
    version = raw.get("version")
    if type(version) is not int or version != 1:
        raise _Flaw("its corpus version is not supported", 'this release reads "version": 1')
    known, extra = _part(raw, _MANIFEST_KEYS)
    known["name"] = extra.pop("corpus")
    del extra["version"]
    if isinstance(ladder := known.get("ladder"), list):
        known["ladder"] = [_part_within(rung, _RUNG_KEYS) for rung in cast("list[object]", ladder)]
    manifest: Manifest = _build(_MANIFEST, {**known, "extra": extra or None})
    if len(set(manifest.rungs)) != len(manifest.ladder):
        raise _Flaw("the ladder names a rung twice", "give each rung a name of its own")
    return manifest


def _decode_item(line: bytes, rungs: frozenset[str]) -> Item:
    try:
        item: Item = _ITEM.validate_json(line)
    except ValidationError:
        item = _decode_slowly(_parse(line))
    if item.replies.keys() <= rungs:
        return item
    strangers = ", ".join(repr(rung[:80]) for rung in item.replies if rung not in rungs)
    raise _Flaw(f"has a reply of {strangers}, not on the ladder", f"the ladder has {', '.join(sorted(rungs))}")


def _decode_slowly(raw: dict[str, Any]) -> Item:
    known, extra = _part(raw, _ITEM_KEYS)
    if isinstance(replies := known.get("replies"), dict):
        by_rung = cast("dict[str, object]", replies)
        known["replies"] = {rung: _part_within(reply, _REPLY_KEYS) for rung, reply in by_rung.items()}
    return _build(_ITEM, {**known, "extra": extra or None})


def _build(validator: Any, raw: dict[str, Any]) -> Any:
    try:
        return validator.validate_json(to_json(raw))  # from bytes again: only there is strict about JSON's types
    except ValidationError as error:
        raise _explain(error) from None


def _parse(line: bytes) -> dict[str, Any]:
    if not line:
        raise _Flaw("the file is empty", "line 1 of a corpus is its manifest")
    if line.isspace():
        raise _Flaw("the line is blank", "take it out")
    try:
        raw: object = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise _Flaw(f"not JSON: {error}".replace("at line 1 column", "at column")) from None
    if not isinstance(raw, dict):
        raise _Flaw("the line is not a JSON object")
    return cast("dict[str, Any]", raw)


def _part(raw: dict[str, Any], ours: frozenset[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    known = {key: value for key, value in raw.items() if key in ours}
    return known, {key: value for key, value in raw.items() if key not in ours}


def _part_within(value: object, ours: frozenset[str]) -> object:
    if not isinstance(value, dict):
        return value
    known, extra = _part(cast("dict[str, Any]", value), ours)
    return {**known, "extra": extra or None}


def _explain(error: ValidationError) -> _Flaw:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where, what = [str(part) for part in first["loc"]], first["msg"]
    if where[:1] == ["input"] and len(where) > 1:  # the parts after it name branches of a union, not keys
        return _Flaw("input: must be a text, or a list of messages {role, content} that is not empty")
    return _Flaw(f"{'.'.join(where) or 'item'}: {what[:1].lower()}{what[1:]}")


def _name_item(line: bytes) -> str:
    try:
        name = _parse(line).get("id")
    except _Flaw:
        return ""
    return name[:80] if isinstance(name, str) else ""
