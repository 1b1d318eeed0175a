"""What a misspelt name was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["closest", "did_you_mean"]


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `word`; None where none is like it."""
    from difflib import get_close_matches  # noqa: PLC0415 - only an error needs it

    by_fold = {name.casefold(): name for name in known}
    found = get_close_matches(word.casefold(), by_fold, n=1)
    return by_fold[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'threshold'? ` (with the space after it), or nothing where no known name is like `word`."""
    meant = closest(word, known)
    return "" if meant is None else f"did you mean {meant!r}? "
