"""The replay driver: runs `core.climb` with replies from a corpus. Time is the items' arrival; there is no network.

Recorded replies are judged by the function that judges live ones (`core.verdicts.verdict_on`), so a threshold means the same
in both. A reply's cost is the recorded one, or its usage at the policy's prices.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from cascade.core import prices
from cascade.core.bound_policy import BoundPolicy
from cascade.core.climb import Observation, climb
from cascade.core.decision import Call, Situation
from cascade.core.errors import CorpusError, RequestError
from cascade.core.events import (
    Ask,
    AskAuxiliary,
    AskJudge,
    AskReview,
    AskSamples,
    Early,
    Event,
    Finish,
    Recorded,
    Taken,
    Taking,
)
from cascade.core.grouping import grouping_text
from cascade.core.messages import Block, Request, Usage
from cascade.core.policy import Variant
from cascade.core.policy.ladder import asked_as
from cascade.core.requests import read_messages
from cascade.core.sampling import take_step
from cascade.core.storm import Change, Guard
from cascade.core.trail import Answer, CheckResult, Review, Step, Verdict
from cascade.core.triage import triage_name
from cascade.core.verdicts import verdict_on
from cascade.core.verification import Verifier
from cascade.corpora.items import Item, RecordedReply
from cascade.replay.closing import CostOf, closed_cost, has_head, is_declined, reading_of, tokens_of_closed
from cascade.replay.cold import climbs_cold, cold_tokens, recorded_prefix
from cascade.replay.reviews import NO_REVIEW, REVIEW_HINT, no_review, no_review_cost, review_code, review_cost
from cascade.replay.samples import lacks_sample, places_of, variant_names

__all__ = ["CostOf", "OnChange", "recorded_step", "recorded_verdict", "replay_item", "request_of"]

OnChange = Callable[[Change], object]
"""Called for each change of a storm guard."""

_NO_GUARD = Situation()


def request_of(item: Item) -> Request:
    """The request that an item records; its key `system` is the system prompt. Raises RequestError if invalid."""
    system = _system(item.extra["system"]) if item.extra and "system" in item.extra else None
    return Request(messages=read_messages(item.input), system=system, task=item.task, id=item.id)


def _system(value: object) -> str | tuple[Block, ...] | None:
    """A request's system prompt: text, or text blocks. A string in a list becomes a block."""
    if value is None or isinstance(value, str):
        return value or None
    if not isinstance(value, list):
        raise RequestError("system: must be a text, or a list of text blocks")
    return tuple(_blocks(cast("list[object]", value))) or None


def _blocks(parts: list[object]) -> Iterator[Block]:
    for part in parts:
        if isinstance(part, str):
            yield {"type": "text", "text": part}
        elif isinstance(part, list):  # the blocks of one of several system turns
            yield from _blocks(cast("list[object]", part))
        else:
            block = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
            if block.get("type") != "text" or not isinstance(block.get("text"), str):
                raise RequestError("system: must be a text, or a list of text blocks")
            yield block


def recorded_verdict(reply: RecordedReply, *, triage: bool, in_vote: bool = False) -> Verdict:
    """The verdict on a recorded reply. `triage`: the rung was asked for its confidence (every rung but the last).

    `in_vote`: it is a sample, whose answer counts without a confidence.
    """
    if (failed := reply.failed) is not None:
        return Verdict(failed, detail="recorded")
    if not triage:
        return Verdict("answered", text=_plain(reply))
    if not reply.has_answer:  # the text was not recorded, but it was graded: it counts as answered
        verdict = verdict_on(reply.confidence, "", structured=False, in_vote=in_vote)
        return Verdict("answered", verdict.confidence, verdict.source) if verdict.kind == "answered" else verdict
    structured = not (isinstance(reply.answer, str) or reply.answer is None)
    return verdict_on(reply.confidence, reply.answer, structured=structured, in_vote=in_vote)


def replay_item(
    plan: BoundPolicy,
    item: Item,
    *,
    cost_of: CostOf = "recorded",
    guard: Guard | None = None,
    request: Request | None = None,
    rungs: Sequence[str] | None = None,
    on_change: OnChange | None = None,
) -> Answer:
    """Climb for one item. `guard` observes each step at the item's `at`; `request` replaces the item's own.

    `rungs` names the corpus's rung for each rung of the plan (None: the names are equal). `on_change` is called for
    each change of the guard. Raises CorpusError if the rule reaches a reply that was not recorded, and whatever
    `climb` raises.
    """
    steps = climb(plan, request or request_of(item), reading=reading_of(plan.policy))
    active = guard if item.at is not None else None
    recording = _Recording(plan, item, cost_of, rungs)
    try:
        wanted = next(steps)
        while True:
            if not isinstance(wanted, Observation):
                wanted = steps.send(recording.answer(wanted))
            elif active is None:
                wanted = steps.send(_NO_GUARD)
            else:
                wanted = steps.send(_situation(active, wanted, item.at or 0.0, on_change))
    except StopIteration as done:
        return done.value


def recorded_step(
    plan: BoundPolicy,
    item: Item,
    index: int,
    task: str,
    rungs: Sequence[str] | None = None,
    cost_of: CostOf = "recorded",
) -> Step:
    """The step that the rung at `index` takes for an item, with its samples if it is asked more than once.

    The scorer is not applied. Raises CorpusError for what was not recorded.
    """
    recording = _Recording(plan, item, cost_of, rungs)
    stepping = take_step(Taking(plan, request_of(item), task, plan.checks_for(task)), Call(index))
    try:
        event = next(stepping)
        while True:
            event = stepping.send(recording.answer(event))
    except StopIteration as done:
        taken: Taken = done.value
    assert taken.step is not None, "a recording refuses nothing"
    return taken.step


class _Recording:
    """Answers what the climb asks for from one item."""

    def __init__(self, plan: BoundPolicy, item: Item, cost_of: CostOf, rungs: Sequence[str] | None) -> None:
        self._plan, self._item = plan, item
        self._cost_of: CostOf = cost_of
        self._rungs = rungs or tuple(rung.rung for rung in plan.policy.ladder)
        self._prefix: int | None = None  # of the prompt, as `cold.recorded_prefix`, once it is needed
        self._places: tuple[int | None, ...] = ()  # of the rung that is being asked: where each sample is recorded

    def answer(self, event: Event) -> Any:
        """What the climb is sent. Raises CorpusError for what was not recorded."""
        if isinstance(event, AskAuxiliary):
            return None  # the recorded replies are what the rungs said; what was asked beside them is not recorded
        index = event.index
        reply = self._item.reply(self._rungs[index])
        if isinstance(event, AskReview):
            return self._reviewed(reply, event)
        if isinstance(event, Ask) and event.early and has_head(reply):
            return Early(float(reply.confidence or 0.0), is_declined(reply))
        if isinstance(event, Finish) and event.action == "close":
            whole = self._tokens(index, reply, None)
            cost = closed_cost(self._plan.rates[index], reply, self._cost_of, whole)
            return Recorded(Verdict("answered"), tokens_of_closed(reply, whole), cost)
        if isinstance(event, (Ask, Finish)):
            verdict = recorded_verdict(reply, triage=index != self._plan.policy.top)
            return self._priced(verdict, index, reply, None)
        if isinstance(event, AskSamples):
            own, wanted = triage_name(self._plan.policy), variant_names(self._plan.policy, event.samples)
            self._places = places_of([sample.variant for sample in reply.every], wanted, own)
            return tuple(self._sample(index, reply, event, number, wanted[number]) for number in event.numbers)
        if isinstance(event, AskJudge):
            return self._judged(index, reply, event)
        place = 0 if event.number is None else self._places[event.number]
        asked = reply.every[place or 0]
        return tuple(self._checked(asked, verifier) for verifier in event.verifiers)

    def _sample(self, index: int, reply: RecordedReply, event: AskSamples, number: int, wanted: str) -> Recorded:
        place = self._places[number]
        if place is None:
            hint = "record more samples (--samples), or ask for fewer"
            raise self._error(lacks_sample(self._rungs[index], number, wanted, reply), hint)
        sample = reply.every[place]
        if not sample.has_answer and sample.failed is None:
            problem = f"the answer of sample {number + 1} of rung {self._rungs[index]!r} was not recorded"
            raise self._error(problem, "votes compare answers: record them")
        verdict = recorded_verdict(sample, triage=True, in_vote=True)
        return self._priced(verdict, index, sample, event.samples.variant(number))

    def _judged(self, index: int, reply: RecordedReply, event: AskJudge) -> Recorded:
        of = tuple(self._places[number] for number in event.numbers)
        judged = next((one for one in reply.groups or () if one.of == of), None)
        if judged is None:
            samples = ", ".join(str(number + 1) for number in event.numbers)
            problem = f"no judge's grouping of samples {samples} of rung {self._rungs[index]!r} was recorded"
            raise self._error(problem, "record it (--same judge), or compare the answers in another way")
        if judged.groups is None:
            verdict = Verdict("malformed", detail="recorded")
        else:
            group = {place: n for n, members in enumerate(judged.groups) for place in members}
            verdict = Verdict("answered", text=grouping_text([group[place] for place in judged.of]))
        usage = Usage.from_api(judged.usage or {})
        recorded = self._cost_of == "recorded" and judged.cost_usd is not None
        cost = round((judged.cost_usd or 0) * 1e9) if recorded else prices.cost(self._plan.rates[0], usage)
        return Recorded(verdict, usage, cost)

    def _reviewed(self, reply: RecordedReply, event: AskReview) -> Review:
        rung, reviewer = self._rungs[event.index], self._rungs[event.reviewer]
        if event.steps and event.steps[-1].samples:
            raise self._error(f"the answer of a vote of {rung!r} has no recorded review", "ask the rung once")
        found = reply.review
        if found is None or review_code(found, reviewer) == NO_REVIEW:
            raise self._error(no_review(rung, reviewer), REVIEW_HINT)
        cost = review_cost(found, self._plan.rates[event.reviewer], self._cost_of)
        if cost is None:
            raise self._error(no_review_cost(rung, self._cost_of), REVIEW_HINT)
        asked = self._plan.policy.ladder[event.reviewer]
        detail = "recorded" if found.accepted is None else ""
        return Review(asked.rung, asked.model, found.accepted, detail, found.tokens, cost)

    def _checked(self, reply: RecordedReply, verifier: Verifier) -> CheckResult:
        found = reply.check(verifier.name)
        if found is None:
            raise self._error(
                f"no result of the check {verifier.name!r} was recorded", "record it, or leave the check out"
            )
        return CheckResult(verifier.name, found.passed, verifier.blocks, found.seconds)

    def _priced(self, verdict: Verdict, index: int, reply: RecordedReply, variant: Variant | None) -> Recorded:
        tokens = self._tokens(index, reply, variant)
        if self._cost_of == "recorded" and reply.cost_usd is not None:
            return Recorded(verdict, tokens, round(reply.cost_usd * 1e9))
        return Recorded(verdict, tokens, prices.cost(self._plan.rates_of(index, variant), tokens))

    def _tokens(self, index: int, reply: RecordedReply, variant: Variant | None) -> Usage:
        """What the reply is billed: the recorded tokens, or these with a cold cache where the policy says so."""
        if not climbs_cold(self._plan.policy, index, self._cost_of):
            return reply.tokens
        if self._prefix is None:
            self._prefix = recorded_prefix(self._item, request_of(self._item))
        rung = self._plan.policy.ladder[index]
        return cold_tokens(rung if variant is None else asked_as(rung, variant), reply.tokens, self._prefix)

    def _error(self, problem: str, hint: str) -> CorpusError:
        where = f"line {self._item.line}" if self._item.line else "corpus"
        return CorpusError(problem, where=where, item=self._item.id, hint=hint)


def _situation(guard: Guard, step: Observation, now: float, on_change: OnChange | None) -> Situation:
    action, changes = guard.observe(
        step.task, step.rung, natural=step.natural, failed=step.failed, storm_cost=step.storm_cost, now=now
    )
    if on_change is not None:
        for change in changes:
            on_change(change)
    return Situation(None if action == "alert" else action)


def _plain(reply: RecordedReply) -> str | None:
    if not reply.has_answer:
        return None
    if reply.answer is None:
        return ""
    return reply.answer if isinstance(reply.answer, str) else json.dumps(reply.answer, ensure_ascii=False)
