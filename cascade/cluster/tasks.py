"""A task, what becomes of it, and the cluster that runs tasks in this process, one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from cascade.core.errors import CascadeError

__all__ = ["Cluster", "Done", "InProcess", "Task", "TaskFailed", "should_stop"]


@dataclass(frozen=True, slots=True)
class Task:
    """A function to call with `arguments`. `name` is unique among the tasks of a run, and said in errors."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Done:
    """A task's result; each task has exactly one, however often it was begun."""

    name: str
    result: Any


class TaskFailed(CascadeError):
    """A task's worker died too often. Errors that a task raises are raised as they are."""


class Cluster(Protocol):
    """Runs tasks, and yields their results as they come."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Every task's result, once, in any order. Raises what a task raises, and TaskFailed."""
        ...

    def stop(self) -> None:
        """Ask the running tasks to come to an end (`should_stop`), and begin no further one: `run` ends with those that ran.

        Safe to call from another thread, and again.
        """
        ...

    def close(self) -> None:
        """Let go of the workers; may be called twice."""
        ...


class InProcess:
    """Runs one task after another, here."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Results in the order of the tasks."""
        for task in tasks:
            if self._stopped.is_set():
                return
            with asked_by(self._stopped.is_set):
                result = task.function(*task.arguments)
            yield Done(task.name, result)

    def stop(self) -> None:
        """As `Cluster.stop`."""
        self._stopped.set()

    def close(self) -> None:
        """Nothing is held."""


_running = threading.local()


class asked_by:  # noqa: N801 - a context manager, read as a phrase
    """Within it, `should_stop` of this thread is what `is_stopped` says."""

    def __init__(self, is_stopped: Callable[[], bool]) -> None:
        self._is_stopped = is_stopped

    def __enter__(self) -> None:
        _running.is_stopped = self._is_stopped

    def __exit__(self, *_: object) -> None:
        del _running.is_stopped


def should_stop() -> Callable[[], bool]:
    """For a task, asked in the thread that it began in: a function that tells whether it is to come to an end, from any thread."""
    return getattr(_running, "is_stopped", lambda: False)
