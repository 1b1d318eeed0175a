"""The pytest fixture `cascade_emulator`. Every pytest run loads this module, so it imports nothing heavy."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cascade.emulator.server import Emulator

__all__ = ["cascade_emulator"]


@pytest.fixture
def cascade_emulator() -> Iterator[Callable[..., Emulator]]:
    """A function that starts an emulator, as in `cascade_emulator("corpus.jsonl", faults="overloaded=0.1")`.

    The emulators stop when the test ends.
    """
    with ExitStack() as stack:

        def start(*args: Any, **options: Any) -> Emulator:
            from cascade.emulator.server import Emulator  # noqa: PLC0415

            return stack.enter_context(Emulator(*args, **options))

        yield start
