"""Tool loops of several workers that share a real Redis: any of them may get the next turn."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.state.redis import RedisState
from cascade.state.redis_budgets import RedisTimings
from tests.core.builders import policy_of, reply
from tests.live.messages.conversations import SURE, UNSURE, Conversation, asks, result
from tests.servers import RedisServer

Worker = Callable[[RedisServer, Policy], RedisState]


@pytest.fixture
def worker(request: pytest.FixtureRequest) -> Worker:
    """A worker's state at a server. Its clock stands still."""

    def one(server: RedisServer, policy: Policy) -> RedisState:
        timings = RedisTimings(timeout_s=30.0, heartbeat_s=None)
        state = RedisState(server.url, policy, Escalation(), lambda: 0.0, timings=timings)
        request.addfinalizer(state.close)
        return state

    return one


def test_any_worker_goes_on_where_another_was_asked(redis_server: RedisServer, worker: Worker) -> None:
    """Ten turns on three workers: the rung that asked, the errors that climb, the floor afterwards."""
    policy = policy_of(0.8, 0.8, sticky={"cool_off": 2}, name="any-worker")
    workers, chance = [worker(redis_server, policy) for _ in range(3)], random.Random(13)
    one = Conversation(policy, state=workers[0])
    one.turn("go", asks("t0"))
    rungs: list[str] = []
    for number in range(8):
        one.state = chance.choice(workers)
        rungs += one.rungs(one.turn(result(f"t{number}", failed=number < 3), asks(f"t{number + 1}")))
    assert rungs == ["r0", "r0", *["r1"] * 6]
    one.turn(result("t8"), reply(SURE))
    one.state = workers[2]
    assert one.turn("more", reply(SURE), reply(SURE)).notes == ("floor raised to r1 for 1 more turn",)
    one.state = workers[1]
    assert one.turn("more", reply(SURE), reply(SURE)).notes == ("floor raised to r1 for this turn",)


def test_while_redis_is_away_a_loop_stays_with_its_worker(
    make_redis: Callable[..., RedisServer], worker: Worker
) -> None:
    """The worker that asked knows it; another one begins at the first rung, and says so. Nothing fails."""
    server, policy = make_redis(), policy_of(0.8, 0.8, name="away")
    one = Conversation(policy, state=worker(server, policy))
    other = Conversation(policy, state=worker(server, policy))
    server.kill()
    with capture_logs() as events:
        one.turn("go", reply(UNSURE), asks("t0"))
        other.messages = list(one.messages)
        assert one.rungs(one.turn(result("t0"), asks("t1"))) == ["r1"]
        answer = other.turn(result("t0"), asks("t1"))
    assert other.rungs(answer) == ["r0"]
    assert "is not known" in answer.notes[0]
    assert [event["event"] for event in events] == ["state_down"] * 2, "once for each worker"
