"""How well a confidence separates right replies from wrong ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.replay.arrays import np

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Floats

__all__ = ["auroc_of", "auroc_of_replies"]


def auroc_of(rights: Floats, wrongs: Floats) -> float | None:
    """From the right and wrong replies at each level, levels ascending: the Mann-Whitney statistic with mid-ranks.

    Hanley, J. A. and McNeil, B. J. (1982), Radiology 143. None if all are right or all are wrong.
    """
    pairs = float(rights.sum()) * float(wrongs.sum())
    below = np.cumsum(wrongs) - wrongs
    return float((rights * (below + wrongs / 2)).sum() / pairs) if pairs else None


def auroc_of_replies(confidence: Floats, is_right: Bools) -> float | None:
    """The same from the replies one by one."""
    levels, level = np.unique(confidence, return_inverse=True)
    rights, wrongs = (
        np.bincount(level[those], minlength=len(levels)).astype(np.float64) for those in (is_right, ~is_right)
    )
    return auroc_of(rights, wrongs)
