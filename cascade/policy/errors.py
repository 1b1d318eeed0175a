"""Messages for invalid values of a policy, in terms of YAML.

pydantic says "input should be a valid tuple"; the editor of a YAML file needs "must be a list", and how to write one.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import ValidationError

from cascade.core.policy import Fault, Policy
from cascade.core.text.suggestions import closest, did_you_mean

__all__ = ["dotted", "faults_despite", "known_keys", "printable", "words_for", "yaml_words"]

_Words = tuple[str, str]

_NAME = "letters, digits and . _ - : / @, of which the first is a letter or digit, at most 128"
_PATTERNS = {
    "base_url": ("must be an address without a user name", "write http://… or https://…"),
    "api_key_env": ("must be the name of an environment variable, not the key", "as in api_key_env: MY_API_KEY"),
    "command": ("must not contain the character NUL", "remove it"),
    "env": ("must be the name of an environment variable, not its value", "as in env: [DATABASE_URL]"),
    "function": ("must name a function", "write module:function"),
    "redact": ("must name a function", "write module:function"),
    "notify": ("must name a function or an address", "write module:function or https://…"),
    "by": ("must be a name from the request's metadata", "as in by: customer"),
    "words": ("must not be blank", "give a word, or remove it"),
}
_COMPARED = {
    "greater_than": ("must be above {}", "gt"),
    "greater_than_equal": ("must be {} or more", "ge"),
    "less_than": ("must be below {}", "lt"),
    "less_than_equal": ("must be {} or less", "le"),
}
_LISTS = {
    "ladder": "start each rung with '- ', as in - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 1024}",
    "tasks": "start each task with '- ', as in - {name: refund, when: {words: [refund]}}",
    "checks": "as in checks: [not_empty]",
    "command": "as in command: [python, run_tests.py]",
    "env": "as in env: [DATABASE_URL]",
    "words": "as in words: [refund, chargeback]",
}
_MAPPINGS = {
    "ladder": "as in {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 1024}",
    "tasks": "as in {name: refund, when: {words: [refund]}}",
    "checks": "as in {max_chars: 500}, or not_empty",
    "ledger": "write off, or a mapping of keys to values",
    "budget": "as in budget: {daily_usd: 5}",
    "cache": "as in cache: {}, which takes the defaults, or cache: {requests: all}",
}
_WORDS_FOR = {"prepare": ("none", "summarize", "trim"), "handoff": ("none", "doubt", "artifact")}
_STAND_IN: Mapping[str, Any] = {"version": 1, "name": "x", "max_tokens": 1, "threshold": None}
_YAML: tuple[tuple[str, _Words], ...] = (
    (
        "mapping values are not allowed",
        ("a second ': ' on this line, or a wrong indentation", "quote a text that holds ': ', or align the key"),
    ),
    (
        "expected ',' or '}'",
        ("a { that stands before this is not closed, or a comma is missing", "add the } or the comma"),
    ),
    (
        "expected ',' or ']'",
        ("a [ that stands before this is not closed, or a comma is missing", "add the ] or the comma"),
    ),
    ("could not find expected ':'", ("the line has no ': ' after its key", "write key: value")),
    (
        "expected <block end>",
        ("indented differently from the lines it belongs to", "start all keys of one mapping in the same column"),
    ),
    ("while scanning a quoted scalar", ("a quote that stands before this is not closed", "close the quote")),
)
_PER_CENT = re.compile(r"(\d+(?:\.\d+)?)\s*%?\Z")
_QUOTED_NUMBER = re.compile(r"-?\d+(?:\.\d+)?\Z")


def words_for(kind: str, context: Mapping[str, Any], value: object, shown: str, key: str, message: str) -> _Words:
    """The problem and what to do about it. `shown`: the value as written, "" if it must not be shown."""
    if kind in _COMPARED:
        text, name = _COMPARED[kind]
        return text.format(f"{context[name]:,}".removesuffix(".0")) + _not(shown), ""
    if (found := _KINDS.get(kind)) is not None:
        return found(context, value, shown, key)
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:], ""


def yaml_words(problem: str, character: str) -> _Words:
    """A YAML parser's error in plain words, and what to do. `character`: the one it stopped at."""
    if character == "\t":
        return "a tab stands here, and YAML is indented with spaces", "replace the tab by spaces"
    for part, words in _YAML:
        if part in problem:
            return words
    return problem, ""


def faults_despite(values: dict[str, Any], errors: list[Any]) -> tuple[Fault, ...]:
    """The invariants that would still be broken if the errors were corrected; empty if that cannot be determined."""
    if any(isinstance(error.get("ctx", {}).get("error"), Fault) for error in errors):
        return ()
    repaired = copy.deepcopy(values)
    for error in errors:
        _repair(repaired, error["loc"], error["type"])
    try:
        Policy.model_validate(repaired, by_alias=True, by_name=False)
    except ValidationError as problems:
        found = [error.get("ctx", {}).get("error") for error in problems.errors()]
        if isinstance(found[0], Fault):  # it concerns the whole policy, so it is the only error
            return (found[0], *found[0].others)
    return ()


def _repair(values: Any, location: tuple[str | int, ...], kind: str) -> None:
    """Remove an invalid value, correct a misspelt key, or insert a value that breaks no invariant."""
    here = values
    for part in location[:-1]:
        try:
            here = here[part]
        except (LookupError, TypeError):
            return
    name = location[-1]
    if not isinstance(here, dict) or not isinstance(name, str):
        return
    mapping = cast("dict[str, Any]", here)
    taken = mapping.pop(name, None)
    if name in _STAND_IN and (location[0] == "ladder" or len(location) == 1):
        mapping[name] = _STAND_IN[name]
    elif kind == "extra_forbidden" and (meant := closest(name, known_keys(location))) and meant not in mapping:
        mapping[meant] = taken


def known_keys(location: tuple[str | int, ...]) -> tuple[str, ...]:
    """The keys allowed at the last part of `location`; empty if any name is."""
    schema: Any = Policy.model_json_schema(by_alias=True)
    definitions, here = schema["$defs"], schema
    for part in location[:-1]:
        named = [rest for one in (here, *here.get("anyOf", ())) for rest in one.get("patternProperties", {}).values()]
        further = here.get("properties", {}).get(part, named[0] if named else here)
        here = here.get("items", here) if isinstance(part, int) else further
        references = [one["$ref"] for one in (here, *here.get("anyOf", ())) if "$ref" in one]
        if references:
            here = definitions[references[0].rsplit("/", 1)[-1]]
    return tuple(here.get("properties", ()))


def dotted(location: tuple[str | int, ...]) -> str:
    """A path in a policy as text: `ladder[1].threshold`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in location)
    return "".join(parts).lstrip(".")


def printable(text: str) -> str:
    """The text on one line, with line breaks and control characters of the file escaped."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _not(shown: str) -> str:
    return f", not {shown}" if shown else ""


def _text(_context: Mapping[str, Any], value: object, shown: str, _key: str) -> _Words:
    if value is None:
        return "is empty", "give it a value, or remove the key"
    scalar = isinstance(value, (bool, int, float))
    return f"must be text{_not(shown)}", f"quote it: '{shown}'" if scalar and shown else ""


def _number(what: str) -> Callable[[Mapping[str, Any], object, str, str], _Words]:
    def words(_context: Mapping[str, Any], value: object, shown: str, _key: str) -> _Words:
        if value is None:
            return "is empty", "give it a value, or remove the key"
        quoted = isinstance(value, str) and _QUOTED_NUMBER.fullmatch(value) is not None and bool(shown)
        return f"must be {what}{_not(shown)}", f"write it without quotes: {value}" if quoted else ""

    return words


def _truth(_context: Mapping[str, Any], _value: object, shown: str, _key: str) -> _Words:
    return f"must be true or false{_not(shown)}", ""


def _list(_context: Mapping[str, Any], value: object, _shown: str, key: str) -> _Words:
    what = "is empty" if value is None else "must be a list"
    return what, _LISTS.get(key, "write [a, b], or start each entry with '- '")


def _mapping(_context: Mapping[str, Any], value: object, shown: str, key: str) -> _Words:
    if key in _WORDS_FOR and value is not None:
        words = _WORDS_FOR[key]
        meant = did_you_mean(value, words).strip() if isinstance(value, str) else ""
        return f"must be {', '.join(words)} or a mapping{_not(shown)}", meant
    what = "is empty" if value is None else f"must be a mapping{_not(shown)}"
    return what, _MAPPINGS.get(key, "write keys and values, or leave it out: absent means off or the default")


def _one_of(context: Mapping[str, Any], value: object, shown: str, key: str) -> _Words:
    allowed: str = context["expected"]
    if key == "kind" and value == "not_empty":
        return f"must be {allowed}{_not(shown)}", "write not_empty by itself"
    names = re.findall(r"'([^']+)'", allowed)
    meant = did_you_mean(value, names).strip() if isinstance(value, str) and shown else ""
    return f"must be {allowed}{_not(shown)}", meant


def _pattern(_context: Mapping[str, Any], _value: object, shown: str, key: str) -> _Words:
    if key in _PATTERNS:
        return _PATTERNS[key]
    return f"{shown or 'this'} cannot be a name here", _NAME


def _too_short(context: Mapping[str, Any], _value: object, _shown: str, key: str) -> _Words:
    least, has = context["min_length"], context["actual_length"]
    entry = "rung" if key == "ladder" else "entry" if least == 1 else "entries"
    entry += "s" if key == "ladder" and least > 1 else ""
    return f"needs at least {least} {entry}, and has {has}", "add one" if least - has == 1 else f"add {least - has}"


def _too_long(context: Mapping[str, Any], _value: object, _shown: str, _key: str) -> _Words:
    return f"has {context['actual_length']:,} entries, and may have {context['max_length']:,}", "remove some"


def _blank(_context: Mapping[str, Any], _value: object, _shown: str, _key: str) -> _Words:
    return "must not be empty", "give it a value, or remove the key"


def _threshold(_context: Mapping[str, Any], value: object, shown: str, _key: str) -> _Words:
    what = f"must be a number from 0 to 1, or never{_not(shown)}"
    if not shown or isinstance(value, bool):
        return what, ""
    found = _PER_CENT.match(shown.strip("'\""))
    if found is None:
        meant = closest(shown, ["never"])
        return what, f"did you mean {meant}?" if meant else ""
    number = float(found.group(1))
    if number <= 1 and "%" not in shown:
        return what, f"write it without quotes: {found.group(1)}"
    per_cent = "%" in shown or (number.is_integer() and number > 1)
    return what, f"did you mean {number / 100:.2f}?" if per_cent and number <= 100 else ""


_whole = _number("a whole number")
_KINDS: Mapping[str, Callable[[Mapping[str, Any], object, str, str], _Words]] = {
    "string_type": _text,
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _whole),
    **dict.fromkeys(("float_type", "float_parsing", "decimal_type", "decimal_parsing"), _number("a number")),
    **dict.fromkeys(("finite_number", "decimal_max_digits"), _number("a finite number")),
    **dict.fromkeys(("bool_type", "bool_parsing"), _truth),
    **dict.fromkeys(("tuple_type", "list_type"), _list),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), _mapping),
    **dict.fromkeys(("literal_error", "enum"), _one_of),
    "string_pattern_mismatch": _pattern,
    "string_too_short": _blank,
    "too_short": _too_short,
    "too_long": _too_long,
    "threshold": _threshold,
}
