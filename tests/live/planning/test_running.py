"""Plans at work: subtasks climb, are reviewed and made again; what becomes of each, and every nano-USD of it."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Mapping
from typing import Any

import anthropic
import pytest

from cascade import AsyncCascade, Cascade, Plan, Subtask
from cascade.emulator.scripting import ScriptedReply
from tests.live.conftest import COST, Asking, Clock, Emulate
from tests.live.operation.test_books import bodies, entries
from tests.live.planning.fleet import CONTROLS_KNOWN, DIAMOND, GIVEN, TWO, Fleet, accepts, ledger_costs, planning


def test_a_plan_is_run_to_its_end(asking: Asking, emulate: Emulate) -> None:
    """Every climb begins at the first rung; the assigned one is the lowest that may answer; sources come by name."""
    fleet = Fleet()
    result = asking(planning(), emulate((), script=fleet)).run(DIAMOND, inputs=GIVEN)
    assert result.ok
    assert str(result) == result.text == "make a table by haiku"
    assert {name: (one.status, one.rung, one.text) for name, one in result.subtasks.items()} == {
        "names": ("accepted", "haiku", "list the names by haiku"),
        "prices": ("accepted", "sonnet", "find the prices by sonnet"),
        "staff": ("accepted", "haiku", "find the staff by haiku"),
        "table": ("accepted", "haiku", "make a table by haiku"),
    }
    assert result.costs == {"executor": 4 * COST["haiku"] + COST["sonnet"]} == ledger_costs()
    (prices,) = result.subtasks["prices"].attempts
    assert prices.rungs == (("haiku", COST["haiku"]), ("sonnet", COST["sonnet"]))
    assert prices.answer is not None
    assert (prices.answer.certificate, [step.reason for step in prices.answer.steps]) == (
        "uncertified",
        ["floor", None],
    )
    last = json.loads(fleet.seen[-1][2]["messages"][-1]["content"])
    assert [(one["name"], one["text"]) for one in last["sources"]] == [
        ("prices", "find the prices by sonnet"), ("staff", "find the staff by haiku"),
    ]  # fmt: skip


def test_the_ledger_has_which_part_of_the_run_each_request_is(asking: Asking, emulate: Emulate) -> None:
    """Its run, subtask, attempt and assigned rung; control items are marked; what the caller says of it is there."""
    fleet = Fleet(says=lambda instruction, _: "low" if instruction == "do a" else "high")
    plan = Plan("g", (Subtask("a", "do a"), Subtask("b", "do b", (), "sonnet")))
    result = asking(planning(), emulate((), script=fleet)).run(plan, metadata={"customer": "c"})
    requests = bodies(entries(), "request")
    assert {one["plan"]["run"] for one in requests} == {result.id}
    assert {tuple(one["metadata"].items()) for one in requests} == {(("customer", "c"),)}
    parts = {
        (one["arm"], one["plan"].get("subtask", ""), one["plan"].get("assigned", ""), one["plan"].get("control"))
        for one in requests
    }
    assert parts == {
        ("executor", "a", "haiku", None), ("executor", "b", "sonnet", None), ("reviewer", "a", "haiku", None), ("reviewer", "", "", "right"),
    }  # fmt: skip
    assert result.costs == ledger_costs()


def test_what_is_sent_back_goes_on_one_rung_up_and_is_told_why(asking: Asking, emulate: Emulate) -> None:
    """The climb begins above the final rung, by the ordinary rule: the rung is still asked for its confidence."""
    fleet = Fleet(
        says=lambda _, rung: "low" if rung == "haiku" else "high",
        reviews=lambda instruction, result: (
            ("accept" if CONTROLS_KNOWN[instruction, result] else "retry")
            if (instruction, result) in CONTROLS_KNOWN
            else "retry"
            if result.endswith("haiku")
            else "accept"
        ),
    )
    result = asking(planning(), emulate((), script=fleet)).run(Plan("g", (Subtask("a", "do a"),)))
    first, second = result.subtasks["a"].attempts
    assert (first.rung, second.rung, second.started_at, second.number) == ("haiku", "sonnet", 1, 1)
    assert (first.review.verdict if first.review else "", second.review.verdict if second.review else "") == (
        "retry",
        "accept",
    )
    assert result.subtasks["a"].status == "accepted"
    assert second.answer is not None
    assert [(step.rung, step.reason) for step in second.answer.steps] == [("sonnet", None)]
    assert second.confidence == 0.9
    told = next(body for instruction, rung, body in fleet.seen if (instruction, rung) == ("do a", "sonnet"))
    assert '"retry: do a by haiku"' in json.dumps(told["system"], ensure_ascii=False).replace("\\", "")
    assert fleet.made == {("do a", "haiku"): 1, ("do a", "sonnet"): 1}
    assert result.costs == ledger_costs()


def test_a_retry_climbs_on_where_its_rung_is_unsure(asking: Asking, emulate: Emulate) -> None:
    """Up to the top, where there is nothing left to send it back to."""
    levels = {"haiku": "low", "sonnet": "unsure", "opus": "low"}
    known = CONTROLS_KNOWN
    fleet = Fleet(
        says=lambda _, rung: levels[rung],
        reviews=lambda *one: ("accept" if known[one] else "retry") if one in known else "retry",
    )
    result = asking(planning(), emulate((), script=fleet)).run(Plan("g", (Subtask("a", "do a"),)))
    one = result.subtasks["a"]
    assert [(made.started_at, made.rung) for made in one.attempts] == [(0, "haiku"), (1, "opus")]
    assert (one.status, one.text) == ("unsettled", "do a by opus")
    assert one.why == "sent back by the reviewer, and opus is the highest rung: retry: do a by opus"
    assert not result.ok
    assert result.costs == ledger_costs()


def test_a_failed_subtask_fails_what_rests_on_it_and_nothing_else(asking: Asking, emulate: Emulate) -> None:
    """Its error is told, and so is what the climb to it cost."""
    fleet = Fleet(
        says=lambda instruction, rung: "refused" if (instruction, rung) == ("find the prices", "sonnet") else "high"
    )
    result = asking(planning(), emulate((), script=fleet)).run(DIAMOND, inputs=GIVEN)
    assert [one.status for one in result.subtasks.values()] == ["accepted", "failed", "accepted", "skipped"]
    prices = result.subtasks["prices"]
    assert prices.why.startswith("UpstreamRejected: sonnet")
    assert prices.attempts[0].rungs == (("haiku", COST["haiku"]), ("sonnet", 0))
    assert (result.text, result.of("skipped")) == (None, ("table",))
    assert result.costs == {"executor": 3 * COST["haiku"]} == ledger_costs()


def test_a_reviewer_that_is_not_believed_stays_so_when_the_run_is_taken_up(asking: Asking, emulate: Emulate) -> None:
    """Results have been built upon by then; a run of its own asks it anew."""
    plan = Plan("g", tuple(Subtask(f"s{n}", f"do {n}") for n in range(12)))
    fleet = Fleet(says=lambda *_: "low", reviews=lambda *_: "accept")
    emulator = emulate((), script=fleet)
    first = asking(planning(), emulator, ledger="off").run(plan, run="unbelieved")
    assert not first.reviewer.believed
    fleet.reviews = accepts
    again = asking(planning(), emulator, ledger="off").run(plan, run="unbelieved")
    assert again.subtasks == first.subtasks
    assert asking(planning(), emulator, ledger="off").run(first).subtasks == first.subtasks
    assert asking(planning(), emulator, ledger="off").run(plan).ok


def test_what_the_reviewer_cannot_settle_is_passed_on_with_a_mark(asking: Asking, emulate: Emulate) -> None:
    """The next executor is told, and its own result says what it rests on."""
    fleet = Fleet(
        says=lambda instruction, _: "medium" if instruction == "find the staff" else "high",
        reviews=lambda *one: ("accept" if CONTROLS_KNOWN[one] else "retry") if one in CONTROLS_KNOWN else "escalate",
    )
    result = asking(planning(), emulate((), script=fleet)).run(DIAMOND, inputs=GIVEN)
    assert result.of("unsettled") == ("staff",)
    assert result.subtasks["table"].rests_on == ("staff",)
    last = next(json.loads(body["messages"][-1]["content"]) for what, _, body in fleet.seen if what == "make a table")
    assert [bool(one.get("unsettled")) for one in last["sources"]] == [False, True]


@pytest.mark.parametrize("verdict", ["accept", "retry", "prose"])
def test_a_reviewer_that_errs_on_control_items_ends_the_run_bounded_and_is_named(
    asking: Asking, emulate: Emulate, verdict: str
) -> None:
    """Always accepts, always rejects, prose: what needed it is unsettled, and the run says why."""
    plan = Plan("g", tuple(Subtask(f"s{n}", f"do {n}") for n in range(12)))
    fleet = Fleet(says=lambda *_: "low", reviews=lambda *_: verdict)
    result = asking(planning(), emulate((), script=fleet)).run(plan)
    assert not result.reviewer.believed
    assert not result.ok
    assert set(result.of("unsettled")) == {f"s{n}" for n in range(12)}
    assert all(result.reviewer.why in one.why for one in result.subtasks.values())
    assert fleet.reviewed.total() <= 36
    assert result.costs == ledger_costs()


def test_independent_subtasks_run_at_the_same_time(asking: Asking, emulate: Emulate) -> None:
    """Each waits until the other has been asked."""
    fleet, both = Fleet(), asyncio.Barrier(2)

    async def script(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        await both.wait()
        return fleet(body, headers)

    assert asking(planning(), emulate((), script=script)).run(TWO).ok


def test_no_more_subtasks_run_at_a_time_than_the_caller_allows(asking: Asking, emulate: Emulate) -> None:
    """One, here."""
    fleet, under_way, most = Fleet(), [0], [0]

    async def script(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        for _ in range(20):
            await asyncio.sleep(0)
        under_way[0] -= 1
        return fleet(body, headers)

    plan = Plan("g", tuple(Subtask(f"s{n}", f"do {n}") for n in range(5)))
    assert asking(planning(), emulate((), script=script)).run(plan, concurrency=1).ok
    assert most == [1]


def test_a_run_never_spends_more_than_it_may_and_is_taken_up_again(asking: Asking, emulate: Emulate) -> None:
    """What had no room is pending; the Result goes on with more money, and pays nothing twice."""
    fleet = Fleet()
    driver = asking(planning(max_tokens=100), emulate((), script=fleet))
    first = driver.run(DIAMOND, inputs=GIVEN, max_usd=0.002, concurrency=1)
    assert (first.stopped, first.of("accepted"), first.of("pending")) == (
        "budget",
        ("names",),
        ("prices", "staff", "table"),
    )
    assert not first.ok
    assert first.cost_usd < 0.002
    second = driver.run(first, max_usd=1.0)
    assert (second.ok, second.stopped, second.id) == (True, None, first.id)
    assert second.cost_nanousd > first.cost_nanousd
    assert second.costs == ledger_costs()
    assert fleet.made["list the names", "haiku"] == 1


def test_reservations_of_others_do_not_stop_a_run_that_has_money(asking: Asking, emulate: Emulate) -> None:
    """Eight calls at once would have no room; one after the other, they have."""
    plan = Plan("g", tuple(Subtask(f"s{n}", f"do {n}", rung="haiku") for n in range(8)))
    driver = asking(planning(max_tokens=2000), emulate((), script=Fleet()))
    result = driver.run(plan, max_usd=0.006)
    assert result.ok
    assert result.costs == {"executor": 8 * COST["haiku"]} == ledger_costs()


def test_after_the_deadline_nothing_is_begun(asking: Asking, emulate: Emulate) -> None:
    """What is not settled is pending, and the Result is taken up again."""
    clock, fleet = Clock(), Fleet()

    def tick(call: int) -> None:
        clock.now = 1.0 if call == 1 else 100.0

    fleet.on_request = tick
    driver = asking(planning(), emulate((), script=fleet), clock=clock)
    first = driver.run(DIAMOND, inputs=GIVEN, deadline_s=50.0, concurrency=1)
    assert (first.stopped, first.of("accepted")) == ("deadline", ("names",))
    assert fleet.calls == 2
    second = driver.run(first)
    assert second.ok
    assert fleet.made["list the names", "haiku"] == 1
    assert second.costs == ledger_costs()


def test_a_climb_s_own_deadline_is_not_the_run_s(asking: Asking, emulate: Emulate) -> None:
    """What it holds is a result, degraded and reviewed; there is time left for the others."""
    clock, fleet = Clock(), Fleet(says=lambda instruction, _: "unsure" if instruction == "do a" else "high")

    def tick(_: int) -> None:
        clock.now += 10.0 if fleet.seen[-1][:2] == ("do a", "sonnet") else 0.0

    fleet.on_request = tick
    driver = asking(planning(deadline_s=5.0), emulate((), script=fleet), clock=clock)
    result = driver.run(TWO, deadline_s=100.0, concurrency=1)
    a = result.subtasks["a"]
    assert (a.status, a.attempts[0].degraded, a.why) == (
        "accepted",
        "deadline",
        "accepted by the reviewer, degraded: deadline",
    )
    assert (result.stopped, result.ok) == (None, True)
    assert result.costs == ledger_costs()


def test_a_run_that_is_cancelled_cancels_its_requests_and_can_be_taken_up(emulate: Emulate) -> None:
    """The call that was under way counts at the most that it may have cost."""
    fleet = Fleet()

    async def use() -> None:
        asked, gone = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        async def script(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
            if not gone.is_set() and "find" in str(body["messages"]):
                loop.call_soon_threadsafe(asked.set)
                await asyncio.sleep(3_600)
            return fleet(body, headers)

        emulator = emulate((), script=script)
        client = anthropic.AsyncAnthropic(api_key="test", base_url=emulator.base_url)
        async with client, AsyncCascade(planning(), client=client) as driver:
            running = asyncio.create_task(driver.run(DIAMOND, inputs=GIVEN, run="cut"))
            await asked.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            gone.set()
            result = await driver.run(DIAMOND, inputs=GIVEN, run="cut")
            assert result.ok
            assert result.costs == {"executor": 4 * COST["haiku"] + COST["sonnet"]}
            assert 0 < result.maybe_nanousd < 10**8
            assert "may have cost" in result.notes[0]

    asyncio.run(use())
    assert fleet.made["list the names", "haiku"] == 1
    assert ledger_costs() == {"executor": 4 * COST["haiku"] + COST["sonnet"]}


def test_a_budget_of_the_policy_stops_a_run_as_its_own_limit_does(asking: Asking, emulate: Emulate) -> None:
    """What it refuses is pending, not failed, and nothing more is begun."""
    policy = planning(max_tokens=100, budget={"daily_usd": "0.002", "on_exhausted": "reject"})
    result = asking(policy, emulate((), script=Fleet())).run(DIAMOND, inputs=GIVEN, concurrency=1)
    assert (result.stopped, result.of("failed"), result.of("accepted")) == ("budget", (), ("names",))
    (note,) = result.notes
    assert note.startswith("stopped: the daily budget of live, 0.002 USD, has no room for a call that may cost")
    assert result.costs == ledger_costs()


@pytest.mark.parametrize("handoff", ["doubt", "artifact"])
def test_a_retry_passes_on_what_the_policy_s_handoff_says_beside_the_reviewer_s_reason(
    asking: Asking, emulate: Emulate, handoff: str
) -> None:
    """It begins above the first rung, where no rung below it has anything to say."""
    fleet = Fleet(
        says=lambda _, rung: "low" if rung == "haiku" else "unsure",
        reviews=lambda *one: "accept" if CONTROLS_KNOWN.get(one, not one[1].endswith("haiku")) else "retry",
    )
    result = asking(planning(handoff=handoff), emulate((), script=fleet)).run(Plan("g", (Subtask("a", "do a"),)))
    assert [(made.started_at, made.rung) for made in result.subtasks["a"].attempts] == [(0, "haiku"), (1, "opus")]
    told = [(rung, "retry: do a by haiku" in str(body)) for _, rung, body in fleet.seen if rung != "reviewer"]
    assert list(dict.fromkeys(told)) == [("haiku", False), ("sonnet", True), ("opus", True)]
    assert result.costs == ledger_costs()


def test_what_a_run_decided_is_told_to_the_next_run_of_its_session(asking: Asking, emulate: Emulate) -> None:
    """Planner, executors and reviewer; not to itself when it is taken up again, and to no other session."""
    fleet = Fleet(says=lambda *_: "low", plan=TWO)
    driver = asking(planning(ledger={"content": True}), emulate((), script=fleet))

    def told() -> list[bool]:
        mine = [body for instruction, _, body in fleet.seen if instruction in ("", "do a", "do b")]  # no control items
        return ["list the names by haiku" in str(body) for body in mine]

    driver.run(DIAMOND, inputs=GIVEN, session="conv", run="first")
    fleet.seen.clear()
    driver.run("do two things", session="other")
    assert told()
    assert not any(told())
    fleet.seen.clear()
    assert driver.run("do two things", session="conv").notes == ()
    assert all(told())
    kept = asking(planning(), emulate((), script=fleet)).run(TWO, session="conv")
    assert kept.notes == ("session: nothing is carried, ledger.content is false",)


def test_who_interrupts_waits_for_what_is_paid_and_loses_nothing(emulate: Emulate) -> None:
    """What is under way ends and is kept; nothing new is begun."""
    fleet = Fleet()
    main = threading.main_thread().ident or 0

    def interrupt(call: int) -> None:
        if call == 2:
            signal.pthread_kill(main, signal.SIGINT)

    fleet.on_request = interrupt
    emulator = emulate((), script=fleet)
    with (
        anthropic.Anthropic(api_key="test", base_url=emulator.base_url) as client,
        Cascade(planning(), client=client) as driver,
    ):
        with pytest.raises(KeyboardInterrupt):
            driver.run(DIAMOND, inputs=GIVEN, run="interrupted", concurrency=1)
        fleet.on_request = lambda _: None
        result = driver.run(DIAMOND, inputs=GIVEN, run="interrupted")
    assert result.ok
    assert set(fleet.made.values()) == {1}
    assert result.maybe_nanousd == 0
    assert result.costs == ledger_costs()
