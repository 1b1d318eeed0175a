"""The audit's worker: leases sampled requests one by one and has them graded, until none is left, a cap is reached, or it is stopped.

Any number of workers may run, on any number of machines: a lease gives a sample to one of them, a lease that runs out gives it to
another, and a worker without its lease throws its result away. The samples are graded in the order in which they were shipped, those
that cost nothing too: graded ahead of the others, they would make the rate look better than it is while a cap holds those back.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from cascade.audit.batching import LEASE_S, MOST_TOGETHER, BatchAuditCaller, NotSent, UnderWay, batches_folder
from cascade.audit.calling import AuditCaller, AuditWriter
from cascade.audit.caps import cap_text, daily_cap
from cascade.audit.controls import judge_standing, known_controls
from cascade.audit.grading import grader_of, judges_of
from cascade.audit.run import AuditRun, AuditSettings, Stop, StopKind
from cascade.audit.sampled import CallFailed, Disbelieved, LeaseLost, NoRoom, RunState, SampleGrader, day_of, lease_s
from cascade.core.errors import CascadeError, LedgerError, MissingExtra, MissingKey, PolicyError
from cascade.ledger.audit import AuditTables, Grading, Leased
from cascade.ledger.opening import open_ledger, open_reader
from cascade.ledger.stores import LedgerDown
from cascade.logs import log_event
from cascade.policy.binding import bind_policy
from cascade.providers import AsyncProviders, Providers

__all__ = ["AuditRun", "AuditSettings", "AuditWorker", "Stop"]


_PASSING: frozenset[StopKind] = frozenset({"daily_usd", "outage", "ledger"})
"""What a watch waits out: a cap has room again tomorrow, an endpoint and a ledger come back."""

_AT_ONCE = 200  # samples between two looks at the drift
_TRIES = 3
_BACK_OFF_S, _LONGEST_BACK_OFF_S = 60.0, 3_600.0
_HELD_S = 60.0
_FAILURES_IN_A_ROW = 10
_BELIEVABLE = 3  # so many failures in a row may still be the sample's fault
_REFUSED_ALL = (401, 402, 403, 404)  # the key, the account or the model is at fault: every other call would fail too


Wait = Callable[[float], Awaitable[None]]


class AuditWorker:
    """One run. `client`: an async client of the SDK; `batch_client`: a sync one, for batches. `clock`: seconds from any origin; `wall`: Unix seconds.

    `on_graded` is called, in a thread, after each batch in which something was graded, and once at the end of a run without
    `watches`. Raises PolicyError if the policy has no audit or cannot be used,
    ConfigurationError for a grader that cannot.
    """

    def __init__(
        self,
        settings: AuditSettings,
        *,
        client: Any = None,
        batch_client: Any = None,
        on_graded: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        wait: Wait = asyncio.sleep,
    ) -> None:
        policy = settings.policy
        if policy.audit is None:
            hint = "add `audit: {sample: 0.01}`, and `ledger: {content: true}` so that answers can be graded"
            raise PolicyError("this policy samples nothing", where=f"policy {policy.name!r}", key="audit", hint=hint)
        self._settings, self._policy, self._wall, self._wait = settings, policy, wall, wait
        self._on_graded = on_graded
        self._tables = AuditTables(settings.ledger)
        self._providers = AsyncProviders(policy.retry, client, clock=clock, chance=random.Random())  # noqa: S311 - jitter
        commits = policy.ledger.model_copy(update={"durability": "commit"})
        writer: AuditWriter = open_ledger(settings.ledger, commits)
        caller = AuditCaller(bind_policy(policy), writer, self._providers, clock=clock, wall=wall)
        self._together: BatchAuditCaller | None = None
        self._owner, self._lease_s = settings.owner or secrets.token_hex(8), lease_s(policy.deadline_s)
        if settings.batch:
            caller = self._together = BatchAuditCaller(
                bind_policy(policy, batch=True), writer, self._providers, clock=clock, wall=wall, live=caller, poll_s=settings.poll_s,
                models=Providers(policy.retry, batch_client, clock=clock, chance=random.Random()),  # noqa: S311 - jitter
                folder=batches_folder(policy, settings.ledger), read=partial(open_reader, settings.ledger),
            )  # fmt: skip
            self._owner, self._lease_s = caller.run, LEASE_S
        self._state = RunState(settings.cap)
        self._grader = SampleGrader(caller, self._tables, settings.ledger, self._state, wall, seconds=self._lease_s)
        self._graded, self._failed = 0, 0
        self._skipped: Counter[str] = Counter()
        self._waiting: dict[str, str] = {}  # requests, each with the judge that is not believed
        self._held: list[float] = []  # until when they were set aside
        self._in_batch, self._active, self._is_full, self._under_way = 0, 0, False, 0
        self._stop: Stop | None = None
        self._error: CascadeError | LedgerDown | None = None
        self._interrupted = asyncio.Event()
        self._is_done = False  # nothing that was sent in batches is needed any more

    @property
    def in_flight(self) -> int:
        """The number of samples that are being graded now."""
        return self._active

    @property
    def stopped_by(self) -> Stop | None:
        """Why no further sample is taken; None while the run goes on."""
        return self._stop

    def stop(self, kind: StopKind, message: str) -> None:
        """Take no further sample, and finish those that are being graded. The first reason is kept, unless it may pass."""
        if self._stop is None or self._stop.kind in _PASSING:
            self._stop = Stop(kind, message)
        if kind == "interrupted":
            self._interrupted.set()
            if self._together is not None:
                self._together.interrupt()

    async def run(self) -> AuditRun:
        """Grade what is open. Raises LedgerError if the ledger fails, and what no other call would avoid (MissingKey)."""
        watches = self._settings.watches
        try:
            if self._together is not None:
                await asyncio.to_thread(self._tables.give_back, self._policy.name, self._owner)
            while True:
                await (self._batch() if self._together is None else self._grade_together(self._together))
                if self._in_batch or not watches:
                    await asyncio.to_thread(self._on_graded)
                held = self._stop
                if held is None and self._in_batch >= _AT_ONCE:
                    continue
                if not watches or (held is not None and held.kind not in _PASSING):
                    break
                self._tell_cap(held)
                await self._rest(self._settings.poll_s if held is None else _HELD_S)
            for until in self._held:  # for the next run, which may have another judge
                await asyncio.to_thread(self._tables.take_up, self._policy.name, until)
            self._is_done = self._under_way == 0
            return await self._result()
        except LedgerDown as down:
            raise LedgerError(str(down)) from None
        finally:
            await self._providers.aclose()
            if self._together is not None:
                await asyncio.to_thread(self._together.close, is_done=self._is_done)

    def _tell_cap(self, held: Stop | None) -> None:
        """A watch that waits for room says so: once, until it has graded something again."""
        is_full = held is not None and held.kind == "daily_usd"
        if held is not None and is_full and (self._in_batch or not self._is_full):
            log_event("warning", "audit_cap", policy=self._policy.name, why=held.message)
        self._is_full = is_full

    async def _batch(self) -> None:
        """Grade up to a number of samples. Raises what no other sample would avoid."""
        self._in_batch = 0
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._settings.concurrency):
                tasks.create_task(self._work())
        if self._error is not None:
            raise self._error

    async def _rest(self, seconds: float) -> None:
        """Wait, unless the run is stopped. What held it up is then tried again."""
        waiting = [asyncio.ensure_future(self._wait(seconds)), asyncio.ensure_future(self._interrupted.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        if self._stop is not None and self._stop.kind in _PASSING:
            self._stop = None
            self._state.failures = min(
                self._state.failures, _FAILURES_IN_A_ROW - 1
            )  # one more failure is enough to rest again

    async def _work(self) -> None:
        """Grade samples one by one, until there is none or no further one may be taken."""
        while self._stop is None and self._error is None and self._in_batch < _AT_ONCE:
            try:
                if (leased := await self._lease()) is None:
                    return
                self._active += 1
                try:
                    no_room = await self._grade(leased)
                finally:
                    self._active -= 1
                if no_room is not None and not self._active:
                    # Else what the others have reserved may come free: the last of them goes on.
                    await self._out_of_room(no_room)
            except LedgerDown as down:
                self._ledger_down(down)
                return
            except CascadeError as error:  # no other sample would fare better
                self._error = self._error or error
                return
            if no_room is not None:
                return

    async def _lease(self) -> Leased | None:
        name, lease = self._policy.name, self._tables.lease
        leased = await asyncio.to_thread(
            lease, name, self._owner, self._wall(), self._lease_s, bound=0, cap=None, day=0.0
        )
        return leased if isinstance(leased, Leased) else None

    async def _grade_together(self, caller: BatchAuditCaller) -> None:
        """As `_batch`, but many samples at a time, with their calls in batches. A cap with room for no further call ends it."""
        self._in_batch = 0
        tasks: list[asyncio.Task[NoRoom | None]] = []
        try:
            while self._stop is None and self._error is None:
                no_room = await self._lease_many(caller, tasks)
                await caller.drive()
                ends = [task.result() for task in tasks]
                tasks.clear()
                if all(end is not None for end in ends):
                    if (held := no_room or next(iter(ends), None)) is not None and self._error is None:
                        await self._out_of_room(held)
                    break
        finally:
            for task in tasks:
                task.cancel()
        if self._error is not None:
            raise self._error

    async def _lease_many(self, caller: BatchAuditCaller, tasks: list[asyncio.Task[NoRoom | None]]) -> NoRoom | None:
        """Lease samples in their order, each once the one before waits for its call. Returns the cap that has no room for one."""
        while self._stop is None and self._error is None and len(tasks) < MOST_TOGETHER:
            try:
                leased = await self._lease()
            except LedgerDown as down:
                self._ledger_down(down)
                return None
            if leased is None:
                return None
            task = asyncio.create_task(self._grade_one(leased))
            caller.watch(task)
            await caller.settled()
            if task.done() and (no_room := task.result()) is not None:
                return no_room
            tasks.append(task)
        return None

    async def _grade_one(self, leased: Leased) -> NoRoom | None:
        self._active += 1
        try:
            return await self._grade(leased)
        except LedgerDown as down:
            self._ledger_down(down)
        except CascadeError as error:  # no other sample would fare better
            self._error = self._error or error
        finally:
            self._active -= 1
        return None

    async def _out_of_room(self, no_room: NoRoom) -> None:
        now, limit = self._wall(), self._settings.cap if no_room.cap == "max_usd" else daily_cap(self._policy)
        used = self._state.counted
        if no_room.cap == "daily_usd":
            used = await asyncio.to_thread(self._tables.committed, self._policy.name, now, day_of(now))
        self.stop(no_room.cap, cap_text(no_room.cap, limit or 0, used, no_room.bound))

    def _ledger_down(self, down: LedgerDown) -> None:
        if self._settings.watches:
            log_event("warning", "audit_ledger_down", policy=self._policy.name, error=str(down))
            self.stop("ledger", str(down))
        else:
            self._error = self._error or down

    async def _grade(self, leased: Leased) -> NoRoom | None:
        """Grade one sample, or give it back. Returns the cap that has no room."""
        try:
            grading = await self._grader.grade(leased)
        except NoRoom as no_room:
            await asyncio.to_thread(self._tables.release, leased, tried=False)
            return no_room
        except LeaseLost:
            return None
        except UnderWay as under_way:
            self._leave(under_way)
            return None
        except Disbelieved as disbelieved:
            await self._set_aside(leased, disbelieved.judge)
            return None
        except CallFailed as failed:
            await self._after_failure(leased, failed)
            return None
        except LedgerDown:
            raise
        except (MissingKey, MissingExtra, NotSent) as problem:  # no other sample would fare better
            await asyncio.to_thread(self._tables.release, leased, tried=False)
            raise problem.problem if isinstance(problem, NotSent) else problem from None
        except Exception as problem:  # noqa: BLE001 - what was stored of one request must not stop the others
            log_event("error", "audit_sample_failed", request=leased.sample.request, error=type(problem).__name__)
            await self._try_later(leased, "unreadable")
            return None
        await self._finish(leased, grading)
        return None

    def _leave(self, under_way: UnderWay) -> None:
        """A call is under way in a batch that cannot be read now: the lease is kept, for the next run to take up."""
        self._under_way += 1
        if (failure := under_way.failure) is not None:
            is_refused = failure.kind in ("rejected", "spend_cap")
            self.stop("refused" if is_refused else "outage", under_way.message)

    async def _set_aside(self, leased: Leased, judge: str) -> None:
        """Give the sample back until the run ends, so that it goes on with others. After a kill it is free again within the hour.

        All of them are set aside until the same time, by which `take_up` finds them.
        """
        now = self._wall()
        if not self._held or now >= self._held[-1]:
            self._held.append(now + _LONGEST_BACK_OFF_S + random.random())  # noqa: S311 - no other run's
        self._waiting[leased.sample.request] = judge
        await asyncio.to_thread(self._tables.release, leased, retry_at=self._held[-1], tried=False)

    async def _finish(self, leased: Leased, grading: Grading) -> None:
        if not await asyncio.to_thread(self._tables.finish, leased, grading, self._wall()):
            return
        self._in_batch += 1
        self._waiting.pop(leased.sample.request, None)
        if grading.skipped is None:
            self._graded += 1
        else:
            self._skipped[grading.skipped] += 1

    async def _after_failure(self, leased: Leased, failed: CallFailed) -> None:
        """Give the sample back; stop the run if every other call would fail too."""
        failure, name = failed.failure, self._policy.name
        if failure.kind == "spend_cap" or failure.status in _REFUSED_ALL:
            await asyncio.to_thread(self._tables.release, leased, tried=False)
            self.stop("refused", f"{failure.summary}: {' '.join(failure.message.split())[:300]}")
            return
        if failure.kind == "unreachable" or self._state.failures >= _FAILURES_IN_A_ROW:
            if self._stop is None:
                log_event("warning", "audit_outage", policy=name, failure=failure.summary)
            self.stop("outage", f"{failure.summary}; check the endpoint: `cascade doctor`")
        await self._try_later(leased, failed.code)

    async def _try_later(self, leased: Leased, code: str) -> None:
        """Give the sample back for now. After too many tries it is skipped, unless all calls fail now."""
        if leased.tries + 1 >= _TRIES and self._state.failures < _BELIEVABLE and self._stop is None:
            grader = grader_of(self._policy, leased.sample.task)
            await self._finish(leased, Grading(grader, skipped=code))
            return
        self._failed += 1
        wait = min(_BACK_OFF_S * 10**leased.tries, _LONGEST_BACK_OFF_S)
        await asyncio.to_thread(self._tables.release, leased, retry_at=self._wall() + wait)

    async def _result(self) -> AuditRun:
        name, now = self._policy.name, self._wall()
        counts = await asyncio.to_thread(self._tables.counts, name, now)
        controls = await asyncio.to_thread(known_controls, self._policy, self._tables, now)
        return AuditRun(
            self._graded, dict(self._skipped), self._failed, Counter(self._waiting.values()), self._grader.controls, self._state.spent,
            counts,
            {judge: judge_standing(controls, judge) for judge in judges_of(self._policy)},
            await asyncio.to_thread(self._tables.leased_for, name, now), self._stop,
        )  # fmt: skip
