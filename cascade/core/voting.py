"""Votes: what a rung's samples agree on. Pure arithmetic on groups; `core.sampling` asks for the samples.

The vote is curtailed exactly: it ends as soon as `agree` samples are the same, or no longer can be, so that no call is made
which cannot change the outcome. Samples count in their order, not in that of arrival: the same replies always give the same
vote.

Majority votes over samples: Wang, X. et al. (2023), Self-consistency improves chain of thought reasoning in language models,
ICLR. Their agreement as the signal of a cascade: Yue, M. et al. (2024), Large language model cascades with mixture of thought
representations, ICLR. Stopping early: Aggarwal, P. et al. (2023), Let's sample step by step, EMNLP.
`replay.votes` repeats `count` for a whole corpus: change both together.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["VOTE_DECIMALS", "Vote", "count", "decided", "mean_report"]

VOTE_DECIMALS = 6
"""Mean self-reports are rounded to this, so that three times 0.9 is 0.9."""


@dataclass(frozen=True, slots=True)
class Vote:
    """How a rung's samples agreed.

    agree, most  how many must be the same, of at most how many samples
    asked        how many were asked
    members      the numbers, from 0, of the samples that agree: the first `agree` of them if that many were reached, else the
                 largest group, the earlier one on a tie; empty if no sample had an answer
    reached      whether `agree` samples are the same
    failed       how many calls failed
    overflow     whether the prompt did not fit, which ends the vote
    """

    agree: int
    most: int
    asked: int
    members: tuple[int, ...]
    reached: bool
    failed: int = 0
    overflow: bool = False

    @property
    def reason(self) -> Literal["overflow", "error", "disagreement"] | None:
        """Why the vote does not stand; None if it does. `error`: the calls that failed could have made it stand."""
        if self.reached:
            return None
        if self.overflow:
            return "overflow"
        return "error" if self.failed and len(self.members) + self.failed >= self.agree else "disagreement"

    @property
    def share(self) -> float:
        """How many of the samples asked agree, 0..1."""
        return len(self.members) / self.asked if self.asked else 0.0

    @property
    def unanimous(self) -> bool:
        """Whether every sample that was asked agrees."""
        return len(self.members) == self.asked > 0


def count(agree: int, most: int, groups: Sequence[Hashable | None], *, failed: int = 0, overflow: bool = False) -> Vote:
    """The vote of the samples asked so far. `groups`: each one's group, None for one that agrees with nothing."""
    by_group: dict[Hashable, list[int]] = {}
    for number, group in enumerate(groups):
        if group is None:
            continue
        members = by_group.setdefault(group, [])
        members.append(number)
        if len(members) == agree:
            return Vote(agree, most, len(groups), tuple(members), reached=True, failed=failed)
    largest: list[int] = []
    for members in by_group.values():  # in order of appearance
        if len(members) > len(largest):
            largest = members
    return Vote(agree, most, len(groups), tuple(largest), reached=False, failed=failed, overflow=overflow)


def decided(vote: Vote) -> bool:
    """Whether no further sample can change whether the vote is reached."""
    return vote.reached or vote.overflow or len(vote.members) + vote.most - vote.asked < vote.agree


def mean_report(reports: Sequence[float | None]) -> float | None:
    """The mean of the self-reports that there are, rounded; None without any."""
    known = [one for one in reports if one is not None]
    return round(sum(known) / len(known), VOTE_DECIMALS) if known else None
