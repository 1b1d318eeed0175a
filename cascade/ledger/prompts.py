"""What was asked, as the ledger sees it: a copy that nobody else can change, its canonical JSON, its hash, its redaction.

The caller's messages are the caller's to change while the rows wait, so their containers are copied at once; the texts in
them cannot change, and are not.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from cascade.core.errors import PolicyError

__all__ = ["Redact", "bind_redact", "canonical", "prompt_hash", "redacted", "snapshot"]

Redact = Callable[[str], object]
"""Returns the text to store in place of the one it is given."""

_ATOMS = frozenset({str, int, float, bool, bytes, type(None)})
_OWN = {  # what a block has of the API's, not of the user's
    "role": re.compile("user|assistant|system"),
    "type": re.compile("[a-z][a-z0-9_]{0,63}"),
    "ttl": re.compile("5m|1h"),
    "media_type": re.compile(r"[a-z]+/[a-z0-9.+-]{1,80}"),
    "id": re.compile(r"[A-Za-z0-9_-]{1,128}"),
    "tool_use_id": re.compile(r"[A-Za-z0-9_-]{1,128}"),
}


def snapshot(value: Any) -> Any:
    """The same value in containers of our own; what JSON has no word for becomes what its `model_dump` says, or its type."""
    if type(value) in _ATOMS:
        return value
    if isinstance(value, (list, tuple)):
        return [snapshot(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, (dict, Mapping)):  # the first is the quick one
        return {str(key): snapshot(one) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, (str, bytes)):
        return value
    dump = getattr(value, "model_dump", None)  # a block of the SDK's own classes
    return snapshot(dump(mode="json")) if callable(dump) else type(value).__name__


def canonical(system: Any, messages: Any) -> bytes:
    """System prompt and messages as JSON: keys sorted, no white space. The same prompt is always the same bytes."""
    whole = {"messages": messages, "system": system}
    try:
        return msgspec.json.encode(whole, order="sorted")
    except UnicodeEncodeError:  # half a surrogate pair: no UTF-8 has it, but an escape does
        return json.dumps(whole, sort_keys=True, separators=(",", ":"), default=repr).encode()


def prompt_hash(document: bytes) -> str:
    """SHA-256 of a prompt's canonical JSON, as hexadecimal digits."""
    return hashlib.sha256(document).hexdigest()


def bind_redact(path: str) -> Redact:
    """The function that `redact` names. PolicyError where it cannot be used."""
    module, _, name = path.partition(":")
    try:
        function: object = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as problem:
        fault = str(problem)
    else:
        if callable(function) and not inspect.iscoroutinefunction(function):
            return function
        fault = "it is not a plain function"
    raise PolicyError(
        f"{path} cannot be used: {fault}",
        key="ledger.redact",
        hint="name a function as module:function, in a module that can be imported",
    )


def redacted(value: Any, redact: Redact) -> Any:
    """A snapshot of a text, a system prompt or messages, with every text in it put through `redact`.

    What is left as it is stands where the API has a place for it, and looks as the API has it: roles, the blocks' own types
    and ids, the bytes of images and documents. Whatever a tool was given is the user's, by whatever name it goes. Raises what
    `redact` raises; TypeError where it gives no text.
    """
    if isinstance(value, list):
        return [_shaped(one, redact) for one in value]  # pyright: ignore[reportUnknownVariableType]
    return _every(value, redact)


def _every(value: Any, redact: Redact) -> Any:
    if isinstance(value, str):
        told = redact(value)
        if not isinstance(told, str):
            raise TypeError(f"redact returned {type(told).__name__}")
        return told
    if isinstance(value, list):
        return [_every(one, redact) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _every(one, redact) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


def _shaped(value: Any, redact: Redact) -> Any:
    """A message, a block, or what is in a place of a block's that has a shape of its own."""
    if not isinstance(value, dict):
        return _every(value, redact)
    block = cast("dict[str, Any]", value)
    return {key: _field(block, key, one, redact) for key, one in block.items()}


def _field(block: dict[str, Any], key: str, value: Any, redact: Redact) -> Any:
    if isinstance(value, str):
        own = key in _OWN and _OWN[key].fullmatch(value)
        return value if own or (key == "data" and block.get("type") == "base64") else _every(value, redact)
    if isinstance(value, list) and key in ("content", "citations"):
        return [_shaped(one, redact) for one in value]  # pyright: ignore[reportUnknownVariableType]
    return _shaped(value, redact) if key in ("source", "cache_control") else _every(value, redact)
