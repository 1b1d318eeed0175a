"""The plan that passes between rungs (the artifact): what makes one valid, and what it demands of the answer.

Phrases are compared case-blind and as whole words; scripts that put no spaces between words (Chinese, Japanese, Thai …) have no such
ends. Line breaks, curly quotes and Markdown's emphasis make no difference. It takes time linear in the text: phrases are short, and
nothing is matched but themselves.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, cast

from cascade.core.text.counting import UNSPACED
from cascade.core.text.parsing import is_unicode

__all__ = ["FORBIDDEN", "LONGEST_PHRASE", "MOST_PHRASES", "MUST_MENTION", "broken_by", "mentions", "read_artifact"]

MOST_PHRASES = 3
MUST_MENTION, FORBIDDEN = "handoff:must_mention", "handoff:forbidden"
"""Names of the plan's own checks, on the trail among the others. They do not say which phrase it was: it may quote the user."""

_LONGEST = {"intent": 1_500, "tone": 200, "next_action": 500}  # characters
LONGEST_PHRASE = 120
"""Characters of a phrase that is looked for."""

_KEYS = frozenset({*_LONGEST, "must_mention", "forbidden"})
_IN_WORD = rf"[^\W{UNSPACED}]"
_FOLDED = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "*": None, "`": None})


def read_artifact(value: object) -> tuple[dict[str, Any] | None, str]:
    """The plan in a reply's JSON value; None, and in a few words why, if it is none. The words quote nothing of it."""
    if not isinstance(value, Mapping):
        return None, "plan is not a JSON object"
    given = cast("Mapping[str, Any]", value)
    if given.keys() ^ _KEYS:
        return None, "plan has not the keys that were asked for"
    plan: dict[str, Any] = {}
    for key, longest in _LONGEST.items():
        text: object = given[key]
        if not isinstance(text, str) or not is_unicode(text):
            return None, f"plan: {key} is not a text"
        if len(text) > longest or (key == "intent" and not text.strip()):
            return None, f"plan: {key} is {'empty' if not text.strip() else 'too long'}"
        plan[key] = text
    for key in ("must_mention", "forbidden"):
        phrases = _phrases(given[key])
        if phrases is None:
            return None, f"plan: {key} is not a list of at most {MOST_PHRASES} short phrases"
        plan[key] = phrases
    if any(mentions(wanted, unwanted) for wanted in plan["must_mention"] for unwanted in plan["forbidden"]):
        return None, "plan contradicts itself"
    return {key: plan[key] for key in ("intent", "tone", "must_mention", "forbidden", "next_action")}, ""


def _phrases(value: object) -> list[str] | None:
    if not isinstance(value, (list, tuple)):
        return None
    given = cast("list[object]", value)
    phrases = [one.strip() for one in given if isinstance(one, str)]
    if len(phrases) != len(given) or len(phrases) > MOST_PHRASES:
        return None
    usable = all(len(one) <= LONGEST_PHRASE and is_unicode(one) and _plain(one) for one in phrases)
    return phrases if usable else None


def broken_by(plan: Mapping[str, Any], text: str, data: object = None) -> tuple[str, ...]:
    """The names of the plan's checks that an answer fails. `data`: its JSON value, whose strings are read in place of its text."""
    shown = _plain(text if data is None else "\n".join(_strings(data)))
    failed: list[str] = []
    if not all(_stands_in(shown, _plain(phrase)) for phrase in plan["must_mention"]):
        failed.append(MUST_MENTION)
    if any(_stands_in(shown, _plain(phrase)) for phrase in plan["forbidden"]):
        failed.append(FORBIDDEN)
    return tuple(failed)


def mentions(text: str, phrase: str) -> bool:
    """Whether a phrase stands in a text, case-blind, as whole words."""
    return _stands_in(_plain(text), _plain(phrase))


def _stands_in(text: str, phrase: str) -> bool:
    before = f"(?<!{_IN_WORD})" if re.match(_IN_WORD, phrase) else ""
    after = f"(?!{_IN_WORD})" if re.search(rf"{_IN_WORD}\Z", phrase) else ""
    return re.search(f"{before}{re.escape(phrase)}{after}", text) is not None


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).translate(_FOLDED).casefold()
    return " ".join(folded.split())


def _strings(value: object) -> Iterator[str]:
    """The strings and numbers in a JSON value, keys aside. Not recursive: an answer may nest as deep as it likes."""
    left: list[object] = [value]
    while left:
        one = left.pop()
        if isinstance(one, Mapping):
            left += reversed(list(cast("Mapping[str, object]", one).values()))
        elif isinstance(one, (list, tuple)):
            left += reversed(cast("list[object]", one))
        elif isinstance(one, str) or (isinstance(one, (int, float)) and not isinstance(one, bool)):
            yield str(one)
