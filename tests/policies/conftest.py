"""What the tests of the shipped policies share: a shipped policy's own signals, asked for one text."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from cascade.core.messages import Request
from cascade.core.requests import read_messages
from cascade.core.signals import Signals
from cascade.policy.loading import load_policy
from cascade.policy.patterns import compile_blind

Classify = Callable[..., str]


@cache
def signals_of(name: str) -> Signals:
    """The compiled signals of a shipped policy."""
    return Signals(load_policy(name), compile_blind)


@pytest.fixture(scope="session")
def task_of() -> Classify:
    """Give the task that a shipped policy's signals alone make of a text or a list of messages."""

    def classify(name: str, prompt: object, *, system: str | None = None, flags: tuple[str, ...] = ()) -> str:
        messages = read_messages(prompt)  # pyright: ignore[reportArgumentType] - as a caller writes it
        return signals_of(name).classify(Request(messages, system=system, flags=frozenset(flags))).task

    return classify
