"""The recorded samples of a corpus as columns, and the votes of a policy on them.

A vote by a judge depends on groups that were recorded for each prefix of the samples, so it is taken item by item by
`core.sampling` itself, while the corpus is read. All other votes are taken on the columns, by `replay.votes`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cascade.core import prices
from cascade.core.bound_policy import BoundPolicy
from cascade.core.errors import CorpusError
from cascade.core.policy import Policy, Samples, Variant
from cascade.core.policy.ladder import asked_as
from cascade.core.policy.samples import Same
from cascade.core.sameness import key_function
from cascade.core.sampling import apply_checks
from cascade.core.trail import Step, Verdict
from cascade.core.triage import triage_name
from cascade.corpora.items import Item, RecordedReply
from cascade.replay.arrays import ColumnBuilder, np
from cascade.replay.cold import climbs_cold, cold_tokens
from cascade.replay.columns import NO_CHECK as NO_RESULT
from cascade.replay.columns import UNCHECKED, Columns, MappedColumns, PolicyMapping
from cascade.replay.driver import CostOf, recorded_step, recorded_verdict
from cascade.replay.outcomes import REASONS
from cascade.replay.reviews import refuse_voted_reviews
from cascade.replay.samples import places_of, variant_names
from cascade.replay.votes import (
    AGREES_WITH_NONE,
    CAN_AGREE,
    CANNOT_SAY,
    NO_CHECK,
    NO_TEXT,
    NOT_RECORDED_HERE,
    OVERFLOWS,
    SampleColumns,
    Voted,
    VotedColumns,
    in_order_of,
    vote,
)

if TYPE_CHECKING:
    from cascade.replay.arrays import Floats, Ints
from cascade.core.verification import Verifier

__all__ = ["JudgedVotes", "SamplesBuilder", "VotesBuilder", "put_to_vote", "stuck_at", "verdict_at", "voted_rungs"]

_NO_COST = -1
_ERROR, _OVERFLOW, _DISAGREEMENT = (REASONS.index(reason) for reason in ("error", "overflow", "disagreement"))


class SamplesBuilder:
    """Builds the sample columns of one rung of a plan, for these ways to compare answers."""

    def __init__(self, plan: BoundPolicy, index: int, sames: Sequence[Same], cost_of: CostOf) -> None:
        self._plan, self._index = plan, index
        self._cost_of: CostOf = cost_of
        self._keys = {str(same): plan.keys.get(str(same)) or key_function(same) for same in sames}
        self._variants = _variants_of(plan, index)
        self._names: dict[str, int] = {}
        self._rows = 0
        self._columns: list[_Place] = []

    def add(self, replies: Sequence[RecordedReply | None], tasks: Sequence[str], prefixes: Sequence[int]) -> None:
        """Add the next items' replies; None for an item without one. `prefixes`: as `cold.recorded_prefix`."""
        rows = [
            () if reply is None else tuple(self._sample(sample, task, prefix) for sample in reply.every)
            for reply, task, prefix in zip(replies, tasks, prefixes, strict=True)
        ]
        rows = [self._with_keys(row) for row in rows]
        width = max(map(len, rows), default=0)
        while len(self._columns) < width:
            self._columns.append(_Place(list(self._keys), self._rows))
        for place, column in enumerate(self._columns):
            column.add([row[place] if place < len(row) else None for row in rows])
        self._rows += len(rows)

    def _sample(self, reply: RecordedReply, task: str, prefix: int) -> tuple[Any, ...]:
        """(variant's code, state, text, confidence, score, cost) of one sample."""
        name = reply.variant or ""
        code = self._names.setdefault(name, len(self._names))
        state, text = _state_of(self._plan, reply, task)
        if self._cost_of == "recorded":
            cost = _NO_COST if reply.cost_usd is None else round(reply.cost_usd * 1e9)
        else:
            variant, tokens = self._variants.get(name), reply.tokens
            if climbs_cold(self._plan.policy, self._index, self._cost_of):
                rung = self._plan.policy.ladder[self._index]
                tokens = cold_tokens(rung if variant is None else asked_as(rung, variant), tokens, prefix)
            cost = prices.cost(self._plan.rates_of(self._index, variant), tokens) if reply.can_be_priced else _NO_COST
        return code, state, text, reply.confidence, reply.score, cost

    def _with_keys(self, row: tuple[tuple[Any, ...], ...]) -> list[tuple[Any, ...]]:
        """The samples of one item with the numbers of their answers, for each way to compare them."""
        numbers: list[list[int]] = []
        for key_of in self._keys.values():
            seen: dict[Hashable, int] = {}
            own: list[int] = []
            for sample in row:
                key = None if sample[2] is None else key_of(sample[2])
                own.append(-1 if key is None else seen.setdefault(key, len(seen)))
            numbers.append(own)
        return [(*sample, *(own[place] for own in numbers)) for place, sample in enumerate(row)]

    def build(self) -> SampleColumns:
        """The columns so far."""
        names = tuple(self._names) or ("",)
        columns = self._columns or [_Place(list(self._keys), self._rows)]
        made = [column.arrays() for column in columns]
        return SampleColumns(
            names,
            tuple(one["variant"] for one in made),
            tuple(one["state"] for one in made),
            {same: tuple(one[f"key:{same}"] for one in made) for same in self._keys},
            tuple(one["confidence"] for one in made),
            tuple(one["score"] for one in made),
            tuple(one["cost"] for one in made),
        )


class _Place:
    """The columns of the samples at one place of the recording."""

    def __init__(self, sames: Sequence[str], rows: int) -> None:
        kinds: dict[str, Any] = {
            "variant": np.int32, "state": np.int8, "text": None, "confidence": np.float64, "score": np.float64,
            "cost": np.int64, **{f"key:{same}": np.int32 for same in sames},
        }  # fmt: skip
        self._absent = (-1, NOT_RECORDED_HERE, None, None, None, 0, *(-1 for _ in sames))
        self._builders = {name: None if kind is None else ColumnBuilder(kind) for name, kind in kinds.items()}
        if rows:
            self.add([None] * rows)

    def add(self, samples: Sequence[tuple[Any, ...] | None]) -> None:
        rows = [self._absent if sample is None else sample for sample in samples]
        for builder, values in zip(self._builders.values(), zip(*rows, strict=True), strict=True):
            if builder is not None:
                builder.add(values)

    def arrays(self) -> dict[str, Any]:
        return {name: builder.array() for name, builder in self._builders.items() if builder is not None}


def _variants_of(plan: BoundPolicy, index: int) -> dict[str, Variant]:
    """The variants of the rung at `index` by name, for their prices."""
    own, policy = triage_name(plan.policy), plan.policy
    rung = policy.ladder[index]
    found = [samples for samples in (rung.samples, *(task.samples.get(rung.rung) for task in policy.tasks)) if samples]
    return {variant.label(own): variant for samples in found for variant in samples.variants}


def _state_of(plan: BoundPolicy, reply: RecordedReply, task: str) -> tuple[int, str | None]:
    """What a sample is to a vote, and its answer's text if it can agree."""
    if not reply.has_answer and reply.failed is None:
        return NO_TEXT, None
    checks = plan.checks_for(task)
    verdict = apply_checks(recorded_verdict(reply, triage=True, in_vote=True), checks.functions, None)
    if verdict.kind != "answered" or verdict.failed_checks:
        return {"failed": CANNOT_SAY, "overflow": OVERFLOWS}.get(verdict.kind, AGREES_WITH_NONE), None
    state = CAN_AGREE
    for verifier in checks.verifiers:
        found = reply.check(verifier.name)
        if found is None:
            return NO_CHECK, None
        if found.passed is False:
            state = AGREES_WITH_NONE
        elif found.passed is None and verifier.blocks and state == CAN_AGREE:
            state = CANNOT_SAY
    return state, verdict.text if state == CAN_AGREE else None


_NOT_VOTED = (False, 0, -1, 0, 0, False, None, 0.0, 0, 0)


class JudgedVotes:
    """Votes taken item by item while a corpus is read; the steps are the live rule's own."""

    def __init__(self, plan: BoundPolicy, index: int, rungs: Sequence[str], cost_of: CostOf) -> None:
        self._plan, self._index, self._rungs = plan, index, rungs
        self._cost_of: CostOf = cost_of
        self._rows: list[tuple[Any, ...]] = []

    def add(self, items: Sequence[Item], tasks: Sequence[str]) -> None:
        """Add the next items."""
        for item, task in zip(items, tasks, strict=True):
            samples = self._plan.policy.route(task).samples[self._index]
            if samples is None or samples.same.kind != "judge":  # of another task of the rung: not read
                self._rows.append(_NOT_VOTED)
                continue
            try:
                step = recorded_step(self._plan, item, self._index, task, self._rungs, self._cost_of)
            except CorpusError:  # an error only if the rule reaches it
                self._rows.append(_NOT_VOTED)
                continue
            self._rows.append(self._row(item, step))

    def _row(self, item: Item, step: Step) -> tuple[Any, ...]:
        ballot = step.verdict.vote
        assert ballot is not None, "the rung is put to a vote"
        first, score = ballot.members[0] if ballot.members else -1, 0.0
        if first >= 0:
            every = item.reply(self._rungs[self._index]).every
            wanted = [sample.variant for sample in step.samples if not sample.is_judge]
            places = places_of([one.variant for one in every], wanted, triage_name(self._plan.policy))
            score = every[places[first] or 0].score
        return (
            ballot.reached, ballot.asked, first, len(ballot.members), ballot.failed, ballot.overflow,
            step.verdict.stated, score, step.cost_nanousd, -1,
        )  # fmt: skip

    def build(self) -> Voted:
        """The votes so far."""
        kinds = (np.bool_, np.int8, np.int8, np.int8, np.int8, np.bool_, np.float64, np.float64, np.int64, np.int8)
        columns: Any = zip(*self._rows, strict=True) if self._rows else [()] * len(kinds)
        arrays: list[Any] = [np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
        return Voted(*arrays)


class VotesBuilder:
    """Builds what the votes of a policy need, for each rung that is asked more than once."""

    def __init__(self, mapping: PolicyMapping) -> None:
        plan, self._mapping = mapping.plan, mapping
        self._matrices: dict[int, SamplesBuilder] = {}
        self._judged: dict[int, JudgedVotes] = {}
        for index in range(plan.policy.top):
            asked = [samples.same for samples in _samples_at(plan.policy, index).values() if samples is not None]
            sames = [same for same in (*asked, mapping.same) if same is not None and same.kind != "judge"]
            if sames:
                self._matrices[index] = SamplesBuilder(plan, index, sames, mapping.cost_of)
            if any(same.kind == "judge" for same in asked):
                self._judged[index] = JudgedVotes(plan, index, mapping.rungs, mapping.cost_of)

    def add(self, items: Sequence[Item], tasks: Sequence[str], prefixes: Sequence[int]) -> None:
        """Add the next items. `prefixes`: as `cold.recorded_prefix`."""
        for index, matrices in self._matrices.items():
            matrices.add([item.replies.get(self._mapping.rungs[index]) for item in items], tasks, prefixes)
        for judged in self._judged.values():
            judged.add(items, tasks)

    def samples(self) -> tuple[SampleColumns | None, ...]:
        """By rung: its recorded samples, if a vote may need them."""
        built = {index: matrices.build() for index, matrices in self._matrices.items()}
        return tuple(built.get(index) for index in range(len(self._mapping.rungs))) if built else ()

    def voted(self, columns: Columns, mapped: MappedColumns) -> MappedColumns:
        """The mapped columns with the policy's votes."""
        return put_to_vote(columns, mapped, {index: one.build() for index, one in self._judged.items()})


def put_to_vote(columns: Columns, mapped: MappedColumns, judged: Mapping[int, Voted] | None = None) -> MappedColumns:
    """The columns with the votes that the mapping's policy asks for, and with no other votes.

    `judged`: by rung, votes that a judge decided. Without them a vote by a judge raises CorpusError.
    """
    mapping = mapped.mapping
    cost, votes = [mapped.call_cost(index) for index in range(len(mapping.rungs))], list[VotedColumns | None]()
    confidence = [columns.rungs[rung].confidence for rung in mapping.rungs]
    for index in range(len(mapping.rungs)):
        asked = _samples_at(mapping.plan.policy, index) if index != mapping.plan.policy.top else {}
        by_task = [asked.get(task, asked.get("")) for task in mapped.tasks]
        if not any(by_task):
            votes.append(None)
            continue
        made, cost[index], confidence[index] = _voted_at(columns, mapped, index, by_task, (judged or {}).get(index))
        votes.append(made)
    if any(votes):
        refuse_voted_reviews(mapping.plan)
    return replace(mapped, cost=tuple(cost), confidence=tuple(confidence), votes=tuple(votes) if any(votes) else ())


def voted_rungs(policy: Policy) -> frozenset[str]:
    """The rungs that are asked more than once, for some task."""
    return frozenset(policy.ladder[index].rung for index in range(policy.top) if _samples_at(policy, index))


def _samples_at(policy: Policy, index: int) -> dict[str, Samples | None]:
    """By task, "" for all others: the samples of the rung at `index`; empty if no task has any."""
    found = {"": policy.route("").samples[index]}
    found |= {task.name: policy.route(task.name).samples[index] for task in policy.tasks}
    return found if any(found.values()) else {}


def _voted_at(
    columns: Columns, mapped: MappedColumns, index: int, by_task: Sequence[Samples | None], judged: Voted | None
) -> tuple[VotedColumns, Ints, Floats]:
    """The votes at one rung, with each item's cost and confidence there. `by_task`: the samples of each of its tasks."""
    policy, raw = mapped.mapping.plan.policy, columns.rungs[mapped.mapping.rungs[index]]
    n = len(columns)
    # cost, confidence, score, reason, held, asked, agreed, lacking: of one call, where no vote is taken
    parts: list[Any] = [
        mapped.call_cost(index), raw.confidence, raw.score,
        np.zeros(n, np.int8), np.zeros(n, np.bool_), np.ones(n, np.int8), np.zeros(n, np.int8), np.full(n, -1, np.int8),
    ]  # fmt: skip
    alone, put, wanted = np.zeros(n, np.bool_), np.zeros(n, np.bool_), list[str]()
    for samples in dict.fromkeys(one for one in by_task if one is not None):
        ballot = judged if samples.same.kind == "judge" else _vote_on(mapped, index, samples)
        if ballot is None:
            problem = "answers were to be compared by a judge, whose groups are not part of these columns"
            raise CorpusError(problem, where=columns.source, hint="compare them in another way (--same)")
        of_task = [task for task, one in enumerate(by_task) if one == samples]
        is_whole = len(of_task) == len(by_task)
        rows = np.ones(n, np.bool_) if is_whole else np.isin(mapped.task, of_task)
        by_agreement = [code for code in of_task if policy.route(mapped.tasks[code]).by_agreement[index]]
        own = rows & (True if len(by_agreement) == len(by_task) else np.isin(mapped.task, by_agreement))
        sure = np.where(ballot.reached, samples.agree / samples.max, np.nan)
        confidence = sure if own.all() else np.where(own, sure, ballot.confidence)
        could = (ballot.failed > 0) & (ballot.agreed + ballot.failed >= samples.agree)
        reason = np.where(could, np.int8(_ERROR), np.int8(_DISAGREEMENT))
        np.copyto(reason, np.int8(_OVERFLOW), where=ballot.overflow)
        np.copyto(reason, np.int8(0), where=ballot.reached)
        voted: tuple[Any, ...] = (
            ballot.cost, confidence, ballot.score, reason, ballot.has_answer, ballot.asked, ballot.agreed, ballot.lacking,
        )  # fmt: skip
        parts = [new if is_whole else np.where(rows, new, old) for new, old in zip(voted, parts, strict=True)]
        alone |= own
        put |= rows
        wanted = wanted or list(variant_names(policy, samples))
    everywhere = None if put.all() else put
    cost, confidence, score, reason, held, asked, agreed, lacking = parts
    return VotedColumns(everywhere, reason, held, alone, score, asked, agreed, lacking, tuple(wanted)), cost, confidence


def _vote_on(mapped: MappedColumns, index: int, samples: Samples) -> Voted:
    recorded = mapped.samples[index] if mapped.samples else None
    assert recorded is not None, "the samples of a rung that is put to a vote are kept"
    policy = mapped.mapping.plan.policy
    wanted, own = variant_names(policy, samples), triage_name(policy)
    return vote(samples, in_order_of(recorded, wanted, own, str(samples.same)))


def verdict_at(mapping: PolicyMapping, index: int, item: Item, reply: RecordedReply, task: str) -> Verdict:
    """The verdict of the step that a rung below the top takes for an item, without the scorer."""
    if mapping.plan.policy.route(task).samples[index] is None:
        return recorded_verdict(reply, triage=True)
    try:
        return recorded_step(mapping.plan, item, index, task, mapping.rungs, mapping.cost_of).verdict
    except CorpusError:  # an error only if the rule reaches it
        return Verdict("malformed", detail="not recorded")


def stuck_at(verdict: Verdict, reply: RecordedReply, verifiers: Sequence[Verifier]) -> tuple[bool, int]:
    """Whether an external check fails a recorded answer that passed the others; and UNCHECKED or NO_CHECK, or 0."""
    if verdict.kind != "answered" or verdict.failed_checks:
        return False, 0
    results = [(verifier, reply.check(verifier.name)) for verifier in verifiers]
    if any(found is None for _, found in results):
        return False, NO_RESULT
    if any(found is not None and found.passed is False for _, found in results):
        return True, 0
    unsaid = any(found is not None and found.passed is None and verifier.blocks for verifier, found in results)
    return False, UNCHECKED if unsaid else 0
