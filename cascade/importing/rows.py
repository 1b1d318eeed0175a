"""What importers yield: a `Row`, one item of one source in the keys of the corpus format.

Nothing is guessed: what a source does not record (a confidence, a cost) is absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from pydantic_core import from_json

from cascade.core.errors import CorpusError
from cascade.core.text.suggestions import did_you_mean, listed

__all__ = [
    "Options",
    "Row",
    "choose",
    "conversation_fields",
    "name_hint",
    "number",
    "object_at",
    "prompt_fields",
    "score_of",
    "text_or_none",
]

_SYSTEM = ("system", "developer")
_MAX_FLOAT: Final = 1.7e308  # a larger integer has no float


@dataclass(frozen=True, slots=True)
class Options:
    """What to read of a source: a `filter` and a `metric` by name; `maps`: pairs of a field and its column.

    `confidence`: what to use as the replies' confidence. `estimate_usage`: estimate missing usage and cost. `grader`: grades
    the answers, those of further samples too, for which the source has no score.
    """

    filter: str | None = None
    metric: str | None = None
    maps: tuple[tuple[str, str], ...] = ()
    confidence: str | None = None
    estimate_usage: bool = False
    grader: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One item of one source, found at `where`.

    `fields`: the item's keys except id and replies, unknown ones included. `replies`: by the model's name in the source,
    or by the rung if the file was given as one rung's; `model_name` is then the model's name. `failed`: models that
    returned an error. `content_hash`: must be equal wherever this id occurs. `unmapped`: columns of the table that are
    not imported; only in a table's first row. `repeat`: names this repetition, if the source asked several times: the
    replies of one model in different repetitions of an item are its samples.
    """

    id: str
    where: str
    fields: Mapping[str, Any]
    replies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    failed: tuple[str, ...] = ()
    content_hash: str | None = None
    model_name: str | None = None
    unmapped: tuple[str, ...] = ()
    repeat: str = ""


def number(value: object, name: str, where: str, item: str) -> float | None:
    """A number, or None if there is none. Raises CorpusError for anything else.

    NaN and Infinity are kept: `joining` makes them null and counts them.
    """
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_FLOAT:
        return float(value)
    raise CorpusError(f"{name}: is not a number", where=where, item=item)


def score_of(value: object, name: str, where: str, item: str) -> float | None:
    """A score: a number, or true and false as 1 and 0; None if there is none. Raises CorpusError."""
    return float(value) if isinstance(value, bool) else number(value, name, where, item)


def choose(wanted: str | None, names: tuple[str, ...], option: str, where: str) -> str:
    """The wanted name, or the only one. Raises CorpusError, listing the names, if there is no such choice."""
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is None:
        problem, hint = f"has {len(names)} {option}s: {listed(names)}", f"choose one with --{option} NAME"
        raise CorpusError(problem, where=where, hint=hint if names else f"is it the right file? it names no {option}")
    if wanted not in names:
        raise CorpusError(f"has no {option} {wanted!r}", where=where, hint=name_hint(wanted, names))
    return wanted


def name_hint(wanted: str, names: Iterable[str], such: str = "it has") -> str:
    """The hint for an unknown name: the nearest name, if one is near, and all names."""
    names = tuple(names)
    return f"{did_you_mean(wanted, names)}{such} {listed(names)}"


def object_at(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The JSON object under a key; empty if there is none."""
    found = value.get(key)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def text_or_none(value: object) -> str | None:
    """A text, or an integer as text (an id); None for anything else."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def prompt_fields(text: str) -> dict[str, Any]:
    """The `input` (and `system`) of a prompt: its text, or the messages if it is the JSON of a conversation."""
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
    """A conversation as `input`, with its system prompt under `system`, as in the API."""
    system = [turn.get("content") for turn in turns if turn.get("role") in _SYSTEM]
    messages = [turn for turn in turns if turn.get("role") not in _SYSTEM]
    return {"input": messages, **({"system": system} if system else {})}
