"""What is stored of an answer, as JSON. Nothing of the request is in it but its id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast, get_args

from cascade.core.messages import Message
from cascade.core.trail import Answer, ConfidenceSource

__all__ = ["Entry"]

_VERSION = 1
_LONGEST = 16_000_000  # bytes: a larger answer is not worth its place
_ENDS = ("end_turn", "stop_sequence")
_SOURCES = (None, *get_args(ConfidenceSource))
_TEXTS = ("request", "task", "certificate", "rung", "model")
_OWN = frozenset({"container", "usage"})  # of a message: they belong to the call that made it


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer as it is stored. `request`: the id of the request it was made for. `cost`: of its climb, in nano-USD.

    `until`: Unix seconds. `message`: where it is more than one block of text that ended by itself. `data`: the value of a request
    with a schema; a caller's own type is made again from the text.
    """

    request: str
    until: float
    text: str
    data: Any
    rung: str
    model: str
    confidence: float | None
    source: ConfidenceSource | None
    task: str
    flags: tuple[str, ...]
    certificate: str
    cost: int
    message: Message | None = None

    @classmethod
    def of(cls, answer: Answer[Any], until: float, *, typed: bool) -> Entry | None:
        """The entry of an answer; None for one that is not to be returned again. `typed`: its `data` is of a caller's type.

        Only what stood by itself is: not a degraded or abstained answer, none that a storm decided, none of which the caller is
        told something, and none that calls a tool or was made by a plan that another turn may have left.
        """
        step, text = answer.shipped, answer.text
        is_plain = answer.arm == "cascade" and answer.degraded is None and answer.abstained is None and not answer.notes
        if not is_plain or step is None or text is None or answer.rung is None or answer.model is None:
            return None
        if step.verdict.kind != "answered" or step.verdict.unknown_stop or not answer.steps:
            return None
        if any(one.reason == "storm" or (one.handed and one.handed.kind == "artifact") for one in answer.steps):
            return None
        message = step.verdict.message
        if message is not None and (message.stop_reason not in _ENDS or "container" in message.more):
            return None
        if message is not None:
            more = {name: value for name, value in message.more.items() if name not in _OWN}
            message = Message("", message.content, message.stop_reason, message.stop_sequence, more)
        return cls(
            answer.request_id, until, text, None if typed else answer.data, answer.rung, answer.model, answer.confidence,
            answer.confidence_source, answer.task, answer.flags, answer.certificate, answer.cost_nanousd, message,
        )  # fmt: skip

    def to_bytes(self) -> bytes | None:
        """As it is stored; None if a value is no JSON, or it is too large."""
        try:
            text = json.dumps({"v": _VERSION, **asdict(self)}, allow_nan=False, separators=(",", ":"), default=_plain)
        except (TypeError, ValueError, RecursionError):
            return None
        return text.encode() if len(text) <= _LONGEST else None

    @classmethod
    def read(cls, value: object) -> Entry | None:
        """From what is stored; None if this version did not write it so."""
        if not isinstance(value, (bytes, str)) or len(value) > _LONGEST:
            return None
        try:
            found: Any = json.loads(value)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict):
            return None
        fields = cast("dict[str, Any]", found)
        if fields.pop("v", None) != _VERSION or fields.keys() != _NAMES or not _fits(fields):
            return None
        fields["flags"] = tuple(fields["flags"])
        if (message := fields["message"]) is not None:
            message["content"] = tuple(message["content"])
            fields["message"] = Message(**message)
        return cls(**fields)


_NAMES = frozenset(Entry.__dataclass_fields__)
_MESSAGE_NAMES = frozenset(Message.__dataclass_fields__)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    raise TypeError("no JSON value")


def _fits(fields: Mapping[str, Any]) -> bool:
    confidence, message = fields["confidence"], fields["message"]
    return (
        all(isinstance(fields[name], str) for name in (*_TEXTS, "text"))
        and _is_number(fields["until"])
        and type(fields["cost"]) is int
        and (confidence is None or _is_number(confidence))
        and fields["source"] in _SOURCES
        and _are(fields["flags"], str)
        and (message is None or _is_message(message))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(one, kind) for one in cast("list[object]", value))


def _is_message(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != _MESSAGE_NAMES:
        return False
    known = cast("dict[str, Any]", value)
    content, sequence = known["content"], known["stop_sequence"]
    return (
        _are(content, dict)
        and all(isinstance(block.get("type"), str) for block in content)
        and known["stop_reason"] in _ENDS
        and (sequence is None or isinstance(sequence, str))
        and isinstance(known["more"], dict)
    )
