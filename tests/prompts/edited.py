"""A role's words, edited: as if its file had been changed before the process began."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

__all__ = ["edit"]


def edit(monkeypatch: pytest.MonkeyPatch, role: str, old: str, new: str) -> None:
    """Run the role's file with `old` replaced, and put what it holds in the place of what every module of cascade has of it."""
    module = import_module(f"cascade.core.prompts.{role}")
    assert module.__file__ is not None
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"the words of {role} have {source.count(old)} times {old!r}"
    made: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(source.replace(old, new), module.__file__, "exec"), made)
    for place, name, value in list(_uses(vars(module), made)):
        monkeypatch.setattr(place, name, value)


def _uses(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[Any, str, Any]]:
    """Where what changed is used: the module, the name there, and the value now."""
    changed = {id(before[name]): after[name] for name in before if name.isupper() and before[name] != after[name]}
    for loaded, module in list(sys.modules.items()):
        if loaded == "cascade" or loaded.startswith("cascade."):
            for name, value in list(vars(module).items()):
                if id(value) in changed:
                    yield module, name, changed[id(value)]
