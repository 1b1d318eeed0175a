"""Opens the state that an address names."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.state import Seed, State, Told
from cascade.state.memory import MemoryState

__all__ = ["check_state", "open_state", "resolve_state"]

_CHECK_TIMEOUT_S = 1.0


def open_state(
    address: str | None,
    policy: Policy,
    escalation: Escalation,
    clock: Callable[[], float],
    *,
    seed: Seed | None = None,
    told: Told | None = None,
) -> State:
    """The state at `address`: "memory", or redis://, rediss://, unix://; None: `CASCADE_STATE`, else memory.

    `clock` gives seconds from any origin. `told`: of the storm guard's changes. Raises ConfigurationError for any other address, MissingExtra if redis-py is not
    installed.
    """
    resolved = resolve_state(address)
    if resolved == "memory":
        return MemoryState(policy, escalation, clock, seed=seed, told=told)
    from cascade.state.redis import RedisState  # noqa: PLC0415 - an extra

    return RedisState(resolved, policy, escalation, clock, seed=seed, told=told)


def check_state(address: str | None) -> tuple[str, str | None]:
    """The state's address without secrets, and why it cannot be reached (None: it can). Raises as `open_state` does."""
    resolved = resolve_state(address)
    if resolved == "memory":
        return "memory, per process", None
    from cascade.state.circuit import RedisConnection  # noqa: PLC0415 - an extra

    connection = RedisConnection(resolved, "", time.monotonic, _CHECK_TIMEOUT_S, _CHECK_TIMEOUT_S)
    return connection.shown_address, connection.ping()


def resolve_state(address: str | None) -> str:
    """The address given, else `CASCADE_STATE`, else "memory". Raises ConfigurationError for what is no state."""
    named = address if address is not None else os.environ.get("CASCADE_STATE") or "memory"
    scheme = named.partition("://")[0] if "://" in named else ""
    if named == "memory" or scheme in ("redis", "rediss", "unix"):
        return named
    where = "CASCADE_STATE" if address is None else "state"
    shown = f"{scheme}://…" if scheme else repr(named) if "@" not in named else "this"  # an address may hold a password
    raise ConfigurationError(
        f"{where}: {shown} is not a state (use memory, redis://host:6379/0, rediss://… or unix:///path)"
    )
