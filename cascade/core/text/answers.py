"""What an answer says, without its wording: its words, the letter it chooses, its one number."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

__all__ = ["choice_in", "normalised", "number_in", "numbers_in", "words_of"]


class _Kept(dict[int, int]):
    """For str.translate: characters of these categories, and these characters, stay; any other becomes a space."""

    def __init__(self, categories: str, characters: str = "") -> None:
        super().__init__((ord(character), ord(character)) for character in characters)
        self._categories = categories

    def __missing__(self, code: int) -> int:
        kept = code if unicodedata.category(chr(code))[0] in self._categories else 0x20
        if len(self) < _MOST_KEPT:  # a text may have any of a million characters
            self[code] = kept
        return kept


_MOST_KEPT = 10_000
_IN_NUMBERS = re.compile(r"[-.,/:%](?=(.?))", re.DOTALL)
_CONTENT, _WORDS = _Kept("LNMS", "-.,/:%"), _Kept("LNM")


def normalised(text: str) -> str:
    """The text for comparing answers: case-folded words and numbers, separated by single spaces.

    Punctuation is dropped, except a sign or a point of a number: 1.5 is not 15, and -3 is not 3.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    numbers = _IN_NUMBERS.sub(lambda mark: mark[0] if mark[1].isdigit() else " ", folded)
    return " ".join(numbers.translate(_CONTENT).split())


def words_of(text: str) -> str:
    """Case-folded words with single spaces; anything but letters, digits and marks separates words."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_WORDS).split())


_LETTER_FIRST = re.compile(r"[\s*_\"'`]*(?:[(\[]([A-Za-z])[)\]]|([A-Za-z])[*_]{0,2}[).:](?=\s|\*|\Z))")
_LETTER_NAMED = re.compile(
    r"\b(?:answer|option|choice)\b(?:\s{1,4}is)?\s{0,4}:?[\s*_\"'`]{0,6}[(\[]?([A-Z])(?![\w'’])", re.IGNORECASE
)


def choice_in(text: str) -> str | None:
    """The letter that a text chooses; None if it chooses none or several."""
    bare = words_of(text)
    if len(bare) == 1 and "a" <= bare <= "z":
        return bare.upper()
    if first := _LETTER_FIRST.match(text):
        return (first[1] or first[2]).upper()
    named = {found.upper() for found in _LETTER_NAMED.findall(text)}
    return named.pop() if len(named) == 1 else None


_NUMBER = re.compile(
    r"(?<![\w.,])[-+\u2212]?(?:(?:\d{1,3}(?:,\d{3}){1,30}|\d{1,100})(?:\.\d{1,100})?|\.\d{1,100})(?:[eE][-+]?\d{1,4})?"
    r"(?!\w|[.,]\d)"  # 12,34 and 1.234.567 are ambiguous, so they are not numbers
)


def numbers_in(text: str) -> frozenset[Decimal]:
    """The different numbers in a text."""
    return frozenset(Decimal(one.replace(",", "").replace("\u2212", "-")) for one in _NUMBER.findall(text))


def number_in(text: str) -> Decimal | None:
    """The only number in a text; None if there is none or several."""
    found = numbers_in(text)
    return next(iter(found)) if len(found) == 1 else None
