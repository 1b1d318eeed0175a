"""Reads a rung's reply into a verdict.

A reply is read in this order: stop_reason (an unknown one is marked), strict JSON, repaired JSON (marked). Nothing is
clamped or guessed: a confidence that is missing, a string, NaN or outside 0..1 makes the reply malformed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from cascade.core.changing import changed
from cascade.core.messages import Message, Reply
from cascade.core.text.envelope import EnvelopeReader
from cascade.core.text.parsing import Repair, is_unicode, parse
from cascade.core.trail import Verdict

__all__ = ["read_begun", "read_beside_calls", "read_reply", "stopped", "verdict_on", "with_more"]

_BY_STOP_REASON = {
    "max_tokens": Verdict("truncated", detail="max_tokens"),
    "refusal": Verdict("refused"),
    "model_context_window_exceeded": Verdict("overflow", detail="context window"),
}
_COMPLETE = frozenset({"end_turn", "stop_sequence"})
_INCOMPLETE = frozenset({"", "tool_use", "pause_turn"})


def read_reply(
    reply: Reply,
    *,
    triage: bool,
    structured: bool,
    in_text: bool = False,
    repair: Repair | None = None,
    in_vote: bool = False,
) -> Verdict:
    """The verdict on a reply. `triage`: the envelope was asked for. `structured`: the API enforced the answer's schema.

    `in_text`: the answer has a schema that the API did not enforce: it is JSON text, in the envelope a string of JSON.
    `in_vote`: a sample, whose answer counts without a confidence.
    """
    message = None if triage or not is_unicode(reply.text) else reply.message
    if reply.stop_reason in _BY_STOP_REASON:
        return replace(_BY_STOP_REASON[reply.stop_reason], message=message)
    if reply.stop_reason in _COMPLETE:
        return _read_text(reply, triage=triage, structured=structured, in_text=in_text, repair=repair, in_vote=in_vote)
    detail = f"stopped by {reply.stop_reason[:40] or 'nothing'}"
    if reply.stop_reason in _INCOMPLETE:
        return Verdict("malformed", detail=detail, message=message)
    # A stop reason that is not known yet: the text may be truncated, unless it is valid JSON. Its confidence is ignored.
    verdict = _read_text(reply, triage=triage, structured=structured, in_text=in_text, repair=None, in_vote=in_vote)
    if verdict.kind != "answered":
        return replace(verdict, detail=detail)
    return replace(verdict, confidence=None, source=None, unknown_stop=True, detail=detail)


def _read_text(
    reply: Reply, *, triage: bool, structured: bool, in_text: bool, repair: Repair | None, in_vote: bool
) -> Verdict:
    if not (triage or structured or in_text):
        if not is_unicode(reply.text):
            return Verdict("malformed", detail="text is not valid Unicode")
        return Verdict("answered", text=reply.text, message=reply.message)
    value, repaired = parse(reply.text, repair, triage=triage)
    if repaired and value is None:
        return Verdict("malformed", detail="not JSON")
    verdict = _read_value(value, triage=triage, structured=structured or not triage, repaired=repaired, in_vote=in_vote)
    if not (in_text and triage) or verdict.text is None:
        return verdict
    value, repaired_within = parse(verdict.text, repair, triage=False)
    if repaired_within and value is None:
        return Verdict("malformed", detail="answer is not JSON", repaired=repaired)
    return _answered(value, verdict.confidence, structured=True, repaired=repaired or repaired_within)


def read_beside_calls(reply: Reply, *, structured: bool, repair: Repair | None) -> Verdict:
    """The verdict on the text beside tool calls, below the top rung: it may be an envelope, or plain words."""
    if not reply.text.strip():
        return Verdict("malformed", detail="no text")
    return _read_text(reply, triage=True, structured=structured, in_text=False, repair=repair, in_vote=True)


def read_begun(reply: Reply, first: Verdict, *, triage: bool) -> Verdict:
    """The verdict on a reply that was shipped at its first tokens, of which `first` was made: as far as its text came."""
    text, is_whole, message = reply.text, True, reply.message
    if triage:
        reader = EnvelopeReader()
        text = reader.feed(reply.text)
        is_whole = reader.ended and not (reader.bad_unicode or parse(reply.text, None, triage=True)[1])
        if message is not None:
            stop = "end_turn" if reply.stop_reason in _COMPLETE else reply.stop_reason
            message = replace(message, content=({"type": "text", "text": text},), stop_reason=stop)
    verdict = _BY_STOP_REASON.get(reply.stop_reason)
    if verdict is None and reply.stop_reason in _COMPLETE and is_whole:
        verdict = Verdict("answered")
    if verdict is None:
        verdict = Verdict("malformed", detail=f"stopped by {reply.stop_reason[:40] or 'nothing'}")
    return replace(
        verdict, confidence=first.confidence, source=first.source, text=text, message=message, begun=True
    )  # fmt: skip


def stopped(verdict: Verdict, sequences: Sequence[str]) -> Verdict:
    """The verdict with its text cut before the first stop sequence in it."""
    if verdict.kind != "answered" or verdict.text is None or verdict.data is not None:
        return verdict
    places = [(verdict.text.find(one), -len(one), one) for one in sequences if one and one in verdict.text]
    if not places:
        return verdict
    at, _, sequence = min(places)
    text = verdict.text[:at]
    message = Message("", ({"type": "text", "text": text},) if text else (), "stop_sequence", sequence)
    return replace(verdict, text=text, message=message)


def with_more(verdict: Verdict, message: Message) -> Verdict:
    """The verdict on an answer below the top rung, with what the API said beside its content."""
    if verdict.kind != "answered" or verdict.message is not None or not verdict.text:
        return verdict
    content = ({"type": "text", "text": verdict.text},)
    return changed(verdict, message=Message(message.id, content, "end_turn", None, message.more))


def _read_value(value: Any, *, triage: bool, structured: bool, repaired: bool, in_vote: bool) -> Verdict:
    """The verdict on a reply's JSON value: the envelope, or the bare answer."""
    if not triage:
        return _answered(value, structured=True, repaired=repaired)
    if not isinstance(value, dict):
        return Verdict("malformed", detail="not a JSON object", repaired=repaired)
    if "answer" not in value:
        return Verdict("malformed", detail="answer is missing", repaired=repaired)
    fields = cast("dict[str, object]", value)
    confidence, answer = fields.get("confidence"), fields["answer"]
    return verdict_on(confidence, answer, structured=structured, repaired=repaired, in_vote=in_vote)


def verdict_on(
    confidence: object, answer: object, *, structured: bool, repaired: bool = False, in_vote: bool = False
) -> Verdict:
    """The verdict on an envelope's two values. Replay applies it to recorded ones, so they count as live ones do.

    `in_vote`: a sample's answer counts without a confidence, since agreement is a signal of its own.
    """
    number: float | None = None
    if type(confidence) is float and 0 <= confidence <= 1:
        number = confidence
    elif confidence is not None or not in_vote:
        problem = _problem_with(confidence)
        if problem:
            return Verdict("malformed", detail=problem, repaired=repaired)
        number = float(confidence)  # type: ignore[arg-type]
    if answer is None:
        source = None if number is None else "self_reported"
        return Verdict("declined", confidence=number, source=source, repaired=repaired)
    if not structured and not isinstance(answer, str):
        return Verdict("malformed", detail=f"answer is {_kind_of(answer)}, not a string", repaired=repaired)
    return _answered(answer, number, structured=structured, repaired=repaired)


def _answered(answer: object, confidence: float | None = None, *, structured: bool, repaired: bool) -> Verdict:
    """The verdict on an answer, which must be serialisable."""
    try:
        text = json.dumps(answer, ensure_ascii=False, allow_nan=False) if structured else str(answer)
    except (ValueError, RecursionError):
        return Verdict("malformed", detail="answer is not JSON", repaired=repaired)
    if not is_unicode(text):
        return Verdict("malformed", detail="answer is not valid Unicode", repaired=repaired)
    source = None if confidence is None else "self_reported"
    return Verdict("answered", confidence, source, text, answer if structured else None, repaired=repaired)


def _problem_with(confidence: object) -> str:
    if confidence is None:
        return "confidence is missing"
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)):
        return f"confidence is {_kind_of(confidence)}, not a number"
    if not 0 <= confidence <= 1:  # NaN fails this too
        return "confidence is outside 0..1"
    return ""


def _kind_of(value: object) -> str:
    kinds: dict[type, str] = {str: "a string", bool: "a boolean", dict: "an object", list: "an array"}
    return kinds.get(type(value), "a number")
