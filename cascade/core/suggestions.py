"""What a misspelt name was probably meant to be, for a message that lists what there is."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "listed"]

_MOST = 20  # names in a message
_CLOSE = 0.7  # similarity: `suport` and `support` have 0.92, `rare` and `harder` 0.6


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? `, to stand before the list of what there is; empty where nothing known is close to `name`."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"did you mean {close[0]!r}? " if close else ""


def listed(names: Iterable[str]) -> str:
    """Names in a row, the first twenty of them, with how many more there are."""
    every = list(names)
    more = f" and {len(every) - _MOST:,} more" if len(every) > _MOST else ""
    return f"{', '.join(every[:_MOST])}{more}"
