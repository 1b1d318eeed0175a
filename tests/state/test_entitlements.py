"""Budgets of many processes on a real Redis, whatever is lost on the way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from structlog.testing import capture_logs

from cascade.core.budgets import ApplicableBudget
from cascade.state.circuit import RedisConnection, Script
from cascade.state.redis_budgets import Entitlements, RedisTimings
from tests.servers import RedisServer
from tests.state.builders import make_budget

LIMIT = 1_000_000
_numbers = itertools.count()


class LossyConnection(RedisConnection):
    """A connection to a real Redis that loses what the test says: the next request, the next reply; or it is late."""

    fault: str | None = None
    down = False
    late: tuple[Script, Sequence[str], Sequence[str | int]] | None = None

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """As `RedisConnection.run`, but for the fault."""
        fault, self.fault = "request" if self.down else self.fault, None
        if fault == "late":
            self.late = (script, keys, arguments)
        if fault in ("request", "late"):
            return None
        reply = super().run(script, keys, arguments)
        if self.late is not None:
            super().run(*self.late)
            self.late = None
        return None if fault == "reply" else reply


@dataclass
class World:
    """One Redis, one budget of `LIMIT`, and the processes that live and lived."""

    url: str
    policy: str = field(default_factory=lambda: f"budgets-{next(_numbers)}")
    now: float = 1_800_000_000.0
    alive: dict[int, Process] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)

    @property
    def budget(self) -> ApplicableBudget:
        """The budget."""
        return make_budget(self.policy, LIMIT)

    @property
    def used(self) -> int:
        """What all have settled and reserved, as it truly is."""
        return sum(self.gone) + sum(one.used for one in self.alive.values())

    @property
    def timings(self) -> RedisTimings:
        """Time is the world's."""
        return RedisTimings(heartbeat_s=None, at=lambda: self.now, sleep=self.sleep)

    def process(self, slot: int) -> Process:
        """The process in a slot, begun where there is none."""
        if slot not in self.alive:
            self.alive[slot] = Process(self)
        return self.alive[slot]

    def sleep(self, seconds: float) -> None:
        """Time passes for all, and hearts beat."""
        for _ in range(math.ceil(seconds)):
            self.now += 1
            for one in self.alive.values():
                if not one.stopped:
                    one.budgets.heartbeat()

    def empty(self, first: int) -> None:
        """Redis forgets all that is this policy's. One process takes what it can before the others look."""
        client = Redis.from_url(self.url)
        for key in client.scan_iter(f"cascade:{{{self.policy}}}:*"):
            client.delete(key)
        client.close()
        for one in self.alive.values():
            one.connection.late = None  # its connection went with the server
        self.process(first).grab()
        self.sleep(4)

    def close(self) -> None:
        """End all processes in good order."""
        for slot in list(self.alive):
            self.end(slot, crash=False)

    def end(self, slot: int, *, crash: bool) -> None:
        """End one; one that crashes gives nothing back."""
        one = self.alive.pop(slot, None)
        if one is None:
            return
        one.connection.fault, one.connection.down = None, False
        if not crash:
            one.budgets.close()
        one.connection.close()
        self.gone.append(one.used)


class Process:
    """What one process believes, and what it has truly spent."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.connection = LossyConnection(world.url, world.policy, lambda: world.now, 30.0, 1.0)
        self.budgets = Entitlements(world.policy, self.connection, lambda: world.now, None, world.timings)
        self.reserved: list[int] = []
        self.settled = 0
        self.stopped = False  # does not look at Redis by itself

    @property
    def used(self) -> int:
        """Settled and reserved."""
        return self.settled + sum(self.reserved)

    def reserve(self, bound: int, fault: str | None = None) -> bool:
        """Whether a call that may cost `bound` may be made."""
        self.connection.fault = fault
        let_in = self.budgets.reserve([(self.world.budget, True)], bound) is None
        if let_in:
            self.reserved.append(bound)
        return let_in

    def look(self) -> None:
        """A call that gets through and costs nothing."""
        self.connection.fault = None
        if self.reserve(0):
            self.reserved.pop()
            self.budgets.settle([self.world.budget], 0, 0)

    def grab(self) -> None:
        """Reserve all that can be had."""
        bound = LIMIT
        while bound:
            bound //= 1 if self.reserve(bound) else 3

    def settle(self, share: float = 1.0, fault: str | None = None) -> tuple[float, ...]:
        """The oldest call is over; it cost this share of its bound. Returns the alerts' shares."""
        if not self.reserved:
            return ()
        bound = self.reserved.pop(0)
        self.settled += int(bound * share)
        self.connection.fault = fault
        alerts = self.budgets.settle([self.world.budget], bound, int(bound * share))
        return tuple(alert.share for alert in alerts)


@pytest.fixture
def world(redis_server: RedisServer) -> Iterator[World]:
    """A budget that nobody has touched."""
    one = World(redis_server.url)
    yield one
    one.close()


_slots = st.integers(0, 2)
_faults = st.sampled_from([None, None, None, "request", "reply", "late"])
_reserving = st.tuples(st.just("reserve"), _slots, st.sampled_from([1, 900, 30_000, 170_000]), _faults)
_settling = st.tuples(st.just("settle"), _slots, st.sampled_from([0.0, 0.3, 1.0]), _faults)
_others = st.tuples(
    st.sampled_from(["crash", "crash", "close", "empty", "empty", "empty", "beat", "idle"]),
    _slots,
    st.just(0),
    st.none(),
)
_acts = st.lists(st.one_of(_reserving, _reserving, _settling, _others), min_size=5, max_size=30)


def _act(world: World, kind: str, slot: int, number: float, fault: str | None) -> None:
    if kind == "reserve":
        world.process(slot).reserve(int(number), fault)
    elif kind == "settle":
        world.process(slot).settle(number, fault)
    elif kind == "beat":
        world.process(slot).connection.fault = fault
        world.process(slot).budgets.heartbeat()
    elif kind == "idle":
        world.now += 120
    elif kind == "empty":
        if world.alive:  # the hole that is documented: what nobody alive has seen when Redis forgets it
            seen_by = max(world.alive)
            world.alive[seen_by].look()
            late = bool(number) and slot in world.alive and slot != seen_by
            if late:
                world.alive[slot].stopped = True
            world.empty(seen_by if late else slot)
            world.process(slot).stopped = False
    else:
        world.end(slot, crash=kind == "crash")


@settings(max_examples=30)
@given(acts=_acts, cut_off=st.sampled_from([None, "first", "last"]))
def test_no_failure_can_overspend(
    redis_server: RedisServer, acts: list[tuple[str, int, float, str | None]], cut_off: str | None
) -> None:
    """Lost and late calls, crashes, closings, a Redis that comes back empty: what all spend stays within the limit.

    Not even when all take what they can get, those that are cut off from Redis included. And where nothing but spending
    happened, nothing is lost: what was not spent can be spent by the next process.
    """
    world = World(redis_server.url)
    for act in acts:
        _act(world, *act)
        assert world.used <= LIMIT
    living = [*world.alive.values()]
    if cut_off is not None:
        newcomer = world.process(3)
        for one in [*living, newcomer] if cut_off == "first" else [newcomer, *living]:
            one.connection.down = one is not newcomer
            one.grab()
            assert world.used <= LIMIT
    world.close()
    if cut_off is None and not any(fault or kind in ("crash", "empty") for kind, _, _, fault in acts):
        last = world.process(0)
        assert not last.reserve(LIMIT - world.used + 1)
        assert last.reserve(LIMIT - world.used)
        world.close()


def test_a_call_that_comes_late_is_ignored(world: World) -> None:
    """What a process said before must not take the place of what it said since."""
    one, other = world.process(0), world.process(1)
    assert one.reserve(100_000)
    one.reserve(1, "late")  # decided alone; arrives after the next call
    assert one.reserve(700_000)
    other.grab()
    one.connection.down = True
    one.grab()
    assert 780_000 < world.used <= LIMIT


def test_a_newcomer_waits_until_all_have_said_what_they_hold(world: World) -> None:
    """Redis comes back empty, and the first to ask is one that knows nothing of it."""
    one = world.process(0)
    assert one.reserve(600_000)
    world.empty(2)
    assert world.used <= LIMIT
    assert world.process(2).used > 300_000


def test_who_lives_through_an_empty_restart_gets_no_more_than_it_holds(world: World) -> None:
    """It does not wait: what is refused for these seconds is said to be out of budget."""
    one = world.process(0)
    assert one.reserve(100_000)
    used, held = one.budgets.held(world.budget)
    assert (used, held) == (100_000, 110_000)
    Redis.from_url(world.url).delete(
        *(f"cascade:{{{world.policy}}}:budget:{name}" for name in ("epoch", world.budget.counter))
    )
    assert not one.reserve(10_001)
    assert one.reserve(10_000)
    world.now += 4
    assert one.reserve(10_001)


def test_what_the_dead_spent_outlives_an_empty_restart(world: World) -> None:
    """A survivor remembers the total; a late one takes its own part out of it again."""
    dead, survivor, late = (world.process(slot) for slot in range(3))
    assert dead.reserve(400_000)
    assert late.reserve(200_000)
    assert survivor.reserve(100_000)
    world.end(0, crash=True)
    late.stopped = True
    world.empty(1)
    assert survivor.used + late.used + 400_000 == world.used <= LIMIT
    late.look()
    late.grab()
    assert LIMIT - 60_000 < world.used <= LIMIT  # a slice of the dead one's at most is lost, and what others hold


def test_who_comes_too_late_loses_the_slice_it_still_held(world: World) -> None:
    """Redis forgot it, and a newcomer was granted all there is: what Redis says is less than what it held, and holds."""
    late = world.process(0)
    assert late.reserve(100_000)
    assert late.budgets.held(world.budget) == (100_000, 110_000)
    late.stopped = True
    world.empty(1)  # nobody alive had seen what was spent: the hole that is documented
    assert late.reserve(0)
    assert late.budgets.held(world.budget) == (100_000, 100_000)
    late.connection.down = True
    assert not late.reserve(1)


def test_the_ledger_is_asked_once_and_counts_once(redis_server: RedisServer) -> None:
    """The first process of a period says what was spent before; nobody else is asked."""
    world, asked = World(redis_server.url), list[str]()

    def seed(budget: ApplicableBudget) -> int:
        asked.append(budget.counter)
        return 900_000

    for slot in range(3):
        one = world.process(slot)
        one.budgets = Entitlements(world.policy, one.connection, lambda: world.now, seed, world.timings)
        assert one.reserve(20_000)
    assert not world.process(0).reserve(60_000)
    assert asked == [world.budget.counter]
    world.close()


def test_a_ledger_that_cannot_be_read_is_asked_again_by_whoever_needs_it(redis_server: RedisServer) -> None:
    """Calls go on meanwhile; then what it knows beside what was spent here is counted, once for all processes."""
    world, known = World(redis_server.url), list[int]()

    def seed(_: ApplicableBudget) -> int:
        if not known:
            raise OSError
        return known[0]

    for slot in range(2):
        one = world.process(slot)
        one.budgets = Entitlements(world.policy, one.connection, lambda: world.now, seed, world.timings)
    with capture_logs() as events:
        for _ in range(3):
            assert world.process(0).reserve(10_000)
            world.process(0).settle()
    assert [event["event"] for event in events] == ["budget_seed_failed"]
    known.append(730_000)  # 30,000 of them were spent here
    assert world.process(0).reserve(1)
    known[0] = 990_000
    assert not world.process(1).reserve(LIMIT - 730_000)
    assert world.process(1).reserve(LIMIT - 730_000 - 30_000)
    world.close()


def test_alerts_are_told_once_for_all(world: World) -> None:
    """At 80 % and at the limit, by whoever gets there; again only where the reply was lost, to the same process."""
    one, other = world.process(0), world.process(1)
    assert one.reserve(790_000)
    assert one.settle() == ()
    assert one.reserve(20_000)
    assert one.settle(fault="reply") == ()
    assert other.reserve(1_000)
    assert other.settle() == ()
    assert one.reserve(1_000)
    assert one.settle() == (0.8,)
    assert other.budgets.reserve([(world.budget, False)], 200_000) is None  # a soft one
    assert [alert.share for alert in other.budgets.settle([world.budget], 200_000, 200_000)] == [1.0]
    other.settled += 188_000  # to the limit; the world knows no soft budgets
    world.empty(0)
    assert one.budgets.settle([world.budget], 0, 0) == other.budgets.settle([world.budget], 0, 0) == ()


def test_a_forgotten_counter_keeps_what_was_spent(world: World) -> None:
    """A process with more counters than it keeps: Redis has the sum, and the process begins a new account."""
    one = world.process(0)
    one.budgets = Entitlements(world.policy, one.connection, lambda: world.now, None, world.timings, most=2)
    budgets = [make_budget(world.policy, LIMIT, value=name) for name in "abc"]
    for budget in budgets * 2:
        assert one.budgets.reserve([(budget, True)], 300_000) is None
        one.budgets.settle([budget], 300_000, 300_000)
    assert [one.budgets.reserve([(budget, True)], 400_001) for budget in budgets] == budgets
    assert [one.budgets.reserve([(budget, True)], 400_000) for budget in budgets] == [None, None, None]


def test_all_budgets_must_have_room_or_nothing_is_reserved(world: World) -> None:
    """The first that refuses is named; the others are as they were. A soft one never refuses, and counts."""
    wide, narrow = world.budget, make_budget(world.policy, 1_000, value="w")
    budgets = world.process(0).budgets
    assert budgets.reserve([(wide, True), (narrow, True)], 1_001) == narrow
    assert budgets.held(wide)[0] == budgets.held(narrow)[0] == 0
    assert budgets.reserve([(wide, True), (narrow, False)], 1_001) is None
    assert budgets.held(wide)[0] == budgets.held(narrow)[0] == 1_001
    assert budgets.reserve([(wide, True), (narrow, True)], 1) == narrow
