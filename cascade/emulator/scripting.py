"""Scripted replies: a function of the caller decides what the emulator answers, for agent loops and streams.

def script(body, headers):
    if body["messages"][-1]["content"][0]["type"] == "tool_result":
        return [{"type": "text", "text": "It is 21 °C."}]
    return [{"type": "tool_use", "name": "weather", "input": {"city": "Zürich"}}]

with Emulator(script=script) as emulator: ...
"""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cascade.core.messages import Usage
from cascade.emulator.content import characters_of, cut_content, stop_at, tokens_of
from cascade.emulator.messages import EmulatedReply, change_confidence, change_reply, verdict_text
from cascade.emulator.requests import ApiError
from cascade.emulator.signatures import prefix_of, sign

if TYPE_CHECKING:
    from cascade.emulator.content import Content
    from cascade.emulator.faults import FaultKind
    from cascade.emulator.requests import ApiRequest

__all__ = ["Script", "ScriptedReply", "make_scripted", "run_script"]


@dataclass(frozen=True, slots=True)
class ScriptedReply:
    """What a script answers.

    `content`: blocks in the API's shapes. Left out: the id of a call and of its result are set, thinking is signed by the
    model that was asked. `stop_reason`: by default tool_use if the content holds a tool_use block, else end_turn. `usage`:
    fields of the API's usage; counts that are left out are estimated, at four characters each. `confidence`: where the
    request asks for a verdict, the texts become its answer (no content: null, a decline); without it they are sent as they
    are. Texts end at the request's stop sequences, and the reply at its max_tokens, at four characters each.
    """

    content: Sequence[Mapping[str, Any]]
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    confidence: float | None = None


_Returned = Sequence[Mapping[str, Any]] | ScriptedReply | None
Script = Callable[[dict[str, Any], Mapping[str, str]], _Returned | Awaitable[_Returned]]
"""Called with a valid request's body and headers (lower-case names) in the server's thread: one that waits is `async`.

It returns the reply or its content blocks; None leaves the request to the corpora. An ApiError that it raises is sent."""

_CHARACTERS = 4  # of a token
_IDS = {"tool_use": "toolu", "mcp_tool_use": "mcptoolu", "server_tool_use": "srvtoolu"}


async def run_script(script: Script, request: ApiRequest, headers: Mapping[str, str]) -> ScriptedReply | None:
    """Call the script. Raises ApiError if it fails: a 400, which no client retries."""
    try:
        found = script(dict(request.body), headers)
        returned = await found if inspect.isawaitable(found) else found
    except ApiError:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise _failure(f"raised {error!r} in line {where.lineno} of {where.name}") from error
    if returned is None or isinstance(returned, ScriptedReply):
        return returned
    return ScriptedReply(returned)


def make_scripted(
    request: ApiRequest, scripted: ScriptedReply, fault: FaultKind | None, seed: int, number: int
) -> EmulatedReply:
    """The reply as the request wants it, changed by the fault if any. `number`: the request's, from which ids are made."""
    content = _complete(scripted.content, request, number)
    if request.triage and scripted.confidence is not None and all(block["type"] == "text" for block in content):
        confidence = change_confidence(request, scripted.confidence, fault, seed)
        text = verdict_text(request.triage, confidence, _answer(content, request.schema))
        content = ({"type": "text", "text": text},)
    calls = any(block["type"] == "tool_use" for block in content)
    reply = EmulatedReply(
        content,
        Usage(),
        scripted.stop_reason or ("tool_use" if calls else "end_turn"),
        scripted.stop_sequence,
    )
    reply = _limit(reply, request.body)
    return change_reply(_with_usage(reply, request, scripted.usage), fault, request)


def _complete(blocks: Sequence[Mapping[str, Any]], request: ApiRequest, number: int) -> Content:
    made: list[Mapping[str, Any]] = []
    last_call = ""
    for index, given in enumerate(blocks):
        block: dict[str, Any] = dict(given)
        kind = block.get("type")
        if kind in _IDS:
            block = {"type": kind, "id": f"{_IDS[kind]}_{number:016x}{index:06x}", "input": {}, **block}
            last_call = block["id"]
        elif kind == "thinking":
            block = {"type": kind, "thinking": "", **block}
            prefix = prefix_of(request.body, request.body["messages"])
            block.setdefault("signature", sign(request.model, str(block["thinking"]), prefix))
        elif isinstance(kind, str) and kind.endswith("_tool_result"):
            block.setdefault("tool_use_id", last_call)
        try:
            characters_of(block)
        except (KeyError, TypeError) as error:
            raise _failure(f"returned a block that is not one of the API's: content.{index}: {error!r}") from error
        made.append(block)
    return tuple(made)


def _answer(content: Content, schema: Mapping[str, Any] | None) -> object:
    """What a verdict says: the texts, or the JSON in them where the answer's schema takes no text."""
    if not content:
        return None
    text = "".join(block["text"] for block in content)
    if _takes_text(schema):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _takes_text(schema: Mapping[str, Any] | None) -> bool:
    forms: list[Any] = [schema or {"type": "string"}]
    while forms:
        form = forms.pop()
        forms.extend(form.get("anyOf") or ())
        kinds = form.get("type")
        if "string" in (kinds if isinstance(kinds, list) else [kinds]):
            return True
    return False


def _limit(reply: EmulatedReply, body: Mapping[str, Any]) -> EmulatedReply:
    """End the reply where the request's stop sequences or its max_tokens end it, whichever comes first."""
    content, sequence = stop_at(reply.content, body.get("stop_sequences") or ())
    if sequence is not None:
        reply = replace(reply, content=content, stop_reason="stop_sequence", stop_sequence=sequence)
    room = body["max_tokens"] * _CHARACTERS
    if sum(map(characters_of, reply.content)) > room:
        cut = cut_content(reply.content, room)
        reply = replace(reply, content=cut, stop_reason="max_tokens", stop_sequence=None)
    return reply


def _with_usage(reply: EmulatedReply, request: ApiRequest, given: Mapping[str, Any]) -> EmulatedReply:
    usage = dict(given)
    usage.setdefault("input_tokens", request.estimated_tokens)
    usage.setdefault("output_tokens", max(1, tokens_of(reply.content)))
    usage["output_tokens"] = min(usage["output_tokens"], request.body["max_tokens"])
    if thoughts := tokens_of(block for block in reply.content if block["type"] == "thinking"):
        usage.setdefault("output_tokens_details", {"thinking_tokens": min(thoughts, usage["output_tokens"])})
    try:
        return replace(reply, usage=Usage.from_api(usage), raw_usage=usage)
    except ValueError as error:
        raise _failure(f"returned a usage that is not one of the API's: {error}") from error


def _failure(problem: str) -> ApiError:
    return ApiError(400, "invalid_request_error", f"emulator: the script {problem}")
