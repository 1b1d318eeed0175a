"""The hash chain: each entry's digest covers the digest before it, so that a changed entry is found where it was changed.

Each writer has a chain of its own, which starts at the digest of the writer's name. A chain whose last entries were deleted
still verifies; only heads exported earlier (`ledger verify --heads`) reveal that.
"""

from __future__ import annotations

import hashlib
from struct import Struct

__all__ = ["content_digest", "link", "start"]


_place = Struct(">qdI").pack
_sha256 = hashlib.sha256  # computed once per entry; fast where the processor supports it


def start(writer: str) -> bytes:
    """The digest that a writer's first entry is chained to."""
    return _sha256(b"cascade ledger 1\0" + writer.encode()).digest()


def link(before: bytes, seq: int, at: float, kind: str, request: str, body: bytes) -> bytes:
    """An entry's digest: SHA-256 of the previous digest, seq (8 bytes), at (a double), the label's length, the label, the body."""
    label = f"{kind}\0{request}".encode()
    return _sha256(b"".join((before, _place(seq, at, len(label)), label, body))).digest()


def content_digest(salt: bytes, text: str) -> str:
    """The digest of a text that is stored separately. Once the salt is deleted, the text cannot be guessed from it."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=32, salt=salt).hexdigest()
