"""Calibration: the exact frontier of a ladder, thresholds certified on held-out data, and a learned confidence.

Read in this order: `coded` (a corpus as level codes), `counts` (the table that any engine can build in parts),
`frontier` (every vector of thresholds at once), `by_task`; `bounds` and `certificate` (the test on held-out data; `sides`
are the two halves of the split); `choosing` (the objective's point, compared with every single model); `calibrating` runs
them all on files.
"""

from __future__ import annotations

__all__: list[str] = []
