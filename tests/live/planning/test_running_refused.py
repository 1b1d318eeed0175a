"""Runs that are refused before anything is asked: the policy, the plan, the arguments."""

from __future__ import annotations

from typing import Any

import pytest

from cascade import ConfigurationError, Plan, PlanError, RequestError, Subtask
from cascade.engine.mode_switch import SwitchFile, switch_path, write_switch_file
from tests.live.conftest import Asking, Emulate, ladder
from tests.live.planning.fleet import DIAMOND, GIVEN, TWO, Fleet, planning


def test_a_policy_without_plan_or_in_another_mode_cannot_run_one(asking: Asking, emulate: Emulate) -> None:
    """Before anything is asked."""
    emulator = emulate((), script=Fleet())
    with pytest.raises(
        ConfigurationError, match=r"policy live has no plan block \(add `plan: \{\}`, or use the shipped policy"
    ):
        asking(ladder(), emulator).run(TWO)
    for mode in ("off", "observe"):
        with pytest.raises(ConfigurationError, match=f"in mode {mode}: a plan has no baseline"):
            asking(planning(mode=mode), emulator).run(TWO)
    assert emulator.requests == ()


def test_a_plan_that_cannot_be_run_is_refused_before_anything_is_paid(asking: Asking, emulate: Emulate) -> None:
    """With a line for each fault; inputs that it needs and are not given are one."""
    emulator = emulate((), script=Fleet())
    driver = asking(planning(), emulator)
    with pytest.raises(PlanError) as caught:
        driver.run(Plan("g", (Subtask("a", "do a", ("text",), "gpt"),)))
    assert (len(caught.value.faults), caught.value.exit_code, caught.value.cost_nanousd) == (2, 2, 0)
    with pytest.raises(PlanError, match="there is no input or subtask 'report'"):
        driver.run(DIAMOND)
    assert emulator.requests == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0}, {"concurrency": True}, {"max_usd": 0}, {"max_usd": float("inf")}, {"deadline_s": -1}, {"inputs": {"a": 1}},
        {"inputs": "text"}, {"metadata": {"a": 1}}, {"temperature": 1},
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_refused(asking: Asking, emulate: Emulate, wrong: dict[str, Any]) -> None:
    """By name."""
    with pytest.raises(RequestError, match=next(iter(wrong))):
        asking(planning(), emulate((), script=Fleet())).run(TWO, **wrong)


def test_a_run_that_is_switched_off_begins_nothing_more_and_goes_on_later(asking: Asking, emulate: Emulate) -> None:
    """What is under way comes to its end; the rest is pending until the mode is enforce again."""
    fleet = Fleet()
    fleet.on_request = lambda calls: write_switch_file(SwitchFile(all="off"), switch_path()) if calls == 1 else None
    driver = asking(planning(), emulate((), script=fleet))
    stopped = driver.run(DIAMOND, inputs=GIVEN)
    assert (stopped.stopped, stopped.of("accepted"), fleet.calls) == ("mode", ("names",), 1)
    with pytest.raises(ConfigurationError, match="in mode off"):
        driver.run(stopped)
    write_switch_file(SwitchFile(), switch_path())
    result = driver.run(stopped)
    assert (result.ok, result.stopped, fleet.made["list the names", "haiku"]) == (True, None, 1)
