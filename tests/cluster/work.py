"""Tasks of the tests: functions of a module, as a worker imports them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from cascade.cluster import should_stop
from cascade.core.errors import CorpusError

__all__ = ["die_once", "fail", "pid", "square", "until_stopped"]


def square(number: int) -> int:
    """The square."""
    return number * number


def pid(_: int) -> int:
    """Which process it was."""
    return os.getpid()


def die_once(path: str, times: int) -> int:
    """End this process by SIGKILL until it was begun more than `times` times; how often that was."""
    with Path(path).open("ab") as file:
        file.write(b"x")
    begun = Path(path).stat().st_size
    if begun <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return begun


def fail() -> None:
    """Raise an error of this library, with all that it can carry."""
    raise CorpusError("is damaged", where="shard-3.parquet", item="i-7", hint="restore it")


def until_stopped(path: str) -> str:
    """Run until the task is told to stop."""
    is_stopped = should_stop()
    Path(path).touch()
    while not is_stopped():
        time.sleep(0.01)
    return "stopped"
