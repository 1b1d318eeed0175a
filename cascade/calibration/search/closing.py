"""What early stop changes for a search: which replies are closed at their confidence, and what they then cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.replay.arrays import np
from cascade.replay.rule import Rule

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Codes, Floats, Ints

__all__ = ["AtConfidence", "at_confidence", "left_costs"]

_ALL = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class AtConfidence:
    """What early stop decides at one rung. (N,) each.

    closes    whether the reply is closed if its confidence makes it escalate
    declined  whether it escalates whatever the threshold is
    begun     whether the reply ends badly, but ships if its confidence lets it
    observed  whether the storm guard counts what the confidence says, not what the whole reply is
    """

    closes: Bools
    declined: Bools
    begun: Bools
    observed: Bools


def at_confidence(rule: Rule) -> list[AtConfidence | None]:
    """By rung: what early stop decides there; None where it decides nothing."""
    made: list[AtConfidence | None] = []
    for index in range(rule.top):
        if (heads := rule.heads(index, _ALL)) is None:
            made.append(None)
            continue
        closes = heads.known & rule.early.may_close
        below = rule.with_floor(index, _ALL, np.zeros(len(closes), np.int8)) != 0
        observed = heads.ships | (closes & below)
        made.append(AtConfidence(closes, heads.declined, heads.ships & (heads.ended != 0), observed))
    return [*made, None]


def left_costs(
    rule: Rule, levels: Sequence[Floats], codes: Codes, early: Sequence[AtConfidence | None]
) -> tuple[Ints | None, Codes | None]:
    """`CodedCorpus.left` and `CodedCorpus.read`."""
    if not any(one is not None and one.closes.any() for one in early):
        return None, None
    view = rule.mapped
    left: Any = np.asfortranarray(np.stack(view.cost[: rule.top], axis=1))
    read = np.zeros_like(codes)
    read[:] = [len(own) + 2 for own in levels]
    for index, one in enumerate(early[: rule.top]):
        own = view.left[index] if view.left else None
        if one is None or own is None:
            continue
        left[one.closes, index], read[one.closes, index] = own[one.closes], 0
        # Below its floor, or declined, a reply escalates at its confidence, whatever the threshold is.
        above = rule.with_floor(index, _ALL, np.where(one.declined, np.int8(1), np.int8(0))) == 0
        whole = one.closes & above & (codes[:, index] == 0)
        read[whole, index] = np.searchsorted(levels[index], view.confidence[index][whole], "right")
    return left, read
