"""Graders: what an answer is worth beside the expected one, 0..1, or why that cannot be said. Named in the manifest.

exact               the same text, letter by letter; another JSON value: the same value
normalized          the same text but for case, white space, punctuation and typographic variants (NFKC)
choice              the same letter of a multiple choice, or the option's own text
numeric[:0.01|:1%]  the same number, but for a tolerance: absolute, or relative with %; the one number in the text counts
contains            the expected text (of a list: every one) stands in the answer; case and white space do not matter
pattern[:REGEX]     the answer matches REGEX (RE2, case-sensitive, anywhere), or without it the item's `expected`
json_subset         all that `expected` has is in the answer's JSON, and equal; other keys do not matter
module:function     called with (answer, expected, item); returns a bool, 0..1, or None where it cannot say
judge[:RUNG]        a rung of the policy's ladder grades: see `judging`

A grader that cannot grade says so with `Ungraded`: nothing is scored 0 because it could not be read. Where no item has
an expected answer, one that cannot grade without it (a function that returns None then) is given the baseline's.
"""

from __future__ import annotations

import importlib
import inspect
import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from cascade.core.errors import ConfigurationError
from cascade.core.suggestions import did_you_mean
from cascade.corpora.items import Item
from cascade.policy.patterns import compile_exact

__all__ = ["GRADERS", "Grade", "Graded", "Grader", "Ungraded", "bind_grader", "is_grader", "judge_rung"]

GRADERS = (
    "exact", "normalized", "choice", "numeric", "contains", "pattern", "json_subset", "module:function", "judge",
)  # fmt: skip
"""What may be named, as the help tells it."""

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")


@dataclass(frozen=True, slots=True)
class Grade:
    """A score, 0..1."""

    score: float


@dataclass(frozen=True, slots=True)
class Ungraded:
    """Why there is no score, in a few words; quotes neither the input nor the answer."""

    reason: str


Graded = Grade | Ungraded
Grader = Callable[[Any, Item], Graded]
"""Grades one answer (a JSON value, a text as a rule) to an item."""

_NO_EXPECTED = Ungraded("the item has no expected answer")


def judge_rung(name: str) -> str | None:
    """The rung that a judge's name asks for: "" for the default one; None where `name` is not a judge's."""
    kind, _, rung = name.partition(":")
    return rung if kind == "judge" else None


def is_grader(name: str) -> bool:
    """Whether a manifest's `grader` names one that can be used here; other names are kept, and grade nothing."""
    try:
        return judge_rung(name) is not None or bind_grader(name) is not None
    except ConfigurationError:
        return False


def bind_grader(name: str) -> Grader:
    """The grader called `name`, ready to be used. Imports the module it names.

    Raises ConfigurationError for a name that is none, a tolerance that is no number, a pattern that is not linear-time,
    a function that is not there; and for `judge`, which asks a model and lives in `judging`.
    """
    kind, _, option = name.partition(":")
    if name in _PLAIN:
        return _bounded(_PLAIN[name])
    if kind == "numeric":
        return _numeric(option)
    if kind == "pattern" and option:
        return _pattern(option)
    if kind == "judge":
        raise ConfigurationError(f"grader {name}: a judge asks a model; it is at work in `cascade record` only")
    if kind not in _PLAIN and _FUNCTION.match(name):
        return _function(name)
    kinds = [one for one in GRADERS if ":" not in one]
    raise ConfigurationError(
        f"grader: there is none called {name[:80]!r} ({did_you_mean(kind[:80], kinds)}there are {', '.join(GRADERS)})"
    )


def _bounded(grader: Grader) -> Grader:
    def grade(answer: Any, item: Item) -> Graded:
        try:
            return grader(answer, item)
        except RecursionError:
            return Ungraded("the answer or what is expected is nested too deeply")

    return grade


def _text_of(value: object) -> str | None:
    """A value that is a text, or written as one: numbers and booleans too. None for objects, lists and null."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value}" if isinstance(value, (int, float)) else None


def _exact(answer: Any, item: Item) -> Graded:
    if item.expected is None:
        return _NO_EXPECTED
    if isinstance(answer, str) and not isinstance(item.expected, str):
        return _of(_same(_json_of(answer), item.expected))
    return _of(_same(answer, item.expected))


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
    wanted = _bare(expected)
    if not wanted:
        return Ungraded("nothing is left of the expected answer without its punctuation")
    return _of(_bare(text) == wanted)


def _bare(text: str) -> str:
    """Case-folded words, one blank between them: what is neither letter, digit nor mark parts words."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if unicodedata.category(c)[0] in "LNM" else " " for c in folded).split())


_LETTER_FIRST = re.compile(r"[\s*_\"'`]*(?:[(\[]([A-Za-z])[)\]]|([A-Za-z])[*_]{0,2}[).:](?=\s|\*|\Z))")
_LETTER_NAMED = re.compile(
    r"\b(?:answer|option|choice)\b(?:\s{1,4}is)?\s{0,4}:?[\s*_\"'`]{0,6}[(\[]?([A-Z])(?![\w'’])", re.IGNORECASE
)


def _choice(answer: Any, item: Item) -> Graded:
    if item.expected is None:
        return _NO_EXPECTED
    expected, text = _text_of(item.expected), _text_of(answer)
    if expected is None or text is None:
        return Ungraded("the expected answer is not a text" if expected is None else "the answer is not a text")
    options = _options(item)
    wanted = _letter(expected) or options.get(_bare(expected))
    if wanted is None:  # the option's own text is expected, and nothing says which letter that is
        if not _bare(expected):
            return Ungraded("the expected answer is no choice")
        if _bare(text) == _bare(expected):
            return Grade(1.0)
        return Ungraded("the letter of the expected option is not known (give the item its `choices`)")
    given = _letter(text) or options.get(_bare(text))
    return Ungraded("no choice is found in the answer") if given is None else _of(given == wanted)


def _options(item: Item) -> dict[str, str]:
    """The letter of each option's text, where the item lists its `choices`."""
    listed = (item.extra or {}).get("choices")
    if not isinstance(listed, list):
        return {}
    texts = [_text_of(one) or "" for one in cast("list[object]", listed)[:26]]
    return {_bare(text): chr(ord("A") + number) for number, text in enumerate(texts) if _bare(text)}


def _letter(text: str) -> str | None:
    """The one letter that a text chooses; None where it chooses none, or more than one."""
    bare = _bare(text)
    if len(bare) == 1 and "a" <= bare <= "z":
        return bare.upper()
    if first := _LETTER_FIRST.match(text):
        return (first[1] or first[2]).upper()
    named = {found.upper() for found in _LETTER_NAMED.findall(text)}
    return named.pop() if len(named) == 1 else None


_NUMBER = re.compile(
    r"(?<![\w.,])[-+\u2212]?(?:(?:\d{1,3}(?:,\d{3}){1,30}|\d{1,100})(?:\.\d{1,100})?|\.\d{1,100})(?:[eE][-+]?\d{1,4})?"
    r"(?!\w|[.,]\d)"  # 12,34 and 1.234.567 can be read in two ways: no number
)


def _numeric(option: str) -> Grader:
    relative = option.endswith("%")
    try:
        tolerance = Decimal(option.removesuffix("%") or "0") / (100 if relative else 1)
    except InvalidOperation:
        tolerance = Decimal(-1)
    if not tolerance.is_finite() or tolerance < 0:
        raise ConfigurationError(f"grader numeric: its tolerance {option[:40]!r} is no number (as in numeric:0.01)")

    def grade(answer: Any, item: Item) -> Graded:
        if item.expected is None:
            return _NO_EXPECTED
        expected, given = _number(item.expected), _number(answer)
        if isinstance(expected, str):
            return Ungraded(f"the expected answer has {expected}")
        if isinstance(given, str):
            return Ungraded(f"the answer has {given}")
        return _of(abs(given - expected) <= (tolerance * abs(expected) if relative else tolerance))

    return grade


def _number(value: object) -> Decimal | str:
    """The one number that a value has, or what it has instead: none, or several that differ."""
    text = None if isinstance(value, bool) else _text_of(value)
    if text is None:
        return "no number"
    found = {Decimal(one.replace(",", "").replace("\u2212", "-")) for one in _NUMBER.findall(text)}
    if len(found) == 1:
        return found.pop()
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
    whole = _even(text)
    return _of(all(_even(one or "") in whole for one in wanted))


def _even(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _pattern(pattern: str) -> Grader:
    try:
        found = compile_exact(pattern)
    except ValueError as problem:
        raise ConfigurationError(f"grader pattern: it cannot be used: {problem} (use RE2 syntax)") from None

    def grade(answer: Any, _: Item) -> Graded:
        text = _text_of(answer)
        return Ungraded("the answer is not a text") if text is None else _of(found(text))

    return grade


def _expected_pattern(answer: Any, item: Item) -> Graded:
    if item.expected is None:
        return _NO_EXPECTED
    if not isinstance(item.expected, str):
        return Ungraded("the expected answer is not a pattern")
    try:
        return _pattern(item.expected)(answer, item)
    except ConfigurationError:
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
    return _of(_within(cast("object", expected), given))


def _within(part: object, whole: object) -> bool:
    if isinstance(part, dict) and isinstance(whole, dict):
        wanted, given = cast("dict[str, Any]", part), cast("dict[str, Any]", whole)
        return all(key in given and _within(value, given[key]) for key, value in wanted.items())
    if isinstance(part, list) and isinstance(whole, list):
        first, second = cast("list[object]", part), cast("list[object]", whole)
        return len(first) == len(second) and all(map(_within, first, second))
    return _same(cast("object", part), whole)


_NOT_JSON = object()


def _json_of(text: str) -> object:
    """The JSON value that a text is, a fence around it taken off; `_NOT_JSON` where it is none."""
    bare = text.strip()
    if bare.startswith("```") and bare.endswith("```"):
        bare = bare[3:-3].removeprefix("json").strip()
    try:
        return json.loads(bare)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _function(path: str) -> Grader:
    module, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise ConfigurationError(f"grader {path}: it cannot be used: {problem} (name it module:function)") from None
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"grader {path}: it is no plain function (of answer, expected and item)")

    def grade(answer: Any, item: Item) -> Graded:
        try:
            value: object = function(answer, item.expected, _fields(item))
        except Exception as problem:  # noqa: BLE001 - a caller's function: whatever it raises, the answer was paid for
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
    """What a caller's function is told of an item; its further keys too."""
    ours = {"id": item.id, "input": item.input, "task": item.task, "group": item.group, "expected": item.expected}
    return {**(item.extra or {}), **ours}


def _of(right: bool) -> Grade:
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
