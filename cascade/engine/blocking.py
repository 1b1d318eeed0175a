"""Warns a program whose event loop is blocked by a synchronous call."""

from __future__ import annotations

import asyncio
import sys
import threading

from cascade.core.errors import BlockingWarning
from cascade.logs import warn_caller

__all__ = ["warn_of_blocking"]

_warned = threading.Event()


def warn_of_blocking(name: str = "ask") -> None:
    """Warn, once per process, that this call blocks an event loop. A notebook runs one for every cell, so not there.

    `name`: of the function that was called.
    """
    if _warned.is_set() or "ipykernel" in sys.modules:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    hint = f"use `await cascade.a{name}(…)` or AsyncCascade here, or `await asyncio.to_thread(…)`"
    warn_caller(f"{name}() was called in a running event loop and blocks it until it returns: {hint}", BlockingWarning)
    _warned.set()
