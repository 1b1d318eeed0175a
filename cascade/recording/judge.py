"""The judge: a rung that grades answers against a reference by a rubric, with its error rate on control items.

The reference is the item's expected answer. Without one it is the baseline's answer, which is then right by definition
and not judged. Control items measure how often the judge errs: an item's own reference as the answer must score 1, another
item's reference must score 0. The method is a reference-guided judge (Zheng et al., NeurIPS 2023) with its error measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cascade.core.messages import Failure, Reply, Request
from cascade.core.policy import Policy
from cascade.core.prompts.grading_judge import RUBRIC, SCHEMA
from cascade.core.triage import Prompt
from cascade.corpora.grading import Grade, Graded, Ungraded
from cascade.corpora.items import Item
from cascade.recording.calls import EntryOf, Respondent, plain_respondent
from cascade.recording.journal import Journal, paid_for

__all__ = ["CONTROLS", "Control", "Judge", "JudgeReport", "judge_text", "make_controls", "make_judge"]

CONTROLS = 10
"""Items that are judged with a known score, twice each: 20 calls, enough to detect a judge that cannot judge."""

Call = Callable[[Respondent, Prompt, str, EntryOf], Awaitable[Reply | Failure | None]]
"""Makes one paid call of a respondent for an item's id; None if the recording stopped before it."""


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """The judge's cost in nano-USD, its number of judgements, and its errors on control items.

    `by_definition`: scores that are 1 without a judgement. `too_low`: own references scored below `right_at`.
    `too_high`: other items' references scored at or above it. `deviation`: the mean distance from the known score, None
    if no control was judged. `unasked`: controls whose call failed.
    """

    rung: str
    model: str
    cost: int
    judged: int
    by_definition: int
    controls: int
    too_low: int
    too_high: int
    deviation: float | None
    unasked: int = 0

    @property
    def error(self) -> float | None:
        """The share of controls judged wrongly; None without controls."""
        return (self.too_low + self.too_high) / self.controls if self.controls else None


@dataclass(frozen=True, slots=True)
class Control:
    """A judgement whose right score is known."""

    item: Item
    reference: Any
    answer: Any
    score: float


class Judge:
    """Grades by calling a model. Judgements are kept in the journal, so none is paid for twice."""

    def __init__(self, respondent: Respondent, journal: Journal, call: Call) -> None:
        self.respondent = respondent
        self._journal, self._call = journal, call
        rung = respondent.rung
        self._settings = [rung.model, rung.max_tokens, rung.effort, rung.thinking and str(rung.thinking), RUBRIC]

    async def grade(self, item: Item, reference: Any, answer: Any) -> Graded | Failure | None:
        """The grade; a Failure if the call failed, None if the recording stopped before it."""
        text = judge_text(item, reference, answer)
        key = self._key(text)
        async with self._journal.asking[key]:
            if key not in self._journal.judged:
                outcome = await self._ask(key, item, text)
                if not isinstance(outcome, Reply):
                    return outcome
        score = self._journal.judged[key]["score"]
        return Grade(score) if score is not None else Ungraded("the judge gave no score")

    async def test(self, controls: Sequence[Control], right_at: float, by_definition: int) -> JudgeReport:
        """Judge control items; the judge's cost and error rate. `by_definition`: scores that are 1 without a judgement."""
        low = high = unasked = 0
        deviations: list[float] = []
        for control in controls:
            graded = await self.grade(control.item, control.reference, control.answer)
            if not isinstance(graded, Grade):
                unasked += not isinstance(graded, Ungraded)
                continue
            deviations.append(abs(graded.score - control.score))
            low += control.score == 1.0 and graded.score < right_at
            high += control.score == 0.0 and graded.score >= right_at
        rung, judged = self.respondent.rung, self._journal.judged.values()
        failed = (entry for entry in self._journal.failures if entry["ask"] == self.respondent.name)
        mean = sum(deviations) / len(deviations) if deviations else None
        cost = sum(map(paid_for, (*judged, *failed)))
        return JudgeReport(
            rung.rung, rung.model, cost, len(judged), by_definition, len(deviations), low, high, mean, unasked
        )

    async def _ask(self, key: str, item: Item, text: str) -> Reply | Failure | None:
        request = Request(({"role": "user", "content": text},), RUBRIC, schema=SCHEMA)

        def entry_of(reply: Reply | Failure, cost: int) -> dict[str, Any]:
            return {"judged": key, "score": self._score(reply) if isinstance(reply, Reply) else None, "cost": cost}

        return await self._call(self.respondent, self.respondent.prompt(request), item.id, entry_of)

    def _key(self, text: str) -> str:
        return hashlib.sha256(json.dumps([self._settings, text]).encode()).hexdigest()

    def _score(self, reply: Reply) -> float | None:
        data = self.respondent.read(reply, structured=True).data
        score: object = data.get("score") if isinstance(data, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
            return None
        return float(score)


def make_judge(policy: Policy, rung: str, journal: Journal, call: Call) -> Judge:
    """The judge at `rung` ("": the top one). Raises ConfigurationError for an unknown rung."""
    respondent = plain_respondent(policy, rung or policy.ladder[policy.top].rung, "@judge")
    return Judge(replace(respondent, must_fit=True), journal, call)


def judge_text(item: Item, reference: Any, answer: Any) -> str:
    """The judge's input as JSON, so that no text in it can pose as another part."""
    given = item.input
    question = given if isinstance(given, str) else [{"role": one["role"], "content": one["content"]} for one in given]
    return json.dumps({"question": question, "reference": reference, "answer": answer}, ensure_ascii=False)


def make_controls(references: Sequence[tuple[Item, Any]], limit: int = CONTROLS) -> list[Control]:
    """Control items, spread evenly: each with its own reference and with the next reference that differs from it."""
    step = max(1, len(references) // limit)
    controls: list[Control] = []
    for at in range(0, len(references), step)[:limit]:
        item, own = references[at]
        controls.append(Control(item, own, own, 1.0))
        others = (other for _, other in (*references[at + 1 :], *references[:at]) if other != own)
        if (foreign := next(others, None)) is not None:
            controls.append(Control(item, own, foreign, 0.0))
    return controls
