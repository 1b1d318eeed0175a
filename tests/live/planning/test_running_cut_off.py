"""A run that cannot go on, in the middle of anything: what was paid is kept, nothing waits forever, and the journal stays one."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from cascade import AsyncCascade, Cascade, ConfigurationError, Subtask
from cascade.core.planning.result import Attempt
from cascade.emulator.scripting import ScriptedReply
from cascade.engine.planning.execution import Execution
from cascade.engine.planning.journal import Head, Journal
from cascade.hooks import Begun, Calling, Ended, Track, cost_of_end
from tests.live.conftest import COST, Asking, Connections, Emulate
from tests.live.planning.fleet import DIAMOND, GIVEN, TWO, Fleet, ledger_costs, planning


@contextmanager
def interrupted(function: Any, event: str) -> Iterator[None]:
    """As Ctrl-C, where this function of the caller's thread begins ("call") or has ended ("return") for the third time."""
    left = 3

    def trace(frame: FrameType, happens: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code is not function.__code__:
            return None
        left -= happens == event
        if left == 0 and happens == event:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize(
    ("function", "event"),
    [
        (Execution.start, "return"),
        (Execution.finish, "call"),
        (Execution.finish, "return"),
        (Journal.ended, "call"),
        (Journal.ended, "return"),
        (Journal.came, "call"),
        (Journal.came, "return"),
    ],
)
def test_an_interrupt_between_any_two_steps_loses_nothing_that_came(
    connections: Connections, emulate: Emulate, function: Any, event: str
) -> None:
    """Also where the result is in hand and nothing is known of it yet."""
    fleet = Fleet()
    client = connections.sync_one.with_options(base_url=emulate((), script=fleet).base_url)
    with Cascade(planning(), client=client) as driver:
        with interrupted(function, event):
            driver.run(DIAMOND, inputs=GIVEN, run="cut")
        result = driver.run(DIAMOND, inputs=GIVEN, run="cut")
    assert result.ok
    assert set(fleet.made.values()) == {1}
    assert (result.maybe_nanousd, result.costs) == (0, ledger_costs())


@contextmanager
def full_disk(room: int, journal: Journal) -> Iterator[None]:
    """No file grows beyond `room` bytes more than the journal has."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_was_full_for_a_while_leaves_a_journal_that_can_be_read() -> None:
    """Nothing follows an unfinished line. A call that is paid is not lost for its settlement: it counts with its bound."""
    journal = Journal.open("full")
    journal.begin(Head("run_1", DIAMOND.goal, DIAMOND, GIVEN, "p", "h"))
    journal.begun("r1", "executor", "names")
    journal.reserved("r1", "executor", 500)
    with full_disk(20, journal):
        journal.settled("r1", 500, 7)
    journal.ended("r1", 7)
    with pytest.raises(ConfigurationError, match="cannot be written: File too large"):
        journal.came(subtask="names", attempt=Attempt(0, "r1", 7, "haiku", "Acme").to_dict())
    with pytest.raises(ConfigurationError, match="cannot be written: File too large"):
        journal.reserved("r2", "executor", 500)
    journal.close()
    again = Journal.open("full")
    assert (again.attempts, again.money.known, again.money.maybe) == ({}, {}, 500)
    again.close()


def test_a_plan_with_lists_is_the_same_plan_when_it_is_taken_up(asking: Asking, emulate: Emulate) -> None:
    """Whoever writes one in code may write lists; the journal has none but them."""
    lists: Any = replace(DIAMOND, inputs=["report"], subtasks=list(DIAMOND.subtasks))
    driver = asking(planning(), emulate((), script=Fleet()))
    first = driver.run(lists, inputs=GIVEN, run="lists")
    assert driver.run(lists, inputs=GIVEN, run="lists").costs == first.costs
    with pytest.raises(ConfigurationError, match="begun with another plan"):
        driver.run(replace(lists, subtasks=[]), inputs=GIVEN, run="lists")


def test_a_process_that_was_forked_during_a_run_does_not_hold_it() -> None:
    """It lives on when the run has ended, and has every open file of it."""
    journal = Journal.open("forked")
    waiting, going = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(going)
        os.read(waiting, 1)
        os._exit(0)
    try:
        journal.close()
        Journal.open("forked").close()
    finally:
        os.close(going)
        os.waitpid(child, 0)
        os.close(waiting)


def test_what_is_under_way_ends_where_a_run_cannot_be_written_down(connections: Connections, emulate: Emulate) -> None:
    """It is paid for: the hooks, and the ledger with them, are told what it cost. Nothing new is begun."""
    fleet, ends, first_ended = Fleet(), list[Ended](), threading.Event()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    both = threading.Barrier(2, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1])))

    class Told:
        def begin(self, begun: Begun) -> Track:
            del begun
            return self

        def calling(self, call: Calling) -> None:
            """Nothing is waited for."""

        def ended(self, end: Ended) -> None:
            ends.append(end)
            first_ended.set()

    async def script(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        await asyncio.to_thread(both.wait)
        if "do b" in str(body["messages"]):
            await asyncio.to_thread(first_ended.wait)
        return fleet(body, headers)

    client = connections.async_one.with_options(base_url=emulate((), script=script).base_url)
    driver = AsyncCascade(planning(), client=client, ledger="off", hooks=(Told(),))
    plan = replace(TWO, subtasks=(*TWO.subtasks, Subtask("c", "do c", ("a",))))
    try:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            connections.runner.run(driver.run(plan, run="full"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [(end.is_known, cost_of_end(end)) for end in ends] == [(True, COST["haiku"])] * 2
    assert fleet.calls == 2
