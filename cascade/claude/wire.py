"""Prompt → the arguments of `messages.create`; a message, whole or in events → Reply."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from pydantic_core import from_json

from cascade.claude.failures import Unreadable
from cascade.core.messages import Failure, Reply, Usage
from cascade.core.policy import Budget
from cascade.core.triage import Prompt

__all__ = ["STREAMS_ABOVE", "Accumulator", "outcome_of", "parameters", "reading"]

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


def outcome_of(body: bytes, request_id: str | None) -> Reply | Failure:
    """The body of an HTTP 200 as a Reply; a Failure where it is no message, with what it says that it was billed."""
    message: Any = None
    try:
        message = from_json(body, allow_inf_nan=False)
        with reading():
            return _reply_of(message, request_id)
    except (ValueError, Unreadable) as problem:
        said = f"HTTP 200, but not a message ({type(problem.__cause__ or problem).__name__})"
        return Failure("unreadable", said, status=200, usage=_billed(message), request_id=request_id)


def _reply_of(message: Any, request_id: str | None) -> Reply:
    text = "".join(block["text"] for block in message["content"] if block["type"] == "text")
    stop_reason = message.get("stop_reason") or ""
    if not isinstance(stop_reason, str):
        raise TypeError("stop_reason")
    return Reply(text, stop_reason, Usage.from_api(message["usage"]), str(message.get("model", "")), request_id)


def _billed(message: Any) -> Usage:
    try:
        return Usage.from_api(message["usage"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return Usage()


@contextmanager
def reading() -> Generator[None]:
    """What comes from outside may have any shape: whatever reading it stumbles over is Unreadable."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise Unreadable(f"not a message ({type(problem).__name__})") from problem


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
        return _billed({"usage": self._usage})

    def outcome(self, request_id: str | None) -> Reply | Failure:
        """The whole message; a Failure where the stream ended before it did."""
        if not self._complete:
            said = "the stream ended before the message did"
            return Failure("connection", said, usage=self.usage, request_id=request_id)
        with reading():
            message = {"usage": self._usage, "stop_reason": self._stop_reason, "model": self._model}
            return _reply_of({**message, "content": [{"type": "text", "text": "".join(self._texts)}]}, request_id)
