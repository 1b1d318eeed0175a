"""Graders compare an answer with the expected one and return a score, 0..1. The manifest names the grader.

exact               the same text, character by character; other JSON values: the same value
normalized          the same text, ignoring case, white space, punctuation and typographic variants (NFKC)
choice              the same letter of a multiple choice, or that option's text
numeric[:0.01|:1%]  the same number within a tolerance, absolute or (with %) relative; the text must have one number
contains            the answer contains the expected text (of a list: every one), ignoring case and white space
pattern[:REGEX]     the answer matches REGEX (RE2, case-sensitive, anywhere); without REGEX, the item's `expected`
json_subset         the answer's JSON contains `expected`; other keys are ignored
module:function     called with (answer, expected, item); returns a bool, 0..1, or None if it cannot grade
judge[:RUNG]        a rung of the policy's ladder grades: see `recording.judge`

A grader that cannot grade returns `Ungraded`; an unreadable answer is never scored 0. If no item has an expected answer
and the grader needs one (a function returns None then), the baseline's answer is the expected one.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from cascade.core.errors import ConfigurationError
from cascade.core.text.answers import choice_in, numbers_in, words_of
from cascade.corpora.items import Item
from cascade.policy.budgets import import_function
from cascade.policy.graders import GRADERS, judge_rung, tolerance_of, unusable_grader
from cascade.policy.patterns import compile_exact

__all__ = ["GRADERS", "Grade", "Graded", "Grader", "Ungraded", "bind_grader", "is_grader", "judge_rung"]


@dataclass(frozen=True, slots=True)
class Grade:
    """A score, 0..1."""

    score: float


@dataclass(frozen=True, slots=True)
class Ungraded:
    """Why there is no score. Never quotes the input or the answer."""

    reason: str


Graded = Grade | Ungraded
Grader = Callable[[Any, Item], Graded]
"""Grades an answer (a JSON value, usually text) to an item."""

_NO_EXPECTED = Ungraded("the item has no expected answer")


def is_grader(name: str) -> bool:
    """Whether a manifest's `grader` can be used here. Other names are kept, and grade nothing."""
    try:
        return judge_rung(name) is not None or bind_grader(name) is not None
    except ConfigurationError:
        return False


def bind_grader(name: str) -> Grader:
    """The grader called `name`. Imports the module of `module:function`.

    Raises ConfigurationError for an unknown name, a tolerance that is not a number, a pattern that RE2 refuses or a
    missing function, and for `judge`, which asks a model (see `recording.judge`).
    """
    if judge_rung(name) is not None:
        raise ConfigurationError(f"grader {name}: a judge asks a model; it is at work in `cascade record` only")
    if (unusable := unusable_grader(name)) is not None:
        problem, hint = unusable
        raise ConfigurationError(f"grader: {problem} ({hint})")
    kind, _, option = name.partition(":")
    if name in _PLAIN:
        return _bounded(_PLAIN[name])
    if kind == "numeric":
        return _numeric(option)
    return _pattern(option) if kind == "pattern" else _function(name)


def _bounded(grader: Grader) -> Grader:
    def grade(answer: Any, item: Item) -> Graded:
        try:
            return grader(answer, item)
        except RecursionError:
            return Ungraded("the answer or what is expected is nested too deeply")

    return grade


def _text_of(value: object) -> str | None:
    """A string, number or boolean as text; None for objects, lists and null."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value}" if isinstance(value, (int, float)) else None


def _exact(answer: Any, item: Item) -> Graded:
    if item.expected is None:
        return _NO_EXPECTED
    if isinstance(answer, str) and not isinstance(item.expected, str):
        return _grade(_same(_json_of(answer), item.expected))
    return _grade(_same(answer, item.expected))


def _same(one: object, other: object) -> bool:
    """Equal as JSON: 1 equals 1.0, but True does not equal 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        left, right = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(one, list) and isinstance(other, list):
        first, second = cast("list[object]", one), cast("list[object]", other)
        return len(first) == len(second) and all(map(_same, first, second))
    return one == other


def _normalized(answer: Any, item: Item) -> Graded:
    if item.expected is None:
        return _NO_EXPECTED
    expected, text = _text_of(item.expected), _text_of(answer)
    if expected is None:
        return Ungraded("the expected answer is not a text")
    if text is None:
        return Ungraded("the answer is not a text")
    wanted = words_of(expected)
    if not wanted:
        return Ungraded("nothing is left of the expected answer without its punctuation")
    return _grade(words_of(text) == wanted)


def _choice(answer: Any, item: Item) -> Graded:
    if item.expected is None:
        return _NO_EXPECTED
    expected, text = _text_of(item.expected), _text_of(answer)
    if expected is None or text is None:
        return Ungraded("the expected answer is not a text" if expected is None else "the answer is not a text")
    options = _options(item)
    wanted = choice_in(expected) or options.get(words_of(expected))
    if wanted is None:  # the expected answer is an option's text, whose letter is not known
        if not words_of(expected):
            return Ungraded("the expected answer is no choice")
        if words_of(text) == words_of(expected):
            return Grade(1.0)
        return Ungraded("the letter of the expected option is not known (give the item its `choices`)")
    given = choice_in(text) or options.get(words_of(text))
    return Ungraded("no choice is found in the answer") if given is None else _grade(given == wanted)


def _options(item: Item) -> dict[str, str]:
    """The letter of each option's text, if the item lists its `choices`."""
    listed = (item.extra or {}).get("choices")
    if not isinstance(listed, list):
        return {}
    texts = [_text_of(one) or "" for one in cast("list[object]", listed)[:26]]
    return {words_of(text): chr(ord("A") + number) for number, text in enumerate(texts) if words_of(text)}


def _numeric(option: str) -> Grader:
    tolerance, relative = tolerance_of(option)

    def grade(answer: Any, item: Item) -> Graded:
        if item.expected is None:
            return _NO_EXPECTED
        expected, given = _number(item.expected), _number(answer)
        if isinstance(expected, str):
            return Ungraded(f"the expected answer has {expected}")
        if isinstance(given, str):
            return Ungraded(f"the answer has {given}")
        return _grade(abs(given - expected) <= (tolerance * abs(expected) if relative else tolerance))

    return grade


def _number(value: object) -> Decimal | str:
    """The only number in a value, or "no number" or "several numbers" as text."""
    text = None if isinstance(value, bool) else _text_of(value)
    if text is None:
        return "no number"
    found = numbers_in(text)
    if len(found) == 1:
        return next(iter(found))
    return "several numbers" if found else "no number"


def _contains(answer: Any, item: Item) -> Graded:
    if item.expected is None:
        return _NO_EXPECTED
    expected: object = item.expected
    listed = cast("list[object]", expected) if isinstance(expected, list) else [expected]
    wanted, text = [_text_of(one) for one in listed], _text_of(answer)
    if not wanted or any(one is None or not one.strip() for one in wanted):
        return Ungraded("the expected answer is neither a text nor a list of texts")
    if text is None:
        return Ungraded("the answer is not a text")
    normal = _normal(text)
    return _grade(all(_normal(one or "") in normal for one in wanted))


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _pattern(pattern: str) -> Grader:
    """Raises ValueError if RE2 refuses the pattern."""
    found = compile_exact(pattern)

    def grade(answer: Any, _: Item) -> Graded:
        text = _text_of(answer)
        return Ungraded("the answer is not a text") if text is None else _grade(found(text))

    return grade


def _expected_pattern(answer: Any, item: Item) -> Graded:
    if item.expected is None:
        return _NO_EXPECTED
    if not isinstance(item.expected, str):
        return Ungraded("the expected answer is not a pattern")
    try:
        return _pattern(item.expected)(answer, item)
    except ValueError:
        return Ungraded("the expected answer is no linear-time pattern")


def _json_subset(answer: Any, item: Item) -> Graded:
    if item.expected is None:
        return _NO_EXPECTED
    expected: object = _json_of(item.expected) if isinstance(item.expected, str) else item.expected
    given: object = _json_of(answer) if isinstance(answer, str) else answer
    if not isinstance(expected, (dict, list)):
        return Ungraded("the expected answer is no JSON object or list")
    if given is _NOT_JSON:
        return Ungraded("the answer is not JSON")
    return _grade(_is_subset(cast("object", expected), given))


def _is_subset(part: object, whole: object) -> bool:
    if isinstance(part, dict) and isinstance(whole, dict):
        wanted, given = cast("dict[str, Any]", part), cast("dict[str, Any]", whole)
        return all(key in given and _is_subset(value, given[key]) for key, value in wanted.items())
    if isinstance(part, list) and isinstance(whole, list):
        first, second = cast("list[object]", part), cast("list[object]", whole)
        return len(first) == len(second) and all(map(_is_subset, first, second))
    return _same(cast("object", part), whole)


_NOT_JSON = object()


def _json_of(text: str) -> object:
    """Parse a text as JSON, without a code fence around it; `_NOT_JSON` if it is not JSON."""
    bare = text.strip()
    if bare.startswith("```") and bare.endswith("```"):
        bare = bare[3:-3].removeprefix("json").strip()
    try:
        return json.loads(bare)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _function(path: str) -> Grader:
    function = import_function(path)

    def grade(answer: Any, item: Item) -> Graded:
        try:
            value: object = function(answer, item.expected, _fields(item))
        except Exception as problem:  # noqa: BLE001 - it may raise anything, and the answer has been paid for
            return Ungraded(f"{path} raised {type(problem).__name__}")
        if value is None:
            return Ungraded(f"{path} returned None")
        if not isinstance(value, (bool, int, float)):
            return Ungraded(f"{path} returned {type(value).__name__}, not a score")
        if not math.isfinite(value) or not 0 <= value <= 1:
            return Ungraded(f"{path} returned a score outside 0..1")
        return Grade(float(value))

    return grade


def _fields(item: Item) -> Mapping[str, Any]:
    """The fields of an item given to a caller's function, its unknown keys included."""
    ours = {"id": item.id, "input": item.input, "task": item.task, "group": item.group, "expected": item.expected}
    return {**(item.extra or {}), **ours}


def _grade(right: bool) -> Grade:
    return Grade(1.0 if right else 0.0)


_PLAIN: dict[str, Grader] = {
    "exact": _exact,
    "normalized": _normalized,
    "choice": _choice,
    "numeric": _numeric(""),
    "contains": _contains,
    "pattern": _expected_pattern,
    "json_subset": _json_subset,
}
