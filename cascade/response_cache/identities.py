"""What identifies a check, so that requests with the same checks are equal. Most functions cannot be identified."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, cast

from cascade.core.policy import Policy
from cascade.policy.budgets import import_function

__all__ = ["identities_of", "policy_identities"]


def identities_of(functions: Sequence[Callable[..., Any]]) -> tuple[str, ...] | str:
    """What identifies each of the functions; or, as a str, the name of the first one that cannot be identified.

    Only a function of a module can be, by its name and its code, and a `functools.partial` of one, by the values that it holds. What a nested function closes over, an object's state or a
    lambda's surroundings decide with it, and nobody can say whether they are equal. What a function reads from its module is
    taken to be the same.
    """
    found: list[str] = []
    for function in functions:
        identity = _identity_of(function)
        if identity is None:
            return str(getattr(function, "__name__", type(function).__name__))
        found.append(identity)
    return tuple(found)


def policy_identities(policy: Policy) -> tuple[str, ...]:
    """What identifies the code of the functions that a policy names: it may change while the policy does not.

    One whose code says nothing of it (a decorated one, an object) goes by its name alone, which is in the policy's hash.
    """
    listed = (policy.checks, *(task.checks for task in policy.tasks))
    names = {check.function for checks in listed for check in checks if check.function is not None}
    samples = [rung.samples for rung in policy.ladder]
    samples += [one for task in policy.tasks for one in task.samples.values()]
    names |= {one.same.function for one in samples if one is not None and one.same.function is not None}
    found = (_identity_of(import_function(name)) for name in sorted(names))
    return tuple(one for one in found if one is not None)


def _identity_of(function: object) -> str | None:
    held: tuple[object, ...] = ()
    if isinstance(function, functools.partial):
        held = (function.args, function.keywords)
        function = function.func
    if not inspect.isfunction(function) or function.__closure__ is not None:
        return None
    module = sys.modules.get(function.__module__)
    if getattr(module, function.__qualname__, None) is not function:
        return None
    try:
        defaults = json.dumps([function.__defaults__, function.__kwdefaults__, *held], sort_keys=True)
    except (TypeError, ValueError):
        return None
    digest = hashlib.sha256(defaults.encode())
    _add(digest.update, function.__code__)
    return f"{function.__module__}:{function.__qualname__}:{digest.hexdigest()}"


def _add(update: Callable[[bytes], object], code: CodeType) -> None:
    update(code.co_code)
    update(repr((code.co_names, code.co_varnames, code.co_flags)).encode("utf-8", "surrogatepass"))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _add(update, constant)
        elif isinstance(constant, frozenset):  # in no order
            update(repr(sorted(map(repr, cast("frozenset[object]", constant)))).encode("utf-8", "surrogatepass"))
        else:
            update(repr(constant).encode("utf-8", "surrogatepass"))
