"""Run a pass over all shards by a cluster, and add up what comes."""

from __future__ import annotations

from collections.abc import Iterator

from cascade.cluster import Cluster, InProcess, Task
from cascade.replay.shards.cells import Cells, added
from cascade.replay.shards.counting import Counting, count_shards

__all__ = ["count_all", "cut"]

_HELD = 8  # parts that wait to be added up


def count_all(counting: Counting, cluster: Cluster | None = None, pieces: int = 1) -> Cells:
    """The cells of all shards, counted in so many tasks. Raises as `count_shards`, and TaskFailed."""
    tasks = [Task(f"count-{n}", count_shards, (counting, numbers)) for n, numbers in enumerate(cut(counting, pieces))]
    parts: list[Cells] = []
    for done in (cluster or InProcess()).run(tasks):
        parts.append(done.result)
        if len(parts) > _HELD:
            parts = [added(parts)]
    return added(parts)


def cut(counting: Counting, pieces: int) -> Iterator[tuple[int, ...]]:
    """The shards' numbers in so many pieces of about as many rows, or one for each shard if there are fewer."""
    total, taken = sum(shard.rows for shard in counting.shards), 0
    pieces = max(1, min(pieces, len(counting.shards)))
    own: list[int] = []
    cuts = 1
    for number, shard in enumerate(counting.shards):
        own.append(number)
        taken += shard.rows
        left = len(counting.shards) - number - 1
        if cuts < pieces and (taken * pieces >= total * cuts or left == pieces - cuts):
            yield tuple(own)
            own, cuts = [], cuts + 1
    if own:
        yield tuple(own)
