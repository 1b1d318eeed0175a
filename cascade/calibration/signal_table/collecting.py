"""The results of external checks and other recorded confidences, gathered while a corpus is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from cascade.calibration.scorer import FeatureCollector, FeatureTable
from cascade.corpora.items import Item, RecordedReply
from cascade.replay.arrays import np
from cascade.replay.columns import MappedColumns, PolicyMapping

if TYPE_CHECKING:
    from cascade.replay.arrays import Floats

__all__ = ["REVIEWED", "SignalCollector"]

REVIEWED = "review:"
"""How the name of a review begins, among the checks."""


class SignalCollector:
    """Takes what signals are made of, beside the columns: give `add` to `read_columns` as `on_items`."""

    def __init__(self, mapping: PolicyMapping) -> None:
        self._rungs = mapping.rungs[:-1]
        self._features = FeatureCollector(mapping)
        self._rows = 0
        self._signals: list[dict[str, list[tuple[int, float]]]] = [{} for _ in self._rungs]
        self._checks: list[dict[str, list[tuple[int, float]]]] = [{} for _ in self._rungs]

    def add(self, items: Sequence[Item]) -> None:
        """Add the next items, in the order of the columns."""
        self._features.add(items)
        for row, item in enumerate(items, self._rows):
            for rung, signals, checks in zip(self._rungs, self._signals, self._checks, strict=True):
                if (reply := item.replies.get(rung)) is None:
                    continue
                for name, value in (reply.signals or {}).items():
                    signals.setdefault(name, []).append((row, value))
                for name, passed in _results(reply):
                    checks.setdefault(name, []).append((row, np.nan if passed is None else float(passed)))
        self._rows += len(items)

    def features(self, view: MappedColumns) -> FeatureTable:
        """What a scorer is learned from."""
        return self._features.table(view)

    @property
    def signals(self) -> tuple[Mapping[str, Floats], ...]:
        """By rung and name: (N,) other recorded confidences, NaN where there is none."""
        return tuple(self._columns(own) for own in self._signals)

    @property
    def checks(self) -> tuple[Mapping[str, Floats], ...]:
        """By rung and name: (N,) 1 where the check passed the rung's first answer, 0 where it failed it, NaN elsewhere."""
        return tuple(self._columns(own) for own in self._checks)

    def _columns(self, found: Mapping[str, Sequence[tuple[int, float]]]) -> dict[str, Floats]:
        made: dict[str, Floats] = {}
        for name, pairs in sorted(found.items()):
            made[name] = np.full(self._rows, np.nan)
            rows, values = zip(*pairs, strict=True)
            made[name][list(rows)] = values
        return made


def _results(reply: RecordedReply) -> Iterator[tuple[str, bool | None]]:
    for name in reply.checks or ():
        found = reply.check(name)
        yield name, None if found is None else found.passed
    if reply.review is not None:
        yield f"{REVIEWED}{reply.review.rung}", reply.review.accepted
