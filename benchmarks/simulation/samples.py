"""Further samples of one rung: the same item asked again, with the same or another prompt.

How samples agree is taken from measured data; `agreement.py` prints the simulated figures beside the measured ones. The data
are the outcomes that Yue et al. (ICLR 2024) published for date understanding: gpt-3.5-turbo asked 369 questions with four
prompts in turn. The constants below are from a coarse grid over them, 144 combinations, chosen for the least squared distance
from the measured agreement AUROC, majority, unanimity and curtailed 3 of 4. Nothing was fitted to what a cascade then costs.

- **Trouble** of a sample is z = sqrt(shared) d + sqrt(1 - shared) e, as in `replies.py`. `shared` was in the grid, too, and
  0.55 came out, which is what the rungs share there. e = sqrt(VARIANT) v + sqrt(1 - VARIANT) u: v is the prompt's, and the
  same each time it is used, u the sample's own. So a prompt that is repeated mostly repeats its answer, right or wrong.
- **Stuck** items: STUCK of those that the first sample gets wrong. Every sample gives the same wrong answer, as sure as if it
  were right. It is why a vote that is unanimous is still wrong in one of ten, however many samples there are. It
  makes further samples a little less accurate than the first, by one or two points.
- **One slip**: on ONE_SLIP of the others there is one tempting mistake, and every wrong sample makes it. On the rest each prompt
  has its own slip, and a sample makes that one (SAME_SLIP) or any.
- **Self-reports**: TONE of what a rung's confidence does not know is shared by all samples of an item. Assumed: no confidence
  was asked for in the data.
- **All prompts are equally accurate.** Assumed: in the data two were better than the first by .12 and .14, and voting
  gained by that. Here it cannot, so that no gain rests on a better prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .draws import Draws

__all__ = ["NOTES", "VARIANTS", "First", "Sample", "further_samples"]

VARIANTS = ("confidence_first", "answer_first", "steps", "doubt")
"""The triage prompts, asked in turn."""

NOTES = "further samples of haiku, one with each other triage prompt, agree as measured on other data (see `python benchmarks/simulate.py --agreement`)"
"""For the manifest of a corpus with samples."""

VARIANT = 0.82  # share of a rung's own trouble that is the prompt's
STUCK = 0.10  # share of the wrong first answers that every other sample repeats
ONE_SLIP = 0.15  # share of the other items that tempt to one mistake only
SAME_SLIP = 0.60  # otherwise: chance that a wrong sample makes its prompt's own slip
TONE = 0.50  # share of the confidence's noise that all samples of an item have


@dataclass(frozen=True, slots=True)
class First:
    """What was drawn for sample 1: the item's difficulty, its own trouble, its confidence's noise, and its slip."""

    difficulty: float
    own: float
    noise: float
    slip: str
    is_wrong: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """What decides one sample. `stuck`: it is wrong, whatever its trouble."""

    trouble: float
    noise: float
    slip: str
    stuck: bool = False


def further_samples(first: First, wrong: Sequence[str], count: int, shared: float, draws: Draws) -> list[Sample]:
    """The samples after the first, `count` of them, with VARIANTS in turn. `wrong`: the wrong answers there are."""
    stuck = draws.chance(STUCK) and first.is_wrong
    one_slip = draws.chance(ONE_SLIP) or stuck
    # The first sample is given: its prompt's trouble and the item's tone are drawn from what it tells of them.
    prompts = [_given(first.own, VARIANT, draws), *(draws.normal() for _ in VARIANTS[1:])]
    slips = [first.slip, *(draws.pick(wrong) for _ in VARIANTS[1:])]
    tone = _given(first.noise, TONE, draws)
    samples: list[Sample] = []
    for number in range(1, count + 1):
        prompt = number % len(VARIANTS)
        own = _mixed(prompts[prompt], VARIANT, draws)
        noise = _mixed(tone, TONE, draws)
        repeats, other = draws.chance(SAME_SLIP), draws.pick(wrong)
        slip = first.slip if one_slip else slips[prompt] if repeats else other
        trouble = math.sqrt(shared) * first.difficulty + math.sqrt(1 - shared) * own
        samples.append(Sample(trouble, noise, slip, stuck))
    return samples


def _mixed(common: float, share: float, draws: Draws) -> float:
    """A standard normal number of which `common` is this share of the variance."""
    return math.sqrt(share) * common + math.sqrt(1 - share) * draws.normal()


def _given(seen: float, share: float, draws: Draws) -> float:
    """The common part, standard normal, given a number of which it is this share of the variance."""
    return math.sqrt(share) * seen + math.sqrt(1 - share) * draws.normal()
