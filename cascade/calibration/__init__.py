"""Calibration: the exact frontier of a ladder, thresholds proved on data that the search never saw, a better confidence.

Read in this order: `coded` (a corpus as level codes), `counts` (the table that any engine can build in parts),
`frontier` (every vector of thresholds at once), `by_task`; `bounds` and `certificate` (what is proved, on which of the two
`sides`); `choosing` (an objective's point, held against every rival); `calibrating` drives them all over files.
"""

from __future__ import annotations

__all__: list[str] = []
