"""Votes on the recorded samples of one rung, as decisions; and the agreement among its first samples.

Samples are taken in the order recorded, so that a corpus with variants in turn is put to the vote of these variants in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cascade.calibration.signal_table.deciding import Decision, TuneHalf
from cascade.core.policy import Samples
from cascade.replay.arrays import np
from cascade.replay.votes import CAN_AGREE, NO_CHECK, NO_TEXT, NOT_RECORDED_HERE, SampleColumns, vote

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Floats

__all__ = ["Plurality", "Votes", "first_of", "usable", "variant_decisions", "votes_on", "with_plurality"]

_SIZES = (2, 3, 4, 5, 6)
"""How many samples `votes_on` tries: with more sizes to choose from, the choice is noisier on few items."""


@dataclass(frozen=True, slots=True, eq=False)
class Plurality:
    """Of some samples of each item: the share that has the commonest answer, and whether that is right.

    `agreement` is NaN where no sample has an answer. `score` is of the first sample that has the commonest answer, the
    earliest such answer of equals; 0 without one.
    """

    agreement: Floats
    score: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Curtailed votes by (max, agree).

    `decisions`: one confidence where enough agree. `reports`: the mean self-report of those that agree; None if no sample
    has one.
    """

    decisions: dict[tuple[int, int], Decision]
    reports: dict[tuple[int, int], Decision] | None


def usable(samples: SampleColumns, same: str) -> SampleColumns:
    """The leading samples that every item has, with text, checks, score and cost; only the keys of `same`."""
    size = 0
    for state, score, cost in zip(samples.state, samples.score, samples.cost, strict=True):
        lacking = np.isin(state, (NOT_RECORDED_HERE, NO_TEXT, NO_CHECK)) | np.isnan(score) | (cost < 0)
        if lacking.any():
            break
        size += 1
    return SampleColumns(
        samples.names,
        samples.variant[:size],
        samples.state[:size],
        {same: samples.key[same][:size]},
        samples.confidence[:size],
        samples.score[:size],
        samples.cost[:size],
    )


def first_of(samples: SampleColumns, most: int) -> SampleColumns:
    """The first samples."""
    keys = {same: own[:most] for same, own in samples.key.items()}
    return SampleColumns(
        samples.names, samples.variant[:most], samples.state[:most], keys, samples.confidence[:most],
        samples.score[:most], samples.cost[:most],
    )  # fmt: skip


def with_plurality(samples: SampleColumns, most: int) -> Plurality:
    """The agreement among the first samples, all of them asked."""
    ((_, keys),) = samples.key.items()
    valid = [(keys[k] >= 0) & (samples.state[k] == CAN_AGREE) for k in range(most)]
    n = len(keys[0])
    largest, score = np.zeros(n, np.int64), np.zeros(n)
    for k in range(most):
        size = np.zeros(n, np.int64)
        for j in range(most):
            size += valid[k] & valid[j] & (keys[j] == keys[k])
        better = size > largest  # a later sample of the same answer, or of an equal group, changes nothing
        largest[better] = size[better]
        score[better] = samples.score[k][better]
    return Plurality(np.where(largest > 0, largest / most, np.nan), score)


def votes_on(samples: SampleColumns, rung: str, most: int | None = None) -> Votes:
    """Votes with `most` samples, or with each of _SIZES that are recorded, and every number that must agree."""
    sizes = (most,) if most else tuple(size for size in _SIZES if size <= len(samples))
    decisions: dict[tuple[int, int], Decision] = {}
    reports: dict[tuple[int, int], Decision] = {}
    for size in sizes:
        ordered = first_of(samples, size)
        for agree in range(2, size + 1):
            made, setting = vote(Samples(max=size, agree=agree), ordered), f"--samples {rung}={agree}/{size}"
            sure = np.where(made.reached, agree / size, np.nan)
            decisions[size, agree] = Decision(sure, made.score, made.cost, f"{setting}, no threshold")
            told = np.where(made.reached, made.confidence, np.nan)
            if not np.isnan(told).all():
                reports[size, agree] = Decision(told, made.score, made.cost, f"{setting} with a threshold")
    return Votes(decisions, reports or None)


def variant_decisions(half: TuneHalf, index: int, samples: SampleColumns) -> dict[str, Decision]:
    """By variant's name ("" for the policy's own prompt): its first answer as the rung's answer. Of variants that all items have."""
    made: dict[str, Decision] = {}
    for code, name in enumerate(samples.names):
        found: Bools = np.zeros(len(half), np.bool_)
        confidence, score = np.full(len(half), np.nan), np.zeros(len(half))
        cost = half.view.cost[index].copy()
        for k in range(len(samples)):
            here = (samples.variant[k] == code) & ~found
            answered = here & (samples.state[k] == CAN_AGREE)
            np.copyto(confidence, samples.confidence[k], where=answered)
            np.copyto(score, samples.score[k], where=here)
            np.copyto(cost, samples.cost[k], where=here)
            found |= here
        if found.all():
            made[name] = Decision(confidence, score, cost, f"triage: {{order: {name}}}" if name else "")
    return made if len(made) > 1 else {}
