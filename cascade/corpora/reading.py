"""Read a corpus (version 1): JSON lines, plain or gzip, or Parquet; first the manifest, then the items.

Corpora are untrusted input. Lines have a maximum length (a decompression bomb does not fill the memory) and every field
is checked. An invalid line raises a `CorpusError` that names file, line and item, and never quotes user content.

`lines` (JSON) or `parquet` reads the lines, `decoding` decodes them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, Self

from msgspec.structs import force_setattr

from cascade.core.errors import CorpusError
from cascade.corpora.decoding import LineError, Unreadable, decode_item, decode_manifest, name_item
from cascade.corpora.items import Corpus, Item, Manifest
from cascade.corpora.lines import MAX_LINE_BYTES, Lines
from cascade.corpora.sources import ShardedSource, is_sharded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["MAX_LINE_BYTES", "MAX_PROBLEMS", "CorpusReader", "open_corpus", "read_corpus"]

MAX_PROBLEMS: Final = 1000
"""How many skipped lines are described; all are counted."""


class _Source(Protocol):
    """A reader of lines, each the JSON of one item. `number` and `where` are of the line read last."""

    number: int

    @property
    def source(self) -> str: ...
    @property
    def where(self) -> str: ...
    def read_manifest(self) -> bytes: ...
    def read(self) -> bytes: ...
    def close(self) -> None: ...


class CorpusReader:
    """An open corpus, from `open_corpus`: `manifest`, and the items by iterating once. A context manager.

    With `skip_bad` invalid lines are left out: `skipped` counts them, `problems` describes the first 1,000. A damaged
    file or a line that is too long still stops the reading.
    """

    def __init__(self, path: str | os.PathLike[str], max_line_bytes: int, *, skip_bad: bool = False) -> None:
        self.skipped = 0
        self._skip_bad = skip_bad
        self._problems: list[str] = []
        self._lines = _open_source(os.fspath(path), max_line_bytes)
        self.source = self._lines.source
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
        """The problems of the first 1,000 skipped lines: file, line, item, problem."""
        return tuple(self._problems)

    @property
    def where(self) -> str:
        """The file, and the line or row read last."""
        return self._lines.where

    def place(self, number: int) -> str:
        """Where the item with this `line` is: "on line 3", "in row 3", "in part-2.parquet:row 3"."""
        if isinstance(self.source, ShardedSource):
            return f"in {self.source.place(number)}"
        return f"{'in row' if self.source.endswith('.parquet') else 'on line'} {number}"

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._lines.close()

    def skip(self, problem: CorpusError) -> None:
        """Count an item as skipped; without `skip_bad`, raise the problem."""
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
            force_setattr(item, "line", lines.number)  # frozen, but not yet handed out
            good += 1
            yield item
        if self.manifest.items not in (None, good + bad):
            self._refuse(
                LineError(
                    f"the file ends after {good + bad} items, its manifest says {self.manifest.items}",
                    "is it truncated?",
                )
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

    A folder, or a pattern such as `shards/*.parquet`, is read as one corpus: its Parquet files by name, one open at a time.

    `skip_bad` leaves out and counts invalid lines (`CorpusReader.skipped`). Raises CorpusError if the file, or a line
    while iterating, cannot be read; MissingExtra for Parquet without pyarrow.
    """
    return CorpusReader(path, max_line_bytes, skip_bad=skip_bad)


def read_corpus(
    path: str | os.PathLike[str], *, max_line_bytes: int = MAX_LINE_BYTES, skip_bad: bool = False
) -> Corpus:
    """Read a whole corpus into memory. Raises as `open_corpus` does and, unlike streaming, for a repeated id.

    With `skip_bad` a second item of the same id is skipped too; see `Corpus.skipped` and `.problems`.
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
    if is_sharded(path):
        from cascade.corpora.shards.reading import ShardRows  # noqa: PLC0415 - an extra

        return ShardRows(path, max_line_bytes)
    if not path.endswith(".parquet"):
        return Lines(path, max_line_bytes)
    from cascade.corpora.parquet import Rows  # noqa: PLC0415 - an extra

    return Rows(path, max_line_bytes)
