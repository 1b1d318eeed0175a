"""`cascade audit run --workers`: the workers grade; this process looks for drift, and tells them to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cascade.audit.run import AuditRun, AuditSettings
from cascade.audit.workers import AUDIT_MODULES, SpreadAudit
from cascade.cli.stopping import stop_on_signals
from cascade.cluster import open_cluster

__all__ = ["audit_spread"]

_LOOK_S = 60.0  # between two looks for drift


async def audit_spread(
    settings: AuditSettings, workers: int, scheduler: str | None, look: Callable[[], object]
) -> AuditRun:
    """Have the workers grade; `look` looks for drift meanwhile and at the end. Raises as `open_cluster` and `SpreadAudit.run` do."""
    cluster = await asyncio.to_thread(open_cluster, scheduler, workers, modules=AUDIT_MODULES)
    try:
        audit = SpreadAudit(settings, workers, cluster)
        longest = 2 * settings.policy.deadline_s
        stop_on_signals(
            audit, lambda name: f"the workers finish what they grade, at most {longest:g} s; {name} again stops at once"
        )
        running = asyncio.create_task(asyncio.to_thread(audit.run))
        try:
            while not (await asyncio.wait({running}, timeout=_LOOK_S))[0]:
                await asyncio.to_thread(look)
        except asyncio.CancelledError:
            cluster.close()  # only then does the thread that waits for the workers end
            raise
        run = await running
        await asyncio.to_thread(look)
        return run
    finally:
        await asyncio.to_thread(cluster.close)
