"""Record a corpus: call every rung and the baseline for every input and grade the replies. Resumable at any moment.

inputs → call (as live) → journal, on the disk before the next call → check → group → grade → corpus, written as a whole

A rung with `samples` is asked for all of them (`replies`), external checks are run on every answer (`checking`), and a judge
groups answers by meaning where the policy's votes have one (`grouping`), and its review gate's rung reviews them (`reviewing`).

The journal gets every paid reply as it arrives, and the same command resumes from it. The corpus holds the complete items,
in the order of the inputs. It is replaced as a whole when it has grown by a quarter, and at the end, so it can be read at
any time. Recording stores inputs and answers, whatever the policy says of its ledger: that is what a corpus is.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Self

from msgspec.structs import replace

from cascade.core.errors import CascadeError
from cascade.core.messages import Failure, Reply
from cascade.core.policy import Rung
from cascade.corpora.grading import Grade, Graded, Grader, Ungraded, bind_grader, judge_rung
from cascade.corpora.items import Item, Manifest
from cascade.corpora.writing import write_corpus
from cascade.providers import AsyncProviders, Providers
from cascade.recording.batching import BatchCaller
from cascade.recording.calling import Caller
from cascade.recording.calls import BASELINE, Respondent, journal_entry
from cascade.recording.checking import Checker
from cascade.recording.completeness import BATCHES, more_hashes, recorded_in_batches
from cascade.recording.grouping import Grouper, SameJudgeReport, make_pairs
from cascade.recording.inputs import Inputs
from cascade.recording.judge import Judge, JudgeReport, make_controls, make_judge
from cascade.recording.noise_floor import (
    BASELINE_AGAIN,
    BASELINE_AGAIN_KEY,
    NoiseFloor,
    grade_against_baseline,
    measure_noise_floor,
)
from cascade.recording.opening import OpenRecording, open_recording
from cascade.recording.progress import RecordingProgress, Report, Settings, State, Stop, StopKind
from cascade.recording.replies import Replies
from cascade.recording.reviewing import Reviewer

__all__ = ["Recorder"]

_GROWTH = 1.25  # the corpus is written again when it is a quarter longer: in all a few times its own size

Clock = Callable[[], float]
OnProgress = Callable[[RecordingProgress], None]


class Recorder:
    """One run of a recording, made by `Recorder.open`."""

    def __init__(
        self,
        recording: OpenRecording,
        client: Any,
        clock: Clock,
        chance: random.Random,
        on_progress: OnProgress | None,
    ) -> None:
        self._settings, self._inputs, self._plan = recording.settings, recording.inputs, recording.plan
        self._hashes, self._complete, self._journal = recording.hashes, recording.complete, recording.journal
        self._clock, self._on_progress, self._state, self._passes = clock, on_progress, State(), 0
        self._again = dataclasses.replace(self._plan.find(self._plan.baseline), name=BASELINE_AGAIN)
        recorded_twice = (str(key[0]) for key in self._journal.replies if key[1] == BASELINE_AGAIN)
        self._twice = recording.sample.union(recorded_twice)
        self._grader_name = name = recording.grader
        rung = judge_rung(name) if name else None
        self._grader: Grader | None = bind_grader(name) if name and rung is None else None
        policy = self._settings.policy
        batch = self._settings.batch
        self._providers = AsyncProviders(policy.retry, None if batch else client, clock=clock, chance=chance)
        shared = self._settings, self._journal, self._state, self._providers
        if batch:
            models = Providers(policy.retry, client, clock=clock, chance=chance)
            self._caller: Caller = BatchCaller(*shared, models=models, clock=clock, on_call=self._notify)
        else:
            self._caller = Caller(*shared, clock=clock, on_call=self._notify)
        self._judge = None if rung is None else make_judge(policy, rung, self._journal, self._caller.call)
        judged = any(one.is_judged for many in self._plan.samples.values() for one in many)
        self._grouper = Grouper(self._plan.plan, self._journal, self._caller.call) if judged else None
        self._reviewer = Reviewer(self._plan.plan, self._journal, self._caller.call) if self._plan.has_reviews else None
        self._replies = Replies(
            self._plan, self._journal, Checker(self._journal, policy.deadline_s), self._reviewer, again=self._again, twice=self._twice,
            complete=self._complete,
        )  # fmt: skip
        # Without any expected answer, a grader that needs one grades by agreement with the baseline.
        self._by_agreement = all(item.expected is None for item in self._inputs.items)

    @classmethod
    def open(
        cls,
        settings: Settings,
        inputs: Inputs,
        *,
        client: Any = None,
        clock: Clock = time.monotonic,
        chance: random.Random | None = None,
        on_progress: OnProgress | None = None,
        known: Iterable[dict[str, Any]] = (),
    ) -> Self:
        """Begin a recording, or resume one. Makes no call; raises as `open_recording` does.

        `client`: an async client of the SDK; a sync one with `settings.batch`. `known`: replies that were paid for elsewhere (`from_ledger`), as journal
        entries; they are not asked for again.
        """
        recording = open_recording(settings, inputs, known)
        chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        try:
            return cls(recording, client, clock, chance, on_progress)
        except BaseException:
            recording.journal.close()
            raise

    @property
    def grader(self) -> str | None:
        """The grader's name; None: nothing is graded."""
        return self._grader_name

    @property
    def stopped_by(self) -> Stop | None:
        """Why no further call is made; None while the recording goes on."""
        return self._state.stop

    @property
    def in_flight(self) -> int:
        """The number of calls in flight; they will be billed."""
        return self._state.in_flight

    @property
    def samples(self) -> dict[str, int]:
        """By rung how often it is asked at most for an item, for rungs that are asked more than once."""
        found: dict[str, int] = {}
        for (_, rung), many in self._plan.samples.items():
            found[rung] = max(found.get(rung, 0), len(many))
        return found

    @property
    def calls_left(self) -> int:
        """How many replies are missing; groupings and judgements come on top."""
        replies, known = self._replies, self._journal.replies
        return sum(one.key(item.id) not in known for item in self._inputs.items for one in replies.of(item))

    def stop(self, kind: StopKind, message: str) -> None:
        """Make no further call, and wait for those in flight. The first reason is kept."""
        self._caller.stop(kind, message)

    async def run(self) -> Report:
        """Make the missing calls, grade, and write the corpus. Raises errors no other call would avoid (a missing key)."""
        started, state = self._clock(), self._state
        try:
            # Answered items come first, so that reaching the cap at once does not make the corpus smaller.
            order = sorted(self._inputs.items, key=lambda item: not self._replies.is_answered(item))
            await self._caller.record(partial(self._record_all, order))
            await self._caller.record(self._test_models)
            self._write()
            if state.error is not None:
                raise state.error
            result = self._report(self._clock() - started)
            if result.is_final:
                self._journal.remove()
                self._caller.remove()
            return result
        finally:
            self._journal.close(delete_empty=True)
            self._caller.close()
            await self._providers.aclose()

    async def _record_all(self, items: Sequence[Item]) -> None:
        """Go over the items that are not complete, some at a time."""
        self._passes += 1
        waiting = iter([item for item in items if item.id not in self._state.complete])
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._settings.concurrency):
                workers.create_task(self._work(waiting))

    async def _test_models(self) -> None:
        """Measure the errors of the judges, where there are any."""
        state = self._state
        state.judge = await self._test_judge(self._judge) if self._judge and state.error is None else None
        state.same = await self._test_grouper(self._grouper) if self._grouper and state.error is None else None

    async def _work(self, waiting: Iterator[Item]) -> None:
        state = self._state
        for item in waiting:
            if state.stop is not None or state.error is not None:
                return
            try:
                await self._record(item)
            except CascadeError as error:  # no other call would fare better: raised once the corpus is written
                state.error = error
                return
            self._notify()
            if len(state.complete) >= max(1.0, state.written * _GROWTH):
                self._write()

    async def _record(self, item: Item) -> None:
        """Make the calls and checks that are missing of this item, one by one, and grade it once all are there."""
        state, whole, goes_on = self._state, True, self._caller.is_deferred
        for respondent in self._replies.of(item):
            key = respondent.key(item.id)
            if key in self._journal.replies:
                state.reused += self._passes == 1
                continue

            def entry_of(outcome: Reply | Failure, _: int, respondent: Respondent = respondent) -> dict[str, Any]:
                return journal_entry(respondent, item.id, outcome)

            prompt = self._replies.prompt(item, respondent)
            if await self._caller.call(respondent, prompt, item.id, entry_of) is None and not goes_on:
                return
            whole = whole and key in self._journal.replies
        await asyncio.to_thread(self._journal.sync)  # grading may take long, and no further call may come
        if not whole:
            return
        if await self._replies.finish(item, self._grouper, goes_on=goes_on) and await self._grade(item):
            state.complete.add(item.id)
            state.failed.pop(item.id, None)

    async def _grade(self, item: Item) -> bool:
        """Grade every reply to an item; False if a call of the judge failed, or is still to be made."""
        whole = True
        for respondent in self._replies.of(item):
            entry = self._replies.entry(item, respondent)
            graded: Graded = Grade(0.0)  # no answer scores 0
            if respondent is self._again and self._reference(item) is None:
                graded = Ungraded("the baseline's first reply was no answer")
            elif entry["verdict"] == "answered":
                given = await self._grade_answer(item, respondent.name, entry["answer"])
                if given is None:
                    whole = False
                    if self._caller.is_deferred:
                        continue
                    return False
                graded = given
            self._state.grades[respondent.key(item.id)] = graded
        return whole

    async def _grade_answer(self, item: Item, name: str, answer: Any) -> Graded | None:
        if self._judge is None:
            if self._grader is None:
                return Ungraded("no grader was given")
            reference = self._reference(item) if self._by_agreement else None
            graded, agreed = await asyncio.to_thread(
                grade_against_baseline, self._grader, item, answer, reference, again=name == BASELINE_AGAIN
            )
            if agreed and name == self._plan.baseline:
                self._state.by_definition.add(item.id)
            return graded
        if item.expected is None and name == self._plan.baseline:
            self._state.by_definition.add(item.id)
            return Grade(1.0)
        reference = self._reference(item)
        if reference is None:
            return Ungraded("there is neither an expected answer nor one of the baseline")
        graded = await self._judge.grade(item, reference, answer)
        return graded if isinstance(graded, (Grade, Ungraded)) else None

    def _reference(self, item: Item) -> Any:
        if item.expected is not None:
            return item.expected
        entry = self._journal.replies.get((item.id, self._plan.baseline))
        return entry["answer"] if entry and entry["verdict"] == "answered" else None

    async def _test_judge(self, judge: Judge) -> JudgeReport:
        """Judge the control items; the judge's cost and error rate."""
        known = [(item, self._reference(item)) for item in self._inputs.items if item.id in self._state.complete]
        controls = make_controls([(item, ref) for item, ref in known if ref is not None])
        report = await judge.test(controls, self._right_at(), len(self._state.by_definition))
        for control in controls:
            self._state.failed.pop(control.item.id, None)  # the item is complete; only this control failed
        return report

    async def _test_grouper(self, grouper: Grouper) -> SameJudgeReport:
        """Ask about the control items; the judge's errors. Those that a complete corpus tells of the same prompt hold."""
        known = SameJudgeReport.read(self._complete.manifest, grouper.prompt) if self._complete else None
        if known is not None:
            return grouper.report(known.controls, known.apart, known.together)
        done = (item for item in self._inputs.items if item.id in self._state.complete)
        found = ((item, self._replies.judged_answer(item)) for item in done)
        answers = [(item, self._replies.request(item), text) for item, text in found if text is not None]
        report = await grouper.test(make_pairs(answers))
        for item, _, _ in answers:
            self._state.failed.pop(item.id, None)  # the item is complete; only a control failed
        return report

    def _write(self) -> None:
        state = self._state
        if self._complete is not None and len(state.complete) < len(self._inputs.items):
            return  # never replace a complete corpus by a part of it
        self._journal.sync()
        if not state.complete:  # a corpus without items is of no use
            return
        items = [self._item(item) for item in self._inputs.items if item.id in state.complete]
        missing = len(self._inputs.items) - len(items)
        write_corpus(self._settings.target, self._manifest(missing), items)
        state.written = len(items)

    def _item(self, item: Item) -> Item:
        def score(respondent: Respondent) -> float | None:
            graded = self._state.grades[respondent.key(item.id)]
            return graded.score if isinstance(graded, Grade) else None

        recorded = self._replies.recorded(item, score, self._grouper)
        extra = dict(item.extra or {})
        for name, key in ((BASELINE, "baseline"), (BASELINE_AGAIN, BASELINE_AGAIN_KEY)):
            if (reply := recorded.pop(name, None)) is not None:
                extra[key] = {"answer": reply.answer, "score": reply.score, "usage": reply.usage,
                              "cost_usd": reply.cost_usd, **(reply.extra or {})}  # fmt: skip
        for name, reply in recorded.items():
            if reply.samples:
                self._state.samples[name] = max(self._state.samples.get(name, 0), len(reply.every))
        return replace(item, replies=recorded, extra=extra or None)

    def _manifest(self, missing: int) -> Manifest:
        given, settings = self._inputs.manifest, self._settings
        baseline = self._plan.find(self._plan.baseline)
        recorded: dict[str, Any] = {
            "policy": settings.policy.name,
            "baseline": {"model": baseline.rung.model, "rung": None if baseline.name == BASELINE else baseline.name},
            "hashes": {**self._hashes, **more_hashes(self._plan, self._complete, self._replies.prompts)},
        }
        if settings.batch or (self._complete and recorded_in_batches(self._complete.manifest)):
            recorded["batches"] = BATCHES
        if self._grouper is not None and self._state.same is not None:
            recorded["same_judge"] = self._state.same.fields()
        elif self._complete and (kept := SameJudgeReport.fields_in(self._complete.manifest)):
            recorded["same_judge"] = kept
        if missing:
            recorded["missing"] = missing
        if self._judge is not None:
            recorded["judge"] = self._judge_fields(self._judge.respondent.rung)
        elif self._state.by_definition:
            recorded["right_by_definition"] = len(self._state.by_definition)
        noise = self._noise()
        named = self._complete.manifest if self._complete else given
        return Manifest(
            name=settings.name or (named.name if named else settings.target.name.partition(".")[0] or "corpus"),
            ladder=self._plan.ladder,
            grader=self._grader_name,
            right_at=self._right_at(),
            synthetic=given.synthetic if given else False,
            licence=given.licence if given else None,
            notes=given.notes if given else None,
            temperature=self._complete.manifest.temperature if self._complete else None,
            extra={"recorded": recorded} | ({} if noise is None else {"noise_floor": noise.fields()}),
        )

    def _noise(self) -> NoiseFloor | None:
        second = (self._state.grades.get((item, BASELINE_AGAIN)) for item in self._twice & self._state.complete)
        return measure_noise_floor(second, self._right_at())

    def _judge_fields(self, rung: Rung) -> dict[str, Any]:
        """The manifest's key `judge`: what a reader of the scores must know; its cost is not a property of the corpus."""
        fields = {"rung": rung.rung, "model": rung.model, "right_by_definition": len(self._state.by_definition)}
        report = self._state.judge
        return {**fields, "controls": report.controls, "error": report.error} if report else fields

    def _right_at(self) -> float:
        return self._inputs.manifest.right_at if self._inputs.manifest else 0.5

    def _notify(self) -> None:
        state, items = self._state, len(self._inputs.items)
        if self._on_progress is not None:
            self._on_progress(
                RecordingProgress(items, len(state.complete), state.reused, state.calls, self._caller.spending.spent)
            )

    def _report(self, seconds: float) -> Report:
        state, spending = self._state, self._caller.spending
        ungraded = tuple(
            (item.id, respondent.name.removeprefix("@"), graded.reason)
            for item in self._inputs.items
            for respondent in self._replies.of(item)
            if item.id in state.complete and isinstance(graded := state.grades[respondent.key(item.id)], Ungraded)
        )
        return Report(
            items=len(self._inputs.items), complete=len(state.complete), calls=state.calls, reused=state.reused,
            spent=spending.spent, unanswered=self._caller.unanswered, unanswered_cost=spending.unanswered, failed=dict(state.failed), ungraded=ungraded, grader=self._grader_name, judge=state.judge,
            noise=self._noise(), by_definition=len(state.by_definition),
            stop=state.stop, overshoot=spending.overshoot, seconds=seconds, regraded=self._complete is not None,
            samples=state.samples, same=state.same, checks=self._replies.check_counts(),
            reviews=self._reviewer.counts() if self._reviewer else None,
        )  # fmt: skip
