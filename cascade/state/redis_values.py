"""The values that requests leave for later ones, shared by many processes: one script, and one round trip, for each call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

from cascade.state.circuit import RedisConnection, Script
from cascade.state.values import LocalValues, digest_of

__all__ = ["SharedValues"]

_REMEMBER, _RECALL = Script("remember.lua"), Script("recall.lua")


class SharedValues:
    """`State.remember` and `State.recall`. `clock`: seconds from any origin; the server expires values by its own.

    This process also keeps what it remembers itself. That is what it goes by while Redis is away, and what closes the gap
    afterwards: what was remembered meanwhile is nowhere else.
    """

    def __init__(self, policy: str, connection: RedisConnection, clock: Callable[[], float]) -> None:
        self._prefix = f"cascade:{{{policy}}}:value:"
        self._connection, self._clock, self._own = connection, clock, LocalValues()

    def remember(self, keys: Sequence[str], value: str, ttl_s: float) -> None:
        """As `State.remember`."""
        digests = [digest_of(key) for key in keys]
        if not digests:
            return
        self._own.remember(digests, value, ttl_s, self._clock())
        self._connection.run(_REMEMBER, self._names(digests), (value, max(1, math.ceil(ttl_s * 1000))))

    def recall(self, keys: Sequence[str]) -> str | None:
        """As `State.recall`."""
        digests = [digest_of(key) for key in keys]
        if not digests:
            return None
        reply = cast("list[Any] | None", self._connection.run(_RECALL, self._names(digests), ()))
        own = self._own.recall(digests, self._clock())
        if reply and (own is None or int(reply[0]) <= own[0]):
            return bytes(reply[1]).decode("utf-8", "surrogatepass")
        return own[1] if own is not None else None

    def _names(self, digests: Sequence[str]) -> list[str]:
        return [f"{self._prefix}{digest}" for digest in digests]
