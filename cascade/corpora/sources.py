"""What a corpus is read from: a file, or the shards of a folder or a pattern; and how an error says where a row is."""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from glob import has_magic
from itertools import accumulate
from pathlib import Path

__all__ = ["Shard", "ShardedSource", "is_sharded", "place_of"]


@dataclass(frozen=True, slots=True)
class Shard:
    """One file: its path, the rows that its footer counts, and its size and time of change when it was found."""

    path: str
    rows: int
    stamp: tuple[int, int]

    def is_unchanged(self) -> bool:
        """Whether the file is still the one that was found."""
        try:
            status = Path(self.path).stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == self.stamp


class ShardedSource(str):  # noqa: SLOT000 - it keeps its shards
    """The name of a sharded corpus as the user gave it, which can say where a row is. `shards`: in their order."""

    shards: tuple[Shard, ...] = ()

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(shard.rows for shard in self.shards))

    def place(self, row: int) -> str:
        """The file and its own row, from 1, of a row counted over all shards, from 1."""
        number = min(bisect_right(self._ends, row - 1), len(self.shards) - 1)
        before = self._ends[number - 1] if number else 0
        return f"{self.shards[number].path}:row {row - before}"


def is_sharded(path: str | os.PathLike[str]) -> bool:
    """Whether a path names shards: a folder, or a pattern (`*`, `?`, `[…]`) that is no file's own name."""
    text = os.fspath(path)
    return os.path.isdir(text) or (has_magic(text) and not os.path.exists(text))  # noqa: PTH110, PTH112 - may be a pattern


def place_of(source: str, line: int) -> str:
    """Where an item is, for an error: the file and its line (of a Parquet file, its row)."""
    return source.place(line) if isinstance(source, ShardedSource) else f"{source}:{line}"
