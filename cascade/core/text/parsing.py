"""JSON that models write, read without guessing: strictly, or repaired where no content is added or lost."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from typing import Any

__all__ = ["Repair", "is_unicode", "is_visible", "parse"]

Repair = Callable[[str], object]
"""Parses broken JSON as well as it can; may return any value, or raise ValueError."""


def parse(text: str, repair: Repair | None, *, triage: bool) -> tuple[Any, bool]:
    """The value of a JSON text, and whether it was repaired; (None, True) if it cannot be repaired without guessing."""
    try:
        return _strict(text), False
    except ValueError:
        return _repaired(text, repair, triage=triage), True


def is_unicode(text: str) -> bool:
    """Whether the text can be encoded: JSON escapes can produce an unpaired surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_visible(text: str) -> bool:
    """Whether the text has a character that can be seen."""
    return any(character.isprintable() and not character.isspace() for character in text)


class _Ambiguous(ValueError):
    """JSON that can be read in two ways, so that a repair would be a guess."""


def _strict(text: str) -> Any:
    """Standard JSON: no NaN, no duplicate keys. Raises ValueError for anything else, excessive nesting included."""
    try:
        return _decoder.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Ambiguous("a duplicate key")
    return result


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_no_key_twice, parse_constant=_no_constant)  # `loads` makes one each time


_KEY = re.compile(r"confidence")
_STATED = re.compile(r"""confidence["'\\*]{0,3}\s{0,8}:\s{0,8}(-?\d{1,20}(?:\.\d{1,20})?)\s{0,8}(?=[,}\n])""")
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)
_LONGEST_REPAIR = 200_000  # characters; repairing is not linear, and a longer text takes longer than the next rung


def _repaired(text: str, repair: Repair | None, *, triage: bool) -> Any | None:
    """The value of broken JSON, or None if it cannot be repaired without guessing.

    A code fence around valid JSON is removed. Beyond that a repair may add or remove quotes, but no content: the
    confidence must stand in the text, once and complete; every letter must be kept; every bracket must have been closed.
    """
    bare = _without_fence(text)
    try:
        return _strict(bare)
    except _Ambiguous:
        return None
    except ValueError:
        pass
    if repair is None or not bare.endswith("}") or not bare.startswith("{") or len(bare) > _LONGEST_REPAIR:
        return None
    stated = list(_STATED.finditer(bare))
    if triage and (len(stated) != 1 or len(_KEY.findall(bare)) != 1):
        return None
    try:
        value = repair(bare)
        if not isinstance(value, dict) or not _is_whole(bare, value, stated[0] if triage else None):  # pyright: ignore
            return None
    except Exception:  # noqa: BLE001 - a third-party parser on broken text may raise anything
        return None
    return value  # pyright: ignore[reportUnknownVariableType]


def _without_fence(text: str) -> str:
    bare = text.strip()
    if bare.startswith("```"):
        bare = bare[3:].lstrip(string.ascii_letters).removesuffix("```").strip()
    return bare


def _is_whole(bare: str, value: dict[str, Any], stated: re.Match[str] | None) -> bool:
    """Whether a repair kept everything: the confidence, every letter and digit, every closing bracket."""
    if stated is None:
        original, kept = bare, value
    else:
        answer = value.get("answer")
        if type(value.get("confidence")) not in (int, float) or value["confidence"] != float(stated[1]):
            return False
        # The text without the confidence. A text answer that was cut right after a brace of its own looks closed.
        original, kept = bare[: stated.start()] + bare[stated.end() :], {"answer": answer}
        answer_is_last = "answer" in bare[stated.end() :]
        if answer_is_last and isinstance(answer, str) and not _CLOSED_TEXT.search(bare[-40:]):
            return False
    written = json.dumps(kept, ensure_ascii=False)
    return _letters(original) == _letters(written) and all(original.count(c) == written.count(c) for c in "]}")


_CLOSED_TEXT = re.compile(r"""[^\\]["']\s*,?\s*\}$""")


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, _ESCAPE.sub("", text)))
