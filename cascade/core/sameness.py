"""When two samples' answers are the same: each kind gives an answer a key, and answers with equal keys are the same.

So being the same is an equivalence, whatever the order of the answers. An answer without a key (None) agrees with no other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, cast

from cascade.core.policy.samples import Same
from cascade.core.text.answers import choice_in, normalised, number_in

__all__ = ["KeyOf", "key_function", "safe_key"]

KeyOf = Callable[[str], Hashable | None]
"""An answer's key. Answers with equal keys are the same; None agrees with nothing."""


def key_function(same: Same, function: KeyOf | None = None) -> KeyOf:
    """The key of this kind. `function`: what `module:function` names. The judge's kind compares the exact text here."""
    if same.kind == "function":
        assert function is not None, "the function must be imported first"
        return lambda text: safe_key(function, text)
    if same.kind == "numeric":
        step = Decimal(repr(same.tolerance))
        return lambda text: _numeric(text, step)
    if same.kind == "json":
        return lambda text: _canonical(text, same.fields)
    return {"exact": _exact, "judge": _exact, "normalized": _normalized, "choice": choice_in}[same.kind]


def safe_key(function: KeyOf, text: str) -> Hashable | None:
    """The key that a user's function gives; None if it raises or gives what cannot be compared."""
    try:
        key: object = function(text)
        hash(key)
    except Exception:  # noqa: BLE001 - a user's function may raise anything: the answer was paid for, and agrees with none
        return None
    return cast("Hashable | None", key) if key == key else None  # noqa: PLR0124 - NaN equals nothing


def _exact(text: str) -> str:
    return text


def _normalized(text: str) -> str:
    """Words and numbers; the text itself if there are none."""
    return normalised(text) or text


def _numeric(text: str, step: Decimal) -> Decimal | None:
    number = number_in(text)
    if number is None or not step:
        return number
    return (number / step).to_integral_value(ROUND_HALF_EVEN)


def _canonical(text: str, fields: tuple[str, ...]) -> str | None:
    """The value as JSON with sorted keys; numbers that are equal are the same, and true is not 1."""
    try:
        value: Any = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, ArithmeticError, RecursionError):
        return None
    if fields:
        if not isinstance(value, dict):
            return None
        known = cast("dict[str, Any]", value)
        value = {name: known.get(name) for name in fields}
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=True, default=_number_text)
    except (ValueError, TypeError, RecursionError):
        return None


def _number_text(value: object) -> Any:
    if not isinstance(value, Decimal):
        raise TypeError(type(value).__name__)
    return {"": format((value + 0).normalize(), "E")} if value.is_finite() else {"": str(value)}
