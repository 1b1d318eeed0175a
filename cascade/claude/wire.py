"""Prompt → the arguments of `messages.create`; a message, whole or in events → Reply."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic_core import from_json

from cascade.claude.failures import Unreadable, failure_of_body
from cascade.core.budgets import max_usage
from cascade.core.messages import Failure, Message, Reply, Usage
from cascade.core.policy import Budget, Rung
from cascade.core.triage import Prompt

__all__ = ["TEXT_OF_DELTA", "Accumulator", "outcome_of", "outcome_of_message", "parameters", "reading"]


def parameters(prompt: Prompt) -> dict[str, Any]:
    """The arguments of `messages.create` for a prompt, without any that neither the caller nor the policy set."""
    params: dict[str, Any] = {
        "model": prompt.rung.model,
        "max_tokens": prompt.max_tokens,
        "messages": list(prompt.messages),
    }
    if headers := _headers(prompt):
        params["extra_headers"] = headers
    if prompt.raw is not None:
        body = {name: value for name, value in prompt.raw.items() if name not in ("model", "stream", "metadata")}
        if prompt.user_id is not None:  # what else the metadata hold is ours
            body["metadata"] = {"user_id": prompt.user_id}
        params["extra_body"] = body
        return params
    if prompt.system:
        params["system"] = prompt.system if isinstance(prompt.system, str) else list(prompt.system)
    if prompt.user_id is not None:
        params["metadata"] = {"user_id": prompt.user_id}
    extra = dict(prompt.extra)
    thinking = extra.pop("thinking", None) or _thinking(prompt.rung)
    output = _output_config(prompt, extra.pop("output_config", {}))
    lists = {"tools": prompt.tools, "stop_sequences": prompt.stop_sequences}
    params |= {name: list(values) for name, values in lists.items() if values}
    named = {"thinking": thinking, "output_config": output, "tool_choice": prompt.tool_choice, "extra_body": extra}
    return params | {name: value for name, value in named.items() if value}


def _headers(prompt: Prompt) -> dict[str, str]:
    """The headers that go with the call. The caller's credentials go to nobody else's endpoint."""
    own = prompt.rung.base_url is not None or prompt.rung.api_key_env is not None
    return {name: value for name, value in prompt.headers.items() if not (own and name.lower() in _CREDENTIALS)}


def _thinking(rung: Rung) -> dict[str, Any] | None:
    if isinstance(rung.thinking, Budget):
        return {"type": "enabled", "budget_tokens": rung.thinking.budget_tokens}
    return None if rung.thinking is None else {"type": rung.thinking}


def _output_config(prompt: Prompt, own: Mapping[str, Any]) -> dict[str, Any]:
    """The rung's effort, or the caller's in `own`, and the format."""
    output: dict[str, Any] = {} if prompt.rung.effort is None else {"effort": prompt.rung.effort}
    output |= own
    if prompt.schema is not None:
        output["format"] = {"type": "json_schema", "schema": dict(prompt.schema)}
    return output


def outcome_of(body: bytes, prompt: Prompt, headers: Mapping[str, str]) -> Reply | Failure:
    """The body of an HTTP 200 as a Reply, or a Failure with the billed usage if it is not a message."""
    try:
        message = from_json(body, allow_inf_nan=False)
    except ValueError as problem:
        return _unreadable(problem, None, headers)
    return outcome_of_message(message, prompt, headers)


def outcome_of_message(message: Any, prompt: Prompt | None, headers: Mapping[str, str]) -> Reply | Failure:
    """A message as a Reply, or a Failure if it is none. Without a prompt, one that does not say what was billed is none."""
    try:
        with reading():
            if isinstance(message.get("error"), dict) and "content" not in message:
                return failure_of_body(message, 200, headers)
            return _reply_of(message, prompt, headers.get("request-id"))
    except (ValueError, Unreadable) as problem:
        return _unreadable(problem, message, headers)


def _unreadable(problem: Exception, message: Any, headers: Mapping[str, str]) -> Failure:
    text = f"HTTP 200, but not a message ({type(problem.__cause__ or problem).__name__})"
    return Failure("unreadable", text, status=200, usage=_billed(message), request_id=headers.get("request-id"))


def _reply_of(message: Any, prompt: Prompt | None, request_id: str | None) -> Reply:
    content = tuple(message["content"])
    text = "".join(block["text"] for block in content if block["type"] == "text")
    stop_reason = message.get("stop_reason") or ""
    if not isinstance(stop_reason, str):
        raise TypeError("stop_reason")
    usage = _usage_of(message.get("usage"), prompt)
    whole = Message(
        str(message.get("id") or ""), content, stop_reason, message.get("stop_sequence"), _more(message)
    )  # fmt: skip
    return Reply(text, stop_reason, usage, str(message.get("model", "")), request_id, message=whole)


_CREDENTIALS = frozenset({"authorization", "x-api-key"})
_READ = frozenset({"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"})
_COUNTED = frozenset(
    {
        "input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation",
        "output_tokens_details", "estimate",
    }
)  # fmt: skip


def _more(message: dict[str, Any]) -> dict[str, Any]:
    """What a message says beside what is read of it."""
    usage: Any = message.get("usage")
    known: dict[str, Any] = usage if isinstance(usage, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    told = {name: value for name, value in known.items() if name not in _COUNTED and value is not None}
    more = {name: value for name, value in message.items() if name not in _READ and value is not None}
    return {**more, "usage": told} if told else more


def _usage_of(usage: Any, prompt: Prompt | None) -> Usage:
    """The billed usage. Counts that are missing or invalid are set to their maximum, and marked as an estimate."""
    try:
        known = Usage.from_api(usage)
        has_input, has_output = (usage.get(key) is not None for key in ("input_tokens", "output_tokens"))
    except (ValueError, TypeError, AttributeError):
        known, has_input, has_output = Usage(), False, False
    if has_input and has_output:
        return known
    if prompt is None:
        raise ValueError("usage")
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
        self._blocks: dict[int, dict[str, Any]] = {}
        self._pieces: dict[int, list[str]] = {}  # of each block that is still being written
        self._usage: dict[str, Any] = {}
        self._more: dict[str, Any] = {}
        self.model = self.message_id = ""
        self._stop_reason, self._stop_sequence, self._complete = "", None, False
        self._is_counted = False  # message_start counts only the first token of the output

    def add(self, event: Any) -> None:
        """Read the next event of the stream."""
        kind = event.type
        if kind == "content_block_delta":
            self._add_delta(event.index, event.delta)
        elif kind == "message_start":
            self.model, self.message_id = event.message.model, event.message.id
            self._usage, self._more = _counts(event.message), event.message.to_dict(mode="json", warnings=False)
        elif kind == "content_block_start":
            self._blocks[event.index] = event.content_block.to_dict()
            self._pieces[event.index] = []
        elif kind == "content_block_stop":
            self._end_block(event.index)
        elif kind == "message_delta":
            self._stop_reason = event.delta.stop_reason or ""
            self._stop_sequence = event.delta.stop_sequence
            self._more |= event.delta.to_dict(mode="json", warnings=False)
            counts = _counts(event)
            self._usage |= counts
            self._is_counted = "output_tokens" in counts
        elif kind == "message_stop":
            self._complete = True

    def _add_delta(self, index: int, delta: Any) -> None:
        key = TEXT_OF_DELTA.get(delta.type)
        if key is not None:
            self._pieces[index].append(getattr(delta, key))
        elif delta.type == "signature_delta":
            self._blocks[index]["signature"] = delta.signature
        elif delta.type == "citations_delta":
            block = self._blocks[index]
            block["citations"] = [*(block.get("citations") or ()), delta.citation.to_dict()]

    def _end_block(self, index: int) -> None:
        """Put a block's pieces together."""
        block, text = self._blocks[index], "".join(self._pieces.pop(index, ()))
        if block["type"] in ("text", "thinking"):
            block[block["type"]] = block.get(block["type"], "") + text
        elif text:
            block["input"] = _input_of(text)

    @property
    def usage(self) -> Usage:
        """What has been billed so far, according to the events."""
        return _billed({"usage": self._usage})

    @property
    def prompt_usage(self) -> Usage:
        """What the prompt is billed. If the endpoint does not say it, the most that it may be."""
        if "input_tokens" in self._usage:
            return self.usage
        return replace(max_usage(self._prompt)[0], output_tokens=0, is_estimate=True)

    @property
    def is_complete(self) -> bool:
        """Whether the message has ended."""
        return self._complete

    def outcome(self, request_id: str | None) -> Reply | Failure:
        """The whole message, or a Failure if the stream ended before the message did."""
        if not self._complete:
            problem = "the stream ended before the message did"
            return Failure("connection", problem, usage=self.usage, request_id=request_id)
        with reading():
            for index in tuple(self._pieces):
                self._end_block(index)
            message = {
                **self._more,
                "id": self.message_id,
                "content": [self._blocks[index] for index in sorted(self._blocks)],
                "usage": self._usage if self._is_counted else {**self._usage, "output_tokens": None},
                "stop_reason": self._stop_reason,
                "stop_sequence": self._stop_sequence,
                "model": self.model,
            }
            return _reply_of(message, self._prompt, request_id)


def _input_of(text: str) -> Any:
    """A tool call's input; as far as it came, if the reply was cut off within it."""
    try:
        return from_json(text)
    except ValueError:
        return from_json(text, allow_partial=True)


TEXT_OF_DELTA = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def _counts(holder: Any) -> dict[str, Any]:
    """The usage in an event or message; empty if it has none."""
    usage = getattr(holder, "usage", None)
    return usage.model_dump(exclude_none=True) if usage is not None else {}
