"""One half of the split, as choosing, certifying and comparing use it: single items, or a table of counts.

`Items` has groups, tasks and confidence intervals. `Tallied` has sums only; they are enough for a certificate where every
item is a group of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cascade.calibration.bounds import Sample, counted_sample, sample_of
from cascade.calibration.search.by_task import ByTask
from cascade.calibration.search.counts import Counts, Loss
from cascade.calibration.search.frontier import Point, point_at
from cascade.calibration.search.levels import Coded
from cascade.core.errors import MissingExtra
from cascade.replay.arrays import np
from cascade.replay.intervals import Interval, interval_of

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools

    Values = Any

__all__ = ["Found", "Half", "Items", "Side", "Tallied", "lost_alone"]

Found = Point | ByTask
"""The result of a search: one vector of thresholds for all tasks, or one for each large task."""


@dataclass(frozen=True, slots=True)
class Half:
    """What thresholds, or one model, come to on some items. `cost`: nano-USD, of all of them.

    `lost`: the share of the items with the loss that is looked at; `false_confident`: shipped below the top and wrong.
    `ci95`: of the mean score, by groups; None where they cannot be told.
    """

    items: int
    quality: float
    ci95: Interval | None
    cost: int
    false_confident: float
    lost: float
    shipped: Mapping[str, int]

    @property
    def cost_per_request_usd(self) -> float:
        """The mean cost, in USD."""
        return self.cost / 1e9 / self.items if self.items else 0.0


class Side(Protocol):
    """What is asked of one side. Levels are shared with the other, so that what was found there means the same here."""

    @property
    def rungs(self) -> tuple[str, ...]:
        """The ladder, cheapest first."""
        ...

    @property
    def right_at(self) -> float:
        """A score below it is wrong."""
        ...

    @property
    def units(self) -> int:
        """How many independent units there are."""
        ...

    def __len__(self) -> int:
        """How many items."""
        ...

    def counts(self) -> Counts:
        """Their table of counts."""
        ...

    def shares_groups_with(self, other: Side) -> bool:
        """Whether a group has items on both sides."""
        ...

    def sample(self, found: Found, loss: Loss) -> Sample:
        """The units' losses under what was found."""
        ...

    def sample_alone(self, rung: int, loss: Loss) -> Sample:
        """The units' losses where the rung is asked everything, alone."""
        ...

    def half(self, found: Found, loss: Loss) -> Half:
        """Its figures under what was found."""
        ...

    def half_alone(self, rung: int, loss: Loss) -> Half:
        """Its figures where the rung is asked everything, alone."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """A side of which every item is known."""

    coded: Coded

    @property
    def rungs(self) -> tuple[str, ...]:
        """As `Side` has it, and so are the others."""
        return self.coded.rungs

    @property
    def right_at(self) -> float:
        """As `Side`."""
        return self.coded.right_at

    @property
    def units(self) -> int:
        """As `Side`: groups, which are items where each is a group of its own."""
        return len(np.unique(self.coded.group))

    def __len__(self) -> int:
        return len(self.coded)

    def counts(self) -> Counts:
        """As `Side`."""
        return self.coded.counts()

    def at(self, found: Found) -> Any:
        """The levels that each item is held against: one vector, or (N, K-1)."""
        return found.at if isinstance(found, Point) else found.at_items(self.coded)

    def shares_groups_with(self, other: Side) -> bool:
        """As `Side`."""
        return isinstance(other, Items) and bool(np.intersect1d(self.coded.group, other.coded.group).size)

    def sample(self, found: Found, loss: Loss) -> Sample:
        """As `Side`."""
        return sample_of(self.coded.losses(self.at(found), loss), self.coded.group)

    def sample_alone(self, rung: int, loss: Loss) -> Sample:
        """As `Side`."""
        return sample_of(lost_alone(self.coded, rung, loss), self.coded.group)

    def half(self, found: Found, loss: Loss) -> Half:
        """As `Side`."""
        coded, at = self.coded, self.at(found)
        ends = np.bincount(coded.shipped(at), minlength=len(coded.rungs)).tolist()
        lost = coded.losses(at, "false_confident"), coded.losses(at, loss)
        return self._half(coded.scores(at), int(coded.costs(at).sum()), lost, ends)

    def half_alone(self, rung: int, loss: Loss) -> Half:
        """As `Side`."""
        ends = [len(self) if number == rung else 0 for number in range(len(self.rungs))]
        lost = lost_alone(self.coded, rung, "false_confident"), lost_alone(self.coded, rung, loss)
        return self._half(self.coded.alone[:, rung], int(self.coded.cost[:, rung].sum()), lost, ends)

    def by_task(self, found: Found, loss: Loss) -> dict[str, Half]:
        """The figures of each task that has items here."""
        parts = {task: self.coded.rows(self.coded.task == code) for code, task in enumerate(self.coded.tasks)}
        return {task: Items(part).half(found, loss) for task, part in parts.items() if len(part)}

    def _half(self, scores: Values, cost: int, lost: tuple[Bools, Bools], ends: list[int]) -> Half:
        shipped = dict(zip(self.rungs, ends, strict=True))
        ci95 = interval_of(scores, self.coded.group)
        return Half(len(self), float(scores.mean()), ci95, cost, float(lost[0].mean()), float(lost[1].mean()), shipped)


@dataclass(frozen=True, slots=True, eq=False)
class Tallied:
    """A side of which only the counts are known; every item counts as a unit of its own."""

    tally: Counts

    @property
    def rungs(self) -> tuple[str, ...]:
        """As `Side` has it, and so are the others."""
        return self.tally.rungs

    @property
    def right_at(self) -> float:
        """As `Side`."""
        return self.tally.right_at

    @property
    def units(self) -> int:
        """As `Side`: the items."""
        return len(self)

    def __len__(self) -> int:
        return self.tally.n

    def counts(self) -> Counts:
        """As `Side`."""
        return self.tally

    def shares_groups_with(self, other: Side) -> bool:
        """Not that counts could tell: what had groups of several items is not asked to prove anything."""
        return other is self

    def sample(self, found: Found, loss: Loss) -> Sample:
        """As `Side`."""
        return counted_sample(self._point(found, loss).losses, len(self))

    def sample_alone(self, rung: int, loss: Loss) -> Sample:
        """As `Side`."""
        return counted_sample(self._lost_alone(rung, loss), len(self))

    def half(self, found: Found, loss: Loss) -> Half:
        """As `Side`."""
        point = self._point(found, loss)
        false_confident = self._point(found, "false_confident").losses / len(self)
        shipped = dict(zip(self.rungs, point.shipped, strict=True))
        ci95 = self._interval(point.quality * len(self))
        return Half(len(self), point.quality, ci95, point.cost, false_confident, point.losses / len(self), shipped)

    def half_alone(self, rung: int, loss: Loss) -> Half:
        """As `Side`."""
        n, sums = len(self), float(self.tally.alone[rung])
        false_confident, lost = (self._lost_alone(rung, one) / n for one in ("false_confident", loss))
        shipped = {name: n if number == rung else 0 for number, name in enumerate(self.rungs)}
        cost = int(self.tally.cost[:, rung].sum())
        return Half(n, sums / n, self._interval(sums), cost, false_confident, lost, shipped)

    def _point(self, found: Found, loss: Loss) -> Point:
        assert isinstance(found, Point)  # counts know no tasks, so nothing by task is looked for in them
        return point_at(self.tally, found.at, loss)

    def _lost_alone(self, rung: int, loss: Loss) -> int:
        if rung == len(self.rungs) - 1:
            return 0
        return int(self.tally.regressed[:, rung].sum()) if loss == "regression" else int(self.tally.alone_wrong[rung])

    def _interval(self, right: float) -> Interval | None:
        """Wilson's, where all scores are 0 or 1; of others the sums do not tell the spread."""
        tally = self.tally
        if not len(self) or bool((tally.score != tally.items[:, None] - tally.wrong).any()):
            return None
        try:
            from scipy import stats  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs] - an extra
        except ImportError:
            raise MissingExtra("certifying", "numbers") from None
        library: Any = stats
        made = library.binomtest(round(right), len(self)).proportion_ci(0.95, "wilson")
        return float(made.low), float(made.high)


def lost_alone(coded: Coded, rung: int, loss: Loss) -> Bools:
    """(N,): which items one model alone loses, asked everything.

    It is counted as if it stood where it stands on the whole ladder: one below the top ships every answer below the top,
    so all that it gets wrong is `false_confident`; the top itself has no loss of either kind.
    """
    wrong = coded.alone[:, rung] < coded.right_at
    if rung == coded.top:
        return np.zeros(len(coded), np.bool_)
    return wrong & (coded.alone[:, coded.top] >= coded.right_at) if loss == "regression" else wrong
