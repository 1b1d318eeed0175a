"""The prompt as the ledger records it: an independent copy, its canonical JSON, its hash, its redaction.

The caller may change the messages while entries wait, so their containers are copied at once. Strings are immutable and are not
copied.
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
"""Returns the text to store instead of its argument."""

_ATOMS = frozenset({str, int, float, bool, bytes, type(None)})
_API_FIELDS = {  # values that belong to the API's format, not to the user
    "role": re.compile("user|assistant|system"),
    "type": re.compile("[a-z][a-z0-9_]{0,63}"),
    "ttl": re.compile("5m|1h"),
    "media_type": re.compile(r"[a-z]+/[a-z0-9.+-]{1,80}"),
    "id": re.compile(r"[A-Za-z0-9_-]{1,128}"),
    "tool_use_id": re.compile(r"[A-Za-z0-9_-]{1,128}"),
}


def snapshot(value: Any) -> Any:
    """A copy in new containers. What JSON cannot express becomes its `model_dump`, else the name of its type."""
    if type(value) in _ATOMS:
        return value
    if isinstance(value, (list, tuple)):
        return [snapshot(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, (dict, Mapping)):  # dict first: it is the faster test
        return {str(key): snapshot(one) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, (str, bytes)):
        return value
    dump = getattr(value, "model_dump", None)  # a block of one of the SDK's classes
    return snapshot(dump(mode="json")) if callable(dump) else type(value).__name__


def canonical(system: Any, messages: Any) -> bytes:
    """System prompt and messages as JSON: keys sorted, no white space. The same prompt is always the same bytes."""
    whole = {"messages": messages, "system": system}
    try:
        return msgspec.json.encode(whole, order="sorted")
    except UnicodeEncodeError:  # an unpaired surrogate cannot be UTF-8, but can be escaped
        return json.dumps(whole, sort_keys=True, separators=(",", ":"), default=repr).encode()


def prompt_hash(document: bytes) -> str:
    """SHA-256 of a prompt's canonical JSON, in hexadecimal."""
    return hashlib.sha256(document).hexdigest()


def bind_redact(path: str) -> Redact:
    """The function that `redact` names. Raises PolicyError if it cannot be used."""
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

    Unchanged are values that belong to the API's format: roles, block types and ids, the bytes of images and documents. A tool's
    input is the user's and is redacted whatever its keys. Raises what `redact` raises, and TypeError if it does not return a str.
    """
    if isinstance(value, list):
        return [_redact_shaped(one, redact) for one in value]  # pyright: ignore[reportUnknownVariableType]
    return _redact_all(value, redact)


def _redact_all(value: Any, redact: Redact) -> Any:
    if isinstance(value, str):
        replaced = redact(value)
        if not isinstance(replaced, str):
            raise TypeError(f"redact returned {type(replaced).__name__}")
        return replaced
    if isinstance(value, list):
        return [_redact_all(one, redact) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _redact_all(one, redact) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


def _redact_shaped(value: Any, redact: Redact) -> Any:
    """A message, a block, or a field of a block that has a structure of its own."""
    if not isinstance(value, dict):
        return _redact_all(value, redact)
    block = cast("dict[str, Any]", value)
    return {key: _redact_field(block, key, one, redact) for key, one in block.items()}


def _redact_field(block: dict[str, Any], key: str, value: Any, redact: Redact) -> Any:
    if isinstance(value, str):
        is_api = key in _API_FIELDS and _API_FIELDS[key].fullmatch(value)
        return value if is_api or (key == "data" and block.get("type") == "base64") else _redact_all(value, redact)
    if isinstance(value, list) and key in ("content", "citations"):
        return [_redact_shaped(one, redact) for one in value]  # pyright: ignore[reportUnknownVariableType]
    return _redact_shaped(value, redact) if key in ("source", "cache_control") else _redact_all(value, redact)
