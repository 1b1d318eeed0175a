"""Prompt → the arguments of `messages.create`; a message, whole or in events → Reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cascade.core.messages import Reply, Usage
from cascade.core.policy import Budget
from cascade.core.triage import Prompt

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["STREAMS_ABOVE", "Accumulator", "parameters", "reply_of", "schema_of"]

STREAMS_ABOVE = 21_333
"""max_tokens; a reply that long may take minutes, which no idle connection is sure to survive, so it is streamed."""


def parameters(prompt: Prompt) -> dict[str, Any]:
    """The arguments of `messages.create` for a prompt; nothing is sent that the caller or the policy did not ask for."""
    rung = prompt.rung
    params: dict[str, Any] = {
        "model": rung.model,
        "max_tokens": prompt.max_tokens,
        "messages": list(prompt.messages),
    }
    if prompt.system:
        params["system"] = prompt.system if isinstance(prompt.system, str) else list(prompt.system)
    if isinstance(rung.thinking, Budget):
        params["thinking"] = {"type": "enabled", "budget_tokens": rung.thinking.budget_tokens}
    elif rung.thinking is not None:
        params["thinking"] = {"type": rung.thinking}
    output: dict[str, Any] = {}
    if rung.effort is not None:
        output["effort"] = rung.effort
    if prompt.schema is not None:
        output["format"] = {"type": "json_schema", "schema": dict(prompt.schema)}
    if output:
        params["output_config"] = output
    return params


def reply_of(body: Mapping[str, Any], request_id: str | None) -> Reply:
    """A message (as its JSON object) as a Reply. ValueError where it is not a message."""
    try:
        text = "".join(block["text"] for block in body["content"] if block["type"] == "text")
        return Reply(text, body.get("stop_reason") or "", Usage.from_api(body["usage"]), body["model"], request_id)
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"not a message: {type(problem).__name__}") from None


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a pydantic class as structured outputs take it (bounds move into descriptions)."""
    import anthropic  # noqa: PLC0415 - it takes a second to import

    return anthropic.transform_schema(model)


class Accumulator:
    """Makes one message out of the events of a stream; what was billed is known even where it breaks off."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._usage: dict[str, Any] = {}
        self._stop_reason, self._model, self._complete = "", "", False

    def add(self, event: Any) -> None:
        """Take in the next event of the stream."""
        if event.type == "message_start":
            self._model = event.message.model
            self._usage = event.message.usage.model_dump(exclude_none=True)
        elif event.type == "content_block_start" and event.content_block.type == "text":
            self._texts.append(event.content_block.text)
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            self._texts.append(event.delta.text)
        elif event.type == "message_delta":
            self._stop_reason = event.delta.stop_reason or ""
            self._usage |= event.usage.model_dump(exclude_none=True)
        elif event.type == "message_stop":
            self._complete = True

    @property
    def usage(self) -> Usage:
        """What has been billed so far, as far as the events told."""
        return Usage.from_api(self._usage)

    def reply(self, request_id: str | None) -> Reply:
        """The whole message; ValueError where the stream broke off before its end."""
        if not self._complete:
            raise ValueError("the stream ended before the message did")
        return Reply("".join(self._texts), self._stop_reason, self.usage, self._model, request_id)
