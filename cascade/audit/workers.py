"""The audit's grading by several workers: each a task of a cluster that leases samples until none is free.

What they share is the ledger: leases give each sample to one of them, and `audit.daily_usd` counts what all of them spend and reserve.
A killed worker's leases are given back by the next one on its machine, which sees that its process has ended; elsewhere they run out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence

from cascade.audit.controls import judge_standing, known_controls
from cascade.audit.grading import judges_of
from cascade.audit.owners import dead_owners, new_owner
from cascade.audit.run import AuditRun, AuditSettings, Stop, StopKind
from cascade.audit.worker import AuditWorker
from cascade.cluster import Cluster, Task, should_stop
from cascade.core.errors import ConfigurationError, LedgerError
from cascade.ledger.audit import AuditTables
from cascade.ledger.opening import address_of, is_postgres
from cascade.ledger.stores import LedgerDown

__all__ = ["AUDIT_MODULES", "SpreadAudit", "audit_part", "check_spread"]

AUDIT_MODULES = ("cascade.audit.workers", "anthropic")
"""What a worker needs, as `open_cluster` takes it."""

_LOOK_S = 0.2


def check_spread(settings: AuditSettings, workers: int, scheduler: str | None) -> None:
    """Raise ConfigurationError for what several workers cannot do. One, without a scheduler, is this process."""
    if workers == 1 and scheduler is None:
        return
    if settings.batch or settings.watches:
        what = "--batch" if settings.batch else "--watch"
        raise ConfigurationError(
            f"{what}: it is one process; leave out --workers and --scheduler (they go on until no sample is free)"
        )
    if settings.cap is not None:
        raise ConfigurationError(
            "--max-usd: several workers share no count of one run; set audit.daily_usd in the policy, which is counted on the ledger,"
            " or leave out --workers"
        )
    if scheduler is not None and not is_postgres(address_of(settings.ledger)):
        raise ConfigurationError(
            "--scheduler: the ledger is a file of this machine, and workers may be elsewhere: use one in Postgres (ledger move), or"
            " --workers without --scheduler"
        )


def audit_part(settings: AuditSettings) -> AuditRun:
    """Grade samples until none is free. Raises as `AuditWorker.run` does."""
    is_stopped = should_stop()
    tables, policy = AuditTables(settings.ledger), settings.policy
    try:
        for owner in dead_owners(tables.owners(policy.name)):
            tables.give_back(policy.name, owner)
    except LedgerDown as down:
        raise LedgerError(str(down)) from None
    worker = AuditWorker(dataclasses.replace(settings, owner=new_owner()))

    async def run() -> AuditRun:
        async def watch() -> None:
            while not is_stopped():  # noqa: ASYNC110 - another thread knows it
                await asyncio.sleep(_LOOK_S)
            worker.stop("interrupted", "stopped")

        watching = asyncio.create_task(watch())
        try:
            return await worker.run()
        finally:
            watching.cancel()

    return asyncio.run(run())


class SpreadAudit:
    """One run by the workers of a cluster."""

    def __init__(self, settings: AuditSettings, workers: int, cluster: Cluster) -> None:
        self._settings, self._workers, self._cluster = settings, workers, cluster
        self._stop: Stop | None = None

    @property
    def stopped_by(self) -> Stop | None:
        """Why no further sample is taken; None while the run goes on."""
        return self._stop

    def stop(self, kind: StopKind, message: str) -> None:
        """Take no further sample, and finish those that are being graded. Safe from another thread."""
        self._stop = self._stop or Stop(kind, message)
        self._cluster.stop()

    def run(self, on_graded: Callable[[], object] = lambda: None) -> AuditRun:
        """Have the workers grade. `on_graded` is called each time one has ended. Raises what a worker raises, and TaskFailed."""
        run = secrets.token_hex(4)
        tasks = (Task(f"audit-{run}-{number}", audit_part, (self._settings,)) for number in range(self._workers))
        ended: list[AuditRun] = []
        for done in self._cluster.run(tasks):
            ended.append(done.result)
            stop = done.result.stop
            # What others have reserved of the day's money may come free: the last of them goes on, as within one worker.
            if stop is not None and (stop.kind != "daily_usd" or len(ended) == self._workers):
                self.stop(stop.kind, stop.message)
            on_graded()
        return self._joined(ended)

    def _joined(self, ended: Sequence[AuditRun]) -> AuditRun:
        policy, now, tables = self._settings.policy, time.time(), AuditTables(self._settings.ledger)
        try:
            controls = known_controls(policy, tables, now)
            counts, leased_s = tables.counts(policy.name, now), tables.leased_for(policy.name, now)
        except LedgerDown as down:
            raise LedgerError(str(down)) from None
        skipped, waiting = Counter[str](), Counter[str]()
        for one in ended:
            skipped.update(one.skipped)
            waiting.update(one.waiting)
        return AuditRun(
            sum(one.graded for one in ended), skipped, sum(one.failed for one in ended), waiting,
            sum(one.controls for one in ended), sum(one.spent for one in ended), counts,
            {judge: judge_standing(controls, judge) for judge in judges_of(policy)}, leased_s, self._stop,
        )  # fmt: skip
