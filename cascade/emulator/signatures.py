"""Signatures of thinking blocks: each names the model that issued it, and fits one text and one conversation. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.emulator.content import encode, unmarked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Signature", "prefix_of", "read_signature", "sign"]

_MARK = "emulated"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a signature says. `prefix`: what stood before the thinking (see `prefix_of`)."""

    model: str
    prefix: Mapping[str, str]


def sign(model: str, thinking: str, prefix: Mapping[str, str]) -> str:
    """The signature of a model under its thinking; the same in every run."""
    bound = ",".join(f"{part}={digest}" for part, digest in prefix.items())
    return base64.b64encode(f"{_MARK}:{_digest([model, thinking, bound])}:{bound}:{model}".encode()).decode()


def read_signature(signature: object, thinking: object) -> Signature | None:
    """What the signature under this thinking says; None if either was changed, or if it is none of ours."""
    if not isinstance(signature, str) or not isinstance(thinking, str):
        return None
    try:
        mark, digest, bound, model = base64.b64decode(signature, validate=True).decode().split(":", 3)
    except (binascii.Error, ValueError):
        return None
    if mark != _MARK or digest != _digest([model, thinking, bound]):
        return None
    return Signature(model, dict(pair.split("=", 1) for pair in bound.split(",") if pair))


def prefix_of(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Digests of what stands before a thinking block: the system prompt, the tools, and these messages of the request."""
    turns = [[message["role"], _bare(message["content"])] for message in messages]
    tools = [unmarked(tool) for tool in body.get("tools") or ()]
    return {"system": _digest(_bare(body.get("system") or [])), "tools": _digest(tools), "messages": _digest(turns)}


def _bare(content: str | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else [unmarked(block) for block in content]


def _digest(value: object) -> str:
    return hashlib.blake2b(encode(value), digest_size=8).hexdigest()
