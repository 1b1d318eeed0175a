"""Which replies to an item a recording asks for, and those that it has as the corpus stores them.

What was paid for is kept: samples that an earlier command recorded stand behind those that this one asks for. If it asks for
none at a rung, they stay as they are. Only a prompt that has changed under the same name voids its samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from cascade.core.context import trimmed_request
from cascade.core.messages import Request
from cascade.core.policy import Samples
from cascade.core.triage import Prompt
from cascade.corpora.items import Corpus, Item, RecordedCheck, RecordedGroups, RecordedReply
from cascade.recording.calls import BASELINE, Key, RecordingPlan, Respondent, reply_from_entry
from cascade.recording.checking import CheckCounts, Checker
from cascade.recording.grouping import Grouper, SameJudgeReport, agreeing_texts, prefixes
from cascade.recording.journal import Journal
from cascade.recording.noise_floor import BASELINE_AGAIN
from cascade.recording.regrading import sample_keys
from cascade.recording.reviewing import Reviewer, reviewable
from cascade.recording.samples import SampleId, own_sample
from cascade.replay.driver import request_of

__all__ = ["Grouping", "Replies"]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Answers that the judge of a vote groups: those of the samples `of` of a rung, by their places."""

    rung: str
    of: tuple[int, ...]
    answers: tuple[str, ...]


class Replies:
    """The replies to each item: those to ask for, and those in the journal.

    `again`: the baseline, asked a second time about the items `twice`. `complete`: the corpus that is graded again or gets
    more samples.
    """

    def __init__(
        self,
        plan: RecordingPlan,
        journal: Journal,
        checker: Checker,
        reviewer: Reviewer | None,
        *,
        again: Respondent,
        twice: frozenset[str],
        complete: Corpus | None,
    ) -> None:
        self._plan, self._journal, self._checker, self._reviewer = plan, journal, checker, reviewer
        self._again, self._twice = again, twice
        self._complete = complete
        self._recorded = {item.id: item for item in complete.items} if complete else {}
        self._own = own_sample(plan.plan.policy)
        self.prompts, self._kept = self._find_kept()
        self._respondents: dict[str, tuple[Respondent, ...]] = {}

    def _find_kept(self) -> tuple[dict[str, str], dict[tuple[str, str], list[SampleId]]]:
        """The prompts' hashes by name, and the samples in the journal whose prompts have not changed, by item and rung."""
        wanted = self._plan.prompts
        current = {self._own.variant: self._own.prompt} | wanted
        # Of two prompts with one name, the later.
        found = {variant: prompt for _, _, variant, _, prompt in _sample_parts(self._journal)}
        found |= {name: prompt for name, prompt in current.items() if name in found}
        rungs: dict[tuple[str, str], list[SampleId]] = {}
        sampled = {(item, rung) for item, rung, _, _, _ in _sample_parts(self._journal)}
        for key in self._journal.replies:
            item, rung = str(key[0]), str(key[1])
            if len(key) == 2 and (item, rung) in sampled:
                rungs.setdefault((item, rung), []).append(self._own)
            elif len(key) > 2 and found[str(key[2])] == key[4]:
                sample = SampleId(str(key[2]), int(key[3]), str(key[4]), is_plain=False)
                rungs.setdefault((item, rung), []).append(sample)
        kept = {one.variant: one.prompt for many in rungs.values() for one in many}
        return kept | wanted, rungs

    def request(self, item: Item) -> Request:
        """The item's request."""
        return request_of(item)

    def prompt(self, item: Item, respondent: Respondent) -> Prompt:
        """What a respondent is asked, as live: a rung may be asked a shortened conversation, a baseline never is."""
        policy, request = self._plan.plan.policy, request_of(item)
        if respondent.index <= policy.top:
            request = trimmed_request(policy, respondent.index, request, self.task(item))
        return respondent.prompt(request)

    def task(self, item: Item) -> str:
        """The item's task, as live."""
        return self._plan.plan.signals.classify(request_of(item)).task

    def of(self, item: Item) -> tuple[Respondent, ...]:
        """The respondents of an item, in call order; of a rung with samples each of them."""
        if (known := self._respondents.get(item.id)) is not None:
            return known
        task = self.task(item)
        found = [one for respondent in self._plan.respondents for one in self._samples(item, task, respondent)]
        if item.id in self._twice:
            found.append(self._again)
        return self._respondents.setdefault(item.id, tuple(found))

    def _samples(self, item: Item, task: str, respondent: Respondent) -> Iterator[Respondent]:
        wanted = self._plan.samples_for(task, respondent)
        kept = self._kept.get((item.id, respondent.name), [])
        yield from wanted
        asked = {one.sample for one in wanted}
        yield from (replace(respondent, sample=sample) for sample in kept if sample not in asked)
        if not (wanted or kept):
            yield respondent

    def is_answered(self, item: Item) -> bool:
        """Whether no reply to the item is missing."""
        return all(respondent.key(item.id) in self._journal.replies for respondent in self.of(item))

    def entry(self, item: Item, respondent: Respondent) -> dict[str, Any]:
        """The reply as the journal has it."""
        return self._journal.replies[respondent.key(item.id)]

    async def finish(self, item: Item, grouper: Grouper | None, *, goes_on: bool = False) -> bool:
        """Have the answers checked, grouped by meaning and reviewed, as the policy has it; False if a call is missing.

        `goes_on`: after one that is missing too, for calls that are made together later on.
        """
        await self._check(item)
        request, whole = self.request(item), True
        for one in self.groupings(item) if grouper is not None else ():
            if grouper is not None and await grouper.group(item.id, request, one.answers) is None:
                whole = False
                if not goes_on:
                    return False
        for answer, reviewer in self._reviews(item).values():
            if self._reviewer is not None and not await self._reviewer.review(item.id, request, answer, reviewer):
                whole = False
                if not goes_on:
                    return False
        return whole

    def _reviews(self, item: Item) -> dict[str, tuple[str, int]]:
        """By rung: the answer that is reviewed, and the index of the reviewer. Of an item whose answers are there and checked."""
        found: dict[str, tuple[str, int]] = {}
        task = self.task(item) if self._reviewer is not None else ""
        for one in self.of(item) if self._reviewer is not None else ():
            reviewer = (
                self._plan.reviewer_of(task, one) if one.name != BASELINE_AGAIN and one.name not in found else None
            )
            if reviewer is None:
                continue
            answer = reviewable(self._plan.plan, task, self._reply(item, one, None))
            if answer is not None:
                found[one.name] = answer, reviewer
        return found

    async def _check(self, item: Item) -> None:
        """Run the external checks on every answer of a rung that has no result yet."""
        task = self.task(item)
        verifiers = self._plan.plan.checks_for(task).verifiers
        for respondent in self.of(item) if verifiers else ():
            entry = self.entry(item, respondent)
            if entry["verdict"] == "answered" and respondent.name not in (BASELINE, BASELINE_AGAIN):
                await self._checker.check(verifiers, item.id, self.request(item), task, str(entry["answer"]))

    def check_counts(self) -> dict[str, CheckCounts]:
        """The results of the external checks, by name."""
        return self._checker.counts(self._plan.verifiers)

    def judged_answer(self, item: Item) -> str | None:
        """The first answer of a rung whose samples a judge groups; None if there is none."""
        plan, task = self._plan.plan, self.task(item)
        for respondent in self._plan.respondents:
            wanted = self._plan.samples_for(task, respondent)
            if wanted and wanted[0].is_judged:
                texts = agreeing_texts(plan, task, (self._reply(item, one, None) for one in wanted))
                if (first := next((text for text in texts if text is not None), None)) is not None:
                    return first
        return None

    def groupings(self, item: Item) -> Iterator[Grouping]:
        """What the judge of a vote is asked about an item whose answers are there and checked."""
        plan, task = self._plan.plan, self.task(item)
        route = plan.policy.route(task)
        for respondent in self._plan.respondents:
            wanted = self._plan.samples_for(task, respondent)
            samples: Samples | None = route.samples[respondent.index] if wanted else None
            if samples is None or samples.same.kind != "judge":
                continue
            texts = agreeing_texts(plan, task, (self._reply(item, one, None) for one in wanted))
            for of in prefixes(texts, samples.agree):
                yield Grouping(respondent.name, of, tuple(texts[place] or "" for place in of))

    def _reply(self, item: Item, respondent: Respondent, score: float | None) -> RecordedReply:
        entry = self.entry(item, respondent)
        reply = reply_from_entry(entry, score)
        checks: dict[str, bool | RecordedCheck | None] = {}
        if respondent.name not in (BASELINE, BASELINE_AGAIN):
            checks |= self._recorded_checks(item, respondent)
            verifiers = self._plan.plan.checks_for(self.task(item)).verifiers
            if verifiers and entry["verdict"] == "answered":
                checks |= self._checker.results(verifiers, item.id, str(entry["answer"]))
        variant = respondent.sample.variant if respondent.sample is not None else None
        return structs.replace(reply, variant=variant, checks=checks or None)

    def _recorded_checks(self, item: Item, respondent: Respondent) -> Mapping[str, bool | RecordedCheck | None]:
        """The results in the complete corpus."""
        before = self._before(item, respondent.name)
        found = before.get(respondent.key(item.id))
        return (found.checks if found is not None else None) or {}

    def _before(self, item: Item, rung: str) -> dict[Key, RecordedReply]:
        """A rung's samples in the complete corpus, in their order."""
        recorded = self._recorded.get(item.id)
        if recorded is None or self._complete is None or (reply := recorded.replies.get(rung)) is None:
            return {}
        keys = sample_keys(self._complete.manifest, self._own, item.id, rung, reply)
        return dict(zip(keys, reply.every, strict=True))

    def recorded(
        self, item: Item, score: Callable[[Respondent], float | None], grouper: Grouper | None
    ) -> dict[str, RecordedReply]:
        """All replies to an item by respondent, as the corpus has them: a rung's further samples within its first."""
        by_name: dict[str, list[Respondent]] = {}
        for respondent in self.of(item):
            by_name.setdefault(respondent.name, []).append(respondent)
        groups: dict[str, list[RecordedGroups]] = {}
        request = self.request(item)
        for one in self.groupings(item) if grouper is not None else ():
            assert grouper is not None
            groups.setdefault(one.rung, []).append(grouper.recorded(request, one.answers, one.of))
        made, reviews = dict[str, RecordedReply](), self._reviews(item)
        for name, respondents in by_name.items():
            first, *more = (self._reply(item, one, score(one)) for one in respondents)
            found = groups.get(name, [])
            kept = self._kept_groups(item, name, respondents, grouper)
            found += (one for one in kept if all(one.of != other.of for other in found))
            if name in reviews and self._reviewer is not None:
                review = self._reviewer.recorded(request, *reviews[name])
            else:  # what was paid for is kept
                before = self._before(item, name).get(respondents[0].key(item.id))
                review = before.review if before is not None else None
            made[name] = structs.replace(first, samples=tuple(more) or None, groups=tuple(found) or None, review=review)
        return made

    def _kept_groups(
        self, item: Item, rung: str, respondents: Sequence[Respondent], grouper: Grouper | None
    ) -> list[RecordedGroups]:
        """The groupings of the complete corpus whose samples are all still there, by their places now.

        None if a judge is to be asked with another prompt.
        """
        recorded = self._recorded.get(item.id)
        reply = recorded.replies.get(rung) if recorded is not None else None
        if reply is None or not reply.groups or self._complete is None:
            return []
        if grouper is not None and SameJudgeReport.read(self._complete.manifest, grouper.prompt) is None:
            return []
        keys = list(self._before(item, rung))
        places = {respondent.key(item.id): place for place, respondent in enumerate(respondents)}
        found: list[RecordedGroups] = []
        for one in reply.groups:
            now = {place: places.get(keys[place]) for place in one.of}
            moved = {before: after for before, after in now.items() if after is not None}
            if len(moved) == len(now):
                groups = None if one.groups is None else tuple(tuple(moved[n] for n in many) for many in one.groups)
                found.append(structs.replace(one, of=tuple(moved[n] for n in one.of), groups=groups))
        return found


def _sample_parts(journal: Journal) -> Iterator[tuple[str, str, str, int, str]]:
    """The keys of samples: item, rung, variant, number and prompt's hash."""
    for key in journal.replies:
        if len(key) > 2:
            item, rung, variant, nth, prompt = key
            yield str(item), str(rung), str(variant), int(nth), str(prompt)
