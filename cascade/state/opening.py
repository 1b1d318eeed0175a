"""Opening the state that an address names."""

from __future__ import annotations

import os
from collections.abc import Callable

from cascade.core.certificate import Escalation
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.state import Seed, State
from cascade.state.memory import MemoryState

__all__ = ["open_state"]


def open_state(
    address: str | None,
    policy: Policy,
    escalation: Escalation,
    clock: Callable[[], float],
    *,
    seed: Seed | None = None,
) -> State:
    """The state at `address`: "memory", or redis://, rediss://, unix://; None: `CASCADE_STATE`, else memory.

    `clock` gives seconds from any origin. Raises ConfigurationError for any other address, MissingExtra without redis-py.
    """
    named = address if address is not None else os.environ.get("CASCADE_STATE") or "memory"
    if named == "memory":
        return MemoryState(policy, escalation, clock, seed=seed)
    scheme = named.partition("://")[0] if "://" in named else ""
    if scheme in ("redis", "rediss", "unix"):
        from cascade.state.redis import RedisState  # noqa: PLC0415 - an extra

        return RedisState(named, policy, escalation, clock, seed=seed)
    where = "CASCADE_STATE" if address is None else "state"
    told = f"{scheme}://…" if scheme else repr(named) if "@" not in named else "this"  # an address may hold a password
    raise ConfigurationError(
        f"{where}: {told} is not a state (use memory, redis://host:6379/0, rediss://… or unix:///path)"
    )
