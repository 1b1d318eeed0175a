"""The live drivers: `Cascade` and `AsyncCascade`, two short loops around one journey, and the `ask` that opens one.

ask → load policy → who answers (mode, rollout) → climb ⇄ budget, ledger, claude, guard → answer

Read in this order: `asked` (what is asked), `runtime` (what a driver has at hand), `journeys` (one request's way, without I/O),
`drivers` (the two that do the I/O), `shadows` (`mode: observe`), `asking` (the drop-in functions).
"""

from __future__ import annotations

from cascade.engine.api import aask, ask, reload
from cascade.engine.arguments import AskOptions, Prompt, default_policy
from cascade.engine.drivers import AsyncCascade, Cascade

__all__ = ["AskOptions", "AsyncCascade", "Cascade", "Prompt", "aask", "ask", "default_policy", "reload"]
