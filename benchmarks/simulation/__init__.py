"""The parts of `benchmarks/simulate.py`: chance, replies, one module per scenario (and its texts), and the summary."""

from __future__ import annotations

__all__: list[str] = []
