"""The storm guard that many processes share: the twin in Lua, on a real Redis."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from cascade.core.climb import Observation
from cascade.core.policy import StormGuard
from cascade.core.policy.certificate import Escalation
from cascade.core.storm import Guard
from cascade.state import State
from cascade.state.circuit import RedisConnection
from cascade.state.memory import MemoryState
from cascade.state.redis import RedisState
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
        assert set(next(shared).tripped() or ()) == set(own.tripped)
    for connection in connections:
        connection.close()


CERTIFIED, RAISED = Escalation({"haiku": 0.2}), Escalation({"haiku": 0.7}, {"a": {"haiku": 0.65}})

MakeState = Callable[[], State]


@pytest.fixture(params=["memory", "redis"])
def make_state(request: pytest.FixtureRequest, redis_server: RedisServer) -> MakeState:
    """Make states of one policy that expect the certified rates: of one process, or of several that share a Redis."""
    guard = StormGuard(rate=0.05, window=40, min_samples=20, dwell_s=0.0)
    policy = make_policy(f"expecting-{next(_numbers)}", storm_guard=guard)
    if request.param == "memory":
        return lambda: MemoryState(policy, CERTIFIED, lambda: 0.0)
    return lambda: RedisState(redis_server.url, policy, CERTIFIED, lambda: 0.0)


def half_escalate(*states: State, steps: int = 40) -> list[str]:
    """The events of so many steps of Haiku's, of which every other one escalates; the states see them in turn."""
    with capture_logs() as events:
        for number, state in zip(range(steps), itertools.cycle(states), strict=False):
            state.observe(Observation("a", 0, "haiku", natural=number % 2 == 0, failed=False))
    return [event["event"] for event in events]


def action(state: State) -> str | None:
    """What the guard does with a step that it does not count."""
    return state.observe(Observation("a", 0, "haiku", natural=None, failed=False))


def test_the_guard_expects_the_rates_of_the_thresholds_in_force(make_state: MakeState) -> None:
    """What is a storm at the certified rates is none where more escalations are expected, and one again when they are not."""
    state = make_state()
    assert half_escalate(state) == ["storm_tripped"]
    assert action(state) == "escalate"
    state.expect(RAISED)
    assert action(state) is None
    assert half_escalate(state) == []
    state.expect(CERTIFIED)
    half_escalate(state)
    assert action(state) == "escalate"
    state.close()


def test_to_expect_the_same_again_forgets_nothing(make_state: MakeState) -> None:
    """A policy without a certificate expects no rates at any step of its ratchet."""
    state = make_state()
    half_escalate(state)
    state.expect(Escalation({"haiku": 0.2}))
    assert action(state) == "escalate"
    state.close()


def test_processes_at_different_steps_do_not_count_each_others_requests(redis_server: RedisServer) -> None:
    """One that has not yet read of a step is right about its own thresholds; those at one step share what they see."""
    policy = make_policy(f"steps-{next(_numbers)}", storm_guard=StormGuard(rate=0.05, window=40, min_samples=20))
    before, one, other = (RedisState(redis_server.url, policy, CERTIFIED, lambda: 0.0) for _ in range(3))
    for state in (one, other):
        state.expect(Escalation({"haiku": 0.25}))
    assert half_escalate(before, steps=12) == []
    assert half_escalate(one, other, steps=12) == []
    assert half_escalate(one, other, steps=28) == ["storm_tripped"]
    assert (action(before), action(one), action(other)) == (None, "escalate", "escalate")
    for state in (before, one, other):
        state.close()
