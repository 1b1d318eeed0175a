"""Grades one sampled request: the shadow answer, then the grader or the judge, each call under the caps.

    nothing to ask ─> graded at once
    content ─> shadow answer (kept: never paid for twice) ─> grader ─> grading
                                                          └> control item, if one is due ─> judge ─> grading

A judge that its control items have shown not to be believed is asked nothing, and no shadow answer is asked for it: the sample waits.

Before each call its bound is reserved with the lease, which renews it too. So a lease need only outlast one call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import NamedTuple

from cascade.audit.calling import AuditCall, AuditCaller, Called
from cascade.audit.caps import Cap, daily_cap, smallest_call
from cascade.audit.controls import control_due, judge_id, judge_standing, known_controls, restated
from cascade.audit.grading import Shipped, compare, grader_of, graders_of, grading_without_call, read_shipped
from cascade.audit.judge import grading_of, judge_prompt, judge_request, judgement_of, read_judgement
from cascade.core.bound_policy import with_own_words
from cascade.core.messages import Failure, Reply
from cascade.core.prompts import audit_judge
from cascade.core.trail import Verdict
from cascade.core.triage import Prompt, build_prompt
from cascade.core.verdicts import read_reply
from cascade.corpora.grading import Grader, judge_rung
from cascade.ledger.audit import AuditTables, Control, Grading, Leased, Sample
from cascade.ledger.naming import audit_id
from cascade.ledger.opening import open_reader
from cascade.ledger.prompts import bind_redact, redacted

__all__ = [
    "CallFailed",
    "Disbelieved",
    "LeaseLost",
    "NoRoom",
    "RunState",
    "SampleGrader",
    "Skipped",
    "day_of",
    "lease_s",
]


class NoRoom(Exception):
    """A cap has no room for the next call, which may cost `bound` nano-USD."""

    def __init__(self, cap: Cap, bound: int) -> None:
        self.cap: Cap = cap
        self.bound = bound
        super().__init__(cap)


class LeaseLost(Exception):
    """The lease ran out, and another worker has it."""


class Disbelieved(Exception):
    """The judge that the sample needs is not believed."""

    def __init__(self, judge: str) -> None:
        self.judge = judge
        super().__init__(judge)


class CallFailed(Exception):
    """A call brought no reply. `code`: what the sample is skipped with after too many tries."""

    def __init__(self, code: str, failure: Failure) -> None:
        self.code, self.failure = code, failure
        super().__init__(failure.summary)


class Skipped(Exception):
    """The sample cannot be graded, for this reason. `cost`: of the call that showed it, in nano-USD."""

    def __init__(self, code: str, cost: int = 0) -> None:
        self.code, self.cost = code, cost
        super().__init__(code)


class _Purpose(NamedTuple):
    """What a call is for. `part`: of the name of its request in the ledger; `failed`: the code if it fails; `prompts`: see `AuditCall`."""

    part: str
    failed: str
    prompts: dict[str, str]
    is_control: bool = False


def _judging(part: str, *, is_control: bool = False) -> _Purpose:
    return _Purpose(part, "judge_unusable", {"audit_judge": audit_judge.VERSION}, is_control)


def lease_s(deadline_s: float) -> float:
    """How long a lease runs, in seconds: a call and its records, with room for a slow disk."""
    return deadline_s + min(30.0, max(1.0, deadline_s / 2))


def day_of(now: float) -> float:
    """The start of the day (UTC) that contains a time, in Unix seconds."""
    return now // 86_400 * 86_400


@dataclass(slots=True)
class RunState:
    """What this run has spent, in nano-USD, and how many calls in a row have failed.

    `cap` None: no limit. A call whose reply was lost counts at its bound toward the cap.
    """

    cap: int | None
    spent: int = 0
    counted: int = 0
    reserved: int = 0
    failures: int = 0

    def reserve(self, bound: int) -> bool:
        """Reserve a call's bound; False if the cap has no room for it."""
        if self.cap is not None and self.counted + self.reserved + bound > self.cap:
            return False
        self.reserved += bound
        return True

    def settle(self, bound: int, called: Called | None) -> None:
        """The call is over; None: it was not made."""
        self.reserved -= bound
        if called is not None:
            self.spent += called.cost
            self.counted += called.at_most


def _in_own_thread(work: Callable[[], Grading]) -> asyncio.Future[Grading]:
    """Run it in a thread that nobody waits for at exit: those of `asyncio.to_thread` are few, and one that hangs is lost to the rest."""
    doing: Future[Grading] = Future()
    doing.set_running_or_notify_cancel()  # it cannot be cancelled

    def do() -> None:
        try:
            found = work()
        except BaseException as problem:  # noqa: BLE001 - raised where it is awaited
            doing.set_exception(problem)
        else:
            doing.set_result(found)

    waiting = asyncio.wrap_future(doing)
    threading.Thread(target=do, name="cascade-grader", daemon=True).start()
    return waiting


class SampleGrader:
    """Grades sampled requests of one policy. `wall`: Unix seconds. `seconds`: how long a lease runs.

    Raises ConfigurationError if a grader cannot be used, MissingExtra likewise.
    """

    def __init__(
        self,
        caller: AuditCaller,
        tables: AuditTables,
        address: str | None,
        state: RunState,
        wall: Callable[[], float],
        *,
        seconds: float,
    ) -> None:
        self._caller, self._tables, self._address, self._state, self._wall = caller, tables, address, state, wall
        self._plan, self._policy = caller.plan, caller.plan.policy
        self._cap, self._smallest = daily_cap(self._policy), smallest_call(self._plan)
        redact = self._policy.ledger.redact
        self._redact = bind_redact(redact) if redact is not None else None
        self._graders: Mapping[str, Grader] = graders_of(self._policy)
        self._seconds = seconds
        self._one_at_a_time = asyncio.Lock()  # else each task would ask the first control items
        self.controls = 0
        """Control items that were asked."""

    async def grade(self, leased: Leased) -> Grading:
        """The grading of a leased sample. Raises NoRoom, LeaseLost, CallFailed, Disbelieved, LedgerDown."""
        sample = leased.sample
        found = grading_without_call(sample)
        name = grader_of(self._policy, sample.task)
        if found is not None:
            await self._caller.in_turn()
            return found if found.skipped is None else replace(found, grader=name)
        try:
            shipped = await asyncio.to_thread(self._read, sample)
            grader, shadow = self._graders.get(name), sample.shadow
            if grader is None:
                self._believe(name, await self._controls())
            if shadow is None:
                shadow = await self._shadow(leased, shipped)
            if grader is not None:
                grading = await self._compared(name, grader, sample, shipped, shadow)
            else:
                grading = await self._judged(name, leased, shipped, shadow)
        except Skipped as skipped:
            return Grading(name, skipped=skipped.code, cost=skipped.cost)
        return replace(grading, reason=self._storable(grading.reason))

    async def _controls(self) -> tuple[Control, ...]:
        return await asyncio.to_thread(known_controls, self._policy, self._tables, self._wall())

    def _believe(self, judge: str, controls: Sequence[Control]) -> None:
        """Raises Disbelieved, once enough control items have shown it: what such a judge says counts nowhere, but costs money."""
        standing = judge_standing(controls, judge)
        if standing.is_tested and not standing.is_believed:
            raise Disbelieved(judge)

    def _storable(self, text: str | None) -> str | None:
        """The text as the ledger may keep it; None if it may not."""
        if text is None or not self._policy.ledger.content:
            return None
        try:
            return text if self._redact is None else redacted(text, self._redact)
        except Exception:  # noqa: BLE001 - a user's function: what it failed on must not be stored
            return None

    def _read(self, sample: Sample) -> Shipped:
        reader = open_reader(self._address)
        try:
            found = read_shipped(reader, sample, self._policy.deadline_s)
        finally:
            reader.close()
        if isinstance(found, str):
            raise Skipped(found)
        return found

    async def _compared(self, name: str, grader: Grader, sample: Sample, shipped: Shipped, shadow: str) -> Grading:
        """The grading of a plain grader, which may be a user's function: it runs in a thread, and not for ever."""
        comparing = _in_own_thread(lambda: compare(name, grader, sample, shipped, shadow))
        try:
            return await asyncio.wait_for(comparing, self._policy.deadline_s)
        except TimeoutError:
            return Grading(name, relation="cannot_tell", reason=f"{name} took longer than deadline_s")

    async def _shadow(self, leased: Leased, shipped: Shipped) -> str:
        policy, request = self._policy, shipped.request
        prompt = build_prompt(policy, policy.top, request)

        def read(reply: Reply) -> Verdict:
            in_text = request.prompt_schema is not None
            structured = request.schema is not None
            return read_reply(reply, triage=False, structured=structured, in_text=in_text, repair=self._plan.repair)

        shadow = _Purpose("", "shadow_failed", with_own_words({}, request))
        called = await self._call(leased, shadow, policy.top, prompt, read)
        verdict = called.verdict
        if verdict.kind == "overflow":
            raise Skipped("too_long", called.cost)
        if verdict.kind != "answered" or not verdict.text:
            raise Skipped("shadow_unusable", called.cost)
        kept = self._storable(verdict.text)
        keep = self._tables.keep_shadow
        if not await asyncio.to_thread(keep, leased, kept, called.cost, self._wall(), self._seconds):
            raise LeaseLost
        return kept or verdict.text  # what was shipped is kept as `redact` left it, and is compared with the same

    async def _judged(self, name: str, leased: Leased, shipped: Shipped, shadow: str) -> Grading:
        question = shipped.request.messages
        async with self._one_at_a_time:
            await self._test_judge(name, leased, question, shadow)
        request = judge_request(question, shadow, shipped.text, system=shipped.request.system)
        index = self._index_of(name)
        prompt = judge_prompt(self._policy, index, request)
        called = await self._call(leased, _judging("_judge"), index, prompt, self._judgement)
        if called.verdict.kind == "overflow":
            raise Skipped("too_long", called.cost)
        return grading_of(name, judgement_of(called.verdict), called.cost)

    async def _test_judge(self, name: str, leased: Leased, question: object, shadow: str) -> None:
        """Ask the control items that are due before this sample is judged."""
        request, policy = leased.sample.request, self._policy.name
        index, follows = self._index_of(name), False
        while True:
            known = await self._controls()
            self._believe(name, known)
            item = control_due(known, name, restated(question, shadow), request, follows=follows)
            if item is None:
                return
            asking = judge_request(item.question, item.reference, item.answer)
            prompt = judge_prompt(self._policy, index, asking)
            control = _judging(f"_control_{len(known) + 1}", is_control=True)
            called = await self._call(leased, control, index, prompt, self._judgement)
            said = judgement_of(called.verdict)
            result = Control(
                judge_id(self._policy, name), item.is_right, said.relation if said else None, self._wall(), called.cost
            )
            await asyncio.to_thread(self._tables.add_control, policy, result)
            self.controls += 1
            follows = True

    def _judgement(self, reply: Reply) -> Verdict:
        return read_judgement(reply, self._plan.repair)

    def _index_of(self, judge: str) -> int:
        rung = judge_rung(judge)
        return next(index for index, one in enumerate(self._policy.ladder) if one.rung == rung)

    async def _call(
        self,
        leased: Leased,
        purpose: _Purpose,
        index: int,
        prompt: Prompt,
        read: Callable[[Reply], Verdict],
    ) -> Called:
        """Make one call under the caps."""
        part, failed, prompts, is_control = purpose
        sample, bound = leased.sample, self._caller.bound(index, prompt, is_control=is_control)
        if self._cap is not None and bound > self._cap:
            if self._smallest > self._cap:  # the cap is at fault, not the sample
                raise NoRoom("daily_usd", bound)
            raise Skipped("too_costly")
        if not self._state.reserve(bound):
            raise NoRoom("max_usd", bound)
        called: Called | None = None
        try:
            now = self._wall()
            reserve = self._tables.reserve
            room = await asyncio.to_thread(reserve, leased, bound, now, self._seconds, cap=self._cap, day=day_of(now))
            if room == "lost":
                raise LeaseLost
            if room == "cap":
                raise NoRoom("daily_usd", bound)
            # An id is never used twice, not even after a run that was refused, whose tries do not count.
            name = self._caller.id_of(f"{audit_id(sample.request)}{part}", prompt, is_control=is_control)
            call = AuditCall(name, sample.request, sample.task, index, prompt, read, is_control, prompts)
            made = called = await self._caller.call(call)
        finally:
            self._state.settle(bound, called)
        if made.failure is not None and made.failure.kind != "overflow":
            self._state.failures += 1
            raise CallFailed(failed, made.failure)
        self._state.failures = 0
        return made
