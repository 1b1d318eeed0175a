"""A gateway's key: `casc-ID-SECRET`, of which only the SHA-256 of the whole is stored.

The secret has 256 random bits. SHA-256 without salt and without stretching is right for such a key: there is nothing to guess
and no two are the same. (A password would need a slow hash: it can be guessed.)
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

__all__ = ["Key", "id_of", "make_key"]

_FORM = re.compile(r"casc-([0-9a-f]{12})-([A-Za-z0-9_-]{43})")
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Key:
    """A stored key. `digest`: SHA-256 of the whole key, in hexadecimal. `created`, `revoked`: Unix seconds.

    `policy`: the one that all of its requests climb by; None: whatever the request names. `daily_usd`: what it may spend a day.
    """

    id: str
    name: str
    digest: str
    created: float
    policy: str | None = None
    daily_usd: Decimal | None = None
    revoked: float | None = None

    def fits(self, token: str) -> bool:
        """Whether this is the key. Takes the same time wherever the two differ."""
        return hmac.compare_digest(_digest(token), self.digest) and self.revoked is None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "id": self.id, "name": self.name, "digest": self.digest, "created": self.created, "policy": self.policy,
            "daily_usd": None if self.daily_usd is None else str(self.daily_usd), "revoked": self.revoked,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Key:
        """What `to_dict` wrote. Raises ValueError, TypeError or KeyError for anything else."""
        usd: Any = values["daily_usd"]
        read: dict[str, Any] = {**values, "daily_usd": None if usd is None else Decimal(usd)}
        return cls(**read)


def make_key(
    name: str, created: float, *, policy: str | None = None, daily_usd: Decimal | None = None
) -> tuple[str, Key]:
    """A new key, which nobody sees again, and what is stored of it."""
    number = secrets.token_hex(6)
    token = f"casc-{number}-{secrets.token_urlsafe(_SECRET_BYTES)}"
    return token, Key(number, name, _digest(token), created, policy, daily_usd)


def id_of(token: str) -> str | None:
    """The id in a key; None if it does not have a key's form."""
    found = _FORM.fullmatch(token)
    return found.group(1) if found is not None else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
