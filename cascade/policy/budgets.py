"""The time zones and notify targets that a policy's budgets and audit name, and what is wrong with them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, tzinfo
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from cascade.core.policy.ladder import Fault
from cascade.core.policy.operations import Audit, Limits

__all__ = ["audit_faults", "budget_faults", "import_function", "is_address", "zone_of"]


@lru_cache(maxsize=64)
def zone_of(name: str) -> tzinfo:
    """The time zone of this name. Raises LookupError if this machine does not know it."""
    if name == "UTC":
        return UTC  # needs no time zone data
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as problem:  # raised for names that look like a path
        raise LookupError(f"there is no time zone {name!r} on this machine") from problem


def is_address(target: str) -> bool:
    """Whether a `notify` target is a URL, not a function."""
    return target.startswith(("http://", "https://"))


def import_function(path: str) -> Callable[..., Any]:
    """The function that `module:function` names. Raises LookupError if it cannot be used."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as problem:  # this runs the user's module, which may raise anything
        why = str(problem) if isinstance(problem, (ImportError, AttributeError)) else type(problem).__name__
        raise LookupError(f"{path} cannot be used: {why}") from problem
    if not callable(found) or inspect.iscoroutinefunction(found):
        raise LookupError(f"{path} is not a plain (synchronous) function")
    return found


def budget_faults(budgets: Sequence[Limits]) -> Iterator[Fault]:
    """Faults of budgets on this machine: unknown time zones, functions that cannot be imported, invalid addresses."""
    for number, limits in enumerate(budgets):
        try:
            zone_of(limits.timezone)
        except LookupError as problem:
            hint = "use a name such as Europe/Berlin, or install tzdata"
            yield Fault(("budget", number, "timezone"), str(problem), hint)
        yield from _notify_faults(limits.notify, "budget", number)


def audit_faults(audit: Audit | None) -> Iterator[Fault]:
    """Faults of an audit on this machine: functions that cannot be imported, invalid addresses."""
    if audit is not None:
        yield from _notify_faults(audit.notify, "audit")


def _notify_faults(targets: Sequence[str], *key: str | int) -> Iterator[Fault]:
    for place, target in enumerate(targets):
        at = (*key, "notify", place)
        if not is_address(target):
            try:
                import_function(target)
            except LookupError as problem:
                hint = "name a function as module:function, in a module that can be imported"
                yield Fault(at, str(problem), hint)
        elif not _has_host(target):
            yield Fault(at, "the address has no host", "write it as https://host/path")


def _has_host(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
