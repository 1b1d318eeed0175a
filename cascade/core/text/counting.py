"""Words, counted also where they are not separated by spaces."""

from __future__ import annotations

import re

__all__ = ["UNSPACED", "count_words", "has_ideographs"]

_IDEOGRAPHS = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"

UNSPACED = _IDEOGRAPHS + "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""For a character class: Han, kana, Thai, Lao, Burmese and Khmer, which put no spaces between words."""

_IDEOGRAPH = re.compile(f"[{_IDEOGRAPHS}]")
_PARTS = re.compile(rf"[{_IDEOGRAPHS}]|[^\W{_IDEOGRAPHS}]+")


def has_ideographs(text: str) -> bool:
    """Whether it has Chinese or Japanese characters (Han or kana), each of which counts as a word."""
    return _IDEOGRAPH.search(text) is not None


def count_words(text: str) -> int:
    """How many words a text has: what white space separates; where there are Han characters or kana, each of them is one word.

    Thai, Lao, Khmer and Burmese put spaces between phrases, so there a phrase counts as one word. In time linear in the text.
    """
    return sum(len(_PARTS.findall(run)) if has_ideographs(run) else 1 for run in text.split())
