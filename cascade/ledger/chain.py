"""The chain: every entry's digest holds the one before it, so that a change is found where it was made.

A writer is one process's; its chain starts at the digest of its own name. Deleting its last entries leaves a chain that is
sound: only a head that was exported before (`ledger verify --heads`) shows that.
"""

from __future__ import annotations

import hashlib

__all__ = ["content_digest", "link", "start"]


def start(writer: str) -> bytes:
    """What a writer's first entry is chained to."""
    return hashlib.blake2b(b"cascade ledger 1\0" + writer.encode(), digest_size=32).digest()


def link(before: bytes, seq: int, at: float, kind: str, request: str, body: bytes) -> bytes:
    """An entry's digest."""
    head = f"\0{seq}\0{at!r}\0{kind}\0{request}\0".encode()
    return hashlib.blake2b(before + head + body, digest_size=32).digest()


def content_digest(salt: bytes, text: str) -> str:
    """What an entry holds of a text that is kept apart: with the salt gone it cannot be guessed at."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=32, salt=salt).hexdigest()
