"""Suggestions for misspelt names, and lists of names, for messages."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["closest", "did_you_mean", "listed", "no_attribute"]

_MOST = 20  # names in a message
_CLOSE = 0.65  # similarity: `suport` and `support` have 0.92, `rare` and `harder` 0.6


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name most similar to `name`, ignoring case; None if none is similar."""
    from difflib import get_close_matches  # noqa: PLC0415 - only an error needs it

    by_fold = {one.casefold(): one for one in known}
    found = get_close_matches(name[:80].casefold(), by_fold, n=1, cutoff=_CLOSE)
    return by_fold[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'threshold'? ` with a space after it, or "" if no known name is similar."""
    meant = closest(name, known)
    return "" if meant is None else f"did you mean {meant!r}? "


def listed(names: Iterable[str]) -> str:
    """The first twenty names, separated by commas, and how many more there are."""
    every = [name if name and name.isprintable() else repr(name) for name in names]
    more = f" and {len(every) - _MOST:,} more" if len(every) > _MOST else ""
    return f"{', '.join(every[:_MOST]) or 'none'}{more}"


def no_attribute(owner: object, name: str) -> AttributeError:
    """An AttributeError that lists the attributes; `name` is set, so Python adds no suggestion of its own."""
    known = [one for one in dir(type(owner)) if not one.startswith("_")]
    meant = closest(name, known) if not name.startswith("_") else None
    hint = f" (did you mean {meant}?)" if meant else ""
    return AttributeError(f"{type(owner).__name__} has no {name!r}{hint}; it has {', '.join(known)}", name=name)
