"""Replay and count a corpus in shards, out of core: an engine groups its rows into cells, and the rule runs on the cells.

Read in this order: `counting` (what is counted, and the pass that gives cells), `cells` (what a cell is, and how cells add up), `columns`
(cells as the columns of `replay.columns`), `groups` (the second pass, for the intervals), `run` (a `Replay` of it all).
"""

from __future__ import annotations

from cascade.replay.shards.cells import Cells
from cascade.replay.shards.counting import Counting, count_shards
from cascade.replay.shards.undecided import Undecided

__all__ = ["Cells", "Counting", "Undecided", "count_shards"]
