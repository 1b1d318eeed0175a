"""How samples agree: in the corpora, and simulated beside measured (`python benchmarks/simulate.py --agreement`).

The measured figures are from `date-samples`: the outcomes published with Yue et al. (ICLR 2024) of 369 questions on dates,
gpt-3.5-turbo asked with four prompts in turn, gpt-4 once. The data are not part of this project, the figures are.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .draws import STANDARD_NORMAL, Draws
from .replies import LADDER, SHARED
from .samples import First, further_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .replies import Item

__all__ = ["MEASURED", "agreement_rows", "compare_agreement", "figures_of", "sample_rows"]

Vote = tuple[float, bool, bool]
"""A vote: the share of the samples that gave the most frequent answer, whether it is right, and whether all gave it."""

ITEMS = 20_000
SEED = 1
ACCURACIES = (0.648, 0.645, 0.764, 0.789)  # of the four prompts
TOP_ACCURACY = 0.892
PRICE = 0.05  # of a sample, of one call of the top
SLIPS = 4  # wrong answers to an item; in the grid of `samples.py`
COUNTS = (3, 5, 8)
AGREE, MOST = 3, 4  # the vote that is counted: curtailed 3 of 4

MEASURED: Mapping[str, float] = {
    "agreement AUROC, 3 samples": 0.793,
    "agreement AUROC, 5 samples": 0.772,
    "agreement AUROC, 8 samples": 0.736,
    "most frequent answer right, 1 sample": 0.648,
    "most frequent answer right, 3 samples": 0.740,
    "most frequent answer right, 5 samples": 0.775,
    "most frequent answer right, 8 samples": 0.816,
    "unanimous, 3 samples": 0.526,
    "unanimous, 5 samples": 0.455,
    "unanimous, 8 samples": 0.423,
    "wrong if unanimous, 3 samples": 0.098,
    "wrong if unanimous, 5 samples": 0.101,
    "wrong if unanimous, 8 samples": 0.109,
    "curtailed 3 of 4: ships": 0.772,
    "curtailed 3 of 4: samples an item": 3.34,
    "curtailed 3 of 4: confidently wrong": 0.087,
    "curtailed 3 of 4: quality (the top alone: 0.892)": 0.892,
    "curtailed 3 of 4: cost, of the top's": 0.395,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """An item that was asked again: the samples' answers (None: declined), which one is right, and the top's score."""

    answers: tuple[str | None, ...]
    expected: str
    top: float


def compare_agreement(items: int = ITEMS) -> str:
    """The table of measured and simulated figures."""
    told = figures_of(_simulate(items))
    title = (
        "how samples agree: measured on date-samples (369 items, four prompts in turn), simulated with its accuracies"
    )
    rows = [f"{title} ({items:,} items)", f"{'':<52}{'measured':>10}{'simulated':>11}{'off by':>8}"]
    rows += [
        f"{name:<52}{value:>10.3f}{told[name]:>11.3f}{told[name] - value:>+8.3f}" for name, value in MEASURED.items()
    ]
    return "\n".join(
        [*rows, "a measured share is itself known to about 0.02, an AUROC to about 0.03 (one standard error)"]
    )


def figures_of(items: Sequence[Asked]) -> dict[str, float]:
    """The figures under the names of MEASURED."""
    told = {"most frequent answer right, 1 sample": _mean(item.answers[0] == item.expected for item in items)}
    for count in COUNTS:
        votes = [_vote(item, count) for item in items]
        told[f"agreement AUROC, {count} samples"] = _auroc(votes)
        told[f"most frequent answer right, {count} samples"] = _mean(right for _, right, _ in votes)
        told[f"unanimous, {count} samples"] = _mean(alike for *_, alike in votes)
        told[f"wrong if unanimous, {count} samples"] = _mean(not right for _, right, alike in votes if alike)
    ends = [_curtailed(item, AGREE, MOST) for item in items]
    ships, calls = _mean(right is not None for _, right in ends), _mean(asked for asked, _ in ends)
    told["curtailed 3 of 4: ships"], told["curtailed 3 of 4: samples an item"] = ships, calls
    told["curtailed 3 of 4: confidently wrong"] = _mean(right is False for _, right in ends)
    told["curtailed 3 of 4: quality (the top alone: 0.892)"] = _mean(
        item.top if right is None else right for item, (_, right) in zip(items, ends, strict=True)
    )
    told["curtailed 3 of 4: cost, of the top's"] = PRICE * calls + 1 - ships
    return told


def _simulate(items: int) -> list[Asked]:
    """Items of one accuracy, as `replies.py` draws them, with the accuracies of `date-samples`."""
    first, again = Draws(SEED, "outcomes"), Draws(SEED, "samples")
    bounds, top_bound = tuple(map(STANDARD_NORMAL.inv_cdf, ACCURACIES)), STANDARD_NORMAL.inv_cdf(TOP_ACCURACY)
    slips, asked = tuple(f"slip {number}" for number in range(SLIPS)), list[Asked]()
    for _ in range(items):
        difficulty, own, top, slip = first.normal(), first.normal(), first.normal(), first.pick(slips)
        common = math.sqrt(SHARED) * difficulty
        is_wrong = common + math.sqrt(1 - SHARED) * own >= bounds[0]
        others = further_samples(First(difficulty, own, 0.0, slip, is_wrong), slips, max(COUNTS) - 1, SHARED, again)
        answers = [slip if is_wrong else "right"]
        for number, sample in enumerate(others, start=1):
            right = not sample.stuck and sample.trouble < bounds[number % len(bounds)]
            answers.append("right" if right else sample.slip)
        asked.append(Asked(tuple(answers), "right", float(common + math.sqrt(1 - SHARED) * top < top_bound)))
    return asked


def agreement_rows(items: Sequence[Item]) -> list[str]:
    """How the first rung's samples agree in a corpus; no rows if it was asked once."""
    rung, top = LADDER[0].name, LADDER[-1].name
    asked = [
        Asked(
            tuple(sample["answer"] for sample in (reply, *reply["samples"])),
            item["expected"],
            item["replies"][top]["score"],
        )
        for item in items
        if "samples" in (reply := item["replies"][rung])
    ]
    return sample_rows(rung, asked) if asked else []


def sample_rows(rung: str, asked: Sequence[Asked]) -> list[str]:
    """A row for each number of samples that there are."""
    head = f"{rung} asked more than once"
    rows = [f"{head:<27}{'AUROC':>7}{'majority right':>16}{'unanimous':>11}{'of them wrong':>15}"]
    for count in range(2, len(asked[0].answers) + 1):
        votes = [_vote(item, count) for item in asked]
        alike = [right for _, right, alike in votes if alike]
        right = _mean(right for _, right, _ in votes)
        rows.append(
            f"{f'{count} samples':<27}{_auroc(votes):>7.3f}{right:>16.3f}{len(alike) / len(votes):>11.3f}{1 - _mean(alike):>15.3f}"
        )
    return rows


def _vote(item: Asked, count: int) -> Vote:
    counted = Counter(answer for answer in item.answers[:count] if answer is not None)
    most, number = counted.most_common(1)[0] if counted else ("", 0)  # the earliest on a tie
    return number / count, most == item.expected, number == count


def _curtailed(item: Asked, agree: int, most: int) -> tuple[int, bool | None]:
    """How many samples are asked until `agree` are the same or can no longer be; and whether what ships is right."""
    counted = Counter[str]()
    for asked, answer in enumerate(item.answers[:most], start=1):
        if answer is not None:
            counted[answer] += 1
            if counted[answer] == agree:
                return asked, answer == item.expected
        if max(counted.values(), default=0) + most - asked < agree:
            return asked, None
    return most, None


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else math.nan


def _auroc(votes: Sequence[Vote]) -> float:
    """Chance that a right vote is more agreed than a wrong one, ties half."""
    right = Counter(share for share, is_right, _ in votes if is_right)
    wrong = Counter(share for share, is_right, _ in votes if not is_right)
    won = sum(
        count * other * ((high > low) + (high == low) / 2)
        for high, count in right.items()
        for low, other in wrong.items()
    )
    pairs = right.total() * wrong.total()
    return won / pairs if pairs else math.nan
