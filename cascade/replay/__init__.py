"""Replay: the rule over a whole corpus, and what that comes to in quality and money.

Read in this order: `driver` (one item, by the engine's own path), `mapping` (which recorded rung stands for which),
`columns` (a corpus as arrays), `vectorised` (the rule for all items at once), `outcomes` and `figures`, `run`.
"""

from __future__ import annotations

from cascade.replay.driver import replay_item, request_of

__all__ = ["replay_item", "request_of"]
