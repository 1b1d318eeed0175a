"""Split a corpus into a tuning and a certifying half. A group is never split, and a seed always gives the same split.

An item's own `split` decides. Otherwise its group is hashed with the seed (no group: identical inputs share one), so
the halves do not depend on the machine or on the order of the items.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from cascade.core.errors import ConfigurationError
from cascade.corpora.items import Item

__all__ = ["Part", "Split", "group_key"]

Part = Literal["tune", "certify", "all"]


def group_key(item: Item) -> tuple[str, str]:
    """The key of what is never split: the item's group, or its input if it has none."""
    if item.group is not None:
        return ("group", item.group)
    if isinstance(item.input, str):
        return ("input", item.input)
    return ("messages", json.dumps(item.input, sort_keys=True, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class Split:
    """How to split: the tuning share of the groups (0..1), and the seed. Raises ConfigurationError if invalid."""

    tune: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.tune <= 1:
            raise ConfigurationError(f"the tuning share {self.tune:g} is not between 0 and 1 (give e.g. 0.5)")

    def part_of(self, item: Item) -> Literal["tune", "certify"]:
        """The half an item belongs to."""
        if item.split is not None:
            return item.split
        return "tune" if self.tunes(*group_key(item)) else "certify"

    def tunes(self, kind: str, key: str) -> bool:
        """Whether the items of a group without a `split` of their own are for tuning. `kind` and `key`: see `group_key`."""
        return _position(kind, key, self.seed) < self.tune

    def only(self, part: Part, items: Iterable[Item]) -> Iterator[Item]:
        """The items of one half, or all of them."""
        return iter(items) if part == "all" else (item for item in items if self.part_of(item) == part)


def _position(kind: str, key: str, seed: int) -> float:
    """A number in 0..1 that depends on the seed and the group alone."""
    text = f"{seed}\0{kind}\0{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) / 2.0**64
