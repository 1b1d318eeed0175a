"""Whether recorded repeats can show what agreement is worth.

At temperature 0 a model repeats itself, so that its samples agree whether they are right or wrong. Agreement among such
samples says nothing of what it would be at the model's default temperature, at which a live rung is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from cascade.corpora.items import Manifest
from cascade.replay.arrays import np
from cascade.replay.votes import NO_TEXT, NOT_RECORDED_HERE, SampleColumns

if TYPE_CHECKING:
    from cascade.core.policy.samples import Same

__all__ = ["MOST_ALIKE", "AlikeCells", "alike_cells", "why_not_judged", "why_not_judged_by_rung"]

MOST_ALIKE = 0.95
"""Where more cells than this are all alike, the samples are taken for repeats without randomness."""

FEWEST_CELLS = 100
"""Cells that one rung needs to speak for the others of its recording."""

_UNKNOWN = "this tells nothing of agreement at the model's default temperature"


@dataclass(frozen=True, slots=True)
class AlikeCells:
    """A cell is an item's recorded samples of one rung; `alike` counts the cells whose answers are all the same.

    `cells` counts the items with at least two samples whose texts were recorded, of which at least one can agree.
    """

    cells: int
    alike: int

    @property
    def share(self) -> float | None:
        """The share of cells that are all alike; None without cells."""
        return self.alike / self.cells if self.cells else None


def alike_cells(samples: SampleColumns, same: Same | str) -> AlikeCells:
    """Count the cells of one rung. `same`: one of the ways to compare answers that `samples` has keys of.

    A sample that can agree with none (declined, malformed, failed a check) is unlike one that can.
    """
    keys = samples.key[str(same)]
    n = len(keys[0])
    seen, can_agree = np.zeros(n, np.int16), np.zeros(n, np.bool_)
    low, high = np.full(n, np.iinfo(np.int32).max, np.int32), np.full(n, -1, np.int32)
    for key, state in zip(keys, samples.state, strict=True):
        known = (state != NOT_RECORDED_HERE) & (state != NO_TEXT)
        seen += known
        can_agree |= known & (key >= 0)
        np.minimum(low, key, out=low, where=known)
        np.maximum(high, key, out=high, where=known)
    cell = (seen >= 2) & can_agree
    return AlikeCells(int(cell.sum()), int((cell & (low == high)).sum()))


def why_not_judged(manifest: Manifest, samples: SampleColumns, same: Same | str) -> str | None:
    """Why these samples cannot show what agreement is worth; None if they can.

    They cannot if the manifest says temperature 0 or that samples were curtailed, if no item has two samples, or if more than
    MOST_ALIKE of the cells are all alike. To read one half of a split only, give `samples.rows(…)`.
    """
    if manifest.temperature == 0:
        return f"the corpus was recorded at temperature 0: {_UNKNOWN}"
    if _is_curtailed(manifest):
        return "its samples were curtailed, so other votes cannot be judged (record them whole: cascade record)"
    found = alike_cells(samples, same)
    if (share := found.share) is None:
        return "no item has two samples whose answers can be compared"
    if share > MOST_ALIKE:
        return f"the samples are all alike in {share:.0%} of {found.cells:,} cells: {_UNKNOWN}"
    return None


def _is_curtailed(manifest: Manifest) -> bool:
    recorded: Any = (manifest.extra or {}).get("recorded")
    return isinstance(recorded, dict) and cast("dict[str, Any]", recorded).get("curtailed") is True


def why_not_judged_by_rung(
    manifest: Manifest, samples: Sequence[SampleColumns | None], same: Same | str
) -> tuple[str | None, ...]:
    """By rung: `why_not_judged`, "it was asked once" for a rung without samples.

    Where the manifest does not say at which temperature the samples were drawn, one rung that is all alike, in at least
    FEWEST_CELLS cells, speaks for the whole recording: models differ a little at temperature 0, too. On recorded runs at temperature 0 one model's ten answers
    were all alike in 99 % of cells, another's in 82 %.
    """
    found = [None if one is None else alike_cells(one, same) for one in samples]
    alike = [
        number
        for number, one in enumerate(found)
        if one is not None and one.cells >= FEWEST_CELLS and (one.share or 0.0) > MOST_ALIKE
    ]
    made: list[str | None] = []
    for one in samples:
        why = "it was asked once" if one is None else why_not_judged(manifest, one, same)
        if why is None and alike and manifest.temperature is None:
            other = found[alike[0]]
            assert other is not None
            why = (
                f"the samples of rung {alike[0] + 1}, of the same recording, are all alike in {other.share:.0%} of"
                f" {other.cells:,} cells, and the corpus does not say its temperature: {_UNKNOWN}"
            )
        made.append(why)
    return tuple(made)
