"""The judge of votes on free text, recorded: the first rung groups a rung's answers by meaning, for every prefix of them.

A vote asks it from sample M on, after each further sample, wherever the texts differ. So a replay finds the grouping that
it looks up for every policy that asks for the same samples, and calls no model.

Its errors are measured on control items: an answer and a copy of it in another form must be one group, answers to different
items must be two. The interval is Wilson's (Wilson, E. B. (1927), JASA 22).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Self, cast

from cascade.core.bound_policy import BoundPolicy
from cascade.core.grouping import build_judge_prompt, groups_of, read_groups
from cascade.core.messages import Failure, Reply, Request
from cascade.core.prompts.judge import RULES
from cascade.core.sampling import apply_checks
from cascade.core.triage import Prompt
from cascade.corpora.items import Item, Manifest, RecordedGroups, RecordedReply
from cascade.recording.calls import EntryOf, Respondent, usage_fields
from cascade.recording.journal import Journal, paid_for
from cascade.replay.driver import recorded_verdict

__all__ = [
    "CONTROLS",
    "SAME_JUDGE",
    "Grouper",
    "SameJudgeReport",
    "agreeing_texts",
    "group_key",
    "grouping_entry",
    "judge_hash",
    "make_pairs",
    "prefixes",
]

SAME_JUDGE = "@same"
"""The judge's name in a journal. No rung can have this name."""

CONTROLS = 20
"""Pairs of answers that are known to be the same or to differ: enough to detect a judge that cannot tell."""

_MANIFEST_KEY = "same_judge"
_Z95 = 1.959963984540054

Call = Callable[[Respondent, Prompt, str, EntryOf], Awaitable[Reply | Failure | None]]


@dataclass(frozen=True, slots=True)
class SameJudgeReport:
    """The judge's errors on control items, and its cost in nano-USD, of all its groupings.

    `controls`: the pairs that it could be asked about. `apart`: pairs that are the same, put into two groups. `together`:
    pairs that differ, put into one. A grouping that contradicts itself is an error. `unasked`: pairs whose call failed.
    """

    rung: str
    model: str
    prompt: str
    groupings: int = 0
    cost: int = 0
    controls: int = 0
    apart: int = 0
    together: int = 0
    unasked: int = 0

    @property
    def error(self) -> float | None:
        """The share of pairs grouped wrongly; None without any."""
        return (self.apart + self.together) / self.controls if self.controls else None

    @property
    def error_ci95(self) -> tuple[float, float] | None:
        """The 95 % interval of `error`."""
        n, hits = self.controls, self.apart + self.together
        if not n:
            return None
        share, square = hits / n, _Z95 * _Z95
        middle = (share + square / (2 * n)) / (1 + square / n)
        half = _Z95 / (1 + square / n) * sqrt(share * (1 - share) / n + square / (4 * n * n))
        # The rounding of floats must not leave a bound outside of what can be.
        return (0.0 if not hits else middle - half, 1.0 if hits == n else middle + half)

    def fields(self) -> dict[str, Any]:
        """The value of the manifest's key `same_judge`; its cost is not a property of the corpus."""
        return {
            "rung": self.rung, "model": self.model, "prompt": self.prompt, "controls": self.controls, "apart": self.apart,
            "together": self.together, "error": self.error, "error_ci95": self.error_ci95,
        }  # fmt: skip

    @staticmethod
    def fields_in(manifest: Manifest) -> dict[str, Any] | None:
        """What a manifest has under `same_judge`; None if nothing."""
        recorded: object = (manifest.extra or {}).get("recorded")
        found: object = cast("dict[str, Any]", recorded).get(_MANIFEST_KEY) if isinstance(recorded, dict) else None
        return cast("dict[str, Any]", found) if isinstance(found, dict) else None

    @classmethod
    def read(cls, manifest: Manifest, prompt: str) -> Self | None:
        """The errors that a manifest tells of the same prompt; None if there are none."""
        fields = cls.fields_in(manifest)
        if fields is None or fields.get("prompt") != prompt:
            return None
        try:
            rung, model = str(fields["rung"]), str(fields["model"])
            counts = {key: int(fields[key]) for key in ("controls", "apart", "together")}
            return cls(rung, model, prompt, **counts)
        except (KeyError, TypeError, ValueError):
            return None


class Grouper:
    """Groups answers by calling the first rung. Groupings are kept in the journal, so none is paid for twice."""

    def __init__(self, plan: BoundPolicy, journal: Journal, call: Call) -> None:
        self.plan, self._journal, self._call = plan, journal, call
        policy = plan.policy
        self.respondent = Respondent(SAME_JUDGE, policy, 0, plan.rates[0], plan.repair)
        self.prompt = judge_hash()

    async def group(self, item: str, request: Request, answers: Sequence[str]) -> dict[str, Any] | None:
        """The journal's line of these answers' grouping; None if it could not be asked for.

        Answers that do not fit the judge's context window are grouped like those it contradicts itself about: not at all.
        """
        key = group_key(self.plan, request, answers)
        async with self._journal.asking[key]:
            if key not in self._journal.grouped:
                await self._ask(key, item, request, answers)
        return self._journal.grouped.get(key)

    async def _ask(self, key: str, item: str, request: Request, answers: Sequence[str]) -> None:
        prompt = build_judge_prompt(self.plan.policy, request, answers)

        def entry_of(outcome: Reply | Failure, cost: int) -> dict[str, Any]:
            text = read_groups(outcome, len(answers)).text if isinstance(outcome, Reply) else None
            usage = usage_fields(sum(outcome.spent, outcome.usage))
            return grouping_entry(key, None if text is None else json.loads(text), usage, cost)

        await self._call(self.respondent, prompt, item, entry_of)

    def recorded(self, request: Request, answers: Sequence[str], of: Sequence[int]) -> RecordedGroups:
        """A grouping that was asked for, as the corpus has it. `of`: the places of the samples whose answers these are."""
        entry = self._journal.grouped[group_key(self.plan, request, answers)]
        groups: list[list[int]] | None = entry["groups"]
        placed = None if groups is None else tuple(tuple(of[number - 1] for number in members) for members in groups)
        return RecordedGroups(tuple(of), placed, entry["usage"], entry["cost"] / 1e9)

    async def test(self, pairs: Sequence[Pair]) -> SameJudgeReport:
        """Ask about pairs that are known to be the same or to differ."""
        apart = together = unasked = 0
        for pair in pairs:
            entry = await self.group(pair.item, pair.request, pair.answers)
            if entry is None:
                unasked += 1
                continue
            found = groups_of(json.dumps(entry["groups"]), 2)
            if found is None or (found[0] == found[1]) is not pair.same:
                apart, together = (apart + 1, together) if pair.same else (apart, together + 1)
        return self.report(len(pairs) - unasked, apart, together, unasked)

    def report(self, controls: int, apart: int, together: int, unasked: int = 0) -> SameJudgeReport:
        """The report, with the number and the cost of all groupings so far."""
        rung, lines = self.respondent.rung, self._journal.grouped.values()
        failed = [entry for entry in self._journal.failures if entry["ask"] == SAME_JUDGE]
        cost = sum(map(paid_for, (*lines, *failed)))
        return SameJudgeReport(rung.rung, rung.model, self.prompt, len(lines), cost, controls, apart, together, unasked)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers of which it is known whether they are the same."""

    item: str
    request: Request
    answers: tuple[str, str]
    same: bool


def make_pairs(answers: Sequence[tuple[Item, Request, str]], limit: int = CONTROLS) -> list[Pair]:
    """Pairs, spread evenly over (item, request, answer): half of them the same, half answers to different items.

    Answers to different items that have the same words, or whose items expect the same, are no pair: they may not differ.
    """
    half = max(1, limit // 2)
    step = max(1, len(answers) // half)
    pairs: list[Pair] = []
    for at in range(0, len(answers), step)[:half]:
        item, request, own = answers[at]
        pairs.append(Pair(item.id, request, (own, f"Answer:\n\n{own.strip()}\n"), same=True))
        foreign = next(
            (
                text
                for other, _, text in (*answers[at + 1 :], *answers[:at])
                if text.split() != own.split() and (item.expected is None or item.expected != other.expected)
            ),
            None,
        )
        if foreign is not None:
            pairs.append(Pair(item.id, request, (own, foreign), same=False))
    return pairs


def prefixes(texts: Sequence[str | None], agree: int) -> Iterator[tuple[int, ...]]:
    """The samples whose answers a vote has grouped, after each further sample from `agree` on.

    `texts`: of each sample the answer, None if it agrees with nothing. It is grouped only where the texts differ, which is
    when `core.sampling` asks its judge.
    """
    last: tuple[int, ...] = ()
    for asked in range(agree, len(texts) + 1):
        answered = tuple(number for number in range(asked) if texts[number] is not None)
        if len(answered) >= agree and answered != last and len({texts[number] for number in answered}) > 1:
            last = answered
            yield answered


def agreeing_texts(plan: BoundPolicy, task: str, samples: Iterable[RecordedReply]) -> list[str | None]:
    """The answer of each sample; None if it agrees with nothing: as a replay has it, with the recorded results of checks."""
    checks = plan.checks_for(task)
    texts: list[str | None] = []
    for sample in samples:
        verdict = apply_checks(recorded_verdict(sample, triage=True, in_vote=True), checks.functions, None)
        stands = verdict.kind == "answered" and not verdict.failed_checks
        for verifier in checks.verifiers:
            result = sample.check(verifier.name)
            passed = result.passed if result is not None else None
            stands = stands and (passed or (passed is None and not verifier.blocks))
        texts.append(verdict.text if stands else None)
    return texts


def judge_hash() -> str:
    """SHA-256 of the judge's prompt."""
    return hashlib.sha256(RULES.encode()).hexdigest()


def group_key(plan: BoundPolicy, request: Request, answers: Sequence[str]) -> str:
    """What the journal finds a grouping by: a hash of what the judge is asked, and of the model."""
    prompt = build_judge_prompt(plan.policy, request, answers)
    asked = [prompt.rung.model, prompt.rung.base_url, prompt.max_tokens, prompt.system, prompt.messages]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def grouping_entry(key: str, groups: Any, usage: dict[str, Any] | None, cost: int) -> dict[str, Any]:
    """A grouping as a line of the journal. `groups`: the answers' numbers from 1; None if it contradicted itself."""
    return {"grouped": key, "groups": groups, "usage": usage, "cost": cost}
