"""Looks at a shared state as `cascade doctor --deep` does: how far it is, and whether it keeps what it is given. Writes nothing but scripts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cascade.core.errors import ConfigurationError
from cascade.state.circuit import RedisConnection, Script
from cascade.state.opening import resolve_state

__all__ = ["StateStatus", "inspect_state"]

_TIMEOUT_S = 2.0
_PINGS = 20
_SCRIPTS = ("budgets.lua", "guard.lua", "recall.lua", "remember.lua", "tripped.lua")


@dataclass(frozen=True, slots=True)
class StateStatus:
    """What a shared state said. `where`: without a password. `problem`: why it cannot be used; the rest is not told then.

    `round_trip_ms`: the median. `scripts`: how many of ours it takes. `eviction`: its maxmemory-policy. `persists`: whether what it holds
    survives a restart, by its append-only file or by snapshots. `clock_skew_s`: its clock less this machine's.
    """

    where: str
    problem: str | None = None
    version: str = ""
    round_trip_ms: float = 0.0
    scripts: int = 0
    eviction: str = ""
    max_memory: int = 0
    used_memory: int = 0
    append_only: bool = False
    snapshots: bool | None = None
    clock_skew_s: float = 0.0
    is_replica: bool = False


def inspect_state(address: str | None, wall: Callable[[], float] = time.time) -> StateStatus | None:
    """Look at the state at this address (default: `CASCADE_STATE`); None: it is this process's memory. `wall`: Unix seconds.

    Raises ConfigurationError for an address that is none, MissingExtra.
    """
    resolved = resolve_state(address)
    if resolved == "memory":
        return None
    connection = RedisConnection(resolved, "", time.monotonic, _TIMEOUT_S, _TIMEOUT_S)
    where = connection.shown_address
    with connection.asking() as (client, failures):
        try:
            return _inspected(client, where, wall)
        except failures as problem:
            return StateStatus(where, type(problem).__name__)
        except ConfigurationError as problem:
            return StateStatus(where, str(problem))


def _inspected(client: Any, where: str, wall: Callable[[], float]) -> StateStatus:
    client.ping()
    taken: list[float] = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        client.ping()
        taken.append(time.perf_counter() - started)
    before = wall()
    seconds, micros = client.time()
    skew = seconds + micros / 1e6 - (before + wall()) / 2
    scripts = [Script(name) for name in _SCRIPTS]
    for one in scripts:
        if client.script_load(one.text) != one.digest:
            raise ConfigurationError(f"it keeps {one.name} under another digest than Redis does: it is no Redis")
    told = client.info()
    return StateStatus(
        where, None, str(told.get("redis_version", "")), statistics.median(taken) * 1000, len(scripts),
        str(told.get("maxmemory_policy", "")), int(told.get("maxmemory", 0)), int(told.get("used_memory", 0)),
        bool(told.get("aof_enabled")), _snapshots(client), skew, told.get("role") == "slave",
    )  # fmt: skip


def _snapshots(client: Any) -> bool | None:
    """Whether it makes snapshots; None: a server that is managed may not say."""
    from redis import RedisError  # noqa: PLC0415 - an extra

    try:
        return bool(client.config_get("save").get("save"))
    except RedisError:
        return None
