"""`cascade audit run --workers`: the workers grade; this process looks for drift, and tells them to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

from cascade.audit.run import AuditRun, AuditSettings
from cascade.audit.workers import AUDIT_MODULES, SpreadAudit
from cascade.cli.output import stderr
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
        _on_signals(audit, settings.policy.deadline_s)
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


def _on_signals(audit: SpreadAudit, deadline_s: float) -> None:
    """The first signal waits for what is being graded, which is paid for; the second stops at once."""
    loop, running = asyncio.get_running_loop(), asyncio.current_task()

    def once(number: signal.Signals) -> None:
        name = "Ctrl-C" if number is signal.SIGINT else number.name
        if audit.stopped_by is not None and audit.stopped_by.kind == "interrupted":
            assert running is not None
            running.cancel()
            return
        audit.stop("interrupted", name)
        stderr.print(
            f"cascade: {name}: the workers finish what they grade, at most {2 * deadline_s:g} s; {name} again stops at once"
        )

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError):  # not on every system, and only in the main thread
            loop.add_signal_handler(number, once, number)
