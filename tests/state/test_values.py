"""What a request leaves for a later one: `remember` and `recall`, in memory and in a real Redis."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from structlog.testing import capture_logs

from cascade.core.policy.certificate import Escalation
from cascade.state import State
from cascade.state.memory import MemoryState
from cascade.state.redis import RedisState
from cascade.state.redis_budgets import RedisTimings
from cascade.state.values import LocalValues
from tests.servers import RedisServer
from tests.state.builders import make_policy

Make = Callable[..., State]


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """As a clock does."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """One for all drivers."""
    return Clock()


@pytest.fixture
def make_shared(clock: Clock, request: pytest.FixtureRequest) -> Callable[..., RedisState]:
    """A process's state at a server."""

    def one(server: RedisServer, name: str, timeout_s: float = 30.0) -> RedisState:
        timings = RedisTimings(timeout_s=timeout_s, heartbeat_s=None)
        state = RedisState(server.url, make_policy(name), Escalation(), clock, timings=timings)
        request.addfinalizer(state.close)
        return state

    return one


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest, clock: Clock, make_shared: Callable[..., RedisState]) -> Make:
    """A state by policy name, in memory and in Redis."""
    if request.param == "memory":
        return lambda name: MemoryState(make_policy(name), Escalation(), clock)
    server: RedisServer = request.getfixturevalue("redis_server")
    return lambda name: make_shared(server, f"{name}-values")


def test_the_first_key_that_is_known_gives_its_value(make: Make) -> None:
    """Whatever the later ones hold; none that is known gives nothing."""
    state = make("first")
    state.remember(["a", "b"], "one", 60)
    state.remember(["c"], "two", 60)
    assert state.recall(["unknown", "b", "c"]) == "one"
    assert state.recall(["c", "a"]) == "two"
    assert state.recall(["unknown"]) is None
    assert state.recall([]) is None


def test_a_later_value_replaces_the_one_before(make: Make) -> None:
    """Under that key alone."""
    state = make("later")
    state.remember(["a", "b"], "one", 60)
    state.remember(["b"], "two", 60)
    assert (state.recall(["a"]), state.recall(["b"])) == ("one", "two")


def test_drivers_of_one_policy_share_their_values(make: Make) -> None:
    """A new driver, or another worker, knows the loops of the one before it; another policy does not."""
    first, second, other = make("shared"), make("shared"), make("another")
    first.remember(["a"], "one", 60)
    first.close()
    assert second.recall(["a"]) == "one"
    assert other.recall(["a"]) is None


def test_keys_and_values_may_hold_any_text(make: Make) -> None:
    """Half a character, a null, a quarter of a million characters: each is a key like any other."""
    state, keys = make("texts"), ["bad\ud83d", "\x00", "k" * 250_000, "", "{}:|", "ключ"]
    for number, key in enumerate(keys):
        state.remember([key], f"värde {number}", 60)
    assert [state.recall([key]) for key in keys] == [f"värde {number}" for number in range(len(keys))]


def test_random_use_agrees_with_a_plain_dictionary(make: Make) -> None:
    """A thousand seeded calls, with no expiry due."""
    state, model, chance = make("random"), dict[str, str](), random.Random(13)
    for number in range(1_000):
        keys = chance.sample([f"k{one}" for one in range(30)], chance.randrange(1, 5))
        if chance.random() < 0.4:
            state.remember(keys, f"v{number}", 3_600)
            model.update(dict.fromkeys(keys, f"v{number}"))
        else:
            assert state.recall(keys) == next((model[key] for key in keys if key in model), None)


def test_a_value_in_memory_expires_on_the_drivers_clock(clock: Clock) -> None:
    """At its time, not before it; remembering again starts the time anew."""
    state = MemoryState(make_policy("expires"), Escalation(), clock)
    state.remember(["a", "b"], "one", 60)
    clock.now += 59.9
    assert state.recall(["a"]) == "one"
    state.remember(["b"], "one", 60)
    clock.now += 0.1
    assert (state.recall(["a"]), state.recall(["b"])) == (None, "one")


def test_a_value_in_redis_expires_by_itself(
    redis_server: RedisServer, make_shared: Callable[..., RedisState], clock: Clock
) -> None:
    """The server removes it, so that no loop that was left fills it."""
    state = make_shared(redis_server, "expiring")
    state.remember(["a"], "one", 90)
    client = Redis.from_url(redis_server.url)
    (name,) = client.scan_iter("cascade:{expiring}:value:*")
    left = client.pttl(name)
    assert isinstance(left, int)
    assert 80_000 < left <= 90_000
    client.pexpire(name, 0)
    client.close()
    clock.now += 90
    assert state.recall(["a"]) is None


def test_values_in_memory_are_bounded_and_the_least_used_goes_first() -> None:
    """Loops that nobody continues do not fill the memory."""
    values = LocalValues(most=3)
    for key in "abc":
        values.remember([key], key.upper(), 60, now=0)
    assert values.recall(["a"], now=1) == (0, "A")
    values.remember(["d"], "D", 60, now=2)
    assert len(values) == 3
    assert [values.recall([key], now=3) for key in "abcd"] == [(0, "A"), None, (0, "C"), (0, "D")]


def test_values_in_memory_are_safe_between_threads() -> None:
    """Eight threads, fewer places than keys: nothing is lost but by the bound, and no call fails."""
    values = LocalValues(most=50)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(2_000):
            key = str(chance.randrange(200))
            values.remember([key], key, 60, now=0)
            found = values.recall([str(chance.randrange(200)), key], now=chance.choice((0, 61)))
            assert found is None or found[1].isdigit()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(values) <= 50


def test_no_key_stands_in_redis_as_the_caller_wrote_it(
    redis_server: RedisServer, make_shared: Callable[..., RedisState]
) -> None:
    """Neither a tool's id nor a session."""
    state = make_shared(redis_server, "private")
    state.remember(["toolu_secret", "session of Ada"], "{}", 60)
    client = Redis.from_url(redis_server.url)
    names = b" ".join(client.scan_iter("*{private}*"))
    client.close()
    assert names.count(b":value:") == 2
    assert b"secret" not in names
    assert b"Ada" not in names


def test_each_call_is_one_round_trip(redis_server: RedisServer, make_shared: Callable[..., RedisState]) -> None:
    """However many keys there are, as the server counts its commands."""
    state, keys = make_shared(redis_server, "round-trips"), [f"toolu_{number}" for number in range(40)]
    state.remember(keys, "one", 60)
    state.recall(keys)
    client = Redis.from_url(redis_server.url)
    client.config_resetstat()
    for _ in range(5):
        state.remember(keys, "one", 60)
        assert state.recall(["unknown", *keys]) == "one"
    counted = client.info("commandstats")
    client.close()
    assert isinstance(counted, dict)
    assert counted["cmdstat_evalsha"]["calls"] == 10


def test_while_redis_is_away_a_process_goes_by_what_it_remembered_itself(
    make_redis: Callable[..., RedisServer], make_shared: Callable[..., RedisState], clock: Clock
) -> None:
    """Logged once and once that it is back; what was remembered meanwhile is not lost, nor beaten by an older session's value."""
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    state, other = make_shared(server, "away"), make_shared(server, "away")
    state.remember(["toolu_1", "session"], "haiku", 600)
    server.kill()
    with capture_logs() as events:
        assert state.recall(["toolu_1"]) == "haiku"
        state.remember(["toolu_2", "session"], "sonnet", 600)
        assert state.recall(["toolu_2", "session"]) == "sonnet"
        server.start()
        clock.now += 1
        assert state.recall(["toolu_2", "session"]) == "sonnet"
        assert other.recall(["toolu_2", "session"]) == "haiku"
    assert [event["event"] for event in events] == ["state_down", "state_back"]


def test_a_redis_that_hangs_costs_one_time_out(
    make_redis: Callable[..., RedisServer], make_shared: Callable[..., RedisState]
) -> None:
    """50 ms for one caller; after it nobody waits until the next try is due."""
    server = make_redis()
    state = make_shared(server, "hangs", timeout_s=0.05)
    state.remember(["a"], "one", 600)
    server.pause()
    with capture_logs() as events:
        first = time.perf_counter()
        assert state.recall(["a"]) == "one"
        rest = time.perf_counter()
        for _ in range(1_000):
            assert state.recall(["a"]) == "one"
        end = time.perf_counter()
    server.resume()
    assert [event["event"] for event in events] == ["state_down"]
    assert 0.05 <= rest - first < 1.0
    assert end - rest < 1.0, "a thousand time-outs would take 50 s"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_keeps_what_its_parent_knew(clock: Clock) -> None:
    """Even while a thread of the parent held the lock."""
    state = MemoryState(make_policy("forks-values"), Escalation(), clock)
    state.remember(["a"], "one", 60)
    lock = state._values._lock
    with lock:
        child = os.fork()
        if not child:
            os._exit(0 if state.recall(["a"]) == "one" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
