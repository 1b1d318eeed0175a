"""Where a process ends or doubles: writers are flushed at exit, and put their databases down before a fork.

`atexit` runs while daemon threads still do, after the pools of `concurrent.futures` have ended. A child of
`multiprocessing` that was forked leaves without it (`forks.at_worker_exit`).
"""

from __future__ import annotations

import atexit
import os
import time
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet

from cascade.forks import at_worker_exit

__all__ = ["Exiting", "inherit", "remember", "started"]

_AT_EXIT_S = 2.0  # for all writers together: a ledger that is down must not keep a process alive


class Exiting(Protocol):
    """A writer."""

    def urge(self) -> None:
        """Write what waits now; does not wait for it."""
        ...

    def close(self, timeout_s: float = ...) -> bool:
        """Write what waits, and disconnect."""
        ...

    def hold(self) -> None:
        """Disconnect, and stay so until `release`."""
        ...

    def release(self) -> None:
        """Go on."""
        ...


_writers: WeakSet[Exiting] = WeakSet()
_held: list[Exiting] = []
_inherited: list[object] = []


def remember(writer: Exiting) -> None:
    """Flush it at exit, and hold it during forks, while it lives."""
    _writers.add(writer)


def inherit(connection: object) -> None:
    """Never close it here: it is the parent's, and closing it would end the parent's session or drop its locks."""
    _inherited.append(connection)


def started() -> None:
    """A writer's thread was started in this process."""
    at_worker_exit(_at_exit)


def _at_exit() -> None:
    until = time.monotonic() + _AT_EXIT_S
    writers = list(_writers)
    for writer in writers:
        writer.urge()
    for writer in writers:
        with suppress(Exception):  # the others' rows, and the process's own way out, matter more
            writer.close(max(0.1, until - time.monotonic()))


def _before_fork() -> None:
    writers = list(_writers)
    for writer in writers:
        writer.hold()
    _held.extend(writers)


def _after_fork_in_parent() -> None:
    writers = _held[:]
    _held.clear()
    for writer in writers:
        writer.release()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_held.clear)
