"""The chain: every entry's digest holds the one before it, so that a change is found where it was made.

A writer is one process's; its chain starts at the digest of its own name. Deleting its last entries leaves a chain that is
sound: only a head that was exported before (`ledger verify --heads`) shows that.
"""

from __future__ import annotations

import hashlib
from struct import Struct

__all__ = ["content_digest", "link", "start"]


_place = Struct(">qdI").pack
_sha256 = hashlib.sha256  # of processors that have it built in, quicker than any other, and once for every entry


def start(writer: str) -> bytes:
    """What a writer's first entry is chained to."""
    return _sha256(b"cascade ledger 1\0" + writer.encode()).digest()


def link(before: bytes, seq: int, at: float, kind: str, request: str, body: bytes) -> bytes:
    """An entry's digest: SHA-256 of the one before, seq (8 bytes), at (a double), the length of what it is called, that, its body."""
    called = f"{kind}\0{request}".encode()
    return _sha256(b"".join((before, _place(seq, at, len(called)), called, body))).digest()


def content_digest(salt: bytes, text: str) -> str:
    """What an entry holds of a text that is kept apart: with the salt gone it cannot be guessed at."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=32, salt=salt).hexdigest()
