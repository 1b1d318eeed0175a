"""The values of a corpus (version 1): the manifest, its items, and each rung's recorded replies.

All are frozen. Their annotations are the file format's schema: `decoding` has msgspec build them from the bytes of a
line, checking every field. Values of which a corpus has millions are a `Struct`, the others dataclasses.
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
    "RecordedCheck",
    "RecordedGroups",
    "RecordedReply",
    "RecordedReview",
    "RecordedUsage",
    "text_of",
]

_Name = Annotated[str, Meta(min_length=1)]
# Bounds far above any real reply, so that sums over a corpus cannot overflow.
Count = Annotated[int, Meta(ge=0, le=10**8)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Score = Annotated[float, Meta(ge=-1e6, le=1e6)]
_Usd = Annotated[float, Meta(ge=0, le=1000)]
_Seconds = Annotated[float, Meta(ge=0, le=1e6)]
_Place = Annotated[int, Meta(ge=0, le=10_000)]

_SEPARATE_KEYS = frozenset({"answer", "score", "usage", "cost_usd"})  # of a reply recorded outside `replies`
_FAILED = frozenset(get_args(VerdictKind)) - {"answered", "declined"}

RecordedUsage = dict[str, Any]
"""Billed tokens under the API's own names; `input_tokens` excludes cache reads and writes. Other keys are kept."""


class NotRecorded(Enum):
    """The type of `NOT_RECORDED`."""

    NOT_RECORDED = "not recorded"


NOT_RECORDED: Final = NotRecorded.NOT_RECORDED
"""An answer whose text was not recorded. None, in contrast, is a declined answer."""


@dataclass(frozen=True, slots=True)
class LadderEntry:
    """A recorded rung. `model` is None if only the rung's name is known."""

    rung: _Name
    model: _Name | None = None
    extra: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The model's name, or the rung's if the model is not known."""
        return self.model or self.rung


@dataclass(frozen=True, slots=True)
class Manifest:
    """Line 1 of a corpus. A score below `right_at` counts as wrong. `items`: how many follow, None if not given.

    `temperature`: of the samples, if it is known. At 0 they tell nothing of what they would be at the model's default.

    `extra`, here and below, holds keys unknown to this version, so that writing a corpus back loses nothing.
    """

    name: _Name
    ladder: Annotated[tuple[LadderEntry, ...], Meta(min_length=1)]
    grader: str | None = None
    right_at: float = 0.5
    synthetic: bool = False
    licence: str | None = None
    notes: str | None = None
    items: Count | None = None
    temperature: float | None = None
    extra: dict[str, Any] | None = None

    @property
    def rungs(self) -> tuple[str, ...]:
        """The recorded rungs' names, cheapest first."""
        return tuple(entry.rung for entry in self.ladder)

    @property
    def separate_baseline(self) -> str | None:
        """The name of a baseline that was asked plainly, separately from the rungs; None if there is none."""
        baseline = _object(_object(self.extra, "recorded"), "baseline")
        model = baseline.get("model")
        return f"{model} (plain)" if baseline.get("rung") is None and isinstance(model, str) else None

    @property
    def baseline_name(self) -> str | None:
        """The model whose plain answers were recorded as the baseline; None if not known."""
        model = _object(_object(self.extra, "recorded"), "baseline").get("model")
        return model if isinstance(model, str) else None

    @property
    def estimated(self) -> str | None:
        """Describe which figures are estimates; None if none is known to be."""
        estimate = _object(self.extra, "estimate")
        if not estimate:
            return None
        by = ", ".join(estimate[key] for key in ("usage", "cost_usd") if isinstance(estimate.get(key), str))
        return f"costs are an estimate: {estimate.get('replies')} replies came without usage or cost ({by})"

    @property
    def right_by_definition(self) -> tuple[str, int] | None:
        """The rung whose answer was the reference, and on how many items: there it scores 1 by definition."""
        recorded = _object(self.extra, "recorded")
        count = _object(recorded, "judge").get("right_by_definition", recorded.get("right_by_definition"))
        name = self.separate_baseline or _object(recorded, "baseline").get("rung")
        return (name, count) if isinstance(name, str) and type(count) is int and count > 0 else None

    @property
    def judge_error(self) -> tuple[float, int] | None:
        """The share of control items that the judge got wrong, and how many there were; None if not known."""
        judge = _object(_object(self.extra, "recorded"), "judge")
        error, controls = judge.get("error"), judge.get("controls")
        known = isinstance(error, (int, float)) and 0 <= error <= 1 and type(controls) is int and controls > 0
        return (float(error), controls) if known else None  # pyright: ignore[reportArgumentType, reportReturnType]


def _object(fields: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    """The object under a key; empty if there is none."""
    found = (fields or {}).get(key)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


# gc=False: these cannot be part of a reference cycle, so the garbage collector can skip millions of them.
# A name in parentheses keeps a field out of the format: a key `line` or `extra` is unknown there, like any other.


class RecordedCheck(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The result of an external check: whether it passed (None: it could not say), and the seconds it took."""

    passed: bool | None = None
    seconds: _Seconds = 0.0
    extra: dict[str, Any] | None = field(default=None, name="(extra)")


class RecordedGroups(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """How a judge grouped the answers of some samples by meaning.

    `of`: the samples, as numbers from 0 in the order of recording. `groups`: the same numbers by group; None if the
    grouping contradicted itself.
    """

    of: Annotated[tuple[_Place, ...], Meta(min_length=1)]
    groups: tuple[tuple[_Place, ...], ...] | None = None
    usage: RecordedUsage | None = None
    cost_usd: _Usd | None = None
    extra: dict[str, Any] | None = field(default=None, name="(extra)")


class RecordedReview(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What another rung said of an answer: `rung` read it, and accepted it or not (None: its reply could not be used)."""

    rung: _Name
    accepted: bool | None
    usage: RecordedUsage | None = None
    cost_usd: _Usd | None = None
    extra: dict[str, Any] | None = field(default=None, name="(extra)")

    @property
    def can_be_priced(self) -> bool:
        """As of a reply."""
        return self.usage is not None and "input_tokens" in self.usage and "output_tokens" in self.usage

    @property
    def tokens(self) -> Usage:
        """As of a reply."""
        return Usage.from_api(self.usage or {})


class RecordedReply(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A rung's reply. `answer` is a JSON value, None if declined, NOT_RECORDED if its text is missing.

    `confidence` is 0..1, None if there was none. `cost_usd` is its cost when recorded. `signals` are other recorded
    confidences, by source; they are never compared with `confidence`. `checks` are the results of external checks, by name.

    A rung that was asked several times: this is sample 0, asked with the prompt that `variant` names; `samples` are the
    further ones, and `groups` how a judge grouped their answers. `review`: what a rung above said of the answer, for a policy
    with a review gate; it was asked whatever the confidence is.
    """

    confidence: _Share | None = None
    answer: Any = NOT_RECORDED
    score: _Score | None = None
    usage: RecordedUsage | None = None
    cost_usd: _Usd | None = None
    signals: dict[str, float] | None = None
    variant: _Name | None = None
    checks: dict[str, bool | RecordedCheck | None] | None = None
    samples: tuple[RecordedReply, ...] | None = None
    groups: tuple[RecordedGroups, ...] | None = None
    review: RecordedReview | None = None
    extra: dict[str, Any] | None = field(default=None, name="(extra)")

    @property
    def every(self) -> tuple[RecordedReply, ...]:
        """All samples, this one first."""
        return (self, *self.samples) if self.samples else (self,)

    def check(self, name: str) -> RecordedCheck | None:
        """The result of an external check; None if it was not recorded."""
        if not self.checks or name not in self.checks:
            return None
        found = self.checks[name]
        return found if isinstance(found, RecordedCheck) else RecordedCheck(found)

    @property
    def has_answer(self) -> bool:
        """Whether the answer was recorded; a declined one (None) was."""
        return self.answer is not NOT_RECORDED

    @property
    def failed(self) -> VerdictKind | None:
        """Why a reply has no answer, if the recording says so under `verdict`."""
        if self.answer is not None or not self.extra:
            return None
        kind = self.extra.get("verdict")
        return cast("VerdictKind", kind) if isinstance(kind, str) and kind in _FAILED else None

    @property
    def can_be_priced(self) -> bool:
        """Whether its usage suffices to compute a cost."""
        return self.usage is not None and "input_tokens" in self.usage and "output_tokens" in self.usage

    @property
    def tokens(self) -> Usage:
        """The recorded usage as billed tokens; all zero if none was recorded."""
        usage = self.usage
        if usage is not None and len(usage) == 2 and self.can_be_priced:  # the common case; checked when decoded
            return Usage(usage["input_tokens"], usage["output_tokens"])
        return Usage.from_api(usage or {})


class Item(Struct, frozen=True, forbid_unknown_fields=True, gc=False, eq=False):
    """A recorded request with each rung's reply. `at` is its arrival in seconds, `line` its line in the file.

    Items of one `group` are never split between tuning and certifying (None: identical inputs share one). Equality
    ignores `line`.
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
        """The plain answer of a baseline that was asked separately from the rungs; None if there is none."""
        return self.separate_reply("baseline")

    def separate_reply(self, key: str) -> RecordedReply | None:
        """A reply recorded outside `replies`, under another key of the item; None if there is none."""
        try:
            kept = cast("dict[str, Any]", self.extra[key])  # type: ignore[index]
            return convert({name: value for name, value in kept.items() if name in _SEPARATE_KEYS}, RecordedReply)
        except (KeyError, TypeError, AttributeError, ValidationError):
            return None

    def reply(self, rung: str) -> RecordedReply:
        """The reply of `rung`. Raises CorpusError, naming item and rung, if it was not recorded."""
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
    """A whole corpus in memory. `source` is its path, for messages.

    `skipped` counts the invalid lines that were left out; `problems` describes the first of them.
    """

    manifest: Manifest
    items: tuple[Item, ...]
    source: str = "corpus"
    skipped: int = 0
    problems: tuple[str, ...] = ()


def text_of(messages: str | Sequence[Mapping[str, Any]]) -> str:
    """The text of an input: the string itself, or the text of the last user message ("" if there is none).

    Text blocks are joined by line breaks. A turn with tool results but no text gives the results' text.
    """
    if isinstance(messages, str):
        return messages
    last = next((message for message in reversed(messages) if message.get("role") == "user"), None)
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
