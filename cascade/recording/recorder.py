"""Record a corpus: every rung asked for every input, the baseline plainly, all of it graded; resumable at any moment.

inputs → ask (as live) → journal, on the disk before the next call → grade → corpus, written whole

The journal is what is appended to, reply by reply: it holds every paid one, and the same command goes on from it. The
corpus holds the items that are complete, in the order of the inputs. It is written anew when it has grown by a quarter
and at the end, and replaced as a whole: it can be read at any time, and lags behind the journal by no more than that.
Recording stores inputs and answers, whatever a policy says of its ledger: that is what a corpus is.

A recording is not a climb: nobody waits for an item, and what a rung answers must not depend on how long the rungs
before it took. So each call may take the policy's whole `deadline_s`, its retries included.

A recording that is whole is gone on with where another grader is wanted: see `regrading`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import glob
import random
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from msgspec.structs import replace

from cascade.claude import AsyncClaude
from cascade.core.budgets import upper_bound
from cascade.core.errors import CascadeError, CorpusError
from cascade.core.messages import Failure, Reply, Request
from cascade.core.models import STREAMS_ABOVE
from cascade.core.policy import Rung
from cascade.corpora.grading import Grade, Graded, Grader, Ungraded, bind_grader, judge_rung
from cascade.corpora.items import Item, Manifest
from cascade.corpora.writing import check_target, write_corpus
from cascade.recording.calls import BASELINE, Asked, cost_of, entry_of, make_roster, reply_of_entry
from cascade.recording.inputs import Inputs
from cascade.recording.journal import Journal, journal_path
from cascade.recording.judge import JudgeReport, controls_of, make_judge
from cascade.recording.noise_floor import (
    AGAIN,
    AGAIN_KEY,
    NoiseFloor,
    are_asked_twice,
    grade_beside,
    noise_of,
    sample_of,
)
from cascade.recording.progress import Report, Settings, Standing, State, Stop, StopKind
from cascade.recording.regrading import check_grader, entries_of, grader_of, is_graded, kept_recording
from cascade.recording.spending_cap import SpendingCap
from cascade.replay.driver import request_of

__all__ = ["Recorder"]

_REFUSED_ALL = (401, 402, 403, 404)  # the key's, the account's or the model's fault: no other input would fare better
_FAILED_IN_A_ROW = 10
_GROWTH = 1.25  # the corpus is written again when it is longer by a quarter: a few times its own size in all


class Recorder:
    """One run of a recording. `client`: an async client of the SDK; `told` is called with how far it is.

    `known`: replies that were paid elsewhere (`observed`), as lines of the journal: those are not asked for again. Raises CorpusError where the corpus is there already, or was begun with other settings; ConfigurationError for a
    target's name, rung, baseline or grader that cannot be used. All before anything is paid.
    """

    def __init__(
        self,
        settings: Settings,
        inputs: Inputs,
        *,
        client: Any = None,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
        told: Callable[[Standing], None] | None = None,
        known: Iterable[dict[str, Any]] = (),
    ) -> None:
        self._settings, self._inputs, self._clock = settings, inputs, clock
        self._told = told
        check_target(settings.target)
        self._roster = make_roster(settings.policy, settings.rungs, settings.baseline)
        baseline = next(one for one in self._roster.asked if one.name == self._roster.baseline)
        self._again, twice = dataclasses.replace(baseline, name=AGAIN), sample_of(inputs.items, settings.baseline_twice)
        self._head = {"inputs": inputs.hash, **self._roster.head()}
        self._kept = kept_recording(settings.target, self._head)
        self._grader_name = grader_of(settings, inputs, self._kept)
        if self._grader_name:
            check_grader(self._grader_name, settings.policy)
        judged = judge_rung(self._grader_name) if self._grader_name else None
        self._grader: Grader | None = None
        if self._grader_name and judged is None:
            self._grader = bind_grader(self._grader_name)
        beside = journal_path(settings.target)
        is_done = self._kept is None or (
            is_graded(self._kept, inputs, self._grader_name, settings.policy)
            and are_asked_twice(self._kept.items, twice)
        )
        if settings.target.exists() and not beside.exists() and is_done:
            hint = "give another name, or move it away"
            raise CorpusError("it is there already, and no recording of it is under way", where=f"{settings.target}", hint=hint)  # fmt: skip
        self._journal = Journal.open(beside, self._head)
        for draft in settings.target.parent.glob(
            f".{glob.escape(settings.target.name)}.[0-9]*"
        ):  # a kill in mid-writing
            draft.unlink(missing_ok=True)
        try:
            for entry in chain(entries_of(self._kept) if self._kept else (), known):
                if (entry["item"], entry["ask"]) not in self._journal.replies:
                    self._journal.append(entry, sync=False)
            self._judge = None if judged is None else make_judge(settings.policy, judged, self._journal, self._call)
        except BaseException:
            self._journal.close()
            raise
        self._twice = twice.union(item for item, ask in self._journal.replies if ask == AGAIN)
        # Where no answer is expected at all, what cannot be graded by itself is graded by agreement with the baseline.
        self._by_agreement = all(item.expected is None for item in inputs.items)
        paid = chain(self._journal.replies.values(), self._journal.judged.values(), self._journal.failures)
        self._unanswered = len(self._journal.unanswered)
        lost = sum(entry["most"] for entry in self._journal.unanswered.values())
        self._purse = SpendingCap(settings.cap, sum(entry["cost"] for entry in paid), lost)
        chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._claude = AsyncClaude(settings.policy.retry, client, clock=clock, chance=chance)
        self._state = State()

    @property
    def grader(self) -> str | None:
        """Who grades; None where nobody does."""
        return self._grader_name

    @property
    def stopped_by(self) -> Stop | None:
        """Why no further call is made; None while it goes on."""
        return self._state.stop

    @property
    def in_flight(self) -> int:
        """Calls that are out, and will be paid."""
        return self._state.in_flight

    def stop(self, kind: StopKind, message: str) -> None:
        """Let no further call out; those in flight are waited for. The first reason stands."""
        self._state.stop = self._state.stop or Stop(kind, message)

    async def run(self) -> Report:
        """Ask what is not in the journal yet, grade, write the corpus. Raises what no call can fix (a missing key)."""
        started, state = self._clock(), self._state
        try:
            # What is answered already comes first: a cap that is reached at once must not make the corpus smaller.
            waiting = iter(sorted(self._inputs.items, key=lambda item: not self._is_answered(item)))
            async with asyncio.TaskGroup() as workers:
                for _ in range(self._settings.concurrency):
                    workers.create_task(self._work(waiting))
            state.judge = await self._judged() if self._judge and state.error is None else None
            self._write()
            if state.error is not None:
                raise state.error
            result = self._report(self._clock() - started)
            if result.is_final:
                self._journal.remove()
            return result
        finally:
            self._journal.close(forget_empty=True)
            await self._claude.aclose()

    async def _work(self, waiting: Iterator[Item]) -> None:
        state = self._state
        for item in waiting:
            if state.stop is not None or state.error is not None:
                return
            try:
                await self._record(item)
            except CascadeError as error:  # nothing that another call would hint: kept until the corpus is written
                state.error = error
                return
            self._tell()
            if len(state.complete) >= max(1.0, state.written * _GROWTH):
                self._write()

    def _is_answered(self, item: Item) -> bool:
        return all((item.id, asked.name) in self._journal.replies for asked in self._asked_of(item))

    def _asked_of(self, item: Item) -> tuple[Asked, ...]:
        """All who are asked for this item, in their order."""
        return (*self._roster.asked, self._again) if item.id in self._twice else self._roster.asked

    async def _record(self, item: Item) -> None:
        """Ask all who have not answered this item yet, one by one, and grade it once all have."""
        state, request, whole = self._state, request_of(item), True
        for asked in self._asked_of(item):
            if (item.id, asked.name) in self._journal.replies:
                state.reused += 1
                continue
            outcome = await self._call(asked, request, item.id)
            if outcome is None:
                return
            whole = whole and (item.id, asked.name) in self._journal.replies
        await asyncio.to_thread(self._journal.sync)  # grading may take long, and no further call may come
        if whole and await self._grade(item):
            state.complete.add(item.id)
            state.failed.pop(item.id, None)

    async def _call(self, asked: Asked, request: Request, item: str) -> Reply | Failure | None:
        """One call, its outcome in the journal when this returns; None where the recording stopped before it."""
        state, prompt = self._state, asked.prompt(request)
        # Of a reply that is streamed, each attempt that breaks off is billed.
        attempts = self._settings.policy.retry.attempts if prompt.max_tokens > STREAMS_ABOVE else 1
        most = attempts * upper_bound(asked.rates, prompt)
        if state.stop is not None or state.error is not None:
            return None
        await self._claude.prepare((asked.rung,))  # where a key is missing nothing goes out: it must not be noted
        if not await self._purse.admit(most):
            self.stop("cap", "the cap is reached")
            return None
        cost = 0
        state.in_flight += 1
        try:
            number = await asyncio.to_thread(self._journal.open_call, item, asked.name, most)
            outcome = await self._claude.call(prompt, self._clock() + self._settings.policy.deadline_s)
            cost = cost_of(asked, outcome)
            entry = self._entry(asked, request, item, outcome, cost)
            await asyncio.to_thread(self._journal.append, {**entry, "call": number}, sync=False)
        finally:
            state.in_flight -= 1
            await self._purse.settle(most, cost)
        state.calls += 1
        self._tell()
        return outcome

    def _entry(self, asked: Asked, request: Request, item: str, outcome: Reply | Failure, cost: int) -> dict[str, Any]:
        """An outcome as a line of the journal; whether it is one that ends the recording is looked at here."""
        state = self._state
        if isinstance(outcome, Failure) and (outcome.kind != "overflow" or self._is_judge(asked)):
            why = f"{asked.name.removeprefix('@')}: {outcome.summary}"
            state.failed[item] = why
            state.in_a_row += 1
            if outcome.kind == "spend_cap" or outcome.status in _REFUSED_ALL:
                self.stop("refused", f"{why}: {' '.join(outcome.message.split())[:300]}")
            elif outcome.kind == "unreachable":
                self.stop("outage", f"{why}; check the endpoint: `cascade doctor`")
            elif state.in_a_row >= max(_FAILED_IN_A_ROW, 2 * self._settings.concurrency):
                self.stop("outage", f"{state.in_a_row} calls in a row failed, the last with {why}")
            return {"failure": outcome.kind, "item": item, "ask": asked.name, "cost": cost}
        state.in_a_row = 0
        if self._judge is not None and self._is_judge(asked) and isinstance(outcome, Reply):
            return self._judge.entry_of(request, outcome, cost)
        return entry_of(asked, item, outcome)

    def _is_judge(self, asked: Asked) -> bool:
        return self._judge is not None and asked is self._judge.asked

    async def _grade(self, item: Item) -> bool:
        """Grade every answer to an item; False where a judge could not be asked."""
        for asked in self._asked_of(item):
            entry = self._journal.replies[item.id, asked.name]
            graded: Graded = Grade(0.0)  # no answer is worth nothing: nothing there is to be graded
            if asked is self._again and self._reference(item) is None:
                graded = Ungraded("the baseline gave no answer the first time")
            elif entry["verdict"] == "answered":
                given = await self._grade_answer(item, asked.name, entry["answer"])
                if given is None:
                    return False
                graded = given
            self._state.grades[item.id, asked.name] = graded
        return True

    async def _grade_answer(self, item: Item, who: str, answer: Any) -> Graded | None:
        if self._judge is None:
            if self._grader is None:
                return Ungraded("no grader was given")
            beside = self._reference(item) if self._by_agreement else None
            graded, agreed = await asyncio.to_thread(
                grade_beside, self._grader, item, answer, beside, again=who == AGAIN
            )
            self._state.by_definition += agreed and who == self._roster.baseline
            return graded
        if item.expected is None and who == self._roster.baseline:
            self._state.by_definition += 1
            return Grade(1.0)
        reference = self._reference(item)
        if reference is None:
            return Ungraded("there is no expected answer, and the baseline gave none")
        graded = await self._judge.grade(item, reference, answer)
        return graded if isinstance(graded, (Grade, Ungraded)) else None

    def _reference(self, item: Item) -> Any:
        if item.expected is not None:
            return item.expected
        entry = self._journal.replies.get((item.id, self._roster.baseline))
        return entry["answer"] if entry and entry["verdict"] == "answered" else None

    async def _judged(self) -> JudgeReport:
        """Try the judge on control items, and tell what it cost and how often it erred."""
        assert self._judge is not None
        known = [(item, self._reference(item)) for item in self._inputs.items if item.id in self._state.complete]
        right_at = self._right_at()
        low = high = unasked = 0
        apart: list[float] = []
        for control in controls_of([(item, ref) for item, ref in known if ref is not None]):
            graded = await self._judge.grade(control.item, control.reference, control.answer)
            self._state.failed.pop(control.item.id, None)  # the item is complete; only this control could not be asked
            if not isinstance(graded, Grade):
                unasked += not isinstance(graded, Ungraded)
                continue
            apart.append(abs(graded.score - control.score))
            low += control.score == 1.0 and graded.score < right_at
            high += control.score == 0.0 and graded.score >= right_at
        judged = self._journal.judged.values()
        asked = self._judge.asked.rung
        failed = (entry for entry in self._journal.failures if entry["ask"] == self._judge.asked.name)
        return JudgeReport(
            asked.rung, asked.model, sum(entry["cost"] for entry in chain(judged, failed)), len(judged),
            self._state.by_definition, len(apart), low, high, sum(apart) / len(apart) if apart else None, unasked,
        )  # fmt: skip

    def _write(self) -> None:
        state = self._state
        if self._kept is not None and len(state.complete) < len(self._inputs.items):
            return  # the corpus is whole: a part of it would be less
        self._journal.sync()
        if not state.complete:  # a corpus without items would only be in the way
            return
        items = [self._item(item) for item in self._inputs.items if item.id in state.complete]
        missing = len(self._inputs.items) - len(items)
        write_corpus(self._settings.target, self._manifest(missing), items)
        state.written = len(items)

    def _item(self, item: Item) -> Item:
        def reply(asked: Asked) -> Any:
            graded = self._state.grades[item.id, asked.name]
            score = graded.score if isinstance(graded, Grade) else None
            return reply_of_entry(self._journal.replies[item.id, asked.name], score)

        recorded = {asked.name: reply(asked) for asked in self._asked_of(item)}
        extra = dict(item.extra or {})
        for who, key in ((BASELINE, "baseline"), (AGAIN, AGAIN_KEY)):
            if (apart := recorded.pop(who, None)) is not None:
                extra[key] = {"answer": apart.answer, "score": apart.score, "usage": apart.usage,
                              "cost_usd": apart.cost_usd, **(apart.extra or {})}  # fmt: skip
        return replace(item, replies=recorded, extra=extra or None)

    def _manifest(self, missing: int) -> Manifest:
        given, settings = self._inputs.manifest, self._settings
        baseline = next(one for one in self._roster.asked if one.name == self._roster.baseline)
        told: dict[str, Any] = {
            "policy": settings.policy.name,
            "baseline": {"model": baseline.rung.model, "rung": None if baseline.name == BASELINE else baseline.name},
            "hashes": self._head,
        }
        if missing:
            told["missing"] = missing
        if self._judge is not None:
            told["judge"] = self._judge_told(self._judge.asked.rung)
        elif self._state.by_definition:
            told["right_by_definition"] = self._state.by_definition
        noise = self._noise()
        named = self._kept.manifest if self._kept else given
        return Manifest(
            name=settings.name or (named.name if named else settings.target.name.partition(".")[0] or "corpus"),
            ladder=self._roster.ladder,
            grader=self._grader_name,
            right_at=self._right_at(),
            synthetic=given.synthetic if given else False,
            licence=given.licence if given else None,
            notes=given.notes if given else None,
            extra={"recorded": told} | ({} if noise is None else {"noise_floor": noise.fields()}),
        )

    def _noise(self) -> NoiseFloor | None:
        second = (self._state.grades.get((item, AGAIN)) for item in self._twice & self._state.complete)
        return noise_of(second, self._right_at())

    def _judge_told(self, rung: Rung) -> dict[str, Any]:
        """What who reads the scores must know of the judge; its money is no property of the corpus."""
        told = {"rung": rung.rung, "model": rung.model, "right_by_definition": self._state.by_definition}
        report = self._state.judge
        return {**told, "controls": report.controls, "error": report.error} if report else told

    def _right_at(self) -> float:
        return self._inputs.manifest.right_at if self._inputs.manifest else 0.5

    def _tell(self) -> None:
        state, items = self._state, len(self._inputs.items)
        if self._told is not None:
            self._told(Standing(items, len(state.complete), state.reused, state.calls, self._purse.spent))

    def _report(self, seconds: float) -> Report:
        state = self._state
        ungraded = tuple(
            (item.id, asked.name.removeprefix("@"), graded.reason)
            for item in self._inputs.items
            for asked in self._asked_of(item)
            if item.id in state.complete and isinstance(graded := state.grades[item.id, asked.name], Ungraded)
        )
        return Report(
            items=len(self._inputs.items), complete=len(state.complete), calls=state.calls, reused=state.reused,
            spent=self._purse.spent, unanswered=self._unanswered, unanswered_cost=self._purse.unanswered, failed=dict(state.failed), ungraded=ungraded, grader=self._grader_name, judge=state.judge,
            noise=self._noise(), by_definition=state.by_definition,
            stop=state.stop, overshoot=self._purse.overshoot, seconds=seconds, anew=self._kept is not None,
        )  # fmt: skip
