"""What one request costs each part, measured on this machine: for `capacity.py`.

A real gateway in front of a fast endpoint, under load on the loopback: its processor time and memory, what it writes to its ledger (SQLite,
Postgres) and what it asks of Redis, for climbs of one, two and three steps.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anthropic
import psycopg
from gateway_servers import Load, Running, cascade_gateway, redis, started, upstream
from redis import Redis

from cascade import Cascade
from cascade.policy.loading import load_policy

__all__ = ["STEPS", "measured"]

STEPS = (1, 2, 3)
PROMPT = "Where is my order? The customer wrote that the parcel had not arrived. " * 14  # 1,000 characters or so
_CONNECTIONS = 32
_WARM_S = 1.0
_SCHEMA = "cascade_ledger"


@dataclass(frozen=True)
class Parts:
    """What a gateway is given. `postgres`, `redis`: addresses; "" for a file, and for memory."""

    steps: int
    content: bool = False
    postgres: str = ""
    redis: str = ""


def measured(seconds: float, postgres: str) -> dict[str, Any]:
    """All of it. `seconds`: of each load. `postgres`: an address; its ledger is dropped before each load."""
    with ExitStack() as stack:
        endpoint = stack.enter_context(started(upstream()))
        state = stack.enter_context(started(redis())).url.replace("http:", "redis:")
        load = stack.enter_context(Load())
        alone: dict[str, Any] = {}
        shared: dict[str, Any] = {}
        for steps in STEPS:
            alone[str(steps)] = _gateway(Parts(steps), endpoint, load, seconds)
            shared[str(steps)] = _gateway(Parts(steps, postgres=postgres, redis=state), endpoint, load, seconds)
        texts = _gateway(Parts(1, content=True), endpoint, load, seconds)
        texts_postgres = _gateway(Parts(1, content=True, postgres=postgres), endpoint, load, seconds)
        return {
            "machine": _machine(),
            "prompt_characters": len(PROMPT),
            "engine_cpu_ms": {str(steps): _engine_ms(steps, endpoint.url, seconds) for steps in STEPS},
            "alone": alone,
            "shared": shared,
            "content": {"sqlite": texts["sqlite_bytes"], "postgres": texts_postgres["postgres"]},
        }


def _machine() -> dict[str, Any]:
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "unknown")  # fmt: skip
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _policy(folder: Path, parts: Parts) -> Path:
    """The default ladder, of which the endpoint's constant confidence (0.95) climbs so many steps; guard and a budget are on."""
    thresholds = [0.99 if at < parts.steps - 1 else 0.5 for at in range(2)]
    path = folder / "capacity.yaml"
    path.write_text(
        "version: 1\nname: capacity\nladder:\n"
        f"  - {{rung: haiku, model: claude-haiku-5-5, threshold: {thresholds[0]}, max_tokens: 1024, thinking: disabled}}\n"
        f"  - {{rung: sonnet, model: claude-sonnet-5-5, threshold: {thresholds[1]}, max_tokens: 4096, effort: low}}\n"
        "  - {rung: opus, model: claude-opus-5-5, max_tokens: 8192}\n"
        "storm_guard: {rate: 0.99, on_trip: alert}\nbudget: {daily_usd: 100000, on_exhausted: reject}\n"
        f"ledger: {{content: {str(parts.content).lower()}}}\n"
    )
    return path


def _gateway(parts: Parts, endpoint: Running, load: Load, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="cascade-capacity-") as made:
        folder = Path(made)
        file = folder / "ledger.db"
        command = cascade_gateway(endpoint.url, 1, parts.redis or None)
        argv = [str(_policy(folder, parts)) if one == "default" else one for one in command.argv]
        environment = {**command.environment, "CASCADE_LEDGER": parts.postgres or str(file)}
        if parts.postgres:
            with psycopg.connect(parts.postgres, autocommit=True) as connection:
                connection.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE")
        with started(replace(command, argv=tuple(argv), environment=environment)) as gateway:
            found = _loaded(gateway, load, seconds, parts, file)
        rows, requests = _rows(parts.postgres, file)
        assert requests == found["requests"], (requests, found)
        found["rows"] = rows / requests
        return found


def _loaded(gateway: Running, load: Load, seconds: float, parts: Parts, file: Path) -> dict[str, Any]:
    job: dict[str, Any] = {
        "url": gateway.url, "path": "/v1/messages", "headers": {}, "connections": _CONNECTIONS,
        "body": {"model": "claude-cascade-capacity", "max_tokens": 500, "messages": [{"role": "user", "content": PROMPT}]},
    }  # fmt: skip
    idle = gateway.memory_mb()
    warm = load("load", seconds=_WARM_S, **job)
    _written(parts.postgres, file, warm["requests"])
    stored = _stored(parts.postgres, file)  # what a ledger has that is new is no request's
    client: Any = Redis.from_url(parts.redis) if parts.redis else None  # pyright: ignore[reportUnknownMemberType]
    before, database = gateway.cpu_s(), _database_cpu_s(parts.postgres)
    if client is not None:
        client.config_resetstat()
        redis_before = _redis_cpu_s(client)
    ran = load("load", seconds=seconds, **job)
    assert set(ran["statuses"]) == {"200"}, ran
    _written(
        parts.postgres, file, ran["requests"] + warm["requests"]
    )  # the rows that still waited are part of the cost
    used = _database_cpu_s(parts.postgres)
    count = ran["requests"]
    found: dict[str, Any] = {
        "requests": count + warm["requests"],
        "cpu_ms": (gateway.cpu_s() - before) / count * 1e3,
        "per_s": ran["per_s"],
        "memory_idle_mb": idle,
        "memory_mb": gateway.memory_mb(),
    }
    grown = {name: (size - stored[name]) / count for name, size in _stored(parts.postgres, file).items()}
    if parts.postgres:
        found["postgres"] = {
            "cpu_ms": None if used is None or database is None else (used - database) / count * 1e3,
            **grown,
        }
    else:
        found |= grown
    if client is not None:
        told: Mapping[str, Any] = client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): one["calls"] for name, one in told.items()}
        asked = {name: calls.get(name, 0) for name in ("evalsha", "eval")}
        inner = (
            sum(calls.values())
            - sum(asked.values())
            - sum(calls.get(name, 0) for name in ("info", "ping", "config|resetstat"))
        )
        found["redis"] = {
            "round_trips": sum(asked.values()) / count,
            "commands": inner / count,
            "cpu_ms": (_redis_cpu_s(client) - redis_before) / count * 1e3,
        }
        client.close()
    return found


def _redis_cpu_s(client: Any) -> float:
    told = client.info("cpu")
    return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])


def _database_cpu_s(address: str) -> float | None:
    """Processor time of the server's processes that are there; None where it is on another machine."""
    if not address:
        return None
    with psycopg.connect(address) as connection:
        row = connection.execute("SELECT current_setting('data_directory')").fetchone()
    assert row is not None
    file = Path(row[0]) / "postmaster.pid"
    if not file.exists():
        return None
    server: Any = type("Server", (), {"pid": int(file.read_text().splitlines()[0])})
    return Running("postgres", "", server).cpu_s()


@contextmanager
def _asking(address: str, file: Path) -> Iterator[Any]:
    if address:
        with psycopg.connect(address) as connection:
            connection.execute(f"SET search_path = {_SCHEMA}")
            yield connection
    else:
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            yield connection
        finally:
            connection.close()


def _written(address: str, file: Path, requests: int) -> None:
    until, there = time.monotonic() + 60, 0
    while there < requests:
        assert time.monotonic() < until, "the ledger was not written in a minute"
        time.sleep(0.2)
        with suppress(psycopg.errors.UndefinedTable, sqlite3.OperationalError):  # it is just being made
            there = _rows(address, file)[1]


def _rows(address: str, file: Path) -> tuple[int, int]:
    with _asking(address, file) as connection:
        question = "SELECT count(*), sum(CASE WHEN kind = 'outcome' THEN 1 ELSE 0 END) FROM entries"
        rows, requests = connection.execute(question).fetchone()
    return int(rows), int(requests or 0)


def _stored(address: str, file: Path) -> dict[str, float]:
    """Bytes of the file; or of Postgres's tables and of their indexes, of entries and texts, whatever partitions they have."""
    if not address:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return {"sqlite_bytes": file.stat().st_size}
    question = (
        "SELECT sum(pg_table_size(c.oid)), sum(pg_indexes_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relkind = 'r' AND (c.relname LIKE 'entries%%' OR c.relname LIKE 'contents%%')"
    )
    with psycopg.connect(address) as connection:
        row = connection.execute(question, (_SCHEMA,)).fetchone()
    assert row is not None
    return {"table_bytes": int(row[0]), "index_bytes": int(row[1])}


def _engine_ms(steps: int, endpoint: str, seconds: float) -> float:
    """Processor time of one `ask` in a process of its own, less a bare call of the SDK for each step: in turn, medians."""
    with tempfile.TemporaryDirectory(prefix="cascade-capacity-") as made, ExitStack() as stack:
        path = _policy(Path(made), Parts(steps))
        ours, theirs = (
            stack.enter_context(anthropic.Anthropic(base_url=endpoint, api_key="none", max_retries=0)) for _ in range(2)
        )
        driver = stack.enter_context(Cascade(load_policy(path), client=ours, ledger=Path(made) / "ledger.db"))
        question: Any = [{"role": "user", "content": PROMPT}]
        asked: list[float] = []
        bare: list[float] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.process_time()
            assert driver.ask(PROMPT).attempts == steps
            middle = time.process_time()
            for _ in range(steps):
                theirs.messages.create(model="claude-haiku-5-5", max_tokens=500, messages=question)
            asked.append(middle - began)
            bare.append(time.process_time() - middle)
        warm = len(asked) // 5
        return (sum(asked[warm:]) - sum(bare[warm:])) / len(asked[warm:]) * 1e3
