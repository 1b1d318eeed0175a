"""What a process keeps for each policy, at each home. It outlives the drivers: a new one must not start with nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from cascade.forks import renew_in_children
from cascade.home import home

__all__ = ["ProcessRegistry"]

_T = TypeVar("_T")


class ProcessRegistry(Generic[_T]):
    """One object for each home and policy name, made at its first use. Safe between threads."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._held: dict[tuple[Path, str], _T] = {}
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()

    def get(self, policy: str) -> _T:
        """The object for a policy's name, at the current home."""
        key = (home().absolute(), policy)
        with self._lock:
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = self._make()
            return held
