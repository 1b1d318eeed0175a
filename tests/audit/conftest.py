"""A ledger with sampled traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cascade import hooks
from cascade.audit import calling
from tests.audit.auditing import Scene, Scripted, policy

MakeScene = Callable[..., Scene]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the disk is, who waits for it gets it."""
    monkeypatch.setattr(calling, "_WRITE_S", 60.0)
    monkeypatch.setattr(hooks, "_LONGEST_WAIT_S", 60.0)


@pytest.fixture
def make_scene(tmp_path: Path) -> Iterator[MakeScene]:
    """Make a scene: `make_scene(judge=…, shadow=…, **keys of the policy)`. Its emulator stops when the test ends."""
    with ExitStack() as stack:

        def make(**options: Any) -> Scene:
            emulated = {name: options.pop(name) for name in ("judge", "shadow", "sampled") if name in options}
            emulator = stack.enter_context(Scripted(**emulated))
            return Scene(tmp_path / "ledger.db", emulator, policy(**options))

        yield make
