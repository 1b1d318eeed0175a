"""A corpus as columns: what replay and calibration count with, built in one pass while the corpus is read.

Of the texts nothing is kept but what a plan makes of them (a `View`): which task an item belongs to, and which answers
fail its checks. So a corpus of a million items of three rungs takes some 300 MB, whatever its texts weigh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from cascade.core import prices
from cascade.core.climb import Plan, apply_checks
from cascade.core.errors import CorpusError, RequestError
from cascade.core.policy import OTHER
from cascade.core.scoring import Facts, scored
from cascade.core.trail import Verdict, VerdictKind
from cascade.core.triage import check_request, wants_triage
from cascade.corpora.items import NOT_RECORDED, Item, Manifest, RecordedReply
from cascade.corpora.splits import group_key
from cascade.replay.arrays import Growing, np
from cascade.replay.driver import CostOf, recorded_verdict, request_of

if TYPE_CHECKING:
    from cascade.replay.arrays import Codes, Floats, Small, Truths, Whole

__all__ = [
    "ANSWERED",
    "DECLINED",
    "FAILED",
    "MISSING",
    "NO_COST",
    "UNRECORDED",
    "Columns",
    "PolicyMapping",
    "RungColumns",
    "View",
    "no_cost",
    "read_columns",
]

MISSING, ANSWERED, UNRECORDED, DECLINED = range(4)
"""What `RungColumns.answer` holds: no reply, an answer with its text, one whose text was not recorded, a declined one."""

FAILED: dict[VerdictKind, int] = {
    "malformed": 4, "truncated": 5, "refused": 6, "overflow": 7, "failed": 8,
}  # fmt: skip
"""And what it holds of a reply without an answer whose recording says what became of it."""

NO_COST = -1
"""Stands in a column of costs where none was recorded."""

_HINT = "record it, or leave the item out (--skip-bad does)"

Refuse = Callable[[CorpusError], object]
"""Told of an item that cannot be used; it raises, or returns to have the item left out."""

_CHUNK = 32  # items held at once: more give the garbage collector more to walk through, and leave the fast memory


class _Absent(str):
    """The answer of a reply that is not there."""

    __slots__ = ()


_NO_REPLY = RecordedReply(answer=_Absent())
_ANSWER_KINDS: dict[type, int] = {type(NOT_RECORDED): UNRECORDED, type(None): DECLINED, _Absent: MISSING}


@dataclass(frozen=True, slots=True)
class PolicyMapping:
    """A plan that looks at a corpus: `rungs` names the corpus's rung for each of the plan's own, in the ladder's order.

    `cost_of`: a reply's cost is the recorded one, or its usage at the policy's prices.
    """

    plan: Plan
    rungs: tuple[str, ...]
    cost_of: CostOf = "recorded"

    @property
    def names(self) -> tuple[str, ...]:
        """The plan's own names of its rungs."""
        return tuple(rung.rung for rung in self.plan.policy.ladder)


@dataclass(frozen=True, slots=True, eq=False)
class RungColumns:
    """One rung's replies: `confidence` and `score` are NaN where there is none, `cost` is nano-USD or NO_COST."""

    confidence: Floats
    score: Floats
    cost: Whole
    answer: Small


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A corpus as one plan sees it. `task` indexes `tasks`; `floor` is what tampering raises (None: nowhere).

    `failed`, a rung of the plan: which of its answers fail the checks (None: none does). `cost`: nano-USD, by rung.
    `confidence`, by rung: what its threshold is held against: the recorded one, or the score that the policy's scorer
    makes of it (NaN where there is no answer to score).
    """

    lens: PolicyMapping
    tasks: tuple[str, ...]
    task: Codes
    floor: Small | None
    failed: tuple[Truths | None, ...]
    cost: tuple[Whole, ...]
    confidence: tuple[Floats, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A corpus, item by item in the order of the file. `group` numbers the groups as they first appear, from 0.

    `at` is the arrival in seconds, NaN where it is not known. `line` is the item's line in the file.
    """

    source: str
    manifest: Manifest
    ids: list[str]
    line: Codes
    group: Codes
    at: Floats
    rungs: dict[str, RungColumns]

    def __len__(self) -> int:
        return len(self.ids)

    def error(self, row: int, problem: str, hint: str = "") -> CorpusError:
        """The error that names the item at `row`."""
        return CorpusError(problem, where=f"{self.source}:{self.line[row]}", item=self.ids[row], hint=hint)


def read_columns(
    items: Iterable[Item],
    manifest: Manifest,
    lenses: Sequence[PolicyMapping] = (),
    *,
    source: str = "corpus",
    refuse: Refuse | None = None,
    whole: bool = False,
    each: Callable[[Sequence[Item]], object] | None = None,
) -> tuple[Columns, tuple[View, ...]]:
    """Read the items into columns, with a view for each lens; `each` is shown the items that were taken, in pieces.

    Raises CorpusError for an id that occurs twice and for an input that cannot be asked (an empty text, a conversation
    that the assistant ends); `refuse` may return instead, to leave such an item out. `whole` refuses also an item that
    has not a graded, priced reply of every rung of every lens: without it that is an error only where the rule asks one.
    """
    apart = manifest.baseline_apart
    body = _Body((*manifest.rungs, apart) if apart else manifest.rungs)
    eyes = [_Eye(lens) for lens in lenses]
    vet = _Vet(source, refuse or _raise, lenses if whole else ())
    stream = iter(items)
    while chunk := list(islice(stream, _CHUNK)):
        taken = vet.passed(chunk)
        replies = {rung: _replies(taken, rung) for rung in manifest.rungs}
        body.take(taken, replies | ({apart: [item.baseline or _NO_REPLY for item in taken]} if apart else {}))
        for eye in eyes:
            eye.take(taken, replies)
        if each is not None:
            each(taken)
    columns = body.columns(source, manifest)
    return columns, tuple(eye.view(columns) for eye in eyes)


def no_cost(lens: PolicyMapping, index: int, item: str, where: str) -> CorpusError:
    """The error for a reply whose cost is not known: that is never taken as 0."""
    what = "cost_usd" if lens.cost_of == "recorded" else "usage"
    return CorpusError(f"the reply of {lens.rungs[index]!r} has no {what}", where=where, item=item, hint=_HINT)


def _raise(problem: CorpusError) -> None:
    raise problem


class _Vet:
    """Looks for what makes an item unusable, before anything is made of it."""

    def __init__(self, source: str, refuse: Refuse, whole: Sequence[PolicyMapping]) -> None:
        self._source, self._refuse, self._whole = source, refuse, whole
        self._seen: set[str] = set()

    def passed(self, chunk: list[Item]) -> list[Item]:
        """The items that may be used; the others were told to `refuse`."""
        odd = [
            item
            for item in chunk
            if type(item.input) is not str
            or not item.input
            or item.input.isspace()
            or (item.extra is not None and "system" in item.extra)
        ]
        bad = {id(item) for item in odd if not self._can_be_asked(item)}
        taken = [item for item in chunk if id(item) not in bad] if bad else chunk
        ids = {item.id for item in taken}
        if len(ids) != len(taken) or not self._seen.isdisjoint(ids):
            taken = [item for item in taken if self._is_first(item)]
        self._seen |= ids
        return [item for item in taken if self._is_whole(item)] if self._whole else taken

    def _is_whole(self, item: Item) -> bool:
        for lens in self._whole:
            for index, rung in enumerate(lens.rungs):
                if (reply := item.replies.get(rung)) is None:
                    self._tell(item, f"no reply of rung {rung!r} was recorded", _HINT)
                elif reply.score is None:
                    self._tell(item, f"the reply of {rung!r} has no score", "grade it, or leave the item out")
                elif not (reply.cost_usd is not None if lens.cost_of == "recorded" else reply.can_be_priced):
                    self._refuse(no_cost(lens, index, item.id, f"{self._source}:{item.line}"))
                else:
                    continue
                return False
        return True

    def _can_be_asked(self, item: Item) -> bool:
        try:
            check_request(request_of(item))
        except RequestError as problem:
            self._tell(item, str(problem), "leave the item out")
            return False
        return True

    def _is_first(self, item: Item) -> bool:
        if item.id in self._seen:
            self._tell(item, "the id occurs twice", "give each item an id of its own")
            return False
        self._seen.add(item.id)
        return True

    def _tell(self, item: Item, problem: str, hint: str) -> None:
        self._refuse(CorpusError(problem, where=f"{self._source}:{item.line}", item=item.id, hint=hint))


class _Body:
    """The columns that no plan has a part in, while they grow."""

    def __init__(self, rungs: Sequence[str]) -> None:
        self._ids: list[str] = []
        self._keys, self._lines, self._at = Growing(np.int64), Growing(np.int32), Growing(np.float64)
        self._rungs = {rung: _GrowingRung() for rung in rungs}

    def take(self, items: list[Item], replies: Mapping[str, list[RecordedReply]]) -> None:
        self._ids += [item.id for item in items]
        # Only ever compared with one another: the hash of a text differs from run to run, what equals what does not.
        self._keys.add([hash(group_key(item)) for item in items])
        self._lines.add([item.line for item in items])
        self._at.add([item.at for item in items])
        for rung, growing in self._rungs.items():
            growing.take(replies[rung])

    def columns(self, source: str, manifest: Manifest) -> Columns:
        rungs = {rung: growing.columns() for rung, growing in self._rungs.items()}
        group = _by_appearance(self._keys.whole())
        return Columns(source, manifest, self._ids, self._lines.whole(), group, self._at.whole(), rungs)


class _GrowingRung:
    """One rung's columns, while they grow."""

    def __init__(self) -> None:
        self._confidence, self._score, self._usd = Growing(np.float64), Growing(np.float64), Growing(np.float64)
        self._answer = Growing(np.int8)

    def take(self, replies: list[RecordedReply]) -> None:
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

    def columns(self) -> RungColumns:
        usd = self._usd.whole()
        cost = np.where(np.isnan(usd), NO_COST, np.rint(usd * 1e9)).astype(np.int64)
        return RungColumns(self._confidence.whole(), self._score.whole(), cost, self._answer.whole())


class _Eye:
    """What one plan makes of the texts, while they are there."""

    def __init__(self, lens: PolicyMapping) -> None:
        plan = lens.plan
        self._lens, self._plan = lens, plan
        self._tests_text = any(task.when is not None for task in plan.policy.tasks)
        self._checks = bool(plan.shared_checks) or any(plan.checks.values())
        self._codes: dict[str, int] = {}
        self._task, self._floor = Growing(np.int32), Growing(np.int8)
        self._failed = [Growing(np.bool_) for _ in lens.rungs]
        self._cost = [Growing(np.int64) for _ in lens.rungs]
        scorer = plan.policy.scorer or {}
        self._scored = {index: Growing(np.float64) for index, name in enumerate(lens.names) if name in scorer}

    def take(self, items: list[Item], replies: Mapping[str, list[RecordedReply]]) -> None:
        names = self._classify(items) if self._tests_text else [OTHER if i.task is None else i.task for i in items]
        codes = self._codes
        for name in dict.fromkeys(names):
            codes.setdefault(name, len(codes))
        self._task.add([codes[name] for name in names])
        for index, rung in enumerate(self._lens.rungs):
            if self._checks:
                self._failed[index].add(self._fails(index, names, replies[rung]))
            if self._lens.cost_of == "policy":
                rates = self._plan.rates[index]
                self._cost[index].add(
                    [prices.cost(rates, one.tokens) if one.can_be_priced else NO_COST for one in replies[rung]]
                )
        if self._scored:
            self._score(items, names, [replies[rung] for rung in self._lens.rungs])

    def _score(self, items: list[Item], names: list[str], replies: list[list[RecordedReply]]) -> None:
        """Score by the live rule's own function: a sum in another order might fall on the other side of a threshold."""
        policy, last = self._plan.policy, max(self._scored)
        for number, (item, task) in enumerate(zip(items, names, strict=True)):
            characters = request_of(item).turn_characters()
            taken: list[Verdict] = []
            for index in range(last + 1):
                verdict = recorded_verdict(replies[index][number], triage=True)
                taken.append(scored(policy, Facts(characters, task, (*taken, verdict))))
                if index in self._scored:
                    known = taken[-1].kind == "answered"
                    self._scored[index].add([taken[-1].confidence if known else None])

    def _classify(self, items: list[Item]) -> list[str]:
        matches = [self._plan.signals.classify(request_of(item)) for item in items]
        self._floor.add([match.floor for match in matches])
        return [match.task for match in matches]

    def _fails(self, index: int, names: list[str], replies: list[RecordedReply]) -> list[bool]:
        plan, triage = self._plan, wants_triage(self._plan.policy, index)
        checks = {name: (*plan.shared_checks, *plan.checks.get(name, ())) for name in set(names)}
        return [
            bool(apply_checks(recorded_verdict(reply, triage=triage), checks[name], None).failed_checks)
            for name, reply in zip(names, replies, strict=True)
        ]

    def view(self, columns: Columns) -> View:
        lens = self._lens
        floor = self._floor.whole() if self._tests_text else None
        failed = tuple(growing.whole() if self._checks else None for growing in self._failed)
        if lens.cost_of == "policy":
            cost = tuple(growing.whole() for growing in self._cost)
        else:
            cost = tuple(columns.rungs[rung].cost for rung in lens.rungs)
        confidence = tuple(
            self._scored[index].whole() if index in self._scored else columns.rungs[rung].confidence
            for index, rung in enumerate(lens.rungs)
        )
        return View(lens, tuple(self._codes), self._task.whole(), floor, failed, cost, confidence)


def _replies(items: list[Item], rung: str) -> list[RecordedReply]:
    try:
        return [item.replies[rung] for item in items]
    except KeyError:
        return [item.replies.get(rung, _NO_REPLY) for item in items]


def _by_appearance(keys: Whole) -> Codes:
    """The same values as numbers from 0, in the order in which they first appear."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse]
