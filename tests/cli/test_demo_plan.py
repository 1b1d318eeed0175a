"""`cascade demo --plan`: the landscape, planned and run offline, as a newcomer sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cascade.cli.demo.planned import planning_policy
from cascade.cli.demo.recorded import FOLDER, Recorded, landscape
from cascade.emulator import Emulator
from tests.cli.conftest import Ran, Run, Runner

PLAN, _ = landscape()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands run."""
    return tmp_path_factory.mktemp("demo-plan")


@pytest.fixture(scope="module")
def printed(runner: Runner, folder: Path) -> Ran:
    """What `cascade demo --plan --html run.html` prints."""
    return runner(folder)("demo", "--plan", "--html", str(folder / "run.html"))


@pytest.fixture(scope="module")
def shown(runner: Runner, folder: Path) -> dict[str, Any]:
    """What `cascade demo --plan --json` prints."""
    return runner(folder)("demo", "--plan", "--json").json


def test_it_tells_the_plan_each_request_and_what_became_of_every_subtask(printed: Ran) -> None:
    """The plan as a table, a line for each climb and review as it ends, then the fates, the costs and the page's text."""
    assert printed.code == 0
    for one in PLAN.subtasks:
        assert f"\n{one.id:<10}  {one.rung:<6}  {one.kind:<8}  " in printed.out
        assert f"\nexecutor  {one.id:<10}  " in printed.out
    fates = {" ".join(line.split()[:4]) for line in printed.out.splitlines()}
    assert {"features haiku sonnet accepted", "pricing haiku haiku unsettled", "themes sonnet opus accepted"} <= fates
    for words in (
        "a plan with 8 subtasks", "retry: `names` has five companies", "escalate: The note gives two prices of Kelvanta",
        "a control item, known to be wrong", "haiku → sonnet → opus (assigned sonnet)",
        "review: rests on results that are not settled: pricing", "## Our opening",
    ):  # fmt: skip
        assert words in printed.out


def test_the_json_adds_up(shown: dict[str, Any]) -> None:
    """The executors' costs by rung and by subtask are those of their role; the subtasks' reviews are part of the reviewer's."""
    costs = shown["costs"]
    assert sum(one["cost"] for one in shown["executors"]) == costs["executor"]
    by_subtask = sum(one["cost_nanousd"] for one in shown["subtasks"])
    assert costs["executor"] < by_subtask < costs["executor"] + costs["reviewer"]  # control items belong to no subtask
    assert shown["cost_nanousd"] == sum(costs.values())
    assert {one["id"]: one["status"] for one in shown["subtasks"] if one["status"] != "accepted"} == {
        "pricing": "unsettled"
    }


def test_the_ways_without_a_plan_are_told_with_what_they_missed(shown: dict[str, Any]) -> None:
    """Plain climbs pay least for the subtasks and pass three flaws on; the figures are printed as they came, whoever wins."""
    climbs, each, whole = shown["instead"]
    assert (len(climbs["flaws"]), each["flaws"], whole["flaws"]) == (3, [], [])
    assert (each["calls"], whole["calls"]) == (len(PLAN.subtasks), 1)
    assert climbs["calls"] > each["calls"]
    assert 0 < climbs["cost"] < each["cost"]


def test_the_page_has_the_graph(printed: Ran, folder: Path) -> None:
    """A box for each subtask, in the private file that was asked for."""
    assert str(folder / "run.html") in printed.out
    page = (folder / "run.html").read_text(encoding="utf-8")
    assert page.count('<g class="box ') == len(PLAN.subtasks)
    assert (folder / "run.html").stat().st_mode & 0o777 == 0o600


def test_a_page_without_a_plan_is_refused(runner: Runner, tmp_path: Path) -> None:
    """The other demo has none."""
    done = runner(tmp_path)("demo", "--html", "run.html")
    assert (done.code, done.out) == (2, "")
    assert "--html is the page of a plan's run (add --plan)" in done.err


def test_a_run_of_ones_own_has_the_page_too(run: Run, tmp_path: Path) -> None:
    """`cascade run --html` writes it after the run, and with --dry-run for a plan that has not been run."""
    policy = planning_policy()
    inputs = [f"--input={FOLDER / name}.txt" for name in PLAN.inputs]
    command = ("run", "--plan", str(FOLDER / "plan.yaml"), *inputs, "--html", "run.html")
    with Emulator(script=Recorded(PLAN, policy)) as emulator:
        planned = run(*command, "--dry-run", emulator=emulator)
        assert planned.code == 0, planned.err
        assert not emulator.requests
        assert "8 subtasks, not run yet" in (tmp_path / "run.html").read_text(encoding="utf-8")
        done = run(*command, emulator=emulator)
    assert done.code == 3, done.err  # a price is not settled
    assert "7 accepted, 1 unsettled" in (tmp_path / "run.html").read_text(encoding="utf-8")
