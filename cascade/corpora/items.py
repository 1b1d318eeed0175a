"""What a corpus holds (version 1; the README shows the format): the manifest, its items, and what every rung answered when it was recorded.

Frozen values. Their annotations are also the file format's schema: `decoding` has msgspec build them straight from the
bytes of a line, which checks every field. What a corpus has by the million is a `Struct`, the rest are dataclasses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast, get_args

from msgspec import Meta, Struct, ValidationError, convert, field

from cascade.core.errors import CorpusError
from cascade.core.messages import Usage
from cascade.core.trail import VerdictKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "NOT_RECORDED",
    "Corpus",
    "Count",
    "Item",
    "LadderEntry",
    "Manifest",
    "NotRecorded",
    "RecordedReply",
    "RecordedUsage",
    "text_of",
]

_Name = Annotated[str, Meta(min_length=1)]
# Bounds far beyond what one reply can be, so that no sum over a corpus runs over.
Count = Annotated[int, Meta(ge=0, le=10**8)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Score = Annotated[float, Meta(ge=-1e6, le=1e6)]
_Usd = Annotated[float, Meta(ge=0, le=1000)]

_TOLD = frozenset({"answer", "score", "usage", "cost_usd"})  # of a baseline that was asked apart
_FAILED = frozenset(get_args(VerdictKind)) - {"answered", "declined"}

RecordedUsage = dict[str, Any]
"""Billed tokens under the API's own names; `input_tokens` excludes cache reads and writes. Other keys are kept."""


class NotRecorded(Enum):
    """The type of `NOT_RECORDED`."""

    NOT_RECORDED = "not recorded"


NOT_RECORDED: Final = NotRecorded.NOT_RECORDED
"""Stands for an answer whose text was not recorded; None is an answer too, a declined one."""


@dataclass(frozen=True, slots=True)
class LadderEntry:
    """One rung that was recorded. `model` is None where only the rung's name is known."""

    rung: _Name
    model: _Name | None = None
    extra: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The model's name, or the rung's where the model is not known."""
        return self.model or self.rung


@dataclass(frozen=True, slots=True)
class Manifest:
    """Line 1 of a corpus. `right_at`: a score below it counts as wrong. `items`: how many follow, None if not said.

    `extra`, here and below, keeps the keys that this version does not know: writing a corpus back loses nothing.
    """

    name: _Name
    ladder: Annotated[tuple[LadderEntry, ...], Meta(min_length=1)]
    grader: str | None = None
    right_at: float = 0.5
    synthetic: bool = False
    licence: str | None = None
    notes: str | None = None
    items: Count | None = None
    extra: dict[str, Any] | None = None

    @property
    def rungs(self) -> tuple[str, ...]:
        """The recorded rungs' names, cheapest first."""
        return tuple(entry.rung for entry in self.ladder)

    @property
    def separate_baseline(self) -> str | None:
        """What a baseline is called that was asked plainly, apart from the rungs; None where there is none."""
        told = _within(_within(self.extra, "recorded"), "baseline")
        return f"{told['model']} (plain)" if told.get("rung") is None and isinstance(told.get("model"), str) else None

    @property
    def baseline_name(self) -> str | None:
        """The model whose plain answers were recorded as the baseline's; None where that is not known."""
        model = _within(_within(self.extra, "recorded"), "baseline").get("model")
        return model if isinstance(model, str) else None

    @property
    def estimated(self) -> str | None:
        """What of it is an estimate, in words; None where everything was observed, as far as is known."""
        said = _within(self.extra, "estimate")
        if not said:
            return None
        by = ", ".join(said[key] for key in ("usage", "cost_usd") if isinstance(said.get(key), str))
        return f"costs are an estimate: {said.get('replies')} replies came without usage or cost ({by})"

    @property
    def right_by_definition(self) -> tuple[str, int] | None:
        """Whose answer the others were graded against, and on how many items: it scores 1 there, whatever it is."""
        recorded = _within(self.extra, "recorded")
        count = _within(recorded, "judge").get("right_by_definition", recorded.get("right_by_definition"))
        name = self.separate_baseline or _within(recorded, "baseline").get("rung")
        return (name, count) if isinstance(name, str) and type(count) is int and count > 0 else None

    @property
    def judge_error(self) -> tuple[float, int] | None:
        """The share of control items that the judge got wrong, and how many there were; None where that is not known."""
        told = _within(_within(self.extra, "recorded"), "judge")
        error, controls = told.get("error"), told.get("controls")
        known = isinstance(error, (int, float)) and 0 <= error <= 1 and type(controls) is int and controls > 0
        return (float(error), controls) if known else None  # pyright: ignore[reportArgumentType, reportReturnType]


def _within(told: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    """What stands under a key that this version need not know; empty where that is no object."""
    found = (told or {}).get(key)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


# The values below hold nothing that could hold them: the garbage collector need not walk through a million of them.
# A name in parentheses keeps a field out of the format: a key `line` or `extra` is unknown there, as any other.


class RecordedReply(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What one rung answered: `answer` is a JSON value, None where it declined, NOT_RECORDED where its text is missing.

    `confidence` is 0..1, None where there was none. `cost_usd` is what it cost when it was recorded, in USD.
    `signals` are other confidences recorded beside it, by source; they are never compared with `confidence`.
    """

    confidence: _Share | None = None
    answer: Any = NOT_RECORDED
    score: _Score | None = None
    usage: RecordedUsage | None = None
    cost_usd: _Usd | None = None
    signals: dict[str, float] | None = None
    extra: dict[str, Any] | None = field(default=None, name="(extra)")

    @property
    def has_answer(self) -> bool:
        """Whether the text was recorded; a declined answer (None) was."""
        return self.answer is not NOT_RECORDED

    @property
    def failed(self) -> VerdictKind | None:
        """What became of a reply that brought no answer, where the recording says so under `verdict`."""
        if self.answer is not None or not self.extra:
            return None
        kind = self.extra.get("verdict")
        return cast("VerdictKind", kind) if isinstance(kind, str) and kind in _FAILED else None

    @property
    def can_be_priced(self) -> bool:
        """Whether its usage says enough to compute a cost from."""
        return self.usage is not None and "input_tokens" in self.usage and "output_tokens" in self.usage

    @property
    def tokens(self) -> Usage:
        """The recorded usage as billed tokens; all zero where none was recorded."""
        usage = self.usage
        if usage is not None and len(usage) == 2 and self.can_be_priced:  # nearly all are so, and checked when decoded
            return Usage(usage["input_tokens"], usage["output_tokens"])
        return Usage.from_api(usage or {})


class Item(Struct, frozen=True, forbid_unknown_fields=True, gc=False, eq=False):
    """One recorded request with every rung's reply. `at` is its arrival in seconds, `line` its line in the file.

    `group` names what must never be split between tuning and certifying (None: identical inputs share one). Two items
    are equal where all but the `line` is.
    """

    id: _Name
    input: str | Annotated[list[dict[str, Any]], Meta(min_length=1)]
    replies: dict[str, RecordedReply]
    task: str | None = None
    group: str | None = None
    split: Literal["tune", "certify"] | None = None
    at: float | None = None
    expected: Any = None
    extra: dict[str, Any] | None = field(default=None, name="(extra)")
    line: int = field(default=0, name="(line)")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Item):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__struct_fields__ if name != "line")

    __hash__ = None  # type: ignore[assignment]

    @property
    def baseline(self) -> RecordedReply | None:
        """The plain answer of a baseline that was asked apart from the rungs; None where there is none."""
        return self.separate_reply("baseline")

    def separate_reply(self, key: str) -> RecordedReply | None:
        """An answer that was recorded apart from the rungs', under one of the item's further keys."""
        try:
            return convert({name: value for name, value in self.extra[key].items() if name in _TOLD}, RecordedReply)  # type: ignore[index]
        except (KeyError, TypeError, AttributeError, ValidationError):
            return None

    def reply(self, rung: str) -> RecordedReply:
        """What `rung` answered. Raises CorpusError, naming item and rung, where that was not recorded."""
        if (found := self.replies.get(rung)) is not None:
            return found
        raise CorpusError(
            f"no reply of rung {rung!r} was recorded",
            where=f"line {self.line}" if self.line else "corpus",
            item=self.id,
            hint=f"it has {', '.join(self.replies) or 'none'}; record it, or leave the item out",
        )


@dataclass(frozen=True, slots=True)
class Corpus:
    """A whole corpus in memory. `source` is where it was read from, for messages.

    `skipped` counts the lines that were passed over as bad, `problems` describes the first of them.
    """

    manifest: Manifest
    items: tuple[Item, ...]
    source: str = "corpus"
    skipped: int = 0
    problems: tuple[str, ...] = ()


def text_of(asked: str | Sequence[Mapping[str, Any]]) -> str:
    """The text that an input asks with: itself, or that of the last user message. No user message: empty.

    Of several text blocks each is a line; a turn that has none, but tool results, asks with the results' text.
    """
    if isinstance(asked, str):
        return asked
    last = next((message for message in reversed(asked) if message.get("role") == "user"), None)
    return _text_of_content(last.get("content")) if last else ""


def _text_of_content(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = [cast("dict[str, Any]", block) for block in cast("list[object]", content) if isinstance(block, dict)]
    texts = [block["text"] for block in blocks if block.get("type") == "text" and isinstance(block.get("text"), str)]
    if not texts:
        texts = [_text_of_content(block.get("content")) for block in blocks if block.get("type") == "tool_result"]
    return "\n".join(texts)
