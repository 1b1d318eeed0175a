"""The features that a scorer is learned from, gathered while a corpus is read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cascade.core.policy import OTHER
from cascade.core.policy.scorer import INTERACTION
from cascade.core.scoring import Facts, can_be_scored, value_of
from cascade.core.trail import Verdict
from cascade.corpora.items import Item, RecordedReply
from cascade.replay.arrays import ColumnBuilder, np
from cascade.replay.columns import MappedColumns, PolicyMapping
from cascade.replay.driver import request_of
from cascade.replay.sampled import verdict_at, voted_rungs

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Floats, Ints

__all__ = ["LENGTHS", "FeatureCollector", "FeatureTable", "features_of", "interactions_of", "levels_of"]

LENGTHS = ("log_input", "log_answer")
_NO_REPLY = RecordedReply(answer=None)
_RAREST = 20  # rows that a task, or a level of the self-report, needs for its own weight
_MOST_TASKS = 64
_MOST_LEVELS = 32


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """The features that a scorer is learned from, for each rung below the top.

    names     by rung: the features' names
    values    by rung: (N, F) their values, NaN if not known
    answered  by rung: (N,) whether there is an answer with a confidence, which can be scored
    """

    rungs: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    values: tuple[Floats, ...]
    answered: tuple[Bools, ...]

    def column(self, index: int, name: str) -> Floats:
        """(N,): a feature of `names`, `is:LEVEL` or `agrees:RUNG*logit`; equal to the last bit to `core.scoring.value_of`."""
        if name in self.names[index]:
            return self.values[index][:, self.names[index].index(name)]
        if name.startswith("is:"):
            level = self.column(index, "level")
            return np.where(np.isnan(level), np.nan, level == float(name.removeprefix("is:")))
        return self.column(index, name.removesuffix(INTERACTION)) * self.column(index, "logit")


def features_of(rungs: Sequence[str], index: int, voted: Collection[str] = ()) -> tuple[str, ...]:
    """The features known once the rung at `index` has answered, except the task. `voted`: the rungs with samples."""
    lower = [f"{kind}:{rung}" for rung in rungs[:index] for kind in ("agrees", "logit", "level")]
    own = ("agreement", "unanimous") if rungs[index] in voted else ()
    votes = [f"{kind}:{rung}" for rung in rungs[:index] if rung in voted for kind in ("agreement", "unanimous")]
    return ("logit", "level", "log_input", "log_answer", *lower, *own, *votes)


def interactions_of(rungs: Sequence[str], index: int) -> tuple[str, ...]:
    """Agreement with each lower rung, times the logit of the own self-report: how much the one tells depends on the other."""
    return tuple(f"agrees:{rung}{INTERACTION}" for rung in rungs[:index])


def levels_of(table: FeatureTable, index: int, rows: Ints) -> tuple[str, ...]:
    """A feature for each level of the rung's self-report, as observed on `rows`; all rare levels together have none."""
    level = table.column(index, "level")[rows]
    found, counts = np.unique(level[~np.isnan(level)], return_counts=True)
    often = np.argsort(-counts, kind="stable")[:_MOST_LEVELS]
    return tuple(f"is:{float(found[place])!r}" for place in sorted(often.tolist()) if counts[place] >= _RAREST)


class FeatureCollector:
    """Takes the features of the items while a corpus is read: give `add` to `read_columns` as `on_items`."""

    def __init__(self, mapping: PolicyMapping) -> None:
        self._mapping, self._rungs = mapping, mapping.names[:-1]
        voted = voted_rungs(mapping.plan.policy)
        self._names = [features_of(self._rungs, index, voted) for index in range(len(self._rungs))]
        self._by_task = any(task.when is not None for task in mapping.plan.policy.tasks)
        self._values = [[ColumnBuilder(np.float64) for _ in names] for names in self._names]
        self._answered = [ColumnBuilder(np.bool_) for _ in self._rungs]

    def add(self, items: Sequence[Item]) -> None:
        """Add the next items, in the order of the columns."""
        for item in items:
            characters = request_of(item).turn_characters()
            task = self._mapping.plan.signals.classify(request_of(item)).task if self._by_task else item.task or OTHER
            verdicts = tuple(
                verdict_at(self._mapping, index, item, item.replies.get(rung, _NO_REPLY), task)
                for index, rung in enumerate(self._mapping.rungs[:-1])
            )
            for index in range(len(self._rungs)):
                self._add(index, Facts(characters, "", verdicts[: index + 1]), self._rungs[: index + 1])
                self._answered[index].add(
                    [_can_be_scored(verdicts[index]) and self._mapping.rungs[index] in item.replies]
                )

    def _add(self, index: int, facts: Facts, rungs: tuple[str, ...]) -> None:
        for name, growing in zip(self._names[index], self._values[index], strict=True):
            growing.add([value_of(name, facts, rungs)])

    def table(self, view: MappedColumns) -> FeatureTable:
        """All features collected. Each task of `view` that is not too rare is a feature, too."""
        tasks = _tasks_of(view)
        names = tuple((*own, *(f"task:{task}" for task, _ in tasks)) for own in self._names)
        values: list[Floats] = []
        for growing in self._values:
            matrix = np.empty((len(view.task), len(growing) + len(tasks)), np.float64, order="F")
            for place, one in enumerate(growing):
                matrix[:, place] = one.array()
            for place, (_, code) in enumerate(tasks, len(growing)):
                matrix[:, place] = view.task == code
            values.append(matrix)
        return FeatureTable(self._rungs, names, tuple(values), tuple(one.array() for one in self._answered))


def _can_be_scored(verdict: Verdict) -> bool:
    """As the live rule; an answer without a vote counts as it did when it was recorded, whatever its confidence."""
    return can_be_scored(verdict) if verdict.vote is not None else verdict.kind == "answered"


def _tasks_of(view: MappedColumns) -> list[tuple[str, int]]:
    """The tasks that get a weight, each with its code; none if there is only one task."""
    if len(view.tasks) < 2:
        return []
    counts = np.bincount(view.task, minlength=len(view.tasks))
    often = [code for code in np.argsort(-counts, kind="stable").tolist() if counts[code] >= _RAREST]
    return [(view.tasks[code], code) for code in sorted(often[:_MOST_TASKS])]
