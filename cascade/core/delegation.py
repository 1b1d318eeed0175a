"""The checks of the delegation helpers (`engine.delegation`): what makes a result one that may be shipped. Pure, in time linear in the text.

That it is not empty needs no check of its own: every answer is held to that. A check is a function of this module with its limits bound to it (`functools.partial`), under the name that the trail shows: so the
response cache can tell when two are equal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial

from cascade.core.handoff.artifacts import mentions
from cascade.core.text.counting import count_words, has_ideographs

__all__ = ["folded", "of_label", "of_rewriting", "of_summary", "of_translation"]

_Check = Callable[[str], bool]


def of_summary(text: str, max_words: int) -> list[_Check]:
    """Of a summary: within the words, and shorter than the text; no longer than it, if it is within the words itself."""
    longest = len(text.strip()) - (count_words(text) > max_words)
    within = _named(f"max_words:{max_words}", _has_at_most_words, most=max_words)
    return [within, _named("shorter", _has_at_most_characters, most=longest)]


def of_rewriting(max_chars: int, keyword: str | None) -> list[_Check]:
    """Of a text that was rewritten: within the characters, with the keyword."""
    within = _named(f"max_chars:{max_chars}", _has_at_most_characters, most=max_chars)
    wanted = [] if keyword is None else [_named("keyword", _mentions, phrase=keyword)]
    return [within, *wanted]


def of_label(labels: Sequence[str]) -> list[_Check]:
    """Of a label as JSON: one of these, in any case."""
    return [_named("label", _is_label, known=sorted(map(folded, labels)))]


def of_translation(text: str, to: str, source: str | None) -> list[_Check]:
    """Of a translation: not the text itself, if that is prose and known to be in another language."""
    is_known = source is not None and folded(source) != folded(to)
    return [_named("translated", _differs, given=text)] if is_known and _is_prose(text) else []


def folded(text: str) -> str:
    """The text without its case."""
    return text.casefold()


def _named(name: str, test: Callable[..., bool], **limits: object) -> _Check:
    check = partial(test, **limits)
    check.__name__ = name  # type: ignore[attr-defined]
    return check


def _has_at_most_words(text: str, *, most: int) -> bool:
    return count_words(text) <= most


def _has_at_most_characters(text: str, *, most: int) -> bool:
    return len(text) <= most


def _mentions(text: str, *, phrase: str) -> bool:
    return mentions(text, phrase)


def _is_label(text: str, *, known: Sequence[str]) -> bool:
    label = json.loads(text)
    return isinstance(label, str) and folded(label) in known


def _differs(text: str, *, given: str) -> bool:
    return folded(text).split() != folded(given).split()


_CODE = frozenset("{}[]<>=_\\|`/@#$")  # characters that code and addresses have, and prose seldom
_FEWEST_WORDS, _FEWEST_IDEOGRAPHS = 4, 12


def _is_prose(text: str) -> bool:
    """Whether a translation of it cannot be the same. In doubt it is not: names, figures and code stay as they are."""
    if not _CODE.isdisjoint(text):
        return False
    runs = [run for run in text.split() if not any(map(str.isdigit, run))]
    small = sum(run[0].isalpha() and not run[0].isupper() for run in runs)
    return small >= _FEWEST_WORDS or (has_ideographs(text) and count_words(text) >= _FEWEST_IDEOGRAPHS)
