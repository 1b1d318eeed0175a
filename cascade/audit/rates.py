"""How often what was shipped below the top rung is wrong, from the uniform sample: by task, by rung, by grader.

The rate of a task, and of all, is over all its requests, as a certificate has it: answers of the top rung and requests without an
answer count, and never as wrong. The rate of a rung is over the answers that it shipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from cascade.audit.sequence import interval_at_all_times
from cascade.ledger.audit import Sample

__all__ = [
    "OUTCOME",
    "GraderRate",
    "Interval",
    "Judged",
    "Loss",
    "RateLine",
    "graded_by",
    "grouped",
    "is_below",
    "rate_of",
    "rates_of",
    "skipped_because",
]

OUTCOME = "outcome"
Interval = tuple[float, float]
Judged = Literal["right", "wrong", "open", "skipped", "cannot_tell", "withheld"]
"""What is known of an answer that was shipped below the top rung."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What counts as wrong. `right_at`: a score below it. `withheld`: the graders that are not believed, with the reason."""

    right_at: float = 0.5
    withheld: Mapping[str, str] = field(default_factory=dict[str, str])

    def judged(self, sample: Sample) -> Judged:
        """What is known of the answer; only for one that was shipped below the top."""
        if sample.outcome is None:
            if sample.state != "graded":
                return sample.state
            if graded_by(sample) in self.withheld:
                return "withheld"
        score = sample.score
        if score is None:
            return "cannot_tell"
        return "wrong" if score < self.right_at else "right"

    def is_wrong(self, sample: Sample) -> bool:
        """Whether it was shipped below the top, and is known to be wrong."""
        return is_below(sample) and self.judged(sample) == "wrong"


@dataclass(frozen=True, slots=True)
class GraderRate:
    """What one grader found of the answers that it graded. `rate` None: withheld, for the reason in `why`."""

    grader: str
    graded: int
    wrong: int | None
    rate: float | None
    interval: Interval | None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class RateLine:
    """The audited requests of a task and rung; None: of all. `rung` "" are requests without an answer.

    `audited`: in the uniform sample. `below`: of these, shipped below the top rung. Of `below`: `known` right or `wrong`, `open`, `skipped` by reason,
    `cannot_tell` (the grader), `withheld` (the judge is not believed). `rate` with its `interval`: of the loss over all requests, or with
    a rung over its answers; None where nothing is known, where it is withheld (`why`), and for the top rung, whose own answers are never counted.
    `executed_by`: of answers by the rung's plans, the rung that wrote them; they have a line of their own.
    """

    task: str | None
    rung: str | None
    audited: int
    below: int
    known: int
    wrong: int
    open: int
    cannot_tell: int
    withheld: int
    skipped: Mapping[str, int]
    rate: float | None
    interval: Interval | None
    graders: tuple[GraderRate, ...] = ()
    why: str | None = None
    executed_by: str = ""


def is_below(sample: Sample) -> bool:
    """Whether it was shipped below the top rung: what the loss counts."""
    return sample.is_below


def graded_by(sample: Sample) -> str:
    """Who said what it is worth."""
    if sample.outcome is not None:
        return OUTCOME
    return sample.grading.grader if sample.grading is not None else ""


def rates_of(samples: Sequence[Sample], loss: Loss) -> tuple[RateLine, ...]:
    """All requests; then each task, and below it its rungs in the order of the ladder. `samples`: the uniform ones."""
    lines = [rate_of(samples, loss)]
    for task, own in sorted(grouped(samples, lambda one: one.task)):
        lines.append(rate_of(own, loss, task))
        ordered = sorted(own, key=lambda one: (not one.rung, one.index, one.executed_by))
        for _, some in grouped(ordered, lambda one: one.answered_by):
            lines.append(replace(rate_of(some, loss, task, some[0].rung), executed_by=some[0].executed_by))
    return tuple(lines)


def rate_of(samples: Sequence[Sample], loss: Loss, task: str | None = None, rung: str | None = None) -> RateLine:
    """One line. Answers that were not graded are taken to be like those that were.

    So requests that the loss never counts enter the rate in the proportion in which the others were graded.
    """
    below = [one for one in samples if is_below(one)]
    found = Counter(loss.judged(one) for one in below)
    known, wrong = found["right"] + found["wrong"], found["wrong"]
    others = len(samples) - len(below)
    n = known + (round(others * known / len(below)) if below else others)
    graders = tuple(_graders(below, loss))
    why = next((one.why for one in graders if one.why is not None), None)
    is_known = n > 0 and why is None and (rung is None or bool(below))
    return RateLine(
        task, rung, len(samples), len(below), known, wrong, found["open"], found["cannot_tell"], found["withheld"],
        Counter(skipped_because(one) for one in below if loss.judged(one) == "skipped"),
        wrong / n if is_known else None,
        interval_at_all_times(wrong, n) if is_known else None,
        graders,
        why,
    )  # fmt: skip


def skipped_because(sample: Sample) -> str:
    """Why it was not graded."""
    return (sample.grading.skipped if sample.grading is not None else None) or "unknown"


def _graders(below: Sequence[Sample], loss: Loss) -> Iterable[GraderRate]:
    """The rates by grader; a grader that is not believed has none."""
    decided = [one for one in below if loss.judged(one) in ("right", "wrong", "withheld")]
    for grader, some in grouped(decided, graded_by):
        if grader in loss.withheld:
            yield GraderRate(grader, len(some), None, None, None, loss.withheld[grader])
            continue
        wrong = sum(loss.judged(one) == "wrong" for one in some)
        yield GraderRate(grader, len(some), wrong, wrong / len(some), interval_at_all_times(wrong, len(some)))


def grouped(samples: Iterable[Sample], key: Callable[[Sample], str]) -> Iterable[tuple[str, list[Sample]]]:
    """The samples by a key, in the order in which the keys come first."""
    found: dict[str, list[Sample]] = {}
    for one in samples:
        found.setdefault(key(one), []).append(one)
    return found.items()
