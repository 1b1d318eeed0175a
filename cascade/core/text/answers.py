"""What an answer says, without its wording: its words, the letter it chooses, its one number."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

__all__ = ["choice_in", "normalised", "number_in", "numbers_in", "words_of"]


def normalised(text: str) -> str:
    """The text for comparing answers: case-folded words and numbers, separated by single spaces.

    Punctuation is dropped, except a sign or a point of a number: 1.5 is not 15, and -3 is not 3.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = (c if _is_content(c, folded[n + 1 : n + 2]) else " " for n, c in enumerate(folded))
    return " ".join("".join(kept).split())


def _is_content(character: str, following: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LNMS" or (character in "-.,/:%" and following.isdigit())


def words_of(text: str) -> str:
    """Case-folded words with single spaces; anything but letters, digits and marks separates words."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if unicodedata.category(c)[0] in "LNM" else " " for c in folded).split())


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
