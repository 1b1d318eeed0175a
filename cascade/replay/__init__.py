"""Replay: apply the rule to a whole corpus, and measure quality and cost.

Read in this order: `driver` (one item, through `core.climb`), `mapping` (which recorded rung is which rung of the
policy), `columns` (a corpus as arrays), `vectorised` (the rule for all items at once), `outcomes`, `figures`, `run`.
"""

from __future__ import annotations

from cascade.replay.driver import replay_item, request_of

__all__ = ["replay_item", "request_of"]
