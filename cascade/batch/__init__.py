"""Batch runs: a list of inputs, climbed through the Message Batches API in rounds, at half the price.

- `calls`: the values of a run, and how outcomes are stored
- `store`, `database`: what a sender knows, on the disk
- `sending`: calls into batches and their outcomes back, so that a crash pays nothing twice (`matching`)
"""

from __future__ import annotations

from cascade.batch.calls import BatchCall, BatchLimits
from cascade.batch.sending import BatchSender

__all__ = ["BatchCall", "BatchLimits", "BatchSender"]
