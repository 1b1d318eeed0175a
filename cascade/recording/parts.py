"""A part of a recording: the items that one task of a cluster records, into a journal of its own.

A worker asks for the replies and runs the external checks. What may serve several items (groupings, reviews, judgements) and what is done once
(grading, writing) is left to the process that joins the journals.
If it dies, the task begins again elsewhere and goes on from the journal, whose lock tells that nobody writes it any more.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from cascade.cluster import should_stop
from cascade.core.errors import CascadeError, ConfigurationError
from cascade.corpora.items import Item
from cascade.recording.calls import make_recording_plan
from cascade.recording.inputs import Inputs
from cascade.recording.journal import Journal, JournalInUse, journal_path, paid_for, part_path
from cascade.recording.opening import OpenRecording
from cascade.recording.progress import Settings, Stop
from cascade.recording.recorder import Recorder
from cascade.recording.shared_cap import SharedCap
from cascade.state.recording_cap import RecordingCap

__all__ = ["Part", "PartReport", "record_part"]

_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Part:
    """What a worker is given. `name`: unique, also among earlier runs. `hashes`: of the whole recording's journal.

    `sample`: of the items, those that the baseline answers twice. `known`: what the recording's journal has of the items already.
    `counter`: the name of the cap's counter; None: no cap. `settings.target` is an absolute path.
    """

    name: str
    settings: Settings
    items: tuple[Item, ...]
    hashes: Mapping[str, str]
    sample: frozenset[str]
    known: tuple[dict[str, Any], ...]
    counter: str | None = None


@dataclass(frozen=True, slots=True)
class PartReport:
    """What became of a part.

    `calls`: those that this worker made. `complete`: how many items have all replies. `spent`: on the part in this run, in nano-USD.
    `failed`: the reason for each item that failed. `largest`: the largest bound of a call. `error`: one that no other call would avoid.
    `is_postponed`: it must be begun again, for other workers' calls hold what is left of the cap.
    """

    calls: int = 0
    complete: int = 0
    spent: int = 0
    failed: Mapping[str, str] = field(default_factory=dict[str, str])
    stop: Stop | None = None
    largest: int = 0
    error: CascadeError | None = None
    is_postponed: bool = False


def record_part(part: Part) -> PartReport:
    """Record a part, or go on with it. Raises CorpusError for a journal that cannot be written."""
    is_stopped = should_stop()
    _check_folder(part)
    journal = _opened(part, is_stopped)
    if journal is None:
        return PartReport(stop=Stop("interrupted", "stopped"))
    try:
        for entry in part.known:
            if not journal.holds(entry):
                journal.append(entry, sync=False)
        policy = part.settings.policy
        plan = make_recording_plan(policy, part.settings.rungs, part.settings.baseline)
        plan = dataclasses.replace(plan, asks_reviews=False)
        recording = OpenRecording(
            part.settings, Inputs(part.items), plan, part.hashes, None, None, part.sample, journal
        )
        recorder = _PartRecorder(recording, part, is_stopped)
        return asyncio.run(recorder.record())
    finally:
        journal.close()


def _check_folder(part: Part) -> None:
    """The recording's own journal must be there: else what is written here would be found by nobody."""
    path = journal_path(part.settings.target)
    try:
        with path.open("rb") as file:
            head = json.loads(file.readline())
    except (OSError, ValueError):
        head = None
    found = cast("dict[str, Any]", head) if isinstance(head, dict) else {}
    if any(found.get(name) != expected for name, expected in part.hashes.items()):
        raise ConfigurationError(
            f"a worker does not see {path}: all workers must share the folder of the corpus with the process that began it"
        )


def _opened(part: Part, is_stopped: Callable[[], bool]) -> Journal | None:
    """The part's journal, once no other worker writes it; None: it was stopped before."""
    while True:
        try:
            return Journal.open(part_path(part.settings.target, part.name), part.hashes)
        except JournalInUse:  # a worker that lost its connection finishes what it does
            if is_stopped():
                return None
            time.sleep(_LOOK_S)


class _PartRecorder(Recorder):
    """Records without grading, and writes nothing but the journal."""

    def __init__(self, recording: OpenRecording, part: Part, is_stopped: Callable[[], bool]) -> None:
        super().__init__(recording, None, time.monotonic, random.Random(), None)  # noqa: S311 - jitter, not a secret
        self._grouper, self._is_stopped, self._known = None, is_stopped, sum(map(paid_for, _paid(part.known)))
        self._cap, self._is_held = None, False
        if part.counter is not None:
            self._cap = SharedCap(
                RecordingCap(part.counter), part.name, is_stopped=is_stopped, on_held=self._hold,
                on_lost=lambda why: self.stop("outage", why),
            )  # fmt: skip
            self._caller.spending = self._cap

    async def record(self) -> PartReport:
        """Make what is missing."""
        state, journal = self._state, self._journal
        watching = asyncio.create_task(self._watch())
        try:
            await self._tell_cap()
            await self._record_all(self._inputs.items)
            await self._tell_cap()  # what the server did not take in meanwhile would be held for ever
        finally:
            watching.cancel()
            journal.sync()
            await self._providers.aclose()
        failed, largest = dict(state.failed), self._caller.spending.largest
        if self._is_held and state.error is None:
            return PartReport(state.calls, largest=largest, is_postponed=True)
        return PartReport(
            state.calls, len(state.complete), self._spent, failed, state.stop, largest, state.error
        )  # fmt: skip

    async def _tell_cap(self) -> None:
        """Replace what is counted for this part by what its journal tells. No call is in flight."""
        if self._cap is not None:
            await self._cap.take(self._spent + sum(one["most"] for one in self._journal.unanswered.values()))

    @property
    def _spent(self) -> int:
        return self._journal.spent - self._known

    def _hold(self) -> None:
        self._is_held = True
        self.stop("interrupted", "others hold what is left of the cap")

    async def _watch(self) -> None:
        while not self._is_stopped():  # noqa: ASYNC110 - another thread knows it
            await asyncio.sleep(_LOOK_S)
        self.stop("interrupted", "stopped")

    async def _grade(self, item: Item) -> bool:  # noqa: ARG002 - it is done once, by who joins the journals
        return True

    def _write(self) -> None:
        """Nothing: who joins the journals writes the corpus."""


def _paid(entries: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (entry for entry in entries if "checked" not in entry)
