"""Reads the caller's prompt into the messages of a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cascade.core.errors import RequestError
from cascade.core.messages import Block

__all__ = ["read_messages"]


def read_messages(prompt: str | Sequence[Block]) -> tuple[Block, ...]:
    """The messages of a prompt, which is a text or a list of messages. Raises RequestError if it is invalid."""
    if isinstance(prompt, str):
        if not prompt or prompt.isspace():
            raise RequestError("prompt: it is empty (give a text or a list of messages)")
        return ({"role": "user", "content": prompt},)
    if not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RequestError(f"prompt: a text or a list of messages is needed, not {type(prompt).__name__}")
    messages = tuple(prompt)
    if not messages:
        raise RequestError("prompt: the list of messages is empty (give at least one user message)")
    for number, message in enumerate(messages):
        where = f"prompt: message {number}"
        if not isinstance(message, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise RequestError(f"{where} is {type(message).__name__}, not a mapping with role and content")
        if message.get("role") not in ("user", "assistant"):
            raise RequestError(f"{where}: role must be 'user' or 'assistant' (a system prompt goes into system=)")
        if not message.get("content"):
            raise RequestError(f"{where}: its content is empty")
        if not isinstance(message["content"], (str, list, tuple)):
            raise RequestError(f"{where}: content must be a text or a list of blocks")
    return messages
