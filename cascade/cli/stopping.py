"""Ctrl-C and SIGTERM for commands that pay for what they have in flight: the first lets it end, the second stops at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, Protocol

from cascade.cli.output import stderr

__all__ = ["Stoppable", "stop_on_signals"]


class Stoppable(Protocol):
    """What begins nothing more once it is told to stop. `stopped_by.kind` says by what; None: it goes on."""

    @property
    def stopped_by(self) -> Any:
        """Why nothing more is begun."""
        ...

    def stop(self, kind: Literal["interrupted"], message: str) -> Any:
        """Begin nothing more."""
        ...


def stop_on_signals(work: Stoppable, what_follows: Callable[[str], str | None]) -> None:
    """From now on the first signal stops `work`, and the second cancels the running task.

    `what_follows`: what is said at the first, from the signal's name; None: nothing.
    """
    loop, running = asyncio.get_running_loop(), asyncio.current_task()

    def once(number: signal.Signals) -> None:
        name = "Ctrl-C" if number is signal.SIGINT else number.name
        if work.stopped_by is not None and work.stopped_by.kind == "interrupted":
            assert running is not None
            running.cancel()
            return
        work.stop("interrupted", name)
        if (text := what_follows(name)) is not None:
            stderr.print(f"cascade: {name}: {text}")

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError):  # not on every system, and only in the main thread
            loop.add_signal_handler(number, once, number)
