"""Calibration: the exact frontier of a ladder, thresholds proved on data that the search never saw, a better confidence.

Read in this order: `coded` (a corpus as level codes), `counts` (the table that any engine can build in parts),
`frontier` (every vector of thresholds at once), `by_task`; then what is proved with them.
"""

from __future__ import annotations

__all__: list[str] = []
