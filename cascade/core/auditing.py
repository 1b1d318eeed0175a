"""What of the traffic is audited: a uniform sample of all requests, and the answers with the lowest confidence.

The uniform sample is decided by a hash of the request's id, so that it can be computed again; only it counts in rates.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass
from typing import Literal

from cascade.core.modes import share_of

__all__ = ["LowestConfidence", "Sampled", "Why", "is_uniform", "lowest_draw", "why_sampled"]

Why = Literal["uniform", "lowest", "both"]
"""Why a request was sampled."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A request that will be audited. `epoch`: names what decided (policy's decisive parts, certificate, ratchet step); rates are of one epoch."""

    why: Why
    epoch: str


def is_uniform(request_id: str, share: float) -> bool:
    """Whether a request is in the uniform sample: the same answer in every process, now and later."""
    return share_of("audit", request_id) < share


_FEWEST = 100  # confidences of a group before any of it is sampled
_MOST = 2_000  # of a group before every other one is forgotten


class LowestConfidence:
    """Says which answers are among those with the lowest confidence of their group, by what was seen so far. Not thread-safe.

    Confidences clump: many answers have exactly 0.95. Within such a clump the caller's draw decides, so that the share is met:
    with F the distribution of what was seen, this answer included, it is among them if F(x-) + draw * (F(x) - F(x-)) < share.
    That number is uniform on 0..1 if answers come in random order. From 2,000 on every other confidence is forgotten, so that the
    rest follows the traffic.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], list[float]] = {}

    def add(self, group: tuple[str, str], confidence: float, draw: float, share: float) -> bool:
        """Count an answer of this group (rung, source of the confidence); whether it is among the lowest `share`. `draw`: 0..1."""
        seen = self._seen.get(group)
        if seen is None:
            seen = self._seen[group] = []
        insort(seen, confidence)
        count = len(seen)
        if count <= _FEWEST:
            return False
        below = bisect_left(seen, confidence)
        level = bisect_right(seen, confidence) - below
        if count >= _MOST:
            del seen[::2]
        return below + draw * level < share * count


def why_sampled(request_id: str, sample: float, is_lowest: bool) -> Why | None:
    """Why a request is sampled, if it is. `sample`: the share of the uniform sample."""
    if is_uniform(request_id, sample):
        return "both" if is_lowest else "uniform"
    return "lowest" if is_lowest else None


def lowest_draw(request_id: str) -> float:
    """The draw of `LowestConfidence`, 0..1: the same for a request in every process."""
    return share_of("audit:lowest", request_id)
