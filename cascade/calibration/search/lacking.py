"""What a search cannot do without: every reply graded and priced, and every review that a gate may read."""

from __future__ import annotations

from collections.abc import Sequence

from cascade.calibration.search.closing import AtConfidence
from cascade.calibration.search.reviewing import Gate
from cascade.core.errors import CorpusError
from cascade.corpora.sources import place_of
from cascade.replay.arrays import np
from cascade.replay.columns import MISSING, NO_COST, Columns, MappedColumns, missing_cost
from cascade.replay.reviews import NO_REVIEW, NOT_REVIEWED, REVIEW_HINT, gates_at, no_review, no_review_cost

__all__ = ["require_replies", "require_reviews"]

_HINT = "grade it, or leave the item out (--skip-bad does)"


def require_reviews(columns: Columns, view: MappedColumns, gates: Sequence[Gate | None]) -> None:
    """Raises CorpusError where an answer that a gate may read has no review, or one of unknown cost."""
    rungs, plan = view.mapping.rungs, view.mapping.plan
    for index, gate in enumerate(gates):
        if gate is None:
            continue
        missing = gate.code == NO_REVIEW
        lacking = missing | ((gate.code != NOT_REVIEWED) & (gate.cost == NO_COST))
        if lacking.any():
            row = int(lacking.argmax())
            reviewer = gates_at(plan, view.tasks[int(view.task[row])], index)
            assert reviewer is not None, "what is read has a reviewer"
            if missing[row]:
                problem = no_review(rungs[index], rungs[reviewer[0]])
            else:
                problem = no_review_cost(rungs[index], view.mapping.cost_of)
            raise columns.error(row, problem, REVIEW_HINT)


def require_replies(columns: Columns, view: MappedColumns, early: Sequence[AtConfidence | None]) -> None:
    """Raises CorpusError, naming item and rung, if a reply is missing, or has no score or no cost."""
    faults: list[tuple[int, CorpusError]] = []
    for index, (rung, cost) in enumerate(zip(view.mapping.rungs, view.cost, strict=True)):
        replies, ballot = columns.rungs[rung], view.vote(index)
        lacking = {
            "no reply of rung {!r} was recorded": replies.answer == MISSING,
            "the reply of {!r} has no score": np.isnan(view.score(columns, index)) | np.isnan(replies.score),
            "a sample of {!r} that the vote asks for was not recorded with its answer, cost and checks": np.zeros(
                len(columns), np.bool_
            )
            if ballot is None
            else ballot.lacking >= 0,
            "": cost == NO_COST,
        }
        if (one := early[index]) is not None and (left := view.left[index]) is not None:
            lacking["closed"] = one.closes & (left == NO_COST)
        for problem, missed in lacking.items():
            if missed.any():
                row = int(missed.argmax())
                where = place_of(columns.source, int(columns.line[row]))
                if problem in ("", "closed"):
                    error = missing_cost(view.mapping, index, columns.ids[row], where, closed=bool(problem))
                else:
                    error = columns.error(row, problem.format(rung), _HINT)
                faults.append((row, error))
                break
    if faults:
        raise min(faults, key=lambda fault: fault[0])[1]
