"""All shards as one corpus: their rows one after the other, one file open at a time. `open_corpus` reads a folder with it."""

from __future__ import annotations

import os

from pydantic_core import to_json

from cascade.corpora.decoding import Unreadable
from cascade.corpora.encoding import raw_manifest
from cascade.corpora.lines import MAX_LINE_BYTES
from cascade.corpora.parquet import Rows
from cascade.corpora.shards.finding import find_shards

__all__ = ["ShardRows"]


class ShardRows:
    """The rows of all shards, each as its line of JSON. The same interface as `Rows`; `number` counts over all shards.

    A shard that cannot be read to the end that its footer tells, or that changes while it is read, raises: a part of a corpus is
    never taken for the whole.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int = MAX_LINE_BYTES) -> None:
        self._found = find_shards(path)
        self.source = self._found.source
        self.number = 0
        self._limit = limit
        self._next = 0  # of the shards, the first that was not begun
        self._rows: Rows | None = None

    @property
    def where(self) -> str:
        """The shard and its row read last, from 1."""
        return self.source if self._rows is None else self._rows.where

    def close(self) -> None:
        """Close the shard that is open. May be called twice."""
        if self._rows is not None:
            self._rows.close()

    def read_manifest(self) -> bytes:
        """The manifest's JSON, its `items` the sum over all shards."""
        return to_json(raw_manifest(self._found.manifest))

    def read(self) -> bytes:
        """The next row as JSON, b"" at the end of the last shard.

        Raises LineError for an invalid cell, Unreadable for a damaged shard, CorpusError for one that has vanished.
        """
        self.number += 1
        while True:
            if self._rows is not None and (line := self._rows.read()):
                return line
            if self._rows is not None:
                self._end(self._rows)
            if self._next == len(self._found.shards):
                return b""
            self.close()
            self._rows = Rows(self._found.shards[self._next].path, self._limit)
            self._rows.read_manifest()  # it names the columns of the rungs
            self._next += 1

    def _end(self, rows: Rows) -> None:
        shard = self._found.shards[self._next - 1]
        if rows.number - 1 != shard.rows:
            raise Unreadable(f"ends after {rows.number - 1} of {shard.rows} rows", "is the file complete?")
        if not shard.is_unchanged():
            raise Unreadable("was changed or removed while it was read", "wait for its writer; run it again")
