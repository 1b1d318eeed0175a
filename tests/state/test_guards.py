"""The storm guard that many processes share: the twin in Lua, on a real Redis."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.core.climb import Observation
from cascade.core.policy import StormGuard
from cascade.core.policy.certificate import Escalation
from cascade.core.storm import Guard
from cascade.state.circuit import RedisConnection
from cascade.state.redis_guard import SharedGuard
from tests.servers import RedisServer
from tests.state.builders import make_policy

_numbers = itertools.count()


@dataclass(frozen=True)
class Run:
    """So many steps alike: natural None, False or True; each `every` seconds after the one before."""

    natural: bool | None
    count: int
    every: float
    failed: bool
    task: str
    cost: int


_runs = st.builds(
    Run,
    st.sampled_from([None, False, True, True]),
    st.integers(1, 30),
    st.sampled_from([0.0, 0.1, 1.0, 7.3, 900.0]),
    st.booleans(),
    st.sampled_from(["a", "b"]),
    st.sampled_from([0, 0, 400_000_000]),
)


@st.composite
def _guards(draw: st.DrawFn) -> StormGuard | None:
    least = draw(st.integers(1, 12))
    return draw(
        st.none()
        | st.builds(
            StormGuard,
            rate=st.sampled_from([0.02, 0.2, 0.35, 0.9]),
            window=st.integers(least, 40),
            min_samples=st.just(least),
            dwell_s=st.sampled_from([0.0, 5.5, 60.0]),
            on_trip=st.sampled_from(["escalate", "hold", "alert"]),
            max_trip_s=st.sampled_from([10.0, 1000.0]),
            max_extra_usd_per_hour=st.none() | st.sampled_from([0.0, 1.0]),
        )
    )


@settings(max_examples=20)
@given(_guards(), st.lists(_runs, min_size=3, max_size=10), st.sampled_from([{}, {"haiku": 0.3}, {"haiku": 0.95}]))
def test_the_shared_guard_is_the_guard(
    redis_server: RedisServer, guard: StormGuard | None, runs: list[Run], certified: dict[str, float]
) -> None:
    """Whatever is observed, by two processes in turn: the same actions and the same changes, to the last digit."""
    policy = make_policy(f"twin-{next(_numbers)}", storm_guard=guard)
    now = 1_700_000_000.25
    own = Guard(guard, Escalation(certified))
    connections = [RedisConnection(redis_server.url, policy.name, lambda: 0.0, 30.0, 1.0) for _ in range(2)]
    shared = itertools.cycle(
        [SharedGuard(policy, Escalation(certified), connection, lambda: now) for connection in connections]
    )
    for run in runs:
        for _ in range(run.count):
            now += run.every
            seen = Observation(run.task, 0, "haiku", run.natural, run.failed, run.cost)
            wanted = own.observe(
                run.task, "haiku", natural=run.natural, failed=run.failed, storm_cost=run.cost, now=now
            )
            assert next(shared).observe(seen) == wanted
    for connection in connections:
        connection.close()
