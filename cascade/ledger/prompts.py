"""What was asked, as the ledger sees it: a copy that nobody else can change, its canonical JSON, its hash, its redaction.

The caller's messages are the caller's to change while the rows wait, so their containers are copied at once; the texts in
them cannot change, and are not.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from cascade.core.errors import PolicyError

__all__ = ["Redact", "bind_redact", "canonical", "prompt_hash", "redacted", "snapshot"]

Redact = Callable[[str], object]
"""Returns the text to store in place of the one it is given."""

_ATOMS = frozenset({str, int, float, bool, bytes, type(None)})
_NAMES = frozenset({"role", "type", "media_type", "id", "tool_use_id"})  # the API's own words and ids, not the user's


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
        mend="name a function as module:function, in a module that can be imported",
    )


def redacted(value: Any, redact: Redact) -> Any:
    """A snapshot with every text in it put through `redact`. Raises what that raises; TypeError where it gives no text.

    The API's own words (roles, types, ids) and the bytes of images and documents are left as they are.
    """
    if isinstance(value, str):
        told = redact(value)
        if not isinstance(told, str):
            raise TypeError(f"redact returned {type(told).__name__}")
        return told
    if isinstance(value, list):
        return [redacted(one, redact) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        kept = _NAMES | {"data"} if value.get("type") == "base64" else _NAMES  # pyright: ignore[reportUnknownMemberType]
        return {
            key: one if key in kept and isinstance(one, str) else redacted(one, redact)
            for key, one in value.items()  # pyright: ignore[reportUnknownVariableType]
        }
    return value
