"""Budgets of many processes on a real Redis, whatever is lost on the way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from cascade.core.budgets import Claim
from cascade.state.entitlements import Entitlements, Tuning
from cascade.state.link import Link, Script
from tests.servers import RedisServer
from tests.state.builders import make_claim

LIMIT = 1_000_000
_numbers = itertools.count()


class LossyLink(Link):
    """A link to a real Redis that loses what the test says: the next request, the next reply; or it is late."""

    fault: str | None = None
    late: tuple[Script, Sequence[str], Sequence[str | int]] | None = None

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """As `Link.run`, but for the fault."""
        fault, self.fault = self.fault, None
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
    def claim(self) -> Claim:
        """The budget."""
        return make_claim(self.policy, LIMIT)

    @property
    def used(self) -> int:
        """What all have settled and reserved, as it truly is."""
        return sum(self.gone) + sum(one.used for one in self.alive.values())

    def process(self, slot: int) -> Process:
        """The process in a slot, begun where there is none."""
        if slot not in self.alive:
            self.alive[slot] = Process(self)
        return self.alive[slot]

    def sleep(self, seconds: float) -> None:
        """Time passes for all."""
        self.now += seconds

    def empty(self) -> None:
        """Redis forgets all that is this policy's; all who live look at it within the recovery."""
        client = Redis.from_url(self.url)
        for key in client.scan_iter(f"cascade:{{{self.policy}}}:*"):
            client.delete(key)
        client.close()
        for one in self.alive.values():
            one.link.late = None  # its connection went with the server
            one.budgets.beat()
        self.now += 4

    def close(self) -> None:
        """End all processes in good order."""
        for slot in list(self.alive):
            self.end(slot, crash=False)

    def end(self, slot: int, *, crash: bool) -> None:
        """End one; one that crashes gives nothing back."""
        one = self.alive.pop(slot, None)
        if one is None:
            return
        one.link.fault = None
        if not crash:
            one.budgets.close()
        one.link.close()
        self.gone.append(one.used)


class Process:
    """What one process believes, and what it has truly spent."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.link = LossyLink(world.url, world.policy, lambda: world.now, 30.0, 1.0)
        tuning = Tuning(beat_s=None, at=lambda: world.now, sleep=world.sleep)
        self.budgets = Entitlements(world.policy, self.link, lambda: world.now, None, tuning)
        self.reserved: list[int] = []
        self.settled = 0

    @property
    def used(self) -> int:
        """Settled and reserved."""
        return self.settled + sum(self.reserved)

    def reserve(self, bound: int, fault: str | None = None) -> bool:
        """Whether a call that may cost `bound` may be made."""
        self.link.fault = fault
        let_in = self.budgets.reserve([(self.world.claim, True)], bound) is None
        if let_in:
            self.reserved.append(bound)
        return let_in

    def settle(self, share: float = 1.0, fault: str | None = None) -> tuple[float, ...]:
        """The oldest call is over; it cost this share of its bound. Returns the alerts' shares."""
        if not self.reserved:
            return ()
        bound = self.reserved.pop(0)
        self.settled += int(bound * share)
        self.link.fault = fault
        alerts = self.budgets.settle([self.world.claim], bound, int(bound * share))
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
    st.sampled_from(["crash", "close", "empty", "beat", "idle"]), _slots, st.just(0), st.sampled_from([None, "reply"])
)
_acts = st.lists(st.one_of(_reserving, _reserving, _reserving, _settling, _settling, _others), min_size=5, max_size=50)


def _act(world: World, kind: str, slot: int, number: float, fault: str | None) -> None:
    if kind == "reserve":
        world.process(slot).reserve(int(number), fault)
    elif kind == "settle":
        world.process(slot).settle(number, fault)
    elif kind == "beat":
        world.process(slot).link.fault = fault
        world.process(slot).budgets.beat()
    elif kind == "idle":
        world.now += 120
    elif kind == "empty":
        if world.alive and all(one.used for one in world.alive.values()):
            world.empty()
    else:
        world.end(slot, crash=kind == "crash")
        for one in world.alive.values():  # what nobody alive has seen when Redis forgets it is the hole documented
            if one.reserve(0):
                one.settle()


@settings(max_examples=120)
@given(acts=_acts)
def test_no_failure_can_overspend(redis_server: RedisServer, acts: list[tuple[str, int, float, str | None]]) -> None:
    """Lost and late calls, crashes, closings, a Redis that comes back empty: what all spend stays within the limit.

    And where nothing but spending happened, nothing is lost: what was not spent can be spent by the next process.
    """
    world = World(redis_server.url)
    for act in acts:
        _act(world, *act)
        assert world.used <= LIMIT
    world.close()
    assert world.used <= LIMIT
    if not any(fault or kind in ("crash", "empty") for kind, _, _, fault in acts):
        last = world.process(0)
        assert not last.reserve(LIMIT - world.used + 1)
        assert last.reserve(LIMIT - world.used)
        world.close()
