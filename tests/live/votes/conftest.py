"""Scripted providers for the tests of votes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from .provider import Provider

Provide = Callable[..., Provider]


@pytest.fixture
def provide() -> Iterator[Provide]:
    """Start providers; they stop when the test ends."""
    with ExitStack() as stack:

        def start(say: Any, names: dict[str, str] | None = None) -> Provider:
            return stack.enter_context(Provider(say, names))

        yield start
