"""What every importer hands on: a `Row`, one item as one source tells it, in the keys of the corpus format.

Nothing is guessed on the way: what a source does not say (a confidence, a cost) is absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from pydantic_core import from_json

from cascade.core.errors import CorpusError
from cascade.core.suggestions import did_you_mean, listed

__all__ = [
    "Options",
    "Row",
    "choose",
    "conversation_fields",
    "name_hint",
    "number",
    "prompt_fields",
    "score_of",
    "text_or_none",
]

_SYSTEM = ("system", "developer")
_MOST: Final = 1.7e308  # a whole number beyond it is no float


@dataclass(frozen=True, slots=True)
class Options:
    """What may be chosen of a source: a `filter` and a `metric` by name, and `maps`, pairs of our field and its column.

    `confidence`: what of the source is to be the replies' confidence. `estimate_usage`: whether a reply without usage
    and cost gets an estimate of the former, by the texts' lengths.
    """

    filter: str | None = None
    metric: str | None = None
    maps: tuple[tuple[str, str], ...] = ()
    confidence: str | None = None
    estimate_usage: bool = False


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
    fields: Mapping[str, Any]
    replies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    failed: tuple[str, ...] = ()
    content_hash: str | None = None
    model_name: str | None = None
    unmapped: tuple[str, ...] = ()


def number(value: object, name: str, where: str, item: str) -> float | None:
    """A number as it stands, None for what is not there. Raises CorpusError for anything else.

    NaN and Infinity stay as they are: `joining` makes them null, and counts them.
    """
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MOST:
        return float(value)
    raise CorpusError(f"{name}: is not a number", where=where, item=item)


def score_of(value: object, name: str, where: str, item: str) -> float | None:
    """A score: a number, or true and false as 1 and 0. None where it was not scored. Raises CorpusError."""
    return float(value) if isinstance(value, bool) else number(value, name, where, item)


def choose(wanted: str | None, names: tuple[str, ...], option: str, where: str) -> str:
    """The one that is wanted, or the only one. Raises CorpusError, listing them, where that is not clear."""
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is None:
        problem, hint = f"has {len(names)} {option}s: {listed(names)}", f"choose one with --{option} NAME"
        raise CorpusError(problem, where=where, hint=hint if names else f"is it the right file? it names no {option}")
    if wanted not in names:
        raise CorpusError(f"has no {option} {wanted!r}", where=where, hint=name_hint(wanted, names))
    return wanted


def name_hint(wanted: str, names: Iterable[str], such: str = "it has") -> str:
    """What to do about a name that is not there: the one that was meant, if one is near, and those that there are."""
    names = tuple(names)
    return f"{did_you_mean(wanted, names)}{such} {listed(names)}"


def text_or_none(value: object) -> str | None:
    """A text, or a whole number as one (an id); None for anything else."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def prompt_fields(text: str) -> dict[str, Any]:
    """What a prompt asks: the text, or the list of messages that it is the JSON of (harnesses log a conversation so)."""
    if not text.lstrip().startswith("["):
        return {"input": text}
    try:
        read: object = from_json(text)
    except ValueError:
        return {"input": text}
    turns = cast("list[object]", read) if isinstance(read, list) else []
    fits = all(isinstance(turn, dict) and {"role", "content"} <= cast("dict[str, Any]", turn).keys() for turn in turns)
    return conversation_fields(cast("list[dict[str, Any]]", turns)) if turns and fits else {"input": text}


def conversation_fields(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """A conversation as `input`; what its system prompt was stands beside it under `system`, as the API has it."""
    system = [turn.get("content") for turn in turns if turn.get("role") in _SYSTEM]
    said = [turn for turn in turns if turn.get("role") not in _SYSTEM]
    return {"input": said, **({"system": system} if system else {})}
