"""Run a pass over all shards by a cluster, and add up what comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cascade.cluster import Cluster, InProcess, Task
from cascade.replay.shards.cells import Cells, added
from cascade.replay.shards.counting import Counting, count_shards

if TYPE_CHECKING:
    from cascade.replay.run import Progress

__all__ = ["count_all", "cut"]

_HELD = 8  # parts that wait to be added up
_TOLD_ROWS = 5_000_000  # counted in this process between two words of progress


def count_all(
    counting: Counting, cluster: Cluster | None = None, pieces: int = 1, progress: Progress | None = None
) -> Cells:
    """The cells of all shards, counted in so many tasks. `progress` is told how many rows were counted, and how many there are.

    Raises as `count_shards`, and TaskFailed.
    """
    counted, total = 0, sum(shard.rows for shard in counting.shards)
    if cluster is None and progress is not None:
        pieces = max(pieces, total // _TOLD_ROWS)
    numbers = {f"count-{n}": own for n, own in enumerate(cut(counting, pieces))}
    tasks = [Task(name, count_shards, (counting, own)) for name, own in numbers.items()]
    parts: list[Cells] = []
    for done in (cluster or InProcess()).run(tasks):
        parts.append(done.result)
        counted += sum(counting.shards[number].rows for number in numbers[done.name])
        if progress is not None:
            progress(counted, total)
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
