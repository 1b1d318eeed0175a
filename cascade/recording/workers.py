"""A recording by several workers: its items in parts, each a task of a cluster; then this process joins, grades and writes.

    journal ─> parts ─> tasks, each with a journal of its own ─> joined into the journal ─> graded ─> corpus

What a killed worker left is taken over by the next (`parts`). What a killed run left is joined when the recording is opened, whoever
opens it and with however many workers. So nothing that is in a journal is paid again, and the corpus is that of a single process.
"""

from __future__ import annotations

import dataclasses
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from cascade.cluster import Cluster, Task
from cascade.core.errors import CascadeError
from cascade.corpora.items import Item
from cascade.recording.inputs import Inputs
from cascade.recording.journal import Journal, part_path
from cascade.recording.opening import adopt_parts, open_recording
from cascade.recording.parts import Part, PartReport, record_part
from cascade.recording.progress import RecordingProgress, Report, Settings, Stop, StopKind
from cascade.recording.recorder import Recorder
from cascade.state.recording_cap import RecordingCap

__all__ = ["RECORDING_MODULES", "Spreading"]

RECORDING_MODULES = ("cascade.recording.parts", "anthropic")
"""What a worker needs, as `open_cluster` takes it."""

_PARTS_EACH = 4  # of a worker, so that all end at about the same time
_ROUNDS = 16  # of a part at most: progress is told when one ends


class Spreading:
    """One run of a recording by workers. Opens its journal, and the counter of its cap; raises as `open_recording` and `RecordingCap` do."""

    def __init__(
        self,
        settings: Settings,
        inputs: Inputs,
        workers: int,
        *,
        on_progress: Callable[[RecordingProgress], None] | None = None,
        client: Any = None,
    ) -> None:
        settings = dataclasses.replace(settings, target=settings.target.resolve())
        self._settings, self._inputs, self._workers = settings, inputs, workers
        self._started = time.monotonic()
        self._on_progress, self._client = on_progress, client
        self._run = secrets.token_hex(6)
        self._counter = None if settings.cap is None else RecordingCap(self._run)
        self._recording = open_recording(settings, inputs)
        try:
            self.before = self._joiner()
            if self._counter is not None:
                assert settings.cap is not None
                self._counter.make(settings.cap, _counted(self._recording.journal))
        except BaseException:
            self._recording.journal.close(delete_empty=True)
            raise
        self._reused = len(self._recording.journal.replies)
        self._calls, self._complete, self._largest, self._spent = 0, 0, 0, self._recording.journal.spent
        self._failed: dict[str, str] = {}
        self._stop: Stop | None = None
        self._error: CascadeError | None = None
        self._cluster: Cluster | None = None

    def stop(self, kind: StopKind, message: str) -> None:
        """Make no further call, and wait for those in flight. The first reason is kept. Safe from another thread."""
        self._stop = self._stop or Stop(kind, message)
        if self._cluster is not None:
            self._cluster.stop()

    @property
    def stopped_by(self) -> Stop | None:
        """Why no further call is made; None while it goes on."""
        return self._stop

    def spread(self, cluster: Cluster) -> None:
        """Have the workers make the missing calls. Their journals are joined as they come, and at the end all that are there."""
        self._cluster = cluster
        journal, target = self._recording.journal, self._settings.target
        waiting = _Waiting(self._parts())
        if self._stop is not None:
            return
        try:
            for done in cluster.run(waiting):
                if done.result.is_postponed:
                    self._calls += done.result.calls
                    waiting.again(done.name)
                    continue
                self._take(done.result)
                path = part_path(target, done.name)
                adopt_parts(journal, target, self._recording.hashes, (path,) if path.exists() else ())
                self._notify()
        except CascadeError as error:
            cluster.stop()  # at a scheduler the others would go on
            self._error = self._error or error
        finally:
            self._remove_counter()

    def _remove_counter(self) -> None:
        counter, self._counter = self._counter, None
        if counter is not None:
            counter.remove()

    async def finish(self) -> Report:
        """Grade what is there, write the corpus, and report. Raises what no call of the workers could avoid."""
        joiner = self._joiner()
        joiner.go_on_from(self._failed, self._stop, self._error)
        report = await joiner.run()
        return dataclasses.replace(
            report, calls=report.calls + self._calls, reused=self._reused, overshoot=max(report.overshoot, self._largest),
            seconds=time.monotonic() - self._started,
        )  # fmt: skip

    def close(self) -> None:
        """Close the journal and delete the counter, if `finish` was not reached."""
        self._remove_counter()
        self._recording.journal.close(delete_empty=True)

    def _joiner(self) -> _Joiner:
        chance = random.Random()  # noqa: S311 - jitter, not a secret
        return _Joiner(self._recording, self._client, time.monotonic, chance, self._tell_grading)

    def _tell_grading(self, progress: RecordingProgress) -> None:
        """While what the workers have recorded is graded: it counts from there on."""
        if self._on_progress is not None:
            self._on_progress(dataclasses.replace(progress, complete=max(progress.complete, self._complete)))

    def _take(self, report: PartReport) -> None:
        self._calls += report.calls
        self._complete += report.complete
        self._spent += report.spent
        self._largest = max(self._largest, report.largest)
        self._failed |= report.failed
        self._error = self._error or report.error
        if report.error is not None and self._cluster is not None:
            self._cluster.stop()
        if report.stop is not None:
            self.stop(report.stop.kind, report.stop.message)

    def _parts(self) -> Iterator[Part]:
        items, each = self.before.unfinished(), self._settings.concurrency
        self._complete = len(self._inputs.items) - len(items)
        size = min(max(-(-len(items) // (self._workers * _PARTS_EACH)), each), each * _ROUNDS)
        known = _by_item(self._recording.journal)
        settings = dataclasses.replace(self._settings, cap=None, grader=None)
        for start in range(0, len(items), size):
            chosen = tuple(items[start : start + size])
            ids = frozenset(item.id for item in chosen)
            yield Part(
                f"{self._run}-{start // size:05}", settings, chosen, dict(self._recording.hashes),
                self.before.twice & ids, tuple(chain.from_iterable(known.get(one.id, ()) for one in chosen)),
                None if self._settings.cap is None else self._run,
            )  # fmt: skip

    def _notify(self) -> None:
        if self._on_progress is not None:
            items = len(self._inputs.items)
            self._on_progress(RecordingProgress(items, self._complete, self._reused, self._calls, self._spent))


class _Waiting(Iterator[Task]):
    """The parts as tasks, and those again that were postponed."""

    def __init__(self, parts: Iterator[Part]) -> None:
        self._parts, self._begun, self._again = parts, dict[str, Part](), deque[Part]()

    def __next__(self) -> Task:
        part = next(self._parts, None) or (self._again.popleft() if self._again else None)
        if part is None:
            raise StopIteration
        self._begun[part.name] = part
        return Task(part.name, record_part, (part,))

    def again(self, name: str) -> None:
        """Begin this part again, after all others: its journal has what was done."""
        self._again.append(self._begun[name])


class _Joiner(Recorder):
    """Grades and writes what workers have recorded, and makes the calls that this needs: groupings, reviews, judgements."""

    _ended: frozenset[str] = frozenset()
    _raised: CascadeError | None = None

    @property
    def twice(self) -> frozenset[str]:
        """The items that the baseline answers twice."""
        return frozenset(self._twice)

    def is_answered(self, item: Item) -> bool:
        """Whether no reply to the item is missing."""
        return self._replies.is_answered(item)

    def unfinished(self) -> Sequence[Item]:
        """The items of which a reply is missing; where programs check the answers, all of them."""
        return [one for one in self._inputs.items if self._plan.verifiers or not self._replies.is_answered(one)]

    def go_on_from(self, failed: dict[str, str], stop: Stop | None, error: CascadeError | None) -> None:
        """Take over how the workers ended: what failed is not asked again in this run, and after a stop nothing is."""
        self._state.failed.update(failed)
        self._ended, self._raised = frozenset(failed), error
        if stop is not None:
            self.stop(stop.kind, stop.message)
        elif error is not None:
            self.stop("outage", str(error))

    async def _work(self, waiting: Iterator[Item]) -> None:
        """As of a recorder, but items whose replies are all there are finished after a stop too."""
        state = self._state
        for item in waiting:
            if item.id in self._ended or (state.stop is not None and not self.is_answered(item)):
                continue
            try:
                await self._record(item)
            except CascadeError as error:  # raised once the corpus is written
                state.error = state.error or error
                self.stop("outage", str(error))
            self._notify()

    async def run(self) -> Report:
        """As of a recorder; then an error of the workers is raised."""
        report = await super().run()
        if self._raised is not None:
            raise self._raised
        return report


def _counted(journal: Journal) -> int:
    return journal.spent + sum(one["most"] for one in journal.unanswered.values())


def _by_item(journal: Journal) -> dict[str, list[dict[str, Any]]]:
    """The replies in the journal, and the results of checks, by item."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in chain(journal.replies.values(), journal.checked.values()):
        found.setdefault(entry["item"], []).append(entry)
    return found
