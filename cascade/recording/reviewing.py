"""Reviews of recorded answers: where the policy has a review gate, the reviewer reads every answer that passed its other checks.

Whatever the confidence is: so thresholds and the gate's `below` can be changed afterwards, and a replay still has every review.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from cascade.core.bound_policy import BoundPolicy
from cascade.core.messages import Failure, Reply, Request
from cascade.core.prompts.review_gate import RULES
from cascade.core.review import build_review_prompt, read_review
from cascade.core.sampling import apply_checks
from cascade.core.triage import Prompt
from cascade.corpora.items import RecordedReply, RecordedReview
from cascade.recording.calls import Respondent, usage_fields
from cascade.recording.journal import Journal, paid_for
from cascade.recording.judge import Call
from cascade.replay.driver import recorded_verdict
from cascade.replay.sampled import stuck_at

__all__ = ["REVIEW", "ReviewCounts", "Reviewer", "review_entry", "review_hash", "review_key", "reviewable"]

REVIEW = "@review"
"""The reviewer's name in a journal. No rung can have this name."""


@dataclass(frozen=True, slots=True)
class ReviewCounts:
    """The reviews of a recording: how many answers were accepted and rejected, how many reviews could not be used, nano-USD."""

    accepted: int
    rejected: int
    unusable: int
    cost: int


class Reviewer:
    """Has answers reviewed. Reviews are kept in the journal, so none is paid for twice."""

    def __init__(self, plan: BoundPolicy, journal: Journal, call: Call) -> None:
        self._plan, self._journal, self._call = plan, journal, call

    async def review(self, item: str, request: Request, answer: str, index: int) -> bool:
        """Have an answer reviewed by the rung at `index`; whether there is a review.

        A request and answer that do not fit the reviewer's context window are a review that cannot be used, as live.
        """
        key = review_key(self._plan, request, answer, index)
        async with self._journal.asking[key]:
            if key not in self._journal.reviewed:
                await self._ask(key, item, request, answer, index)
        return key in self._journal.reviewed

    async def _ask(self, key: str, item: str, request: Request, answer: str, index: int) -> None:
        plan = self._plan
        respondent = Respondent(REVIEW, plan.policy, index, plan.rates[index], plan.repair)

        def entry_of(outcome: Reply | Failure, cost: int) -> dict[str, Any]:
            accepted = read_review(plan, index, outcome).accepted
            return review_entry(key, accepted, usage_fields(sum(outcome.spent, outcome.usage)), cost)

        await self._call(respondent, build_review_prompt(plan.policy, index, request, answer), item, entry_of)

    def recorded(self, request: Request, answer: str, index: int) -> RecordedReview:
        """A review that was asked for, as the corpus has it."""
        entry = self._journal.reviewed[review_key(self._plan, request, answer, index)]
        rung = self._plan.policy.ladder[index].rung
        return RecordedReview(rung, entry["accepted"], entry["usage"], entry["cost"] / 1e9)

    def counts(self) -> ReviewCounts:
        """What all reviews of the recording said, and what they cost."""
        entries = self._journal.reviewed.values()
        found: Counter[bool | None] = Counter(entry["accepted"] for entry in entries)
        failed = sum(entry["cost"] for entry in self._journal.failures if entry["ask"] == REVIEW)
        return ReviewCounts(found[True], found[False], found[None], failed + sum(map(paid_for, entries)))


def reviewable(plan: BoundPolicy, task: str, reply: RecordedReply) -> str | None:
    """The answer of a rung below the top if it passes every other check and has a confidence; None if a gate never reads it."""
    checks = plan.checks_for(task)
    verdict = apply_checks(recorded_verdict(reply, triage=True), checks.functions, None)
    stands = verdict.kind == "answered" and verdict.confidence is not None and not verdict.failed_checks
    return verdict.text if stands and stuck_at(verdict, reply, checks.verifiers) == (False, 0) else None


def _asked(prompt: Prompt) -> list[Any]:
    rung = prompt.rung
    return [rung.model, rung.base_url, prompt.max_tokens, rung.effort, rung.thinking and str(rung.thinking)]


def review_hash(plan: BoundPolicy, index: int) -> str:
    """SHA-256 of how the rung at `index` is asked for a review: with other rules or settings its reviews no longer hold."""
    prompt = build_review_prompt(plan.policy, index, Request(()), "")
    return hashlib.sha256(json.dumps([*_asked(prompt), RULES]).encode()).hexdigest()


def review_key(plan: BoundPolicy, request: Request, answer: str, index: int) -> str:
    """What the journal finds a review by: a hash of what the reviewer is asked."""
    prompt = build_review_prompt(plan.policy, index, request, answer)
    return hashlib.sha256(json.dumps([*_asked(prompt), prompt.system, prompt.messages]).encode()).hexdigest()


def review_entry(key: str, accepted: bool | None, usage: Any, cost: int) -> dict[str, Any]:
    """A review as a line of the journal."""
    return {"reviewed": key, "accepted": accepted, "usage": usage, "cost": cost}
