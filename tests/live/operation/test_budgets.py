"""Budgets at work: a call that might pass a limit is not made, or told, or the climb stops; money is counted to the end."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anthropic
import pytest
from structlog.testing import capture_logs

from cascade import AsyncCascade, BudgetExceeded, Policy
from cascade.budgets.gate import bound_of
from cascade.core.messages import Request
from cascade.core.requests import read_messages
from cascade.core.triage import build_prompt
from cascade.policy.binding import bind_policy
from tests.live.conftest import COST, Asking, Clock, Emulate, Emulator, ladder, reasons

DAY = 86_400.0


def bound(policy: Policy, text: str, index: int) -> float:
    """The most that one call may cost, in USD."""
    plan = bind_policy(policy)
    return bound_of(plan.rates[index], build_prompt(policy, index, Request(read_messages(text))), 1) / 1e9


def budget(**limits: Any) -> Policy:
    """The ladder with one budget."""
    return ladder(budget=limits)


def usd(amount: float) -> str:
    """As a policy writes it."""
    return f"{amount:.9f}"


def test_a_call_that_might_pass_the_limit_is_not_made(asking: Asking, emulator: Emulator) -> None:
    """`reject`: nothing is asked, the error names the budget; the limit holds for what calls may cost, not for what they do."""
    policy = budget(daily_usd=usd(bound(ladder(), "sure", 0) * 0.99), on_exhausted="reject")
    with pytest.raises(BudgetExceeded, match="the daily budget of live") as caught:
        asking(policy, emulator, ledger="off").ask("sure")
    assert (caught.value.steps, caught.value.exit_code, emulator.requests) == ((), 5, ())


def test_spend_never_passes_the_limit_and_a_new_day_has_its_own(asking: Asking, emulator: Emulator) -> None:
    """Asked until it refuses, the sum is below the limit; at midnight there is room again."""
    wall = Clock()
    limit = bound(ladder(), "sure", 0) + 3.5 * COST["haiku"] / 1e9
    driver = asking(budget(daily_usd=usd(limit), on_exhausted="reject"), emulator, ledger="off", wall=wall)
    spent = sum(driver.ask("sure").cost_nanousd for _ in range(4))
    assert spent == 4 * COST["haiku"] <= limit * 1e9
    with pytest.raises(BudgetExceeded):
        driver.ask("sure")
    wall.now = DAY
    assert driver.ask("sure").rung == "haiku"


def test_in_the_middle_of_a_climb_the_best_held_ships_marked(asking: Asking, emulator: Emulator) -> None:
    """Room for Haiku's call and not for Sonnet's: Haiku's answer, degraded by the budget, outside any certificate."""
    limit = (bound(ladder(), "hard", 0) + bound(ladder(), "hard", 1)) / 2
    answer = asking(budget(daily_usd=usd(limit), on_exhausted="reject"), emulator, ledger="off").ask("hard")
    assert (answer.text, answer.degraded, answer.certificate) == ("haiku's", "budget", "uncertified")
    assert reasons(answer) == [None]
    with pytest.raises(BudgetExceeded, match=r"the daily budget of live.*haiku: declined") as caught:
        asking(budget(daily_usd=usd(limit), on_exhausted="reject"), emulator, ledger="off").ask("declined")
    assert [step.rung for step in caught.value.steps] == ["haiku"]


def test_hold_is_a_soft_limit(asking: Asking, emulator: Emulator) -> None:
    """With nothing left Haiku is asked all the same, and the climb stops at what it said."""
    driver = asking(budget(daily_usd="0.000000001", on_exhausted="hold"), emulator, ledger="off")
    assert [(driver.ask(text).text, driver.ask(text).degraded) for text in ("sure", "hard")] == [
        ("haiku's", None),
        ("haiku's", "budget"),
    ]
    assert {seen.body["model"] for seen in emulator.requests} == {"claude-haiku-5-5"}


def test_alert_only_tells_once_a_period(asking: Asking, emulator: Emulator) -> None:
    """At 80 % and at 100 % of the day's money, whatever is asked after."""
    limit = 5 * COST["haiku"] / 1e9
    driver = asking(budget(daily_usd=usd(limit)), emulator, ledger="off")
    with capture_logs() as events:
        for _ in range(8):
            assert driver.ask("sure").degraded is None
    told = [event for event in events if event["event"] == "budget_alert"]
    assert [round(event["share"], 2) for event in told] == [0.8, 1.0]


def test_every_budget_that_applies_must_have_room(asking: Asking, emulator: Emulator) -> None:
    """One of a task is spent: that task is refused by its name, another is answered."""
    tiny = {"daily_usd": "0.000000001", "per": "task", "on_exhausted": "reject"}
    tasks = [{"name": "refund"}]
    driver = asking(ladder(tasks=tasks, budget=[{"daily_usd": 5}, tiny]), emulator, ledger="off")
    with pytest.raises(BudgetExceeded, match="live/task=refund") as caught:
        driver.ask("sure", task="refund")
    assert caught.value.refused.startswith("the daily budget of live/task=refund")
    roomy = {**tiny, "daily_usd": 5}
    assert (
        asking(ladder(tasks=tasks, budget=[roomy]), emulator, ledger="off").ask("sure", task="refund").rung == "haiku"
    )


def test_one_request_has_a_limit_too(asking: Asking, emulator: Emulator) -> None:
    """`call_usd` is of all the calls of a climb: it stops where the next one might pass it."""
    limit = COST["haiku"] / 1e9 + bound(ladder(), "hard", 1) * 1.01
    answer = asking(budget(call_usd=usd(limit), on_exhausted="reject"), emulator, ledger="off").ask("hard")
    assert (answer.text, answer.degraded) == ("sonnet's", "budget")


def test_what_was_spent_before_a_restart_counts(asking: Asking, emulator: Emulator) -> None:
    """A process that begins anew knows from the ledger what its day has cost already."""
    limit = bound(ladder(), "sure", 0) + 1.5 * COST["haiku"] / 1e9
    policy = budget(daily_usd=usd(limit), on_exhausted="reject")
    for _ in range(2):
        asking(ladder(), emulator).ask("sure")
    with pytest.raises(BudgetExceeded):
        asking(policy, emulator).ask("sure")


def seen(emulator: Emulator) -> None:
    """Wait until a request is there."""
    until = time.monotonic() + 60
    while not emulator.requests and time.monotonic() < until:
        time.sleep(0.001)


def test_a_call_that_is_cut_off_counts_as_the_most_it_may_have_cost(emulate: Emulate) -> None:
    """Cancelled while it hangs, it may have been billed: the next call finds that much less room."""
    emulator = emulate(faults="timeout,times=1")
    policy = budget(daily_usd=usd(1.5 * bound(ladder(), "sure", 0)), on_exhausted="reject")

    async def run() -> None:
        async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="test") as client:
            driver = AsyncCascade(policy, client=client, ledger="off")
            hanging = asyncio.create_task(driver.ask("sure"))
            await asyncio.to_thread(seen, emulator)
            hanging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hanging
            with pytest.raises(BudgetExceeded):
                await driver.ask("sure")

    asyncio.run(run())


def test_a_request_that_is_cancelled_while_a_budget_decides_leaves_no_trace(emulator: Emulator) -> None:
    """Its reservation is given back: there is room for one call, and the next request has it."""
    policy = budget(daily_usd=usd(1.5 * bound(ladder(), "sure", 0)), on_exhausted="reject")

    async def run() -> None:
        async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="test") as client:
            driver = AsyncCascade(policy, client=client)
            await AsyncCascade(ladder(), client=client).ask("sure")  # a ledger that the budget asks, in a thread
            before = len(emulator.requests)
            asking = asyncio.create_task(driver.ask("sure"))
            await asyncio.sleep(0)  # it goes as far as it can: to the thread that looks into the ledger
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert len(emulator.requests) == before
            assert (await driver.ask("sure")).rung == "haiku"

    asyncio.run(run())
