"""Find the batch of a part whose creation was interrupted: it may have been created, and must not be paid twice.

The process was killed, or the connection broke, between sending a batch and storing its id. Then the endpoint's batches are listed:

- one that was created about that time, has as many requests, and belongs to no other part, is a candidate
- a candidate that has ended is read: its first custom_id says whether it is the part's
- a candidate that is still under way cannot be read: the part waits until it has ended
- without any candidate for `settle_s` seconds, the batch was not created: the part may be sent again

The two clocks may differ by hours, so "about" is a day to either side. A batch that is first listed after those seconds is none of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cascade.batch.store import Part
from cascade.claude.batches import BatchInfo, list_since, results, retrieve
from cascade.core.errors import BatchError
from cascade.core.messages import Failure

__all__ = ["Found", "Matcher"]

_SKEW_S = 86_400.0  # how far the endpoint's clock may be from ours: a zone set wrong, a machine that slept


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a part's batch: its id, or that it was not created (`is_none`), or nothing yet."""

    batch: str | None = None
    is_none: bool = False


class Matcher:
    """Looks for the batches of parts. `place_of` reads a custom_id: its round and place, None if it is another run's.

    `clock`: Unix seconds.
    """

    def __init__(
        self, place_of: Callable[[str], tuple[int, int] | None], settle_s: float, clock: Callable[[], float]
    ) -> None:
        self._place_of, self._settle_s, self._clock = place_of, settle_s, clock
        self._listed: dict[int, set[str]] = {}  # by part: the candidates that were listed within `settle_s`
        self._first: dict[str, tuple[int, int] | None] = {}  # of each ended batch: what its first result belongs to

    def find(self, client: Any, part: Part, known: set[str], since: float) -> Found:
        """Look for the part's batch. `known`: the ids of batches that belong to parts. `since`: when it was first looked for, by any process.

        Raises BatchError.
        """
        has_time = self._clock() < since + self._settle_s
        candidates = list(self._candidates(client, part, known, latest=since + self._settle_s + _SKEW_S))
        listed = self._listed.setdefault(part.id, {info.id for info in candidates})
        if has_time:
            listed |= {info.id for info in candidates}
        undecided = False
        for info in (info for info in candidates if info.id in listed):
            now = info if info.id in self._first else retrieve(client, info.id)  # it may have ended meanwhile
            if info.id not in self._first and now.status != "ended":
                undecided = True
            elif (place := self._first_of(client, now)) is not None and part.contains(*place):
                return Found(info.id)
        if undecided or has_time:
            return Found()
        self._listed.pop(part.id, None)
        return Found(is_none=True)

    def _candidates(self, client: Any, part: Part, known: set[str], *, latest: float) -> Iterator[BatchInfo]:
        earliest = datetime.fromtimestamp((part.sent_at or 0.0) - _SKEW_S, UTC)
        for info in list_since(client, earliest):
            if info.id not in known and info.total == part.calls and info.created_at.timestamp() <= latest:
                yield info

    def _first_of(self, client: Any, info: BatchInfo) -> tuple[int, int] | None:
        """Round and place of a batch's first result; None if it is another run's."""
        if info.id in self._first:
            return self._first[info.id]
        if not info.has_results:
            gone = "its results are no longer kept: it may be one of this run (look at it in the Console)"
            raise BatchError(f"matching {info.id}", Failure("rejected", gone))
        read = results(client, info.id)
        with closing(read):
            custom_id = next((custom_id for custom_id, _ in read), "")
        self._first[info.id] = place = self._place_of(custom_id)
        return place
