"""Forked processes: how they begin, and how they end.

A child has none of its parent's threads, so a lock that one of them held would stay locked for ever. And one of
`multiprocessing` leaves without `atexit`: there its own finalizers are used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet

__all__ = ["Locked", "at_worker_exit", "renew_in_children"]


class Locked(Protocol):
    """Something with a lock."""

    def renew_lock(self) -> None:
        """Take a new lock; called in a child before anything else runs there."""


_things: WeakSet[Locked] = WeakSet()


def renew_in_children(thing: Locked) -> None:
    """Give `thing` a new lock in every child that is forked while it lives."""
    _things.add(thing)


_known: set[tuple[int, Callable[[], None]]] = set()


def at_worker_exit(function: Callable[[], None]) -> None:
    """Where this is a worker of `multiprocessing`, call `function` when it ends; once, however often this is said."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is None or (os.getpid(), function) in _known or not sys.modules["multiprocessing.process"].parent_process():
        return
    _known.add((os.getpid(), function))
    util.Finalize(None, function, exitpriority=0)


def _renew_all() -> None:
    for thing in list(_things):
        thing.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
