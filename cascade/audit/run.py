"""What a run of the audit is given, and what it did. Money in nano-USD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cascade.audit.controls import Standing
from cascade.core.policy import Policy

__all__ = ["AuditRun", "AuditSettings", "Stop", "StopKind"]

StopKind = Literal["daily_usd", "max_usd", "refused", "outage", "ledger", "interrupted"]


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """What to audit. `ledger`: its address, None for the default. `cap`: of this run, in nano-USD; None: no limit.

    `watches`: go on for ever, looking for samples every `poll_s` seconds. `concurrency`: samples at a time. `batch`: the calls are
    made through the Message Batches API, with `poll_s` seconds between two looks at the batches. `owner`: the worker's name on its
    leases; None: a random one.
    """

    policy: Policy
    ledger: str | None = None
    cap: int | None = None
    watches: bool = False
    concurrency: int = 4
    poll_s: float = 5.0
    batch: bool = False
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run stopped early. `message` is for people; it may quote the endpoint."""

    kind: StopKind
    message: str


@dataclass(frozen=True, slots=True)
class AuditRun:
    """What a run did. Money in nano-USD.

    `skipped`: by reason. `failed`: samples whose call failed and that are tried again later. `waiting`: samples that wait for a judge
    that is believed, by the judge that is not. `counts`: of all samples of the policy afterwards, see `AuditTables.counts`.
    `standings`: of the judges that the policy needs, by name. `leased_s`: in how many seconds all leases of others are over.
    """

    graded: int
    skipped: Mapping[str, int]
    failed: int
    waiting: Mapping[str, int]
    controls: int
    spent: int
    counts: Mapping[str, int]
    standings: Mapping[str, Standing]
    leased_s: float
    stop: Stop | None
