"""What the hooks are told of a run's items: each once, at its end, whatever crashes before.

    its outcome is known ─> "ending" stored ─> hooks, the ledger written ─> "done" stored
                                              │ killed here: the ledger is read, and says whether it is there

A request's id follows from its run and its number, so it is the same after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from cascade.batch.climbing import Finished
from cascade.batch.items import Item
from cascade.core.arms import LADDER_ARMS, Arm
from cascade.core.bound_policy import BoundPolicy
from cascade.core.estimates import baseline_estimate
from cascade.core.modes import NO_SLOT
from cascade.core.prices import Rates
from cascade.hooks import Begun, Ended, Hook, begin, wait
from cascade.ledger.stores import NoLedger, Reader

__all__ = ["Books", "recorded"]


@dataclass(frozen=True, slots=True)
class Books:
    """The hooks of a run. `baseline`: the baseline's prices, as a batch. `flush` writes the ledger. `wall`: Unix seconds.

    `report` is told of a hook that fails; it never costs an answer. `read`: the ledger; None if there is none.
    """

    hooks: Sequence[Hook]
    baseline: Rates
    flush: Callable[[], object]
    report: Callable[[str, Exception], None]
    wall: Callable[[], float]
    read: Callable[[], Reader] | None = None

    def put(self, plan: BoundPolicy, arm: Arm, item: Item, ended: Finished) -> None:
        """Notify the hooks of an item. One that could not begin is not recorded, as live."""
        if ended.task is None or not self.hooks:
            return
        answer = ended.answer
        estimate = baseline_estimate(plan, self.baseline, answer) if answer is not None and arm in LADDER_ARMS else None
        begun = Begun(plan, item.request, ended.task, arm, self.wall(), NO_SLOT)
        waits = begin(self.hooks, begun, self.report).ended(
            Ended(ended.steps, answer, ended.error, 0.0, estimate, beside=ended.beside)
        )
        if waits:
            wait(waits)


def recorded(read: Callable[[], Reader], wanted: Iterable[str], since: float) -> set[str]:
    """Which of these requests have an outcome on the ledger, stored at `since` (Unix seconds) or later. Raises LedgerDown."""
    missing, found = set(wanted), set[str]()
    try:
        reader = read()
    except NoLedger:
        return found
    with closing(reader):
        for entry in reader.entries(since=since):
            if entry.kind == "outcome" and entry.request in missing:
                found.add(entry.request)
    return found
