"""Exit and fork handling: writers are flushed at exit, and disconnect before a fork.

`atexit` runs while daemon threads still run, after the pools of `concurrent.futures` have ended. A forked `multiprocessing` child exits
without it (`forks.at_worker_exit`).
"""

from __future__ import annotations

import atexit
import os
import time
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet

from cascade.forks import at_worker_exit

__all__ = ["PausableWriter", "keep_open", "register", "thread_started"]

_AT_EXIT_S = 2.0  # for all writers together: a ledger that is down must not keep the process alive


class PausableWriter(Protocol):
    """A writer."""

    def write_soon(self) -> None:
        """Start writing what waits; does not wait for it."""
        ...

    def close(self, timeout_s: float = ...) -> bool:
        """Write what waits, and disconnect."""
        ...

    def pause(self) -> None:
        """Disconnect until `resume`."""
        ...

    def resume(self) -> None:
        """Continue."""
        ...


_writers: WeakSet[PausableWriter] = WeakSet()
_paused: list[PausableWriter] = []
_inherited: list[object] = []


def register(writer: PausableWriter) -> None:
    """Flush this writer at exit and pause it during forks. Holds no reference to it."""
    _writers.add(writer)


def keep_open(connection: object) -> None:
    """Keep a parent's connection from being closed here: that would end the parent's session or drop its locks."""
    _inherited.append(connection)


def thread_started() -> None:
    """A writer's thread was started in this process."""
    at_worker_exit(_at_exit)


def _at_exit() -> None:
    until = time.monotonic() + _AT_EXIT_S
    writers = list(_writers)
    for writer in writers:
        writer.write_soon()
    for writer in writers:
        with suppress(Exception):  # the other writers, and the exit itself, must go on
            writer.close(max(0.1, until - time.monotonic()))


def _before_fork() -> None:
    writers = list(_writers)
    for writer in writers:
        writer.pause()
    _paused.extend(writers)


def _after_fork_in_parent() -> None:
    writers = _paused[:]
    _paused.clear()
    for writer in writers:
        writer.resume()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_paused.clear)
