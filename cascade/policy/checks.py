"""Checks on answers, ready to be used: the policy's functions and programs, and the caller's functions."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from cascade.core.bound_policy import BoundCheck
from cascade.core.errors import MissingExtra, PolicyError, RequestError
from cascade.core.policy import Check
from cascade.core.text.parsing import is_visible
from cascade.core.verification import Verifier
from cascade.policy.patterns import compile_exact
from cascade.policy.schema_size import expanded_size

__all__ = ["CallerCheck", "bind_callables", "bind_check", "bound", "compile_schema", "schema_check", "unusable_command"]

_MOST_PARTS = 100_000
_LONGEST_KEPT = 65_536  # characters of a schema that is kept compiled

CallerCheck = Callable[[str], bool]
"""Called with the answer's text. Only True passes."""


def bound(checks: Sequence[Check]) -> tuple[tuple[BoundCheck, ...], tuple[Verifier, ...]]:
    """A policy's checks: those that are functions, and those that run a program, each in their order. Reviews are neither.

    Raises PolicyError if a function, pattern or schema cannot be used; MissingExtra if one needs an optional package.
    """
    functions = tuple(bind_check(check) for check in checks if check.command is None and check.kind is None)
    verifiers = tuple(
        Verifier(check.name, check.command, check.timeout_s, check.on_error, check.extract, check.env)
        for check in checks
        if check.command is not None
    )
    return functions, verifiers


def unusable_command(check: Check) -> tuple[str, str] | None:
    """Why a check's program cannot be run here, and what to do; None if it can, or the check has none."""
    if check.command is None:
        return None
    if os.name != "posix":
        return (
            "a check's command needs Linux, macOS or another POSIX system",
            "name a function as module:function instead",
        )
    program = check.command[0]
    if shutil.which(program) is None:
        return f"the program {program!r} cannot be found or executed", "install it, correct its name, or give its path"
    return None


def bind_check(check: Check) -> BoundCheck:
    """A policy's check as a function. Raises PolicyError if it is none, or if its function, pattern or schema is unusable."""
    if check.pattern is not None:
        return BoundCheck(check.name, _pattern(check.pattern))
    if check.max_chars is not None:
        most = check.max_chars
        return BoundCheck(check.name, lambda text: len(text) <= most)
    if check.json_schema is not None:
        return BoundCheck(check.name, _json_schema(check.json_schema))
    if check.function is not None:
        return BoundCheck(check.name, _function(check.function))
    if check.not_empty is not None:
        return BoundCheck(check.name, is_visible, by_first=True)
    raise PolicyError(
        f"{check.name} runs a program, which is not available here",
        key="checks",
        hint="name a function as module:function",
    )


def bind_callables(functions: Sequence[CallerCheck]) -> tuple[BoundCheck, ...]:
    """The caller's functions as checks, by their names. Raises RequestError if one is not a plain function."""
    if not isinstance(functions, (list, tuple)):
        raise RequestError(f"checks: a list of functions is needed, not {type(functions).__name__}")
    return tuple(BoundCheck(getattr(function, "__name__", "check"), _plain(function)) for function in functions)


def _plain(function: object) -> Callable[[str], object]:
    if not callable(function):
        raise RequestError(f"checks: {type(function).__name__} is not callable (give functions of the answer's text)")
    if inspect.iscoroutinefunction(function):
        name = getattr(function, "__name__", "check")
        raise RequestError(f"checks: {name} is a coroutine function (give a plain function that returns True or False)")
    return function


def _pattern(pattern: str) -> Callable[[str], object]:
    try:
        return compile_exact(pattern)
    except ValueError as problem:
        raise PolicyError(
            f"the pattern {pattern!r} cannot be used: {problem}", key="checks", hint="use RE2 syntax"
        ) from None


def _function(path: str) -> Callable[[str], object]:
    module, _, name = path.partition(":")
    try:
        return _plain(getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, RequestError) as problem:
        raise PolicyError(
            f"{path} cannot be used: {problem}",
            key="checks",
            hint="name a function as module:function, in a module that can be imported",
        ) from None


def _json_schema(schema: dict[str, Any]) -> Callable[[str], object]:
    try:
        is_valid = _validator(schema, "the json_schema check")
    except ValueError as problem:
        raise PolicyError(f"not a usable JSON schema: {problem}", key="checks") from None

    def satisfied(text: str) -> bool:
        try:
            return is_valid(json.loads(text))
        except (ValueError, RecursionError):
            return False

    return satisfied


def compile_schema(schema: object, what: str = "a request with tools") -> Callable[[Any], bool]:
    """The test of a value, such as a tool's input, under a JSON schema. Raises ValueError if the schema cannot be used.

    Raises MissingExtra, which says what needs the package, if it is not installed.
    """
    if not isinstance(schema, dict):
        raise ValueError("it must be a JSON schema, an object")  # noqa: TRY004 - the caller's data, not a bug
    try:
        written = json.dumps(schema, sort_keys=True)
        plain = json.loads(written)
    except (ValueError, TypeError, RecursionError):
        raise ValueError("it is not JSON") from None
    try:
        size = expanded_size(plain)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if size > _MOST_PARTS:
        raise ValueError(f"with its references it has more than {_MOST_PARTS} parts, which take too long to test")
    return (_compiled if len(written) <= _LONGEST_KEPT else _compiled.__wrapped__)(written, what)


def schema_check(schema: Mapping[str, Any]) -> CallerCheck:
    """The check that an answer is JSON that is valid under a schema. Raises ValueError if the schema cannot be used."""
    is_valid = compile_schema(dict(schema))

    def result_schema(text: str) -> bool:
        return is_valid(json.loads(text))

    return result_schema


@lru_cache(maxsize=1024)
def _compiled(written: str, what: str) -> Callable[[Any], bool]:
    """Compiled once: an agent sends the same tools with each of its requests."""
    is_valid = _validator(json.loads(written), what)

    def satisfied(value: Any) -> bool:
        try:
            return is_valid(value)
        except (ValueError, RecursionError):
            return False

    return satisfied


def _validator(schema: dict[str, Any], what: str) -> Callable[[Any], bool]:
    """Raises MissingExtra without the package, ValueError for an unusable schema."""
    try:
        import jsonschema_rs  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtra(what, "schema") from None

    def refuse(uri: str) -> dict[str, Any]:
        raise ValueError(f"{uri} is not fetched: a schema must be self-contained")

    try:
        # RegexOptions: patterns in the schema run in linear time, like all patterns on user text.
        return jsonschema_rs.validator_for(
            schema, retriever=refuse, pattern_options=jsonschema_rs.RegexOptions()
        ).is_valid
    except ValueError as problem:
        raise ValueError(str(problem).splitlines()[0]) from None
