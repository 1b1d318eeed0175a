"""Drive a run: each item's climb as far as the stored outcomes go, and what they wait for into the next round.

    items ─> climb ─> calls ─> admitted ─> sent ─> outcomes ─> climb … until the item ends ─> hooks ─> its line of the results

Items are handled by the page: what a page changes is stored in one transaction. No more than a page is in memory, and the climbs that
wait, as far as they have room there (`climbing.Kept`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

from cascade.batch.calls import BatchCall, BatchLimits, Stored, pages
from cascade.batch.climbing import CallerChecks, Climber, Finished, Kept, Waiting, Wanted
from cascade.batch.items import ENDING, Item, ItemStore
from cascade.batch.recording import Books, recorded
from cascade.batch.results import line_of
from cascade.batch.runs import Run, RunSettings
from cascade.batch.sending import BatchSender
from cascade.batch.spending import RunBudget
from cascade.budgets.gate import Gate
from cascade.core.arms import Arm
from cascade.core.bound_policy import BoundPolicy
from cascade.core.events import Verify
from cascade.core.messages import Failure, Reply, Request
from cascade.core.modes import arm_of, unit_of
from cascade.core.policy import Rung
from cascade.core.trail import CheckResult
from cascade.core.triage import Prompt
from cascade.verifiers.checking import run_check

__all__ = ["Driver", "Means", "Progress"]

_LIVE_AT_ONCE = 8
_CLOCK_STEP_S = 600.0  # by how much this machine's clock may have been set back meanwhile


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `under_way`: items whose calls are in a batch, or go into the next."""

    items: int
    done: int

    @property
    def under_way(self) -> int:
        """Items that are not done."""
        return self.items - self.done


@dataclass(frozen=True, slots=True)
class Means:
    """What a driver needs of its engine. `plan` and `baseline`: at the prices of batches.

    `client_of`: the SDK's client for a rung. `call`: makes a call of a rung that batches do not reach. `prepare`: makes the clients of
    all rungs that may be called, or raises for a missing key or package. `clock`: Unix seconds.
    """

    plan: BoundPolicy
    baseline: BoundPolicy
    gate: Gate
    books: Books
    client_of: Callable[[Rung], Any]
    call: Callable[[Prompt], Reply | Failure]
    caller: CallerChecks = field(default_factory=CallerChecks)
    prepare: Callable[[], None] = lambda: None
    limits: BatchLimits = field(default_factory=BatchLimits)
    clock: Callable[[], float] = time.time
    wait: Callable[[float], None] = time.sleep
    on_progress: Callable[[Progress], None] | None = None


class Driver:
    """Drives one run. One process at a time; for one thread at a time. A context manager.

    Raises ConfigurationError if another process drives the run, or if its inputs were not read to their end.
    """

    def __init__(self, run: Run, means: Means) -> None:
        self.run, self._means = run, means
        self._sender = BatchSender(
            run.folder, run.id, means.client_of, means.limits, clock=means.clock, wait=self._wait
        )
        try:
            self.store = ItemStore(run.folder)
            self.settings: RunSettings = run.settings(self.store)
            self._budget = RunBudget(means.gate, self.store, self.settings.limit)
            counts = self.store.counts()
        except BaseException:
            self._sender.close()
            raise
        self._items, self._done = counts.items, counts.done
        self._is_new = self._sender.is_empty and not self.store.has_said  # no outcome is stored of any item
        self._kept = Kept()
        self._ladder = self._climber(means.plan, "batch")
        self._baseline = self._climber(means.baseline, "bypass")
        self._page: dict[str, Stored] = {}  # outcomes that have just come
        self._finished: list[tuple[Climber, Item, Finished]] = []
        self._calls: list[BatchCall] = []
        self._live: list[tuple[Item, Wanted]] = []
        self._recorded: set[str] = set()

    def _climber(self, plan: BoundPolicy, arm: Arm) -> Climber:
        counts = self._budget.is_active
        return Climber(
            plan, arm, self._look_up, self._verify, caller=self._means.caller, counts=counts, kept=self._kept
        )

    def close(self) -> None:
        """Let another process drive the run."""
        self._budget.close()
        self.store.close()
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self) -> None:
        """Take up the items that are not done, and send what they wait for and what stands in no batch. Raises BatchError.

        Raises MissingKey or MissingExtra before anything is sent, if a rung that may be called could not be.
        """
        if self._done < self._items:
            self._means.prepare()
        since, books = self.store.ending_since(), self._means.books
        if since is not None and books.read is not None:
            ending = (item.request.id for item in self.store.unfinished() if item.state == ENDING)
            self._recorded = recorded(books.read, ending, since - _CLOCK_STEP_S)
        for page in pages(self.store.unfinished(), lambda item: item.size):
            self._advance(page, is_new=self._is_new)
        self._is_new = False
        self._sender.dispatch()

    def go_on(self, *, wait: bool = True) -> bool:
        """Round after round, until every item is done; whether it is so. `wait`: for batches that have not ended. Raises BatchError."""
        while True:
            for page in self._sender.collect(wait=wait):
                self._page = dict(page)
                numbers = dict.fromkeys(int(key.partition("/")[0]) for key in self._page)
                self._advance(self._some(numbers))
                self._page = {}
            if self._sender.is_under_way:  # not to wait for: what follows from those that have ended goes out now
                self._sender.dispatch()
                return False
            if not self._sender.has_open:
                return True
            self._sender.dispatch()

    def climber_of(self, item: Item) -> Climber:
        """The ladder's, or the baseline's, for a request that the mode or the rollout gives to it."""
        policy = self.settings.policy
        if policy.rollout is None and self.settings.mode == "enforce":
            return self._ladder
        unit = unit_of(policy.rollout, item.request.metadata, item.request.id)
        is_ladder = arm_of(self.settings.mode, policy.rollout, policy.name, unit) == "cascade"
        return self._ladder if is_ladder else self._baseline

    def ended(self, item: Item) -> Finished | None:
        """What an item has come to, by its stored outcomes; None if it needs others."""
        found = self.climber_of(item).run(item)
        return found if isinstance(found, Finished) else None

    def _some(self, numbers: Iterable[int]) -> list[Item]:
        """These items, in order: of climbs that are kept, or from the store."""
        found: list[Item] = []
        missing: list[int] = []
        for number in numbers:
            item = self._kept.item(number)
            if item is None:
                missing.append(number)
            else:
                found.append(item)
        if missing:
            found += self.store.some(missing)
        return sorted(found, key=lambda item: item.n)

    def _advance(self, items: Iterable[Item], *, is_new: bool = False) -> None:
        """Climb with these items, and store what comes of it. `is_new`: nothing is stored of them."""
        with self.store.together():
            for item in items:
                self._climb(item, is_new=is_new)
        self._write()
        while self._live:
            live = self._live
            self._live = []
            with ThreadPoolExecutor(_LIVE_AT_ONCE, "cascade-batch") as pool:
                outcomes = pool.map(self._means.call, [call.prompt for _, call in live])
                for (_, call), outcome in zip(live, outcomes, strict=True):
                    self.store.say(call.key, outcome)  # each for itself: it is paid for
            with self.store.together():
                for item in {item.n: item for item, _ in live}.values():
                    self._climb(item)
            self._write()

    def _climb(self, item: Item, *, is_new: bool = False) -> None:
        climber = self.climber_of(item)
        while True:
            found = climber.run(item, is_new=is_new)
            self._budget.settle(item, found.known)
            if isinstance(found, Finished):
                self._budget.forget(item.n)
                self._finished.append((climber, item, found))
                return
            if self._admit(item, found):
                break
            is_new = False  # the refusal is stored
        for call in found.calls:
            if call.prompt.rung.provider == "anthropic":
                self._calls.append(BatchCall(call.key, call.prompt))
            else:
                self._live.append((item, call))

    def _admit(self, item: Item, waiting: Waiting) -> bool:
        """Whether every call is admitted. A refusal is stored as the call's outcome: the rule then decides out of budget."""
        for call in waiting.calls:
            refusal = self._budget.admit(item, waiting.task, call)
            if refusal is not None:
                self.store.say(call.key, refusal)
                return False
        return True

    def _write(self) -> None:
        """Store the calls of the next round, and put what has ended on record."""
        calls, finished = self._calls, self._finished
        self._calls, self._finished = [], []
        for _ in self._sender.add(calls):
            pass  # the climb has looked for them: none is known
        if finished:
            self.store.set_ending((item.n for _, item, _ in finished), time.time())
            books = self._means.books
            for climber, item, found in finished:
                if item.request.id not in self._recorded:
                    books.put(climber.plan, climber.arm, item, found)
            books.flush()
            self.store.set_done([line_of(item, found) for _, item, found in finished])
            self._done += len(finished)
        self._tell()

    def _look_up(self, key: str) -> Stored | tuple[CheckResult, ...] | None:
        found = self._page.get(key)
        return found or self._sender.outcome(key) or self.store.said(key)

    def _verify(self, key: str, event: Verify, request: Request) -> tuple[CheckResult, ...]:
        results = tuple(
            run_check(verifier, event.text or "", request, event.task, float("inf")) for verifier in event.verifiers
        )
        self.store.say(key, results)
        return results

    def _wait(self, seconds: float) -> None:
        self._tell()
        self._means.wait(seconds)

    def _tell(self) -> None:
        if self._means.on_progress is not None:
            self._means.on_progress(Progress(self._items, self._done))
