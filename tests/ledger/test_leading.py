"""`commit`: who waits for a row writes it himself, and nobody who waits is forgotten."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from cascade.core.policy.operations import Ledger
from cascade.hooks import Ended, Wait, wait, wait_async
from cascade.ledger.hook import LedgerHook
from cascade.ledger.records import Batch
from cascade.ledger.sqlite.store import SqliteStore
from cascade.ledger.writing.writer import Writer

from .scenes import LONG_S, Clock, ask, begin, calling, read, steps_of

COMMIT = Ledger(durability="commit", content=True, redact=f"{__name__}:interrupt")
_interrupted: set[str] = set()
_asks: list[Callable[[], object]] = []


def interrupt(text: str) -> str:
    """Ctrl-C, once, while the second of a batch's texts is being read; or a request of its own."""
    if text == "interrupt me" and text not in _interrupted:
        _interrupted.add(text)
        raise KeyboardInterrupt
    if text == "ask meanwhile":
        _asks.pop()()
    return text


class Slow(SqliteStore):
    """The real store: it says which thread writes, and waits for a sign where it is told to."""

    __slots__ = ("_scene",)

    def __init__(self, path: Path, scene: Runtime) -> None:
        super().__init__(path, synchronous="FULL")
        self._scene = scene

    def write(self, batch: Batch) -> None:
        """Write it."""
        self._scene.by.put(threading.current_thread().name)
        assert self._scene.go.wait(LONG_S)
        super().write(batch)


class Runtime:
    """A writer whose store is slow, and a clock that stands still: what is written was asked for."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock, self.go = path, Clock(), threading.Event()
        self.by: queue.Queue[str] = queue.Queue()
        self.go.set()
        self.writer = Writer(lambda: Slow(path, self), where=str(path), commits=True, times=self.clock.times())
        self.clock.follow(self.writer)
        self.hook = LedgerHook(self.writer, COMMIT, clock=self.clock.now)

    def requests(self) -> list[str]:
        """What is in the ledger, in order; it is sound."""
        assert self.writer.flush(LONG_S)
        return [entry.request for entry in read(self.path)[0] if entry.kind == "outcome"]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Runtime]:
    """One, closed at the end."""
    desk = Runtime(tmp_path / "ledger.db")
    yield desk
    desk.go.set()
    assert desk.writer.close(LONG_S)


def test_who_waits_writes_on_his_own_thread_all_that_waits(desk: Runtime) -> None:
    """One transaction holds his row and those before it; the writer's thread has nothing to do."""
    forgotten = ask(desk.hook, "a")
    waits = ask(desk.hook, "b")
    wait(waits)
    assert desk.by.get(timeout=LONG_S) == threading.current_thread().name
    assert all(one.done() for one in forgotten)
    assert desk.requests() == ["a", "b"]
    assert desk.by.empty()


def test_an_event_loop_never_waits_for_the_disk(desk: Runtime) -> None:
    """The writer's thread writes; the loop goes on meanwhile."""
    desk.go.clear()

    async def both() -> None:
        waiting = asyncio.create_task(wait_async(ask(desk.hook, "a")))
        by = await asyncio.to_thread(desk.by.get, timeout=LONG_S)
        assert (by, waiting.done()) == ("cascade-ledger", False)
        desk.go.set()
        await waiting

    asyncio.run(both())
    assert desk.requests() == ["a"]


def test_a_row_that_nobody_waits_for_is_written_after_the_linger(desk: Runtime) -> None:
    """Also one that came while those before it were written by who waited for them, with no thread awake."""
    wait(ask(desk.hook, "a"))
    assert desk.by.get(timeout=LONG_S) != "cascade-ledger"
    forgotten = ask(desk.hook, "b")
    desk.clock.pass_by(0.1)
    assert desk.by.get(timeout=LONG_S) == "cascade-ledger"
    forgotten[-1].exception(LONG_S)  # waits, without the offer to write
    assert desk.requests() == ["a", "b"]


def test_who_finds_somebody_writing_is_served_and_a_fork_waits_for_whoever_writes(desk: Runtime) -> None:
    """Eight callers at once, the first held up on the disk: each is served; the fork finds nobody connected."""
    desk.go.clear()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(lambda: wait(ask(desk.hook, "first")))
        desk.by.get(timeout=LONG_S)
        rest = [pool.submit(lambda name=f"r{n}": wait(ask(desk.hook, name))) for n in range(7)]
        holding = pool.submit(desk.writer.pause)
        assert not holding.done()
        desk.go.set()
        holding.result(LONG_S)
        assert not desk.path.with_name("ledger.db-wal").exists()
        desk.writer.resume()
        for one in (first, *rest):
            one.result(LONG_S)
    requests = desk.requests()
    assert requests[0] == "first"
    assert sorted(requests[1:]) == [f"r{n}" for n in range(7)]


def test_an_interrupt_of_who_writes_loses_nothing_and_writes_nothing_twice(desk: Runtime) -> None:
    """Ctrl-C reaches the caller, at the second request's text; the chain, the texts and both requests are whole."""
    _interrupted.clear()
    trail = steps_of(1)
    earlier = begin(desk.hook, "a", "hello")
    wait((earlier.calling(calling(0, trail)),))
    forgotten = [earlier.ended(Ended(trail, None, None, 1.0))]
    track = begin(desk.hook, "b", "interrupt me")
    open_row = track.calling(calling(0, trail))
    with pytest.raises(KeyboardInterrupt):
        open_row.result(LONG_S)
    wait((track.ended(Ended(trail, None, None, 1.0)),))
    assert all(one.done() for one in (*forgotten, open_row))
    assert desk.requests() == ["a", "b"]
    with closing(
        sqlite3.connect(desk.path)
    ) as file:  # the call announced before has its step, in the batch that was cut off
        assert file.execute("SELECT count(*) FROM calls").fetchone() == (0,)
    entries, texts = read(desk.path)
    assert [entry.kind for entry in entries if entry.request == "b"] == ["request", "open", "step", "outcome"]
    assert sorted((text.request, text.part) for text in texts) == [
        ("a", "prompt"),
        ("a", "step:0"),
        ("b", "prompt"),
        ("b", "step:0"),
    ]


def test_a_redact_that_asks_leaves_the_pen_with_who_writes(desk: Runtime) -> None:
    """Its own row is not waited for there: it is written next, and nobody writes beside him who reads the text."""
    asked: list[Wait] = []

    def ask_meanwhile() -> None:
        asked.extend(ask(desk.hook, "b"))
        desk.writer.write_until(asked[-1])

    _asks.append(ask_meanwhile)
    wait(ask(desk.hook, "a", "ask meanwhile"))
    wait(asked)
    assert desk.requests() == ["a", "b"]
    by = [desk.by.get(timeout=LONG_S) for _ in range(2)]
    assert by[0] == threading.current_thread().name
