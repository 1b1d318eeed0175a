"""Tables of counts of a corpus in shards, from its cells."""

from __future__ import annotations

from cascade.calibration.tables.parquet import CountsTable
from cascade.cluster import Cluster
from cascade.replay.shards.counting import Counting

__all__ = ["tabulate_shards"]


def tabulate_shards(
    counting: Counting, *, grouped: bool, cluster: Cluster | None = None, pieces: int = 1
) -> CountsTable:
    """As `tabulate_corpus`, to the digit. `grouped`: whether any two items are of one group (see `corpora.shards.identity`).

    `pieces`: into how many tasks of the cluster (None: this process) the pass is cut. Raises as `tabulate_corpus` does; Undecided
    for what cells cannot say.
    """
    raise NotImplementedError
