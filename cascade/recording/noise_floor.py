"""The noise floor of agreement: how often the baseline, asked twice, disagrees with itself.

Where no answer is known to be right, an answer is graded by its agreement with the baseline's plain one. A model does not
always say the same, and a grader does not always see that two texts do: so even an answer as good as the baseline's is
lost at some rate, and no target below that can be told from this noise. It is measured on a sample of the items: the
second answer graded against the first, by the grader of all others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from msgspec.structs import replace

from cascade.core.errors import ConfigurationError
from cascade.corpora.grading import Grade, Graded, Grader, Ungraded
from cascade.corpora.items import Item, Manifest
from cascade.corpora.splits import group_key

__all__ = [
    "AGAIN",
    "AGAIN_KEY",
    "NoiseFloor",
    "are_asked_twice",
    "grade_beside",
    "noise_in",
    "noise_of",
    "sample_of",
]

AGAIN = "@baseline-again"
"""What a journal calls the baseline where it is asked once more; no rung can have this name."""

AGAIN_KEY = "baseline_again"
"""Where an item keeps that second answer."""

_MANIFEST_KEY = "noise_floor"
_SEED = "the baseline, asked again"


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """On how many of `items` the second answer of the baseline is not worth `right_at` beside its first."""

    items: int
    disagreed: int

    @property
    def rate(self) -> float:
        """The share of them; 0 of none."""
        return self.disagreed / self.items if self.items else 0.0

    def fields(self) -> dict[str, Any]:
        """As the manifest has it, under `noise_floor`."""
        return {"items": self.items, "disagreed": self.disagreed}


def noise_in(manifest: Manifest) -> NoiseFloor | None:
    """What a manifest says of it; None where it was not measured, or what stands there is none."""
    found: object = (manifest.extra or {}).get(_MANIFEST_KEY)
    told = cast("Mapping[str, object]", found if isinstance(found, dict) else {})
    items, disagreed = told.get("items"), told.get("disagreed")
    if type(items) is not int or type(disagreed) is not int or not 0 <= disagreed <= items or not items:
        return None
    return NoiseFloor(items, disagreed)


def sample_of(items: Sequence[Item], size: int) -> frozenset[str]:
    """The ids of `size` items, at most one of a group, so that they are independent; all groups where they are fewer.

    Drawn by a hash of id and group: the same at every run, and a larger sample holds the smaller one. Raises
    ConfigurationError where an item has an expected answer: what it scores is then no agreement with the baseline.
    """
    if not size:
        return frozenset()
    labelled = sum(item.expected is not None for item in items)
    if labelled:
        raise ConfigurationError(
            f"--baseline-twice: {labelled:,} of {len(items):,} items have an expected answer, so that nothing hangs on how"
            " often the baseline agrees with itself (leave it out)"
        )
    of_group: dict[tuple[str, str], Item] = {}
    for item in sorted(items, key=lambda item: _drawn(item.id)):
        of_group.setdefault(group_key(item), item)
    drawn = sorted(of_group, key=lambda key: _drawn("\n".join(key)))
    return frozenset(of_group[key].id for key in drawn[:size])


def grade_beside(grader: Grader, item: Item, answer: Any, beside: Any, *, again: bool) -> tuple[Graded, bool]:
    """An answer's grade, and whether it is of its agreement with `beside`, the baseline's answer (None: there is none).

    That is asked only where the grader cannot grade without an expected answer: one that can says what is right by itself,
    and has no noise floor, which is what `again`, the second answer, is for.
    """
    graded = grader(answer, item)
    if isinstance(graded, Grade):
        return (Ungraded("the grader compares no answers: it has no noise floor") if again else graded), False
    if beside is None:
        return graded, False
    graded = grader(answer, replace(item, expected=beside))
    return graded, isinstance(graded, Grade)


def noise_of(second: Iterable[Graded | None], right_at: float) -> NoiseFloor | None:
    """From the grades of second answers; None where none could be graded."""
    scores = [graded.score for graded in second if isinstance(graded, Grade)]
    return NoiseFloor(len(scores), sum(score < right_at for score in scores)) if scores else None


def _drawn(name: str) -> bytes:
    return hashlib.sha256(f"{_SEED}\n{name}".encode("utf-8", "surrogatepass")).digest()


def are_asked_twice(kept: Iterable[Item], wanted: frozenset[str]) -> bool:
    """Whether a recording has the second answer to each of the wanted items."""
    return wanted <= {item.id for item in kept if AGAIN_KEY in (item.extra or {})}
