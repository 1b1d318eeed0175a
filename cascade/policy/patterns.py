"""Patterns on user text, in linear time. The only importer of RE2."""

from __future__ import annotations

from typing import cast

import re2  # pyright: ignore[reportMissingTypeStubs]

from cascade.core.signals import Matcher

__all__ = ["compile_blind", "compile_exact"]

_LONGEST = 20_000  # characters of one pattern, or of all patterns of a policy joined


def compile_blind(pattern: str) -> Matcher:
    """A case-blind matcher. Raises ValueError if RE2 cannot run the pattern (back-references, look-around)."""
    return _compile(pattern, case_sensitive=False)


def compile_exact(pattern: str) -> Matcher:
    """A case-sensitive matcher. Raises ValueError as `compile_blind`."""
    return _compile(pattern, case_sensitive=True)


def _compile(pattern: str, *, case_sensitive: bool) -> Matcher:
    if len(pattern) > _LONGEST:
        raise ValueError(f"the pattern is longer than {_LONGEST} characters")
    options = re2.Options()
    options.case_sensitive = case_sensitive
    options.log_errors = False
    try:
        re2.compile(pattern, options=options)  # pyright: ignore[reportUnknownMemberType]
        # Only whether it matches is needed. `search` also finds where, by running backwards, and with many patterns
        # joined that exceeds RE2's memory and falls back to a slow algorithm.
        anywhere = re2.compile(f"(?s:.*?)(?:{pattern})", options=options)  # pyright: ignore
    except UnicodeEncodeError:
        raise ValueError("the pattern contains an unpaired surrogate") from None
    except re2.error as problem:  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        raise ValueError(_reason(cast("Exception", problem))) from None

    def found(text: str) -> bool:
        # An unpaired surrogate cannot be encoded for RE2; no pattern looks for one.
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()
        return anywhere.match(text) is not None  # pyright: ignore[reportUnknownMemberType]

    return found


def _reason(problem: Exception) -> str:
    detail = problem.args[0] if problem.args else str(problem)
    return detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
