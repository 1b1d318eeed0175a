"""Prompt → the arguments of `messages.create`; a message, whole or in events → Reply."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic_core import from_json

from cascade.claude.failures import Unreadable, failure_of_body
from cascade.core.budgets import max_usage
from cascade.core.messages import Failure, Reply, Usage
from cascade.core.policy import Budget
from cascade.core.triage import Prompt

__all__ = ["Accumulator", "outcome_of", "parameters", "reading"]


def parameters(prompt: Prompt) -> dict[str, Any]:
    """The arguments of `messages.create` for a prompt, without any that neither the caller nor the policy set."""
    rung = prompt.rung
    params: dict[str, Any] = {
        "model": rung.model,
        "max_tokens": prompt.max_tokens,
        "messages": list(prompt.messages),
    }
    if prompt.system:
        params["system"] = prompt.system if isinstance(prompt.system, str) else list(prompt.system)
    if prompt.user_id is not None:
        params["metadata"] = {"user_id": prompt.user_id}
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


def outcome_of(body: bytes, prompt: Prompt, headers: Mapping[str, str]) -> Reply | Failure:
    """The body of an HTTP 200 as a Reply, or a Failure with the billed usage if it is not a message."""
    message: Any = None
    request_id = headers.get("request-id")
    try:
        message = from_json(body, allow_inf_nan=False)
        with reading():
            if isinstance(message.get("error"), dict) and "content" not in message:
                return failure_of_body(message, 200, headers)
            return _reply_of(message, prompt, request_id)
    except (ValueError, Unreadable) as problem:
        message_text = f"HTTP 200, but not a message ({type(problem.__cause__ or problem).__name__})"
        return Failure("unreadable", message_text, status=200, usage=_billed(message), request_id=request_id)


def _reply_of(message: Any, prompt: Prompt, request_id: str | None) -> Reply:
    text = "".join(block["text"] for block in message["content"] if block["type"] == "text")
    stop_reason = message.get("stop_reason") or ""
    if not isinstance(stop_reason, str):
        raise TypeError("stop_reason")
    usage = _usage_of(message.get("usage"), prompt)
    return Reply(text, stop_reason, usage, str(message.get("model", "")), request_id)


def _usage_of(usage: Any, prompt: Prompt) -> Usage:
    """The billed usage. Counts that are missing or invalid are set to their maximum, and marked as an estimate."""
    try:
        known = Usage.from_api(usage)
        has_input, has_output = (usage.get(key) is not None for key in ("input_tokens", "output_tokens"))
    except (ValueError, TypeError, AttributeError):
        known, has_input, has_output = Usage(), False, False
    if has_input and has_output:
        return known
    most = replace(max_usage(prompt)[0], is_estimate=True)
    if has_input:
        return replace(known, output_tokens=most.output_tokens, is_estimate=True)
    return replace(most, output_tokens=known.output_tokens) if has_output else most


def _billed(message: Any) -> Usage:
    try:
        return Usage.from_api(message["usage"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return Usage()


@contextmanager
def reading() -> Generator[None]:
    """Turns errors of reading untrusted data, whatever its shape, into Unreadable."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise Unreadable(f"not a message ({type(problem).__name__})") from problem


class Accumulator:
    """Makes one message from the events of a stream; the billed usage is known even if the stream breaks off."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        self._texts: list[str] = []
        self._usage: dict[str, Any] = {}
        self._stop_reason, self._model, self._complete = "", "", False
        self._is_counted = False  # message_start counts only the first token of the output

    def add(self, event: Any) -> None:
        """Read the next event of the stream."""
        if event.type == "message_start":
            self._model = event.message.model
            self._usage = _counts(event.message)
        elif event.type == "content_block_start" and event.content_block.type == "text":
            self._texts.append(event.content_block.text)
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            self._texts.append(event.delta.text)
        elif event.type == "message_delta":
            self._stop_reason = event.delta.stop_reason or ""
            counts = _counts(event)
            self._usage |= counts
            self._is_counted = "output_tokens" in counts
        elif event.type == "message_stop":
            self._complete = True

    @property
    def usage(self) -> Usage:
        """What has been billed so far, according to the events."""
        return _billed({"usage": self._usage})

    def outcome(self, request_id: str | None) -> Reply | Failure:
        """The whole message, or a Failure if the stream ended before the message did."""
        if not self._complete:
            problem = "the stream ended before the message did"
            return Failure("connection", problem, usage=self.usage, request_id=request_id)
        with reading():
            usage = self._usage if self._is_counted else {**self._usage, "output_tokens": None}
            content = [{"type": "text", "text": "".join(self._texts)}]
            message = {"content": content, "usage": usage, "stop_reason": self._stop_reason, "model": self._model}
            return _reply_of(message, self._prompt, request_id)


def _counts(holder: Any) -> dict[str, Any]:
    """The usage in an event or message; empty if it has none."""
    usage = getattr(holder, "usage", None)
    return usage.model_dump(exclude_none=True) if usage is not None else {}
