"""A signal as the confidence of one rung, and the ladder that results; and a corpus cut down to its tune half."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cascade.calibration.gate import ungated
from cascade.calibration.scorer import FeatureTable
from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.replay.arrays import np
from cascade.replay.columns import ANSWERED, Columns, MappedColumns, RungColumns

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Floats, Ints

__all__ = ["Decision", "TuneHalf", "coded_with", "tune_half"]


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What one rung's answers are held against.

    confidence  (N,): NaN where the answer never ships
    score, cost of other answers than the rung's own (another variant's, a vote's), where its checks do not apply again;
                None: its own
    setting     what turns it on
    """

    confidence: Floats
    score: Floats | None = None
    cost: Ints | None = None
    setting: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class TuneHalf:
    """All that is known of the tune half: no figure of the certify half can be computed from it.

    `view` asks each rung once, and holds its answers against the self-report. `signals`, `checks`: by rung below the top
    and name, values as floats, NaN where there is none; a check is 1 where it passed, 0 where it failed.
    """

    columns: Columns
    view: MappedColumns
    table: FeatureTable
    signals: tuple[Mapping[str, Floats], ...]
    checks: tuple[Mapping[str, Floats], ...]

    def __len__(self) -> int:
        return len(self.columns)

    def replies(self, index: int) -> RungColumns:
        """The replies of a rung of the plan."""
        return self.columns.rungs[self.view.mapping.rungs[index]]

    def right(self, score: Floats) -> Bools:
        """(N,): which answers are right."""
        return score >= self.columns.manifest.right_at


def tune_half(
    read: tuple[Columns, MappedColumns],
    table: FeatureTable,
    signals: tuple[Mapping[str, Floats], ...],
    checks: tuple[Mapping[str, Floats], ...],
    is_tune: Bools,
) -> TuneHalf:
    """The tune half of what was read, with every rung asked once, without a scorer and without a review gate."""
    columns, view = read[0], ungated(read[1])
    rows = np.flatnonzero(is_tune)
    rungs = {
        rung: RungColumns(one.confidence[rows], one.score[rows], one.cost[rows], one.answer[rows])
        for rung, one in columns.rungs.items()
    }
    ids, line, group, at = [columns.ids[row] for row in rows.tolist()], columns.line, columns.group, columns.at
    half = replace(columns, ids=ids, line=line[rows], group=group[rows], at=at[rows], rungs=rungs)
    policy = view.mapping.plan.policy.model_copy(update={"scorer": None})
    asked_once = replace(
        view,
        mapping=replace(view.mapping, plan=replace(view.mapping.plan, policy=policy)),
        reviews=(),
        task=view.task[rows],
        floor=None if view.floor is None else view.floor[rows],
        failed=tuple(None if one is None else one[rows] for one in view.failed),
        cost=tuple(one[rows] for one in view.alone_cost or view.cost),
        alone_cost=(),
        climb_cost=(),
        confidence=tuple(rungs[rung].confidence for rung in view.mapping.rungs),
        stuck=tuple(one[rows] for one in view.stuck),
        votes=(),
        samples=tuple(None if one is None else one.rows(rows) for one in view.samples),
    )
    values = tuple(one[rows] for one in table.values)
    features = replace(table, values=values, answered=tuple(one[rows] for one in table.answered))

    def some(named: tuple[Mapping[str, Floats], ...]) -> tuple[Mapping[str, Floats], ...]:
        return tuple({name: own[rows] for name, own in one.items()} for one in named)

    return TuneHalf(half, asked_once, features, some(signals), some(checks))


def coded_with(half: TuneHalf, decisions: Mapping[int, Decision]) -> CodedCorpus:
    """The ladder with these decisions on the rungs of these indices; all other rungs keep their self-report.

    Raises CorpusError, naming item and rung, if a reply is missing, or has no score or no cost.
    """
    columns, view = half.columns, half.view
    rungs, cost, confidence = dict(columns.rungs), list(view.cost), list(view.confidence)
    failed, stuck = list(view.failed), list(view.stuck)
    for index, one in decisions.items():
        own = half.replies(index)
        confidence[index] = one.confidence
        made = replace(own, confidence=one.confidence)
        if one.score is not None and one.cost is not None:
            cost[index] = one.cost
            answers = np.full(len(half), ANSWERED, np.int8)
            made = replace(made, score=one.score, cost=one.cost, answer=answers)
            failed[index] = None
            if stuck:
                stuck[index] = np.zeros(len(half), np.int8)
        rungs[view.mapping.rungs[index]] = made
    changed = replace(view, cost=tuple(cost), confidence=tuple(confidence), failed=tuple(failed), stuck=tuple(stuck))
    return code_columns(replace(columns, rungs=rungs), changed)
