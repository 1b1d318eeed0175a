"""What every importer hands on: a `Row`, one item as one source tells it, in the keys of the corpus format.

Nothing is guessed on the way: what a source does not say (a confidence, a cost) is absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic_core import from_json, to_json

from cascade.core.errors import CorpusError

__all__ = ["Options", "Row", "as_asked", "asked", "number", "pick", "plain", "score_of", "text_or_none"]

_SYSTEM = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Options:
    """What may be chosen of a source: a `filter` and a `metric` by name, and `maps`, pairs of our field and its column."""

    filter: str | None = None
    metric: str | None = None
    maps: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One item as one source tells it, at `where`.

    `about`: the item's keys but id and replies, unknown ones included. `replies`: by the source's own name of the
    model, or the rung's where the file was said to be one rung's; `named` is then the model's own name. `failed`: those
    that gave an error and no reply. `check`: what must be the same wherever this id occurs. `unmapped`: columns of its
    table that are not imported, for none of the user's `--map` names them; a table's first row tells them.
    """

    id: str
    where: str
    about: Mapping[str, Any]
    replies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    failed: tuple[str, ...] = ()
    check: str | None = None
    named: str | None = None
    unmapped: tuple[str, ...] = ()


def number(value: object, name: str, where: str, item: str) -> float | None:
    """A number as it stands, None for what is not there (null, NaN). Raises CorpusError for anything else."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1.8e308:
        return float(value)
    raise CorpusError(f"{name}: is not a number", where=where, item=item)


def score_of(value: object, name: str, where: str, item: str) -> float | None:
    """A score: a number, or true and false as 1 and 0. None where it was not scored. Raises CorpusError."""
    return float(value) if isinstance(value, bool) else number(value, name, where, item)


def pick(wanted: str | None, names: tuple[str, ...], option: str, where: str) -> str:
    """The one that is wanted, or the only one. Raises CorpusError, listing them, where that is not clear."""
    listed = ", ".join(names) or "none"
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is None:
        problem, mend = f"has {len(names)} {option}s: {listed}", f"choose one with --{option} NAME"
        raise CorpusError(problem, where=where, mend=mend if names else f"is it the right file? it names no {option}")
    if wanted not in names:
        raise CorpusError(f"has no {option} {wanted!r}", where=where, mend=f"it has {listed}")
    return wanted


def plain(value: object) -> Any:
    """A value for an unknown key: the same, but NaN, which JSON does not have, as null."""
    return from_json(to_json(value))


def text_or_none(value: object) -> str | None:
    """A text, or a whole number as one (an id); None for anything else."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def as_asked(text: str) -> dict[str, Any]:
    """What a prompt asks: the text, or the list of messages that it is the JSON of (harnesses log a conversation so)."""
    if not text.lstrip().startswith("["):
        return {"input": text}
    try:
        read: object = from_json(text)
    except ValueError:
        return {"input": text}
    turns = cast("list[object]", read) if isinstance(read, list) else []
    fits = all(isinstance(turn, dict) and {"role", "content"} <= cast("dict[str, Any]", turn).keys() for turn in turns)
    return asked(cast("list[dict[str, Any]]", turns)) if turns and fits else {"input": text}


def asked(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """A conversation as `input`; what its system prompt was stands beside it under `system`, as the API has it."""
    system = [turn.get("content") for turn in turns if turn.get("role") in _SYSTEM]
    said = [turn for turn in turns if turn.get("role") not in _SYSTEM]
    return {"input": said, **({"system": system} if system else {})}
