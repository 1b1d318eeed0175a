"""The noise floor of agreement: how often two answers of the baseline to one input disagree.

If no expected answers are known, answers are graded by agreement with the baseline's. Models vary between calls, and
graders miss equivalent texts. So even answers as good as the baseline's disagree with it at some rate, and a target below
that rate cannot be told from noise. The rate is measured on a sample of the items: the baseline answers each a second
time, and the recording's grader compares that answer with the first.
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
    "BASELINE_AGAIN",
    "BASELINE_AGAIN_KEY",
    "NoiseFloor",
    "draw_sample",
    "grade_against_baseline",
    "have_second_answers",
    "measure_noise_floor",
    "read_noise_floor",
]

BASELINE_AGAIN = "@baseline-again"
"""The baseline's name in a journal for its second answer. No rung can have this name."""

BASELINE_AGAIN_KEY = "baseline_again"
"""The key under which an item keeps the second answer."""

_MANIFEST_KEY = "noise_floor"
_SEED = "the baseline, asked again"


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """On `disagreed` of `items` the baseline's second answer scores below `right_at` against its first."""

    items: int
    disagreed: int

    @property
    def rate(self) -> float:
        """Disagreed / items; 0 without items."""
        return self.disagreed / self.items if self.items else 0.0

    def fields(self) -> dict[str, Any]:
        """The value of the manifest's key `noise_floor`."""
        return {"items": self.items, "disagreed": self.disagreed}


def read_noise_floor(manifest: Manifest) -> NoiseFloor | None:
    """The noise floor in a manifest; None if it was not measured or is invalid."""
    found: object = (manifest.extra or {}).get(_MANIFEST_KEY)
    fields = cast("Mapping[str, object]", found if isinstance(found, dict) else {})
    items, disagreed = fields.get("items"), fields.get("disagreed")
    if type(items) is not int or type(disagreed) is not int or not 0 <= disagreed <= items or not items:
        return None
    return NoiseFloor(items, disagreed)


def draw_sample(items: Sequence[Item], size: int) -> frozenset[str]:
    """The ids of `size` items, at most one per group so that they are independent; fewer if there are fewer groups.

    Drawn by a hash of id and group: every run draws the same, and a larger sample contains the smaller one. Raises
    ConfigurationError if an item has an expected answer: its scores are then not agreement with the baseline.
    """
    if not size:
        return frozenset()
    labelled = sum(item.expected is not None for item in items)
    if labelled:
        raise ConfigurationError(
            f"--baseline-twice: {labelled:,} of {len(items):,} items have an expected answer, so they are not graded by"
            " agreement with the baseline (leave it out)"
        )
    of_group: dict[tuple[str, str], Item] = {}
    for item in sorted(items, key=lambda item: _order(item.id)):
        of_group.setdefault(group_key(item), item)
    drawn = sorted(of_group, key=lambda key: _order("\n".join(key)))
    return frozenset(of_group[key].id for key in drawn[:size])


def grade_against_baseline(
    grader: Grader, item: Item, answer: Any, reference: Any, *, again: bool
) -> tuple[Graded, bool]:
    """An answer's grade, and whether it is agreement with `reference`, the baseline's answer (None: there is none).

    The reference is used only if the grader cannot grade without an expected answer. A grader that can has no noise floor,
    so it leaves the baseline's second answer (`again`) ungraded.
    """
    graded = grader(answer, item)
    if isinstance(graded, Grade):
        return (Ungraded("the grader needs no reference, so it has no noise floor") if again else graded), False
    if reference is None:
        return graded, False
    graded = grader(answer, replace(item, expected=reference))
    return graded, isinstance(graded, Grade)


def measure_noise_floor(second: Iterable[Graded | None], right_at: float) -> NoiseFloor | None:
    """The noise floor from the grades of second answers; None if none could be graded."""
    scores = [graded.score for graded in second if isinstance(graded, Grade)]
    return NoiseFloor(len(scores), sum(score < right_at for score in scores)) if scores else None


def _order(name: str) -> bytes:
    return hashlib.sha256(f"{_SEED}\n{name}".encode("utf-8", "surrogatepass")).digest()


def have_second_answers(items: Iterable[Item], wanted: frozenset[str]) -> bool:
    """Whether each of the wanted items has a second answer."""
    return wanted <= {item.id for item in items if BASELINE_AGAIN_KEY in (item.extra or {})}
