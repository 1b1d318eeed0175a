"""A faulty endpoint and callers that go away, at every phase and by chance: nothing leaks, and everything is on the ledger."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from cascade.emulator import Emulator
from cascade.gateway.keys.ring import KeyRing
from cascade.ledger.gateway import GatewayTables
from cascade.state.memory import process_counters
from tests.gateway.serving import Gateway
from tests.gateway.test_climbing import asked, script
from tests.gateway.test_keys import wait_until
from tests.gateway.test_relay import post

FAULTS = "cut=0.1,overloaded=0.1,reset=0.05,server_error=0.05,stream_overloaded=0.1,truncated_json=0.05,refusal=0.05"
REQUESTS = 120


def test_faults_and_disconnects_by_chance_leak_nothing(
    start: Callable[..., Gateway], emulate: Callable[..., Emulator], tmp_path: Path
) -> None:
    """No connection to the endpoint, no reservation, no request without its end; and no token is billed that the endpoint did not bill."""
    emulator = emulate(script=script, faults=FAULTS, seed=5, token_latency_s=0.0005)
    ring = KeyRing(GatewayTables(str(tmp_path / "ledger.db")))
    token, key = ring.create("ci", daily_usd=Decimal(1_000))
    gateway = start(emulator.base_url)
    before, chance = time.time(), random.Random(7)

    async def one(model: str, question: str, stream: bool, patience_s: float | None) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        body = json.dumps(asked(question, model=model, stream=stream)).encode()
        headers = {"x-api-key": token, "anthropic-version": "2023-06-01"}
        writer.write(post(body, headers, target="/v1/messages"))
        try:
            async with asyncio.timeout(patience_s):
                await reader.read()
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()

    async def all_of_them() -> None:
        room = asyncio.Semaphore(12)

        async def in_turn(*what: object) -> None:
            async with room:
                await one(*what)  # pyright: ignore[reportArgumentType]

        drawn = [
            (
                chance.choice(("claude-cascade-small", "claude-sonnet-5-5")),
                chance.choice(("easy", "hard", "declined")),
                chance.random() < 0.5,
                chance.choice((None, None, None, chance.uniform(0.001, 0.2))),
            )
            for _ in range(REQUESTS)
        ]
        await asyncio.gather(*(in_turn(*what) for what in drawn))

    asyncio.run(all_of_them())
    wait_until(lambda: emulator.open_replies == 0)
    gateway.stop()
    wait_until(lambda: emulator.open_connections == 0)
    records = gateway.records()
    assert REQUESTS * 0.9 < len(records) <= REQUESTS  # one that goes away before it was read has asked nothing
    assert all(record.outcome is not None for record in records)
    exact = [step for record in records for _, step in record.steps if not step.is_estimate]
    assert sum(step.output_tokens for step in exact) <= emulator.billed.usage.output_tokens
    assert {record.outcome.error for record in records if record.outcome is not None} >= {None, "cancelled"}
    days = {datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d") for at in (before, time.time())}
    spent = [process_counters("gateway").spent(f"gateway/key={key.id}|daily|{day}") for day in days]
    assert sum(reserved for _, reserved in spent) == 0
    assert (
        sum(settled for settled, _ in spent) >= sum(one.outcome.cost for one in records if one.outcome is not None) > 0
    )
