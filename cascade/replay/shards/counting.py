"""The pass over shards that gives cells. Its arguments can be pickled, and its results add up: any scheduler may run it by shard."""

from __future__ import annotations

from dataclasses import dataclass, field

from cascade.core.policy import Policy
from cascade.corpora.items import Manifest
from cascade.corpora.sources import Shard
from cascade.corpora.splits import Part, Split
from cascade.replay.mapping import Override
from cascade.replay.shards.cells import Cells

__all__ = ["Counting", "count_shards"]


@dataclass(frozen=True, slots=True)
class Counting:
    """What is counted: all shards of a corpus in their order, under a policy (None: its own ladder).

    `parted`: whether the cells are told apart by part (tune, certify), as tables of counts need it. `part`: only the items of this one.
    `memory` bytes and `threads` are those of each process that counts; `folder` is where it may write what does not fit (None: a
    temporary one).
    """

    shards: tuple[Shard, ...]
    manifest: Manifest
    policy: Policy | None = None
    overrides: tuple[Override, ...] = ()
    reprice: bool = False
    parted: bool = False
    part: Part = "all"
    split: Split = field(default_factory=Split)
    memory: int = 1 << 30
    threads: int | None = None
    folder: str | None = None


def count_shards(counting: Counting, numbers: tuple[int, ...]) -> Cells:
    """The cells of the shards of these numbers (from 0). Raises CorpusError, PolicyError, MissingExtra; Undecided."""
    raise NotImplementedError
