"""Functions that are told of budgets: named in policies, so they stand in a module that can be imported by its name."""

from __future__ import annotations

import threading

from cascade.budgets.notices import Notice

__all__ = ["FUNCTIONS", "SECRET", "coroutine", "entered", "fail", "hang", "hear", "heard", "let_go"]

FUNCTIONS = "tests.budgets.listeners"
SECRET = "T0k3n-in-a-path"

heard: list[Notice] = []
entered, let_go = threading.Event(), threading.Event()


def hear(notice: Notice) -> None:
    """Keep what was told."""
    heard.append(notice)


def fail(notice: Notice) -> None:
    """A function with a fault."""
    raise ValueError(f"{SECRET} {notice}")


def hang(notice: Notice) -> None:
    """A function that does not return until it may."""
    heard.append(notice)
    entered.set()
    let_go.wait(30)


async def coroutine(notice: Notice) -> None:
    """What nobody awaits."""
