"""Build a corpus's columns in one pass while it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING
from zlib import adler32, crc32

from cascade.core import prices
from cascade.core.errors import CorpusError, RequestError
from cascade.core.messages import Usage
from cascade.core.policy import OTHER
from cascade.core.sampling import apply_checks
from cascade.core.scoring import Facts, scored
from cascade.core.trail import Verdict
from cascade.core.triage import check_request, wants_triage
from cascade.corpora.items import NOT_RECORDED, Item, Manifest, RecordedReply
from cascade.corpora.sources import place_of
from cascade.corpora.splits import group_key
from cascade.replay.arrays import ColumnBuilder, np
from cascade.replay.cold import climbs_cold, cold_tokens, recorded_prefix
from cascade.replay.columns import (
    ANSWERED,
    DECLINED,
    FAILED,
    MISSING,
    NO_COST,
    UNRECORDED,
    Columns,
    MappedColumns,
    PolicyMapping,
    RungColumns,
    missing_cost,
)
from cascade.replay.driver import recorded_verdict, request_of
from cascade.replay.early import closed_costs, early_rungs
from cascade.replay.reviews import ReviewsBuilder, has_reviews, refuse_voted_reviews
from cascade.replay.sampled import VotesBuilder, stuck_at, verdict_at

if TYPE_CHECKING:
    from cascade.replay.arrays import Codes, Ints

__all__ = ["OnBadItem", "checksum_of", "group_codes", "read_columns"]

_HINT = "record it, or leave the item out (--skip-bad does)"

OnBadItem = Callable[[CorpusError], object]
"""Called for an item that cannot be used. It raises, or returns to leave the item out."""

_CHUNK = 32  # items held at once: larger chunks cost garbage collection and cache misses


class _Absent(str):
    """The type of the answer of a missing reply."""

    __slots__ = ()


_NO_REPLY = RecordedReply(answer=_Absent())
_ANSWER_KINDS: dict[type, int] = {type(NOT_RECORDED): UNRECORDED, type(None): DECLINED, _Absent: MISSING}


def read_columns(
    items: Iterable[Item],
    manifest: Manifest,
    mappings: Sequence[PolicyMapping] = (),
    *,
    source: str = "corpus",
    on_bad_item: OnBadItem | None = None,
    complete: bool = False,
    on_items: Callable[[Sequence[Item]], object] | None = None,
) -> tuple[Columns, tuple[MappedColumns, ...]]:
    """Read items into columns, and MappedColumns for each mapping. `on_items` receives the accepted items in chunks.

    Raises CorpusError for a repeated id and for an input that cannot be asked (empty, or ending with the assistant's
    turn). `on_bad_item` may return instead of raising: the item is then left out. `complete` also rejects items without
    a graded, priced reply of every rung of every mapping; otherwise a missing reply is an error only if the rule asks
    for it.
    """
    baseline = manifest.separate_baseline
    builder = _ColumnsBuilder((*manifest.rungs, baseline) if baseline else manifest.rungs)
    mapped_builders = [_MappedColumnsBuilder(mapping) for mapping in mappings]
    validator = _ItemValidator(source, on_bad_item or _raise, mappings if complete else ())
    stream = iter(items)
    while chunk := list(islice(stream, _CHUNK)):
        valid = validator.valid(chunk)
        replies = {rung: _replies(valid, rung) for rung in manifest.rungs}
        builder.add(valid, replies | ({baseline: [item.baseline or _NO_REPLY for item in valid]} if baseline else {}))
        for mapped_builder in mapped_builders:
            mapped_builder.add(valid, replies)
        if on_items is not None:
            on_items(valid)
    columns = builder.build(source, manifest)
    return columns, tuple(mapped_builder.build(columns) for mapped_builder in mapped_builders)


def _raise(problem: CorpusError) -> None:
    raise problem


class _ItemValidator:
    """Finds items that cannot be used. `complete`: the mappings whose every rung needs a graded, priced reply."""

    def __init__(self, source: str, on_bad_item: OnBadItem, complete: Sequence[PolicyMapping]) -> None:
        self._source, self._on_bad_item, self._complete = source, on_bad_item, complete
        self._ids: set[str] = set()

    def valid(self, chunk: list[Item]) -> list[Item]:
        """The items that can be used; `on_bad_item` is called for the others."""
        suspicious = [
            item
            for item in chunk
            if type(item.input) is not str
            or not item.input
            or item.input.isspace()
            or (item.extra is not None and "system" in item.extra)
        ]
        bad = {id(item) for item in suspicious if not self._can_be_asked(item)}
        valid = [item for item in chunk if id(item) not in bad] if bad else chunk
        ids = {item.id for item in valid}
        if len(ids) != len(valid) or not self._ids.isdisjoint(ids):
            valid = [item for item in valid if self._is_first(item)]
        self._ids |= ids
        return [item for item in valid if self._is_complete(item)] if self._complete else valid

    def _is_complete(self, item: Item) -> bool:
        for mapping in self._complete:
            for index, rung in enumerate(mapping.rungs):
                if (reply := item.replies.get(rung)) is None:
                    self._reject(item, f"no reply of rung {rung!r} was recorded", _HINT)
                elif reply.score is None:
                    self._reject(item, f"the reply of {rung!r} has no score", "grade it, or leave the item out")
                elif not (reply.cost_usd is not None if mapping.cost_of == "recorded" else reply.can_be_priced):
                    self._on_bad_item(missing_cost(mapping, index, item.id, place_of(self._source, item.line)))
                else:
                    continue
                return False
        return True

    def _can_be_asked(self, item: Item) -> bool:
        try:
            check_request(request_of(item))
        except RequestError as problem:
            self._reject(item, str(problem), "leave the item out")
            return False
        return True

    def _is_first(self, item: Item) -> bool:
        if item.id in self._ids:
            self._reject(item, "the id occurs twice", "give each item an id of its own")
            return False
        self._ids.add(item.id)
        return True

    def _reject(self, item: Item, problem: str, hint: str) -> None:
        self._on_bad_item(CorpusError(problem, where=place_of(self._source, item.line), item=item.id, hint=hint))


class _ColumnsBuilder:
    """Builds the columns that do not depend on a policy."""

    def __init__(self, rungs: Sequence[str]) -> None:
        self._ids: list[str] = []
        self._keys, self._lines, self._at = ColumnBuilder(np.int64), ColumnBuilder(np.int32), ColumnBuilder(np.float64)
        self._order = ColumnBuilder(np.int64)
        self._rungs = {rung: _RungColumnsBuilder() for rung in rungs}

    def add(self, items: list[Item], replies: Mapping[str, list[RecordedReply]]) -> None:
        self._ids += [item.id for item in items]
        keys = [group_key(item) for item in items]
        # Hashes of texts differ between runs, but they are only compared with each other. A checksum is the same in every run.
        self._keys.add(list(map(hash, keys)))
        self._order.add(list(map(checksum_of, keys)))
        self._lines.add([item.line for item in items])
        self._at.add([item.at for item in items])
        for rung, builder in self._rungs.items():
            builder.add(replies[rung])

    def build(self, source: str, manifest: Manifest) -> Columns:
        rungs = {rung: builder.build() for rung, builder in self._rungs.items()}
        group = _numbered(self._keys.array(), self._order.array())
        return Columns(source, manifest, self._ids, self._lines.array(), group, self._at.array(), rungs)


class _RungColumnsBuilder:
    """Builds one rung's columns."""

    def __init__(self) -> None:
        self._confidence, self._score, self._usd = (
            ColumnBuilder(np.float64),
            ColumnBuilder(np.float64),
            ColumnBuilder(np.float64),
        )
        self._answer = ColumnBuilder(np.int8)

    def add(self, replies: list[RecordedReply]) -> None:
        self._confidence.add([reply.confidence for reply in replies])
        self._score.add([reply.score for reply in replies])
        self._usd.add([reply.cost_usd for reply in replies])
        answers: list[object] = [reply.answer for reply in replies]
        kind = _ANSWER_KINDS.get
        kinds = [kind(type(answer), ANSWERED) for answer in answers]
        if DECLINED in kinds:
            pairs = zip(replies, kinds, strict=True)
            kinds = [code if (failed := reply.failed) is None else FAILED[failed] for reply, code in pairs]
        self._answer.add(kinds)

    def build(self) -> RungColumns:
        usd = self._usd.array()
        cost = np.where(np.isnan(usd), NO_COST, np.rint(usd * 1e9)).astype(np.int64)
        return RungColumns(self._confidence.array(), self._score.array(), cost, self._answer.array())


class _MappedColumnsBuilder:
    """Builds the columns that depend on a policy, while the texts are in memory."""

    def __init__(self, mapping: PolicyMapping) -> None:
        plan = mapping.plan
        self._mapping, self._plan = mapping, plan
        self._tests_text = any(task.when is not None for task in plan.policy.tasks)
        self._checks = bool(plan.shared_checks) or any(plan.checks.values())
        self._codes: dict[str, int] = {}
        self._task, self._floor = ColumnBuilder(np.int32), ColumnBuilder(np.int8)
        self._failed = [ColumnBuilder(np.bool_) for _ in mapping.rungs]
        self._verifies = bool(plan.shared_verifiers) or any(plan.verifiers.values())
        self._checks = self._checks or self._verifies
        self._stuck = [ColumnBuilder(np.int8) for _ in mapping.rungs]
        self._voting = VotesBuilder(mapping)
        self._cost = [ColumnBuilder(np.int64) for _ in mapping.rungs]
        cold = [climbs_cold(plan.policy, index, mapping.cost_of) for index in range(len(mapping.rungs))]
        self._cold = [ColumnBuilder(np.int64) if one else None for one in cold]
        refuse_voted_reviews(plan)
        self._reviews = [
            ReviewsBuilder(plan, index, mapping.rungs, mapping.cost_of)
            for index in range(plan.policy.top if has_reviews(plan) else 0)
        ]
        self._left = [ColumnBuilder(np.int64) if early else None for early in early_rungs(plan.policy)]
        scorer = plan.policy.scorer or {}
        self._scored = {index: ColumnBuilder(np.float64) for index, name in enumerate(mapping.names) if name in scorer}

    def add(self, items: list[Item], replies: Mapping[str, list[RecordedReply]]) -> None:
        names = self._classify(items) if self._tests_text else [OTHER if i.task is None else i.task for i in items]
        codes = self._codes
        for name in dict.fromkeys(names):
            codes.setdefault(name, len(codes))
        self._task.add([codes[name] for name in names])
        prefixes = [recorded_prefix(item, request_of(item)) for item in items] if any(self._cold) else [0] * len(items)
        for index, rung in enumerate(self._mapping.rungs):
            if self._checks:
                fails, stuck = self._fails(index, names, replies[rung])
                self._failed[index].add(fails)
                self._stuck[index].add(stuck)
            if self._mapping.cost_of == "policy":
                rates = self._plan.rates[index]
                self._cost[index].add(
                    [prices.cost(rates, one.tokens) if one.can_be_priced else NO_COST for one in replies[rung]]
                )
            tokens = self._add_cold(index, replies[rung], prefixes)
            if (left := self._left[index]) is not None:
                left.add(closed_costs(self._plan.rates[index], replies[rung], self._mapping.cost_of, tokens))
            if index < len(self._reviews):
                self._reviews[index].add(names, replies[rung])
        self._voting.add(items, names, prefixes)
        if self._scored:
            self._score(items, names, [replies[rung] for rung in self._mapping.rungs])

    def _add_cold(self, index: int, replies: list[RecordedReply], prefixes: Sequence[int]) -> Sequence[Usage | None]:
        """Add what the rung's calls cost after a climb; their tokens, None where they are the recorded ones."""
        if (cold := self._cold[index]) is None:
            return [None] * len(replies)
        rung, rates = self._plan.policy.ladder[index], self._plan.rates[index]
        pairs = zip(replies, prefixes, strict=True)
        tokens = [cold_tokens(rung, one.tokens, prefix) for one, prefix in pairs]
        own = zip(replies, tokens, strict=True)
        cold.add([prices.cost(rates, billed) if one.can_be_priced else NO_COST for one, billed in own])
        return tokens

    def _score(self, items: list[Item], names: list[str], replies: list[list[RecordedReply]]) -> None:
        """Score by the live rule's own function: adding in another order could cross a threshold."""
        policy, last = self._plan.policy, max(self._scored)
        for number, (item, task) in enumerate(zip(items, names, strict=True)):
            characters = request_of(item).turn_characters()
            verdicts: list[Verdict] = []
            for index in range(last + 1):
                verdict = verdict_at(self._mapping, index, item, replies[index][number], task)
                verdicts.append(scored(policy, Facts(characters, task, (*verdicts, verdict))))
                if index in self._scored:
                    known = verdicts[-1].kind == "answered"
                    self._scored[index].add([verdicts[-1].confidence if known else None])

    def _classify(self, items: list[Item]) -> list[str]:
        matches = [self._plan.signals.classify(request_of(item)) for item in items]
        self._floor.add([match.floor for match in matches])
        return [match.task for match in matches]

    def _fails(self, index: int, names: list[str], replies: list[RecordedReply]) -> tuple[list[bool], list[int]]:
        """Which answers fail a check, and where an external check is stuck."""
        plan, triage = self._plan, wants_triage(self._plan.policy, index)
        by_task = {name: plan.checks_for(name) for name in set(names)}
        fails: list[bool] = []
        stuck: list[int] = []
        for name, reply in zip(names, replies, strict=True):
            checks = by_task[name]
            verdict = apply_checks(recorded_verdict(reply, triage=triage), checks.functions, None)
            is_voted = plan.policy.route(name).samples[index] is not None  # then each sample has its own check's result
            found = stuck_at(verdict, reply, checks.verifiers) if checks.verifiers and not is_voted else (False, 0)
            fails.append(bool(verdict.failed_checks) or found[0])
            stuck.append(found[1])
        return fails, stuck

    def build(self, columns: Columns) -> MappedColumns:
        mapping = self._mapping
        floor = self._floor.array() if self._tests_text else None
        failed = tuple(builder.array() if self._checks else None for builder in self._failed)
        if mapping.cost_of == "policy":
            cost = tuple(builder.array() for builder in self._cost)
        else:
            cost = tuple(columns.rungs[rung].cost for rung in mapping.rungs)
        climb = tuple(own if one is None else one.array() for one, own in zip(self._cold, cost, strict=True))
        confidence = tuple(columns.rungs[rung].confidence for rung in mapping.rungs)
        stuck = tuple(builder.array() for builder in self._stuck) if self._verifies else ()
        left = tuple(None if builder is None else builder.array() for builder in self._left)
        mapped = MappedColumns(
            mapping, tuple(self._codes), self._task.array(), floor, failed, climb, confidence, stuck,
            samples=self._voting.samples(), alone_cost=cost, climb_cost=climb if any(self._cold) else (), left=left if any(self._left) else (),
            reviews=tuple(builder.build() for builder in self._reviews),
        )  # fmt: skip
        mapped = self._voting.voted(columns, mapped)
        scored = tuple(
            self._scored[index].array() if index in self._scored else own for index, own in enumerate(mapped.confidence)
        )
        return replace(mapped, confidence=scored)


def _replies(items: list[Item], rung: str) -> list[RecordedReply]:
    try:
        return [item.replies[rung] for item in items]
    except KeyError:
        return [item.replies.get(rung, _NO_REPLY) for item in items]


def group_codes(items: Sequence[Item]) -> Codes:
    """(N,): the number of each item's group, as `Columns.group` has it for a corpus of these items."""
    keys = [group_key(item) for item in items]
    return _numbered(np.array(list(map(hash, keys)), np.int64), np.array(list(map(checksum_of, keys)), np.int64))


def checksum_of(key: tuple[str, str]) -> int:
    """63 bits of two checksums of a group's name, the same in every run and far quicker than a hash function."""
    name = key[1].encode("utf-8", "surrogatepass")
    return crc32(name) << 31 | adler32(name) >> 1


def _numbered(keys: Ints, order: Ints) -> Codes:
    """The groups numbered from 0 by `order`, the checksum of their names; groups whose checksums are equal by appearance.

    A bet and a bootstrap take the groups in the order of their numbers. So it must not depend on the order of the file: a
    corpus of live traffic is in the order in which requests happened to end.
    """
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.lexsort((first, order[first]))] = np.arange(len(first), dtype=np.int32)
    return rank[inverse]
