"""Read a corpus (version 1): JSON lines, plain or gzip, or Parquet; the manifest first, then one item after the other.

A corpus comes from elsewhere, so nothing of it is taken on trust: lines are bounded (a decompression bomb never
grows in memory), every field is checked, and what is wrong is one `CorpusError` that names the file, the line and the
item, and quotes nothing of what users wrote.

Where the lines come from is `lines` (JSON) or `parquet`; what one says is `decoding`'s.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, Self

from msgspec.structs import force_setattr

from cascade.core.errors import CorpusError
from cascade.corpora.decoding import LineError, Unreadable, decode_item, decode_manifest, name_item
from cascade.corpora.items import Corpus, Item, Manifest
from cascade.corpora.lines import MAX_LINE_BYTES, Lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["MAX_LINE_BYTES", "MAX_PROBLEMS", "CorpusReader", "open_corpus", "read_corpus"]

MAX_PROBLEMS: Final = 1000
"""Of the lines that are skipped all are counted, but only this many are described."""


class _Source(Protocol):
    """Where the lines come from: each is the JSON of one item; `number` is the last one's, `where` names it."""

    number: int

    @property
    def where(self) -> str: ...
    def read_manifest(self) -> bytes: ...
    def read(self) -> bytes: ...
    def close(self) -> None: ...


class CorpusReader:
    """An open corpus: `manifest` at once, the items by iterating, once. A context manager; made by `open_corpus`.

    With `skip_bad` a line that is wrong is passed over: `skipped` counts them, `problems` describes the first 1,000.
    What cannot be read further (a damaged file, a line past the bound) stops the reading all the same.
    """

    def __init__(self, path: str | os.PathLike[str], max_line_bytes: int, *, skip_bad: bool = False) -> None:
        self.source = os.fspath(path)
        self.skipped = 0
        self._skip_bad = skip_bad
        self._problems: list[str] = []
        self._lines = _open_source(self.source, max_line_bytes)
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

    @property
    def problems(self) -> tuple[str, ...]:
        """What was wrong with the lines that were skipped, the first 1,000 of them: file, line, item, problem."""
        return tuple(self._problems)

    @property
    def where(self) -> str:
        """The file, and the line or row that was read last."""
        return self._lines.where

    def place(self, number: int) -> str:
        """Where the item with this `line` stands, in words."""
        return f"{'in row' if self.source.endswith('.parquet') else 'on line'} {number}"

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        self._lines.close()

    def skip(self, problem: CorpusError) -> None:
        """Count an item as skipped; raises the problem where bad ones are not to be skipped."""
        if not self._skip_bad:
            raise problem
        self.skipped += 1
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(str(problem))

    def __iter__(self) -> Iterator[Item]:
        rungs = frozenset(self.manifest.rungs)
        lines, line = self._lines, b""
        good = bad = 0
        while True:
            try:
                if not (line := lines.read()):
                    break
                item = decode_item(line, rungs)
            except Unreadable as error:
                self._refuse(error)
            except LineError as error:
                bad += 1
                self.skip(self._error(error, item=error.item or name_item(line)))
                continue
            force_setattr(item, "line", lines.number)  # still being made: nobody else has seen it
            good += 1
            yield item
        if self.manifest.items not in (None, good + bad):
            said = self.manifest.items
            self._refuse(
                LineError(f"the file ends after {good + bad} items, its manifest says {said}", "is it cut short?")
            )

    def _read_manifest(self) -> Manifest:
        try:
            return decode_manifest(self._lines.read_manifest())
        except LineError as error:
            self._refuse(error)

    def _error(self, error: LineError, *, item: str = "") -> CorpusError:
        return CorpusError(error.problem, where=self._lines.where, item=item, hint=error.hint)

    def _refuse(self, error: LineError) -> NoReturn:
        raise self._error(error) from error.__cause__


def open_corpus(
    path: str | os.PathLike[str], *, max_line_bytes: int = MAX_LINE_BYTES, skip_bad: bool = False
) -> CorpusReader:
    """Open a corpus (`.jsonl`, `.jsonl.gz` or `.parquet`) for streaming. Memory is bounded by the longest line.

    `skip_bad` passes over lines that are wrong and counts them (`CorpusReader.skipped`). Raises CorpusError where the
    file, or while iterating a line of it, cannot be read; MissingExtra for Parquet where pyarrow is not installed.
    """
    return CorpusReader(path, max_line_bytes, skip_bad=skip_bad)


def read_corpus(
    path: str | os.PathLike[str], *, max_line_bytes: int = MAX_LINE_BYTES, skip_bad: bool = False
) -> Corpus:
    """Read a whole corpus into memory. Raises as `open_corpus` does; unlike streaming, also for an id that occurs twice.

    With `skip_bad` a second item of the same id is skipped too; `Corpus.skipped` and `.problems` tell what was.
    """
    with open_corpus(path, max_line_bytes=max_line_bytes, skip_bad=skip_bad) as reader:
        items: dict[str, Item] = {}
        for item in reader:
            if (first := items.setdefault(item.id, item)) is not item:
                problem = f"the id occurs twice, first {reader.place(first.line)}"
                reader.skip(
                    CorpusError(problem, where=reader.where, item=item.id, hint="give each item an id of its own")
                )
        return Corpus(reader.manifest, tuple(items.values()), reader.source, reader.skipped, reader.problems)


def _open_source(path: str, max_line_bytes: int) -> _Source:
    if not path.endswith(".parquet"):
        return Lines(path, max_line_bytes)
    from cascade.corpora.parquet import Rows  # noqa: PLC0415 - only who has such a file needs it

    return Rows(path, max_line_bytes)
