"""Cells: all items that decide alike, with sums over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Cells"]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Cells of some shards, as a `pyarrow.Table`. They add up, in any order."""

    table: Any

    def __add__(self, other: Cells) -> Cells:
        raise NotImplementedError
