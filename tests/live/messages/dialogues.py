"""Conversations and the models that play in them, to be held directly and climbing: both sides must hear the same."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.live.conftest import HAIKU, OPUS

from .conftest import BASE, saying, text

__all__ = ["BELOW", "DIALOGUES", "SHOWN", "WEATHER", "Dialogue", "Say"]

Say = Callable[..., Any]
"""Sends a request in one of the SDK's ways, with the keywords of `messages.create`, and returns the message."""


@dataclass(frozen=True)
class Dialogue:
    """`play`: what the models say, a script of the emulator. `talk`: what the caller says; returns all it heard.

    `ends_on`: the rung that says the last word.
    """

    play: Callable[[dict[str, Any], Any], Any]
    talk: Callable[[Say], list[Any]]
    ends_on: str = "haiku"


WEATHER = {
    "name": "weather",
    "description": "The weather of a day.",
    "input_schema": {"type": "object", "properties": {"day": {"type": "integer"}}, "required": ["day"]},
}
BELOW = 0.1
"""A confidence that climbs."""


def user(content: Any) -> dict[str, Any]:
    """A turn of the user."""
    return {"role": "user", "content": content}


def asking(content: Any, **keywords: Any) -> Callable[[Say], list[Any]]:
    """The caller asks once."""
    return lambda say: [say(**{**BASE, "messages": [user(content)], **keywords})]


def always(*blocks: dict[str, Any], confidence: float = 0.95) -> Callable[[dict[str, Any], Any], Any]:
    """All models say the same, and are equally sure."""
    return lambda *_: saying(*blocks, confidence=confidence)


def day_by_day(body: dict[str, Any], _: Any) -> Any:
    """Asks for the weather of ten days, one after the other, and then sums up."""
    blocks = [block for turn in body["messages"] if not isinstance(turn["content"], str) for block in turn["content"]]
    known = [block["content"] for block in blocks if block["type"] == "tool_result"]
    if len(known) < 10:
        return saying(text(f"Day {len(known)}."), {"type": "tool_use", "name": "weather", "input": {"day": len(known)}})
    return saying(text(f"All ten: {', '.join(known)} 😀"))


def tool_loop(say: Say) -> list[Any]:
    """Calls the tool as long as the model asks for it; the SDK's own objects go back as they came."""
    messages: list[Any] = [user("How was the weather?")]
    heard: list[Any] = []
    while True:
        reply = say(**BASE, tools=[WEATHER], messages=messages)
        heard.append(reply)
        calls = [block for block in reply.content if block.type == "tool_use"]
        if not calls:
            return heard
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": f"{call.input['day']} °C"} for call in calls
        ]
        messages += [{"role": "assistant", "content": reply.content}, user(results)]


_PIXEL = base64.b64encode(b"not really a picture").decode()
_BE_EXACT = {"type": "text", "text": "Be exact.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
SHOWN = [
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _PIXEL}},
    {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": _PIXEL}, "title": "A"},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Three years."}},
    {"type": "text", "text": "What is it?", "cache_control": {"type": "ephemeral"}},
]


def echo(body: dict[str, Any], _: Any) -> Any:
    """Says what it was shown, block by block, and the head of the system prompt."""
    return saying(text(json.dumps([body["system"][0], *body["messages"][0]["content"]], sort_keys=True)))


_ADAPTIVE = {"type": "adaptive", "display": "summarized"}


def thinking_at_the_top(body: dict[str, Any], _: Any) -> Any:
    """Is sure only where it is told to think."""
    if body.get("thinking") != _ADAPTIVE:
        return saying(text("Perhaps 7."), confidence=BELOW)
    return saying({"type": "thinking", "thinking": "6 times 7 …"}, text("42"))


def thinking_between_calls(body: dict[str, Any], _: Any) -> Any:
    """Hands over below the top; there it thinks before it calls, and after, and wants its thinking back."""
    if body["model"] != OPUS:
        return saying({"type": "tool_use", "name": "cascade_escalate", "input": {"reason": "hard"}})
    if len(body["messages"]) == 1:
        call = {"type": "tool_use", "name": "weather", "input": {"day": 1}}
        return saying({"type": "thinking", "thinking": "I need it."}, call)
    assert body["messages"][1]["content"][0]["thinking"] == "I need it.", "a loop's thinking must be sent back"
    return saying({"type": "thinking", "thinking": "So."}, text("Warm."))


_SEARCH = {"type": "web_search_20250305", "name": "web_search"}


def pausing(body: dict[str, Any], _: Any) -> Any:
    """Searches the web, by the API's own tool, and is paused before it has the result."""
    if body["messages"][-1]["role"] == "user":
        search = {"type": "server_tool_use", "name": "web_search", "input": {"query": "weather"}}
        return saying(text("I look it up."), search, stop_reason="pause_turn")
    result = {"type": "web_search_tool_result", "tool_use_id": body["messages"][-1]["content"][-1]["id"], "content": []}
    again = {"type": "server_tool_use", "name": "web_search", "input": {"query": "weather today"}}
    is_first = body["model"] == HAIKU
    answer = json.dumps({"confidence": 0.9, "answer": "Warm."}) if is_first else "Warm."
    found = {"type": "web_search_tool_result", "content": []}
    return saying(result, text("One more."), again, found, text(answer), confidence=None)


def sent_back(say: Say) -> list[Any]:
    """Sends a paused turn back as it is, to be continued."""
    messages: list[Any] = [user("The weather?")]
    first = say(**BASE, tools=[_SEARCH], messages=messages)
    messages += [{"role": "assistant", "content": first.content}]
    return [first, say(**BASE, tools=[_SEARCH], messages=messages)]


def cut_at_the_top(stop_reason: str) -> Callable[[dict[str, Any], Any], Any]:
    """Declines below the top, and ends there for this reason."""
    cut = saying(text("word word"), confidence=None, stop_reason=stop_reason)
    return lambda body, _: cut if body["model"] == OPUS else saying(confidence=0.5)


_FORMAT = {
    "type": "json_schema",
    "schema": {
        "type": "object", "properties": {"item": {"type": "string"}, "count": {"type": "integer"}},
        "required": ["item", "count"], "additionalProperties": False,
    },
}  # fmt: skip
_TWO_LAMPS = text('{"item": "Lämpchen", "count": 2}')
_COUNTED = text("one STOP two END three")
_structured = asking("Two lamps.", output_config={"format": _FORMAT})
_stopped = asking("Count.", stop_sequences=["END", "STOP"])

DIALOGUES: dict[str, Dialogue] = {
    "a tool loop of ten turns": Dialogue(day_by_day, tool_loop),
    "images, documents and cache control": Dialogue(echo, asking(SHOWN, system=[_BE_EXACT])),
    "extended thinking on the top rung": Dialogue(thinking_at_the_top, asking("6 x 7?", thinking=_ADAPTIVE), "opus"),
    "a tool loop that thinks": Dialogue(thinking_between_calls, tool_loop, "opus"),
    "a turn that the API paused": Dialogue(pausing, sent_back),
    "stop sequences": Dialogue(always(_COUNTED), _stopped),
    "stop sequences on the top rung": Dialogue(always(_COUNTED, confidence=BELOW), _stopped, "opus"),
    "structured output": Dialogue(always(_TWO_LAMPS), _structured),
    "structured output on the top rung": Dialogue(always(_TWO_LAMPS, confidence=BELOW), _structured, "opus"),
    "a truncated message": Dialogue(cut_at_the_top("max_tokens"), asking("Talk."), "opus"),
    "a refusal": Dialogue(cut_at_the_top("refusal"), asking("Talk."), "opus"),
}
