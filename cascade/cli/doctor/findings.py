"""What a check has found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from cascade.core.errors import CascadeError

__all__ = ["Finding", "tried"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `blame` says whose fault a failure is, and sets the exit code."""

    what: str
    state: Literal["ok", "warning", "missing"]
    found: str
    to_do: str = ""
    blame: Literal["configuration", "upstream"] = "configuration"


def tried(what: str, to_do: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of a check; where it raises CascadeError, that is what it found."""
    try:
        return list(check())
    except CascadeError as problem:
        return [Finding(what, "missing", str(problem), to_do)]
