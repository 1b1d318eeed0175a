"""Signatures of thinking blocks: each says which model issued it, and fits one text only. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib

__all__ = ["issuer_of", "sign"]

_MARK = "emulated"


def sign(model: str, thinking: str) -> str:
    """The signature of a model under its thinking; the same in every run."""
    digest = hashlib.blake2b(f"{model}\x1f{thinking}".encode(), digest_size=12).hexdigest()
    return base64.b64encode(f"{_MARK}:{digest}:{model}".encode()).decode()


def issuer_of(signature: object, thinking: object) -> str | None:
    """The model that signed this thinking; None if it was changed, or signed by nobody here."""
    if not isinstance(signature, str) or not isinstance(thinking, str):
        return None
    try:
        mark, _, model = base64.b64decode(signature, validate=True).decode().split(":", 2)
    except (binascii.Error, ValueError):
        return None
    return model if mark == _MARK and signature == sign(model, thinking) else None
