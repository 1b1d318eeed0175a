"""Checks by programs, live: what they pass, fail and cannot say; cancelled, at the deadline, and beside other work."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cascade import AllRungsFailed, AsyncCascade, Policy
from cascade.ledger.reading import reading
from cascade.ledger.verifying.verification import verify
from tests.live.conftest import COST, Asking, ladder, reasons
from tests.live.operation.test_books import entries
from tests.verifiers.programs import Held

from .conftest import Provide
from .provider import asked_often, in_turn, says

ONE = COST["haiku"]
PASSES = "import json, sys\nanswer = json.load(sys.stdin)['answer']\nsys.exit({'bad': 1, 'odd': 7}.get(answer.split()[0], 0))"
SLACK_S = 3.0  # what a busy machine may add: a program has to start


def check(text: str, *arguments: str | Path, **more: Any) -> dict[str, Any]:
    """A Python program as a check of a policy."""
    return {"command": [sys.executable, "-I", "-S", "-c", text, *map(str, arguments)], "name": "tests", **more}


def checked(*checks: dict[str, Any], **more: Any) -> Policy:
    """The ladder, where every answer is checked."""
    return ladder(checks=list(checks), **more)


def test_a_program_lets_an_answer_pass_or_fails_it(asking: Asking, provide: Provide) -> None:
    """Exit 0 and 1; on the trail by its name, with its time; the top rung's answer is checked too."""
    driver = asking(checked(check(PASSES)), provide(in_turn(says(0.9, "good"), says(0.9, "bad"))))
    good, bad = driver.ask("?"), driver.ask("?")
    assert (good.text, good.steps[0].verdict.failed_checks) == ("good", ())
    (result,) = good.steps[0].verdict.checks
    assert (result.name, result.passed, result.seconds > 0) == ("tests", True, True)
    assert (bad.text, reasons(bad), bad.steps[0].verdict.failed_checks) == (
        "sonnet's", ["check_failed", None], ("tests",),
    )  # fmt: skip


@pytest.mark.parametrize("says_nothing", ["odd", "missing"])
def test_an_answer_of_which_a_program_says_nothing_climbs(
    asking: Asking, provide: Provide, says_nothing: str, tmp_path: Path
) -> None:
    """Neither passed nor failed: the reason is `error`, which is not natural, and the answer is never held."""
    program = tmp_path / "check"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit(7)\n")
    program.chmod(0o755)
    check_of = {"command": [str(program)], "name": "tests"} if says_nothing == "missing" else check(PASSES)
    tasks = [{"name": "low", "ceiling": "haiku"}]
    driver = asking(checked(check_of, tasks=tasks), provide(in_turn(says(0.9, "odd"))))
    if says_nothing == "missing":
        program.unlink()  # the policy was loaded while it was there
    with pytest.raises(AllRungsFailed, match="tests could not say: ") as caught:
        driver.ask("?", task="low")
    (step,) = caught.value.steps
    assert (step.verdict.kind, step.verdict.is_unchecked, step.verdict.failed_checks) == ("answered", True, ())
    if says_nothing == "odd":
        answer = driver.ask("?")
        assert (answer.text, reasons(answer)) == ("sonnet's", ["error", None])
        assert step.verdict.checks[0].detail


def test_an_answer_may_pass_of_which_a_program_says_nothing_and_the_trail_tells(
    asking: Asking, provide: Provide
) -> None:
    """`on_error: pass`: it ships, and the trail says that nothing was checked."""
    policy = checked(check(PASSES, on_error="pass"))
    answer = asking(policy, provide(in_turn(says(0.9, "odd")))).ask("?")
    (result,) = answer.steps[0].verdict.checks
    assert (answer.text, answer.degraded, result.passed, result.blocks) == ("odd", None, None, False)
    assert answer.to_dict()["steps"][0]["checks"][0]["passed"] is None


def test_a_sample_that_fails_a_check_agrees_with_nothing(asking: Asking, provide: Provide) -> None:
    """Two "bad" do not make two; the answers that pass do. What cannot be said of a sample could have agreed: `error`."""
    policy = asked_often(most=4, agree=2, checks=[check(PASSES)], samples={"same": "builtins:len", "at_once": 2})
    answer = asking(policy, provide(in_turn(says(0.9, "bad"), says(0.9, "bad"), says(0.8, "yes")))).ask("?")
    assert (answer.text, answer.cost_nanousd) == ("yes", 4 * ONE)
    assert [sample.verdict.failed_checks for sample in answer.steps[0].samples] == [("tests",), ("tests",), (), ()]
    unsaid = asking(policy, provide(in_turn(says(0.9, "bad"), says(0.9, "odd")))).ask("?")
    assert reasons(unsaid) == ["error", None]
    failed = asking(policy, provide(in_turn(says(0.9, "bad")))).ask("?")
    assert (reasons(failed), len(failed.steps[0].samples)) == (["disagreement", None], 4)


def test_the_deadline_bounds_a_program(asking: Asking, provide: Provide, tmp_path: Path) -> None:
    """A rung's checks end with its calls: what is left belongs to the rungs above. Nothing was said, so nothing is held."""
    held = Held(tmp_path)
    text = Held.HOLD + "os.fork()\nos.write(held, b'here')\nwhile True: time.sleep(60)"
    policy = checked(check(text, held.path, timeout_s=60), tasks=[{"name": "low", "ceiling": "haiku"}])
    driver, started = asking(policy, provide(in_turn(says(0.9, "good")))), time.monotonic()
    with pytest.raises(AllRungsFailed, match="tests could not say: ") as caught:
        driver.ask("?", task="low", deadline_s=1.0)
    assert time.monotonic() - started < 1.0 + SLACK_S
    assert [step.verdict.is_unchecked for step in caught.value.steps] == [True]
    held.await_end()


def test_cancelling_ends_a_program_with_all_it_started(provide: Provide, tmp_path: Path) -> None:
    """In the middle of a vote: nothing is left running, and what was billed is on record."""
    held = Held(tmp_path)
    text = Held.HOLD + "os.fork()\nos.write(held, b'here')\nwhile True: time.sleep(60)"
    policy = asked_often(most=3, agree=2, checks=[check(text, held.path, timeout_s=60)])
    provider = provide(in_turn(says(0.9, "good")))

    async def scene() -> None:
        async with anthropic.AsyncAnthropic(base_url=provider.base_url, api_key="test") as client:
            task = asyncio.create_task(AsyncCascade(policy, client=client).ask("?"))
            await asyncio.to_thread(held.wait_for, b"here")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            held.await_end()  # at once: nothing of it outlives the cancellation

    asyncio.run(scene())
    assert len(provider.asked) == 1
    entries()
    with reading(None) as reader:
        assert verify(reader).unsettled == 0


def test_the_event_loop_goes_on_while_a_program_runs(provide: Provide, tmp_path: Path) -> None:
    """The program waits for what another coroutine does: that would never come if the loop were blocked."""
    asked, told = tmp_path / "asked", tmp_path / "told"
    text = (
        "import pathlib, sys, time\nasked, told = map(pathlib.Path, sys.argv[1:])\nasked.touch()\n"
        "while not told.exists(): time.sleep(0.005)\n"
    )
    policy = checked(check(text, asked, told, timeout_s=60))
    provider = provide(in_turn(says(0.9, "good")))

    async def other() -> None:
        while not asked.exists():  # noqa: ASYNC110 - it comes from another process
            await asyncio.sleep(0.005)
        told.touch()

    async def scene() -> None:
        async with anthropic.AsyncAnthropic(base_url=provider.base_url, api_key="test") as client:
            answer, _ = await asyncio.gather(AsyncCascade(policy, client=client).ask("?"), other())
            assert answer.text == "good"

    asyncio.run(scene())
