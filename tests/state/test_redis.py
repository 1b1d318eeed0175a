"""The state in Redis: what it costs, who tells what, and what happens while Redis is away."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from redis import Redis
from structlog.testing import capture_logs

from cascade.core.budgets import applicable_budgets
from cascade.core.climb import Observation
from cascade.core.errors import ConfigurationError
from cascade.core.policy.certificate import Escalation
from cascade.core.policy.operations import Limits
from cascade.core.storm import Guard
from cascade.state.memory import MemoryState
from cascade.state.opening import open_state
from cascade.state.redis import RedisState
from cascade.state.redis_budgets import RedisTimings
from tests.servers import RedisServer
from tests.state.builders import make_budget, make_policy

Made = Callable[..., RedisState]


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        """As a clock does."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """One for all processes."""
    return Clock()


@pytest.fixture
def make(clock: Clock, request: pytest.FixtureRequest) -> Made:
    """A process's state at a server."""

    def one(server: RedisServer, name: str, **policy: Any) -> RedisState:
        timings = RedisTimings(timeout_s=30.0, heartbeat_s=None, at=clock, sleep=clock.sleep)
        state = RedisState(server.url, make_policy(name, **policy), Escalation(), clock, timings=timings)
        request.addfinalizer(state.close)
        return state

    return one


def seen(natural: bool = True) -> Observation:
    """A step at the first rung."""
    return Observation("t", 0, "haiku", natural, failed=False)


def test_a_decision_is_one_round_trip(redis_server: RedisServer, make: Made) -> None:
    """An observation, a reservation of two budgets, a settlement: one command each, as the server counts them."""
    state, budgets = (
        make(redis_server, "trips", storm_guard={}),
        [make_budget("trips", 10**9), make_budget("trips", 10**9, value="w")],
    )
    hard = [(budget, True) for budget in budgets]
    state.observe(seen())
    state.reserve(hard, 5)
    state.settle(budgets, 5, 5)
    client = Redis.from_url(redis_server.url)
    client.config_resetstat()
    for _ in range(10):
        assert state.observe(seen()) is None
        assert state.reserve(hard, 5) is None
        assert state.settle(budgets, 5, 5) == ()
    counted: dict[str, Any] = client.info("commandstats")  # type: ignore[assignment]
    inside = {"get", "hget", "hmget", "hset", "hlen", "llen", "rpush", "lpop", "lindex", "expire", "del", "time"}
    asked = {name.removeprefix("cmdstat_"): one["calls"] for name, one in counted.items()}
    client.close()
    assert {name: calls for name, calls in asked.items() if name not in inside | {"info", "config|resetstat"}} == {
        "evalsha": 30
    }


def test_the_guard_trips_once_for_all_and_releases_once_for_all(redis_server: RedisServer, make: Made) -> None:
    """Three processes see a third each: one tells, all act."""
    guard = {"min_samples": 30, "window": 60, "dwell_s": 0.0}
    states = [make(redis_server, "once", storm_guard=guard) for _ in range(3)]
    with capture_logs() as events:
        for number in range(24):
            states[number % 3].observe(seen())
        assert [state.observe(seen(natural=False)) for state in states] == ["escalate"] * 3
        for number in range(30):
            states[number % 3].observe(seen(natural=False))
        assert [state.observe(seen(natural=False)) for state in states] == [None] * 3
    assert [event["event"] for event in events] == ["storm_tripped", "storm_released"]
    assert "alone" not in events[0]


def test_more_tasks_than_are_watched_share_one_watch(redis_server: RedisServer, make: Made) -> None:
    """As in `core.storm`: the twin counts its watches, too."""
    state, own = (
        make(redis_server, "many", storm_guard={"min_samples": 2, "window": 2}),
        Guard(make_policy("x", storm_guard={"min_samples": 2, "window": 2}).storm_guard),
    )
    for number in range(1_028):
        task = f"t{number}"
        for _ in range(2 if number > 1_020 else 1):
            wanted, _changes = own.observe(task, "haiku", natural=True, failed=False, storm_cost=0, now=0.0)
            assert state.observe(Observation(task, 0, "haiku", natural=True, failed=False)) == wanted


def test_while_redis_is_away_a_process_spends_what_it_holds(
    make_redis: Callable[..., RedisServer], make: Made, clock: Clock
) -> None:
    """Told once and once that it is back; soft budgets go on, the guard is the process's own; then all is said again."""
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    one, other = (make(server, "away", storm_guard={}) for _ in range(2))
    budget = make_budget("away", 1_000_000)
    assert one.reserve([(budget, True)], 100_000) is None
    assert one.held(budget) == (100_000, 110_000)
    server.kill()
    with capture_logs() as events:
        assert one.reserve([(budget, True)], 6_000) is None
        assert one.reserve([(budget, True)], 6_000) == budget
        assert one.reserve([(budget, False)], 6_000) is None
        assert one.settle([budget], 6_000, 6_000) == ()
        actions = [one.observe(seen()) for _ in range(30)]
        server.start()
        assert one.reserve([(budget, True)], 6_000) == budget  # nobody tries before its time
        clock.now += 1
        one.heartbeat()
    assert (actions[0], actions[-1]) == (None, "escalate")
    assert [event["event"] for event in events] == ["state_down", "storm_tripped", "state_back"]
    assert events[1]["alone"]
    assert other.reserve([(budget, True)], 1_000_000 - 112_000 + 1) == budget
    assert other.reserve([(budget, True)], 1_000_000 - 112_000 - 10_000) is None


def test_a_redis_that_hangs_is_waited_for_once(make_redis: Callable[..., RedisServer], clock: Clock) -> None:
    """One caller pays the time-out; after it nobody does until the next try is due."""
    server = make_redis()
    state = RedisState(
        server.url,
        make_policy("hangs"),
        Escalation(),
        clock,
        timings=RedisTimings(heartbeat_s=None, at=clock, sleep=clock.sleep),
    )
    state.observe(seen())
    client = Redis.from_url(server.url)
    before = client.info("clients")["connected_clients"]  # type: ignore[index]
    server.pause()
    with capture_logs() as events:
        for _ in range(1_000):
            state.observe(seen())
    server.resume()
    assert [event["event"] for event in events if event["event"].startswith("state")] == ["state_down"]
    assert events[0]["problem"] == "TimeoutError"
    assert client.info("clients")["connected_clients"] <= before  # type: ignore[index]
    client.close()
    state.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_a_process_of_its_own(redis_server: RedisServer, make: Made) -> None:
    """It holds nothing of its parent's, and talks to Redis over a connection of its own."""
    state, budget = make(redis_server, "forks"), make_budget("forks", 1_000_000)
    assert state.reserve([(budget, True)], 700_000) is None
    child = os.fork()
    if not child:
        alone = state.held(budget) == (0, 0) and state.reserve([(budget, True)], 300_001) == budget
        os._exit(0 if alone and state.reserve([(budget, True)], 200_000) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert state.reserve([(budget, True)], 100_001) == budget


def test_no_password_is_in_an_event_or_an_error(clock: Clock) -> None:
    """Not where Redis is away, not where the address is wrong."""
    policy = make_policy("secret")
    state = open_state("redis://user:hunter2@127.0.0.1:1/0?socket_timeout=1", policy, Escalation(), clock)
    with capture_logs() as events:
        state.observe(seen())
    assert [event["event"] for event in events] == ["state_down"]
    assert events[0]["state"] == "redis://127.0.0.1:1/0"
    state.close()
    for address in ("redis://user:hunter2@host:port/0", "postgres://user:hunter2@host/0", "user:hunter2@host"):
        with pytest.raises(ConfigurationError) as refused:
            open_state(address, policy, Escalation(), clock)
        assert "hunter2" not in str(refused.value)


def test_the_environment_names_the_state(
    monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer, clock: Clock
) -> None:
    """`CASCADE_STATE`, unless an address is given; memory where neither is."""
    policy = make_policy("opened")
    monkeypatch.delenv("CASCADE_STATE", raising=False)
    assert isinstance(open_state(None, policy, Escalation(), clock), MemoryState)
    monkeypatch.setenv("CASCADE_STATE", redis_server.url)
    opened = open_state(None, policy, Escalation(), clock)
    assert isinstance(opened, RedisState)
    assert opened.is_remote
    opened.close()
    assert isinstance(open_state("memory", policy, Escalation(), clock), MemoryState)
    monkeypatch.setenv("CASCADE_STATE", "memcached://host")
    with pytest.raises(ConfigurationError, match="CASCADE_STATE: memcached://… is not a state"):
        open_state(None, policy, Escalation(), clock)


def test_a_budget_that_redis_cannot_count_exactly_is_refused(clock: Clock) -> None:
    """Above 2^53 nano-USD a double is no longer exact."""
    policy = make_policy("huge", budget={"monthly_usd": 9_000_001})
    with pytest.raises(ConfigurationError, match="budget: monthly_usd"):
        open_state("redis://127.0.0.1:1", policy, Escalation(), clock)
    policy = make_policy("huge", mode="observe", observe={"daily_usd": 9_000_001})
    with pytest.raises(ConfigurationError, match="observe: daily_usd"):
        open_state("redis://127.0.0.1:1", policy, Escalation(), clock)


def _work(state: RedisState) -> None:
    budget = make_budget("workers", 1_000_000)
    if state.reserve([(budget, True)], 1_000) is None:
        state.settle([budget], 1_000, 1_000)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_worker_that_ends_holds_nothing_any_more(redis_server: RedisServer, make: Made) -> None:
    """One of `multiprocessing` that was forked leaves without `atexit`: its slice is given back all the same."""
    state, budget = make(redis_server, "workers"), make_budget("workers", 1_000_000)
    workers = [multiprocessing.get_context("fork").Process(target=_work, args=(state,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    client = Redis.from_url(redis_server.url)
    numbers: dict[bytes, bytes] = client.hgetall(f"cascade:{{workers}}:budget:{budget.counter}")  # type: ignore[assignment]
    client.close()
    assert [int(numbers[name]) for name in (b"E", b"U", b"S", b"N")] == [3_000, 3_000, 3_000, 0]
    assert state.reserve([(budget, True)], 997_001) == budget
    assert state.reserve([(budget, True)], 997_000) is None


def test_a_name_that_is_half_a_character_has_a_counter_like_any_other(redis_server: RedisServer, make: Made) -> None:
    """What a caller names need not be UTF-8; what is sent to Redis must be."""
    state, limits = (
        make(redis_server, "halves"),
        Limits(daily_usd=Decimal("0.001"), per="workflow", on_exhausted="reject"),
    )
    (budget,) = applicable_budgets(limits, "halves", "t", {"workflow": "bad\ud83d"}, datetime(2026, 11, 21, tzinfo=UTC))
    budget.counter.encode()
    assert state.reserve([(budget, True)], 600_000) is None
    assert state.reserve([(budget, True)], 600_000) == budget
    raw = make_budget("halves", 1_000_000, value="\ud83d")
    assert state.reserve([(raw, True)], 600_000) is None
    assert state.reserve([(raw, True)], 600_000) == raw
    assert state.observe(Observation("bad\ud83d", 0, "haiku", natural=True, failed=False)) is None
