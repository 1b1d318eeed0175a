"""Samples, as the ledger gives them, for the tests of what is made of them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from cascade.core.policy import Policy
from cascade.ledger.audit import AuditTables, Grading, Leased, Sample
from cascade.ledger.records import AuditRow, Batch
from cascade.ledger.sqlite.store import SqliteStore
from cascade.ledger.stores import Store
from cascade.policy.certificates import epoch_of

__all__ = ["graded", "put", "sample", "stream"]


def sample(
    policy: Policy, nth: int, *, step: int = 0, grader: str = "exact", score: float | None = 1.0, **more: Any
) -> Sample:
    """A graded uniform sample that haiku answered, the `nth`; `more` replaces its fields."""
    fields: dict[str, Any] = {
        "request": f"r{nth}", "at": float(nth), "policy": policy.name, "epoch": epoch_of(policy, step), "task": "refund",
        "why": "uniform", "rung": "haiku", "index": 0, "is_top": False, "confidence": 0.9, "source": "self_reported", "cost": 100,
        "state": "graded", "graded_at": float(nth), "number": nth, "grading": Grading(grader, score),
    }  # fmt: skip
    return Sample(**fields | more)


def graded(policy: Policy, scores: Sequence[float | None], **more: Any) -> list[Sample]:
    """A sample for each score."""
    return [sample(policy, nth, score=score, **more) for nth, score in enumerate(scores, 1)]


def stream(policy: Policy, rate: float, n: int, seed: int = 1, **more: Any) -> list[Sample]:
    """`n` samples, each wrong with this probability."""
    draws = random.Random(seed)
    return graded(policy, [float(draws.random() >= rate) for _ in range(n)], **more)


def put(address: str, samples: Sequence[Sample]) -> None:
    """Put graded samples on a ledger's tables, as the engine and a worker would: in the order of `at`."""
    store: Store
    if address.startswith("postgresql://"):
        from cascade.ledger.postgres.store import PostgresStore  # noqa: PLC0415 - an extra

        store = PostgresStore(address, seconds=60)  # however busy the machine is
    else:
        store = SqliteStore(Path(address), synchronous="NORMAL")
    with closing(store):
        store.open("test")
        store.write(Batch(samples=[_row(one) for one in samples]))
    tables, gradings = AuditTables(address), {one.request: one.grading for one in samples}
    for one in samples:
        leased = tables.lease(one.policy, "test", one.at, 60.0, bound=0, cap=None, day=0.0)
        assert isinstance(leased, Leased)
        grading = gradings[leased.sample.request]
        assert grading is not None
        assert tables.finish(leased, grading, one.graded_at)


def _row(one: Sample) -> AuditRow:
    return AuditRow(
        one.request, one.at, one.policy, one.epoch, one.task, one.workflow, one.why, one.rung, one.index, int(one.is_top),
        one.confidence, one.source, one.cost, one.estimate, json.dumps(one.flags), one.degraded, int(one.has_content),
    )  # fmt: skip
