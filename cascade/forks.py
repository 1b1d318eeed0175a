"""Forked processes: fresh locks at their start, and functions to call at their exit.

A forked child has none of its parent's threads, so a lock that one of them held would stay locked for ever. A worker of
`multiprocessing` exits without running `atexit`, so its finalizers are used instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet

__all__ = ["Locked", "at_worker_exit", "renew_in_children"]


class Locked(Protocol):
    """An object with a lock."""

    def renew_lock(self) -> None:
        """Replace the lock; called in a child before any other code."""


_registered: WeakSet[Locked] = WeakSet()


def renew_in_children(owner: Locked) -> None:
    """Call `renew_lock` of this object in every child that is forked while it exists."""
    _registered.add(owner)


_at_exit: set[tuple[int, Callable[[], None]]] = set()


def at_worker_exit(function: Callable[[], None]) -> None:
    """In a worker of `multiprocessing`, call `function` at its exit. Registering it again has no effect."""
    util: Any = sys.modules.get("multiprocessing.util")
    if (
        util is None
        or (os.getpid(), function) in _at_exit
        or not sys.modules["multiprocessing.process"].parent_process()
    ):
        return
    _at_exit.add((os.getpid(), function))
    util.Finalize(None, function, exitpriority=0)


def _renew_all() -> None:
    for owner in list(_registered):
        owner.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
