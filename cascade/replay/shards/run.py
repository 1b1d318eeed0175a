"""A `Replay` of a corpus in shards, from its cells."""

from __future__ import annotations

from cascade.cluster import Cluster, InProcess
from cascade.corpora.sources import ShardedSource
from cascade.replay.run import Replay, ReplayOptions
from cascade.replay.shards.counting import Counting

__all__ = ["replay_shards"]


def replay_shards(
    counting: Counting, options: ReplayOptions, source: ShardedSource, cluster: Cluster | None = None, pieces: int = 1
) -> Replay:
    """As `replay_corpus`, to the digit. `pieces`: into how many tasks of the cluster (None: this process) each pass is cut.

    Raises as `replay_corpus` does; Undecided for what cells cannot say.
    """
    raise NotImplementedError(InProcess)
