"""After a fork: a child has none of its parent's threads, so a lock that one of them held would stay locked for ever."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Locked", "renew_in_children"]


class Locked(Protocol):
    """Something with a lock."""

    def renew_lock(self) -> None:
        """Take a new lock; called in a child before anything else runs there."""


_things: WeakSet[Locked] = WeakSet()


def renew_in_children(thing: Locked) -> None:
    """Give `thing` a new lock in every child that is forked while it lives."""
    _things.add(thing)


def _renew_all() -> None:
    for thing in list(_things):
        thing.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
