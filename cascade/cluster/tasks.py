"""A task, what becomes of it, and the cluster that runs tasks in this process, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Cluster", "Done", "InProcess", "Task", "TaskFailed"]


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


class TaskFailed(Exception):
    """A task's worker died too often. Errors that a task raises are raised as they are."""


class Cluster(Protocol):
    """Runs tasks, and yields their results as they come."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Every task's result, once, in any order. Raises what a task raises, and TaskFailed."""
        ...

    def close(self) -> None:
        """Let go of the workers; may be called twice."""
        ...


class InProcess:
    """Runs one task after another, here."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Results in the order of the tasks."""
        for task in tasks:
            yield Done(task.name, task.function(*task.arguments))

    def close(self) -> None:
        """Nothing is held."""
