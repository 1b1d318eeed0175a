"""A process that spends what it can of one budget: `python spender.py URL SEED`, until its stdin ends and it is refused.

It says on stdout what happens, a word a line, and at the end what it spent, in nano-USD.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from cascade.core.policy.certificate import Escalation
from cascade.state.redis import RedisState
from cascade.state.redis_budgets import RedisTimings
from tests.state.builders import make_budget, make_policy

LIMIT = 200_000_000
THREADS = 4
_PATIENCE_S = 60.0


def spend(state: RedisState, chance: random.Random, ending: threading.Event) -> int:
    """Reserve, settle, again; until it is refused after the end was said."""
    spent, budget, until = 0, make_budget("shared", LIMIT), time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        bound = chance.randrange(1, 1_000_000)
        if state.reserve([(budget, True)], bound) is None:
            cost = chance.randrange(bound)
            spent += cost
            state.settle([budget], bound, cost)
            ending.wait(0.001)  # the model's turn
        elif ending.wait(0.02):
            return spent
    return spent


def main() -> None:
    """Spend with a few threads."""

    def say(_: Any, __: str, event: Any) -> Any:
        print(event["event"], flush=True)  # noqa: T201 - it is what the test reads
        raise structlog.DropEvent

    structlog.configure(processors=[say])
    url, seed = sys.argv[1:]
    timings = RedisTimings(timeout_s=5.0, retry_s=0.1, heartbeat_s=0.1, recovery_s=1.0)
    state, ending = (
        RedisState(url, make_policy("shared"), Escalation(), time.monotonic, timings=timings),
        threading.Event(),
    )
    with ThreadPoolExecutor(THREADS) as pool:
        running = [pool.submit(spend, state, random.Random(f"{seed}-{number}"), ending) for number in range(THREADS)]
        print("begun", flush=True)  # noqa: T201
        sys.stdin.read()
        ending.set()
        print(sum(one.result() for one in running), flush=True)  # noqa: T201
    state.close()


if __name__ == "__main__":
    main()
