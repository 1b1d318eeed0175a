"""The writing side at work by hand: requests as a driver tells them, a clock that stands still, a store that says what it did."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from cascade.core.messages import Request, Usage
from cascade.core.policy import Policy
from cascade.core.policy.operations import Ledger
from cascade.core.requests import read_messages
from cascade.core.trail import Answer, Step, Verdict
from cascade.hooks import Begun, Calling, Ended, Wait
from cascade.ledger.hook import LedgerHook
from cascade.ledger.records import Batch, Content, Entry
from cascade.ledger.sqlite.store import SqliteReader, SqliteStore
from cascade.ledger.verifying.verification import verify
from cascade.ledger.writing.limits import Bounds, Times
from cascade.ledger.writing.writer import Writer
from cascade.policy.binding import bind_policy

_RUNG = {"max_tokens": 100, "price": {"input": "1", "output": "10"}}
_RUNGS = [{"rung": f"r{at}", "model": f"model-{at}", **_RUNG} for at in range(3)]
_GATES = [{**rung, "threshold": 0.8} for rung in _RUNGS[:-1]]
PLAN = bind_policy(Policy.model_validate({"version": 1, "name": "test", "ladder": [*_GATES, _RUNGS[-1]]}))
NOW = 1_795_000_500.0
LONG_S = 30.0
"""What a test waits for at most; it fails then."""


class Clock:
    """Both clocks of a writer; time passes when it is told to."""

    def __init__(self) -> None:
        self.passed = 0.0
        self._asked: queue.Queue[float | None] = queue.Queue()
        self._writers: list[Writer] = []

    def now(self) -> float:
        """Unix seconds."""
        return NOW + self.passed

    def ticks(self) -> float:
        """Seconds since the test began."""
        return self.passed

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait for a notice: no time passes by itself."""
        self._asked.put(seconds)
        condition.wait()

    def until_it_waits(self, seconds: float) -> None:
        """Return when the thread wants to wait for so long."""
        while self._asked.get(timeout=LONG_S) != seconds:
            pass

    def times(self) -> Times:
        """As a writer takes them."""
        return Times(self.now, self.ticks, self.wait)

    def follow(self, writer: Writer) -> None:
        """Wake this writer whenever time has passed."""
        self._writers.append(writer)

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.passed += seconds
        for writer in self._writers:
            writer.wake()


class Told(SqliteStore):
    """The real store; it tells a queue of each transaction: how many entries, or what it raised."""

    __slots__ = ("_pages", "_told")

    def __init__(self, path: Path, told: queue.Queue[int | str], *, synchronous: Any, pages: int | None) -> None:
        super().__init__(path, synchronous=synchronous)
        self._told, self._pages = told, pages

    def open(self, writer: str) -> None:
        """Open it."""
        try:
            super().open(writer)
            if self._pages is not None:
                assert self._connection is not None
                self._connection.execute(f"PRAGMA max_page_count = {self._pages}")
        except Exception as problem:
            self._told.put(str(problem))
            raise

    def write(self, batch: Batch) -> None:
        """Write it."""
        try:
            super().write(batch)
        except Exception as problem:
            self._told.put(str(problem))
            raise
        self._told.put(len(batch.entries))

    def remove_content(self, before: float) -> int:
        """Remove texts."""
        count = super().remove_content(before)
        self._told.put(f"removed {count}")
        return count


@dataclass
class Scene:
    """A writer, its hook and its file, which may have so many pages."""

    path: Path
    settings: Ledger = field(default_factory=Ledger)
    bounds: Bounds = field(default_factory=Bounds)
    clock: Clock = field(default_factory=Clock)
    pages: int | None = None

    def __post_init__(self) -> None:
        self.told: queue.Queue[int | str] = queue.Queue()
        commits = self.settings.durability == "commit"
        self.writer = Writer(
            lambda: Told(self.path, self.told, synchronous="FULL" if commits else "NORMAL", pages=self.pages),
            where=str(self.path), commits=commits, times=self.clock.times(), bounds=self.bounds,
        )  # fmt: skip
        self.writer.keep(self.settings.keep_days)
        self.clock.follow(self.writer)
        self.hook = LedgerHook(self.writer, self.settings, clock=self.clock.now)

    def next(self) -> int | str:
        """What the store did next."""
        return self.told.get(timeout=LONG_S)

    def nothing_yet(self) -> bool:
        """Whether the store has done nothing that was not asked for."""
        return self.told.empty()

    def ask(self, name: str, prompt: Any = "hello", **more: Any) -> list[Wait]:
        """One request from its beginning to its end; what had to be waited for."""
        return ask(self.hook, name, prompt, at=self.clock.now(), **more)

    def flush(self) -> None:
        """All is in the file now."""
        assert self.writer.flush(LONG_S)

    def entries(self) -> list[Entry]:
        """What is in the file; it is sound."""
        return read(self.path)[0]

    def kinds(self, request: str) -> list[str]:
        """The entries of one request, by kind."""
        return [entry.kind for entry in self.entries() if entry.request == request]


def read(path: Path) -> tuple[list[Entry], list[Content]]:
    """All entries and texts of a file that is sound: chains, sums, texts."""
    with closing(SqliteReader(path)) as reader:
        assert verify(reader).findings == ()
        entries = list(reader.entries())
        return entries, list(reader.contents(sorted({entry.request for entry in entries})))


def bodies(entries: Sequence[Entry], kind: str) -> list[dict[str, Any]]:
    """The bodies of this kind."""
    return [msgspec.json.decode(entry.body) for entry in entries if entry.kind == kind]


def steps_of(count: int, text: str = "an answer") -> tuple[Step, ...]:
    """A trail: each but the last was sent up."""
    return tuple(
        Step(
            at, f"r{at}", f"model-{at}", Verdict("answered", 0.5, "self_reported", f"{text} {at}"), Usage(100, 20),
            300_000, reason="low_confidence" if at + 1 < count else None,
        )
        for at in range(count)
    )  # fmt: skip


def begin(hook: LedgerHook, name: str, prompt: Any = "hello", *, at: float = NOW, **more: Any) -> Any:
    """Take up a request of this id."""
    plan, arm, observed = more.pop("plan", PLAN), more.pop("arm", "cascade"), more.pop("observed_as", None)
    request = Request(read_messages(prompt), id=name, metadata=more.pop("metadata", {}), **more)
    return hook.begin(Begun(plan, request, "other", arm, at, 7, observed))


def calling(index: int, steps: tuple[Step, ...]) -> Calling:
    """The call of the rung at `index`."""
    return Calling(index, PLAN.policy.ladder[index], steps[:index], 1_000)


def answer_of(name: str, steps: tuple[Step, ...]) -> Answer:
    """The last step's answer."""
    last = steps[-1]
    return Answer(
        last.verdict.text, None, last.rung, last.model, 0.5, "self_reported", steps, last.usage, 300_000 * len(steps), None,
        None, len(steps), 1.0, name, "other", (), {}, "test", PLAN.policy.hash,
    )  # fmt: skip


def ask(
    hook: LedgerHook, name: str, prompt: Any = "hello", *, steps: int = 1, text: str = "an answer", **more: Any
) -> list[Wait]:
    """One request from its beginning to its end; returns what had to be waited for, without waiting."""
    trail = steps_of(steps, text)
    track = begin(hook, name, prompt, **more)
    waits = [track.calling(calling(index, trail)) for index in range(steps)]
    waits.append(track.ended(Ended(trail, answer_of(name, trail), None, 1.0, 900_000)))
    return [wait for wait in waits if wait is not None]
