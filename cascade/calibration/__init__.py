"""Calibration: the exact frontier of a ladder, thresholds certified on held-out data, and a learned confidence.

Read in this order:

1. `search.levels` (a corpus as level codes), `search.counts` (the table of counts, which any query engine can build),
   `search.frontier` (every vector of thresholds at once), `search.by_task` (thresholds for each task).
2. `halves` (the two halves of the split), `bounds` (confidence limits), `proof.pareto_testing` (the test on held-out data),
   `proof.recheck` (a certificate tested on a fresh corpus).
3. `choice` (the point that meets the objective, compared with every single model), `scorer` (a learned confidence),
   `candidates` (which confidence to use, from the tune half alone), `signal` (how good a confidence is).
4. `run` (all of it, on files), `tables` (tables of counts as files), `report` (the HTML page).
"""

from __future__ import annotations

__all__: list[str] = []
