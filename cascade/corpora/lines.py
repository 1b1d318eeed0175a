"""Read a file's lines, plain or gzip, in bounded memory: at most one line is held, and its length is limited."""

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
"""Longer lines are refused, to bound memory. A conversation of a million tokens is about 4 MB."""

_BLOCK = 1 << 18


class Lines:
    """The lines of a file: `read` returns the next with its line end, b"" at the end; `number` is the line read last.

    The same interface as `parquet.Rows`.
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
        """Close the file. May be called twice."""
        self._file.close()

    def read(self) -> bytes:
        """The next line. Raises Unreadable if it is too long or the file is damaged."""
        self.number += 1
        try:
            line = self._file.readline(self._limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise Unreadable(f"cannot be read further: {error}", "is the file complete, and really gzip?") from error
        if len(line) > self._limit:
            raise Unreadable(f"the line is longer than {self._limit} bytes", "split or shorten the item")
        return line

    def read_manifest(self) -> bytes:
        """The first line. Raises LineError."""
        if line := self.read():
            return line
        raise LineError("the file is empty", "line 1 of a corpus is its manifest")


class _Unzipped(io.BufferedReader):
    """A gzip file with a large buffer, because GzipFile's own `readline` is slow. Closes the underlying file too."""

    def __init__(self, raw: BinaryIO) -> None:
        self._file = raw
        super().__init__(cast("io.RawIOBase", gzip.GzipFile(fileobj=raw)), _BLOCK)

    def close(self) -> None:
        super().close()
        self._file.close()


def open_bytes(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading, decompressed if its name ends in `.gz`. Raises CorpusError if it cannot be opened."""
    try:
        raw = Path(path).open("rb")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise CorpusError(problem, where=os.fspath(path), hint="check the path") from error
    return _Unzipped(raw) if os.fspath(path).endswith(".gz") else raw
