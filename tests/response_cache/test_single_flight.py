"""Single flight: equal requests at the same time make one climb, whatever becomes of the one that leads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cascade import Answer, AsyncCascade, Cascade, Policy, UpstreamRejected
from cascade.emulator import Emulator
from cascade.emulator.requests import ApiError
from cascade.emulator.scripting import ScriptedReply
from cascade.response_cache import Flight, Flights, Landing
from tests.live.conftest import Clock
from tests.response_cache.conftest import PATIENT_S, cached

FINE = ScriptedReply([{"type": "text", "text": "fine"}], confidence=0.9)
MANY = 200
POLICY = cached()


class CountedFlights(Flights):
    """Flights that say when so many have joined."""

    def __init__(self, expected: int) -> None:
        super().__init__()
        self._left, self.all_joined = expected, threading.Event()

    def join(self, key: bytes) -> Flight:
        """Join, and be counted."""
        flight = super().join(key)
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                self.all_joined.set()
        return flight


class Held:
    """A script that answers its first request only when it is let go; `first` is what it then says, or raises."""

    def __init__(self, let_go: threading.Event, first: ScriptedReply | ApiError = FINE) -> None:
        self._let_go, self._first, self.asked = let_go, first, 0

    async def __call__(self, body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        """The answer to one request."""
        self.asked += 1
        if self.asked > 1:
            return FINE
        await asyncio.to_thread(self._let_go.wait, PATIENT_S)
        if isinstance(self._first, ApiError):
            raise self._first
        return self._first


@pytest.fixture(params=["threads", "tasks"])
def gather(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[Any]]:
    """Ask so many times at once, on threads or as tasks of a loop: the answers, or the errors."""

    def on_threads(emulator: Emulator, many: int, flights: Flights, policy: Policy = POLICY) -> list[Any]:
        with ExitStack() as stack:
            client = stack.enter_context(anthropic.Anthropic(api_key="test", base_url=emulator.base_url))
            driver = stack.enter_context(Cascade(policy, client=client, ledger="off", cache=tmp_path / "a"))
            _set(driver, flights)
            threads = stack.enter_context(ThreadPoolExecutor(many))
            jobs = [threads.submit(driver.ask, "the same") for _ in range(many)]
            return [job.exception(PATIENT_S) or job.result() for job in jobs]

    def as_tasks(emulator: Emulator, many: int, flights: Flights, policy: Policy = POLICY) -> list[Any]:
        async def all_of_them() -> list[Any]:
            async with (
                anthropic.AsyncAnthropic(api_key="test", base_url=emulator.base_url) as client,
                AsyncCascade(policy, client=client, ledger="off", cache=tmp_path / "a") as driver,
            ):
                _set(driver, flights)
                return await asyncio.gather(*(driver.ask("the same") for _ in range(many)), return_exceptions=True)

        return asyncio.run(all_of_them())

    return on_threads if request.param == "threads" else as_tasks


def _set(driver: Any, flights: Flights) -> None:
    driver._runtime.cache.flights = flights


def kinds(answers: list[Any]) -> dict[str, int]:
    """How many hits and misses."""
    found = [str(answer.cache) for answer in answers if isinstance(answer, Answer)]
    return {kind: found.count(kind) for kind in sorted(set(found))}


def test_200_equal_requests_at_once_make_one_climb(gather: Callable[..., list[Any]]) -> None:
    """All of them have joined before the model answers: it is asked once, and all have its answer."""
    flights = CountedFlights(MANY)
    held = Held(flights.all_joined)
    with Emulator(script=held) as emulator:
        answers = gather(emulator, MANY, flights)
    assert held.asked == 1
    assert kinds(answers) == {"hit": MANY - 1, "miss": 1}
    assert {answer.text for answer in answers} == {"fine"}
    assert len({answer.request_id for answer in answers}) == MANY


def test_without_a_store_they_still_share_one_climb(gather: Callable[..., list[Any]], tmp_path: Path) -> None:
    """The answer goes from the one that leads to those who wait, not by way of the store."""
    (tmp_path / "a").mkdir()
    flights = CountedFlights(20)
    held = Held(flights.all_joined)
    with Emulator(script=held) as emulator:
        answers = gather(emulator, 20, flights)
    assert (held.asked, kinds(answers)) == (1, {"hit": 19, "miss": 1})


def test_if_the_one_that_leads_fails_another_leads(gather: Callable[..., list[Any]]) -> None:
    """Its error is its own; of the others one climbs, and the rest have its answer."""
    flights = CountedFlights(20)
    held = Held(flights.all_joined, ApiError(403, "permission_error", "no"))
    with Emulator(script=held) as emulator:
        answers = gather(emulator, 20, flights)
    assert [type(one) for one in answers if not isinstance(one, Answer)] == [UpstreamRejected]
    assert (held.asked, kinds(answers)) == (2, {"hit": 18, "miss": 1})


def test_an_answer_that_is_not_to_be_shared_sends_the_others_to_climb(gather: Callable[..., list[Any]]) -> None:
    """It is degraded. To wait again would be in vain, one after the other: each asks for itself, at once."""
    flights = CountedFlights(5)
    held = Held(flights.all_joined, ScriptedReply([{"type": "text", "text": "unsure"}], confidence=0.1))
    policy = cached(tasks=[{"name": "low", "when": {"pattern": "same"}, "ceiling": "haiku"}])
    with Emulator(script=held) as emulator:
        answers = gather(emulator, 5, flights, policy)
    assert sorted(str(answer.degraded) for answer in answers) == ["None"] * 4 + ["ceiling"]
    assert (held.asked, kinds(answers)) == (5, {"miss": 5})


def test_if_the_one_that_leads_is_cancelled_another_leads(tmp_path: Path) -> None:
    """Its task is cancelled while the model is asked; one of those who wait asks again. A waiting one may be cancelled as well."""
    flights, ended = CountedFlights(4), threading.Event()
    held = Held(ended)

    async def run(emulator: Emulator) -> list[Any]:
        async with (
            anthropic.AsyncAnthropic(api_key="test", base_url=emulator.base_url) as client,
            AsyncCascade(cached(), client=client, ledger="off", cache=tmp_path / "a") as driver,
        ):
            _set(driver, flights)
            leader = asyncio.create_task(driver.ask("the same"))
            while not held.asked:  # noqa: ASYNC110 - it is on another loop
                await asyncio.sleep(0)
            others = [asyncio.create_task(driver.ask("the same")) for _ in range(3)]
            await asyncio.to_thread(flights.all_joined.wait, PATIENT_S)
            others[0].cancel()
            leader.cancel()
            return await asyncio.gather(leader, *others, return_exceptions=True)

    with Emulator(script=held) as emulator:
        found = asyncio.run(run(emulator))
        ended.set()
    assert [type(one) for one in found[:2]] == [asyncio.CancelledError] * 2
    assert (kinds(found), held.asked) == ({"hit": 1, "miss": 1}, 2)


class LateFlights(Flights):
    """For the second one that joins, nearly half of its time has passed meanwhile."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def join(self, key: bytes) -> Flight:
        """Join, late."""
        flight = super().join(key)
        if not flight.leads:
            self._clock.now += 29.99
        return flight


def test_nobody_waits_longer_than_half_of_its_own_time(tmp_path: Path) -> None:
    """The one that leads hangs: the other asks for itself, and has an answer."""
    clock, ended, begun = Clock(), threading.Event(), threading.Event()

    async def script(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        if not begun.is_set():
            begun.set()
            await asyncio.to_thread(ended.wait, PATIENT_S)
        return FINE

    with (
        Emulator(script=script) as emulator,
        anthropic.Anthropic(api_key="test", base_url=emulator.base_url) as client,
        Cascade(cached(deadline_s=60), client=client, ledger="off", cache=tmp_path / "a", clock=clock) as driver,
        ThreadPoolExecutor(1) as threads,
    ):
        _set(driver, LateFlights(clock))
        leading = threads.submit(driver.ask, "the same")
        begun.wait(PATIENT_S)
        answer = driver.ask("the same")
        ended.set()
        assert (answer.cache, answer.text, leading.result(PATIENT_S).cache) == ("miss", "fine", "miss")


def test_a_flight_ends_once_and_the_next_one_is_another() -> None:
    """Those who joined it share its end; who comes later begins anew. To end it again says nothing to anybody."""
    flights = Flights()
    first, second, other = flights.join(b"1"), flights.join(b"1"), flights.join(b"2")
    assert (first.leads, second.leads, other.leads) == (True, False, True)
    flights.land(first, Landing(b"answer"))
    flights.land(first, Landing(None, has_failed=True))
    assert second.landing.result(0) == Landing(b"answer")
    later = flights.join(b"1")
    assert later.leads
    flights.land(first, Landing(None))
    assert not later.landing.done()
    assert not flights.join(b"1").leads
    flights.renew_lock()  # as in a forked child: who led is not there
    assert flights.join(b"1").leads
