"""Lines of a file, plain or gzip, bounded: whatever the file is, no more than one line of it is held in memory."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path
from typing import BinaryIO, Final, cast

from cascade.core.errors import CorpusError
from cascade.corpora.decoding import LineError, Unreadable

__all__ = ["MAX_LINE_BYTES", "Lines", "open_bytes"]

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""A longer line is refused: a conversation of a million tokens is some 4 MB, so this leaves room and bounds memory."""

_BLOCK = 1 << 18


class Lines:
    """The lines of a file: `read` gives the next with its line end, empty at the end of the file; `number` counts them.

    A source of a corpus, as `parquet.Rows` is one.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int = MAX_LINE_BYTES) -> None:
        self.source = os.fspath(path)
        self.number = 0
        self._limit = limit
        self._file = open_bytes(path)

    @property
    def where(self) -> str:
        """The file and the line that was read last."""
        return f"{self.source}:{self.number}"

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        self._file.close()

    def read(self) -> bytes:
        """The next line. Raises Unreadable for one that is too long, or where the file is damaged."""
        self.number += 1
        try:
            line = self._file.readline(self._limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise Unreadable(f"cannot be read further: {error}", "is the file whole, and truly gzip?") from error
        if len(line) > self._limit:
            raise Unreadable(f"the line is longer than {self._limit} bytes", "split or shorten the item")
        return line

    def read_manifest(self) -> bytes:
        """The first line. Raises LineError."""
        if line := self.read():
            return line
        raise LineError("the file is empty", "line 1 of a corpus is its manifest")


class _Unzipped(io.BufferedReader):
    """A gzip file with a large buffer over it, for GzipFile's own `readline` is slow; closes the file below too."""

    def __init__(self, raw: BinaryIO) -> None:
        self._below = raw
        super().__init__(cast("io.RawIOBase", gzip.GzipFile(fileobj=raw)), _BLOCK)

    def close(self) -> None:
        super().close()
        self._below.close()


def open_bytes(path: str | os.PathLike[str]) -> BinaryIO:
    """A file's bytes, unpacked where its name ends in `.gz`. Raises CorpusError where it cannot be opened."""
    try:
        raw = Path(path).open("rb")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise CorpusError(problem, where=os.fspath(path), hint="check the path") from error
    return _Unzipped(raw) if os.fspath(path).endswith(".gz") else raw
