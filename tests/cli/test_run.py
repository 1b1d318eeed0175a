"""`cascade run`: the final result on stdout, what became of each subtask on stderr, and the exit code says whether all of it stands."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from cascade import Plan, Subtask, load_plan, save_plan
from cascade.cli.run.command import exit_code
from cascade.core.planning.result import Result, ReviewerStanding, SubtaskResult
from cascade.core.prompts.planner import VERSION
from cascade.emulator import Emulator
from cascade.emulator.scripting import ScriptedReply
from tests.cli.conftest import Run
from tests.cli.within import run as run  # noqa: PLC0414 - a fixture
from tests.live.planning.fleet import Fleet
from tests.live.planning.planners import BAD, Planner, reply_of, written
from tests.warm import WarmPython

GOAL = "Compare the companies."
PLAN = Plan(
    GOAL, (Subtask("names", "do names", ("report",)), Subtask("table", "do table", ("names",), "sonnet")), ("report",)
)


class Serve(Protocol):
    """Start an emulator."""

    def __call__(self, planner: Planner) -> Emulator:
        """One that answers as this script."""
        ...


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Emulators, which stop when the test ends."""
    with ExitStack() as stack:
        yield lambda planner: stack.enter_context(Emulator([], script=planner))


@pytest.fixture(autouse=True)
def given(tmp_path: Path) -> None:
    """What the commands are given: an input, and a policy that draws no reviews."""
    (tmp_path / "Report.txt").write_text("Acme sells anvils.", encoding="utf-8")
    rungs = """ladder:
- {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 500, thinking: disabled}
- {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 500}
- {rung: opus, model: claude-opus-5-5, max_tokens: 500}
"""
    (tmp_path / "policy.yaml").write_text(
        f"version: 1\nname: quiet\n{rungs}plan: {{review_high: 0}}\n", encoding="utf-8"
    )


QUIET = ("--policy", "policy.yaml")


def test_a_goal_is_planned_and_run(run: Run, serve: Serve) -> None:
    """The result on stdout; a row for each subtask and the costs by role on stderr."""
    ran = run("run", GOAL, "--input", "Report.txt", *QUIET, emulator=serve(Planner()))
    assert (ran.code, ran.out) == (0, "do table by sonnet\n")
    lines = ran.err.splitlines()
    assert lines[0].split() == ["subtask", "assigned", "final", "status", "review", "cost", "USD"]
    assert lines[1].split() == ["names", "haiku", "haiku", "accepted", "not", "drawn", "(high)", "0.000020"]
    assert lines[2].split() == ["table", "sonnet", "sonnet", "accepted", "not", "drawn", "(high)", "0.000420"]
    assert lines[3] == "0.000840 USD (planner 0.000400, executor 0.000440)"


def test_the_shipped_policy_plans_where_none_is_named(run: Run, serve: Serve) -> None:
    """Another one has to be named, or CASCADE_POLICY; one that has no plans says what to add."""
    emulator = serve(Planner())
    assert run("run", GOAL, "-i", "Report.txt", emulator=emulator).code == 0
    ran = run("run", GOAL, "-i", "Report.txt", emulator=emulator, environment={"CASCADE_POLICY": "default"})
    assert ran.code == 2
    assert ran.err.startswith("cascade: policy default has no plan block")


def test_json_has_everything(run: Run, serve: Serve) -> None:
    """The plan, the attempts, the reviews and the costs; it reads back as a Result."""
    ran = run(
        "run", GOAL, "-i", "Report.txt", *QUIET, "--json", "--metadata", "customer=c-1", emulator=serve(Planner())
    )
    assert (ran.code, ran.err) == (0, "")
    assert (ran.json["ok"], ran.json["text"], ran.json["cost_nanousd"]) == (True, "do table by sonnet", 840_000)
    assert [one["status"] for one in ran.json["subtasks"]] == ["accepted", "accepted"]
    assert ran.json["plan"]["prompt"] == VERSION
    again = Result.from_dict(ran.json)
    assert (again.ok, str(again), again.cost_nanousd) == (True, "do table by sonnet", 840_000)


def test_a_dry_run_shows_the_plan_and_runs_nothing(run: Run, serve: Serve, tmp_path: Path) -> None:
    """With what each subtask may cost. The plan can be saved, edited and run."""
    planner = Planner()
    emulator = serve(planner)
    ran = run("run", GOAL, "-i", "Report.txt", *QUIET, "--dry-run", "--save-plan", "plan.yaml", emulator=emulator)
    assert ran.code == 0
    head, first, second, whole = ran.out.splitlines()
    assert head.split() == ["subtask", "rung", "task", "given", "about", "USD", "at", "most", "USD", "instruction"]
    assert first.split()[:4] == ["names", "haiku", "other", "report"]
    assert second.split()[:4] == ["table", "sonnet", "other", "names"]
    assert whole.endswith("the result is that of table")
    assert ran.err == "planning cost 0.000400 USD\n"
    assert planner.fleet.calls == 0
    plan = load_plan(tmp_path / "plan.yaml")
    assert plan.planner == "sonnet"
    (tmp_path / "plan.yaml").write_text((tmp_path / "plan.yaml").read_text().replace("do names", "do other names"))
    ran = run("run", "--plan", "plan.yaml", "-i", "Report.txt", *QUIET, emulator=emulator)
    assert (ran.code, len(planner.asked)) == (0, 1)
    assert planner.fleet.made["do other names", "haiku"] == 1


def test_a_dry_run_of_a_plan_costs_nothing(run: Run, serve: Serve, tmp_path: Path) -> None:
    """The estimate is below what it may cost at most, and both are above what the run then costs or below it as they should be."""
    save_plan(PLAN, tmp_path / "plan.yaml")
    planner = Planner()
    arguments = ("run", "--plan", "plan.yaml", "-i", "Report.txt", *QUIET, "--json")
    ran = run(*arguments, "--dry-run", emulator=serve(planner))
    assert (ran.json["planning_nanousd"], planner.asked, planner.fleet.calls) == (0, [], 0)
    assert Plan.from_dict(ran.json["plan"]) == PLAN
    done = run(*arguments, emulator=serve(Planner(fleet=Fleet(lambda *_: "low", lambda *_: "retry"))))
    for one in done.json["subtasks"]:
        costs = ran.json["subtasks"][one["id"]]
        assert costs["estimate_nanousd"] < costs["most_nanousd"]
        assert one["cost_nanousd"] < costs["most_nanousd"]


@pytest.mark.parametrize(
    ("verdict", "status"), [("escalate", "unsettled"), ("prose", "unsettled"), ("retry", "unsettled")]
)
def test_what_is_not_settled_has_an_exit_code_of_its_own(run: Run, serve: Serve, verdict: str, status: str) -> None:
    """And is named, with the reason, and with what rests on it."""
    fleet = Fleet(lambda instruction, _: "low" if instruction == "do names" else "high", lambda *_: verdict)
    ran = run("run", GOAL, "-i", "Report.txt", *QUIET, emulator=serve(Planner(fleet=fleet)))
    assert (ran.code, ran.out.startswith("do table by")) == (3, True)
    assert f"names: {status}: " in ran.err
    assert "table: rests on results that are not settled: names" in ran.err


def test_a_failed_subtask_is_named(run: Run, serve: Serve) -> None:
    """And so is what was skipped with it; there is no result."""
    fleet = Fleet(lambda instruction, _: "refused" if instruction == "do names" else "high")
    ran = run("run", GOAL, "-i", "Report.txt", *QUIET, emulator=serve(Planner(fleet=fleet)))
    assert (ran.code, ran.out) == (3, "")
    assert "names: failed: UpstreamRejected" in ran.err
    assert "table: skipped: " in ran.err


def test_a_run_that_its_budget_stops_is_taken_up_again(run: Run, serve: Serve, tmp_path: Path) -> None:
    """By its name alone; no climb that had ended is paid twice."""
    save_plan(PLAN, tmp_path / "plan.yaml")
    planner = Planner()
    emulator = serve(planner)
    begun = ("run", "--plan", "plan.yaml", "-i", "Report.txt", *QUIET, "--run", "weekly")
    ran = run(*begun, "--max-usd", "0.01", emulator=emulator)
    assert (ran.code, ran.out) == (5, "")
    assert "stopped by the budget; not done: table. Go on with: cascade run --run weekly" in ran.err
    assert "0.000020 USD of it were paid for climbs that were cut off; they begin anew" in ran.err
    ran = run("run", "--run", "weekly", *QUIET, "--max-usd", "1", emulator=emulator)
    assert (ran.code, ran.out) == (0, "do table by sonnet\n")
    assert planner.fleet.made == {("do names", "haiku"): 1, ("do table", "haiku"): 2, ("do table", "sonnet"): 1}
    ran = run("run", "--plan", "plan.yaml", "-i", "Report.txt", *QUIET, "--max-usd", "0.01", emulator=emulator)
    assert (ran.code, "with --run NAME it could be taken up again" in ran.err) == (5, True)


def test_a_planner_that_cannot_plan_is_an_error(run: Run, serve: Serve) -> None:
    """Of its own exit code; nothing is run. Without money nothing is asked."""
    planner = Planner(BAD)
    ran = run("run", GOAL, "-i", "Report.txt", *QUIET, emulator=serve(planner))
    assert (ran.code, planner.fleet.calls) == (3, 0)
    assert ran.err.startswith("cascade: the planner (sonnet) made no plan that can be run, not even in the repair: ")
    ran = run("run", GOAL, "-i", "Report.txt", *QUIET, "--max-usd", "0.0001", emulator=serve(Planner()))
    assert ran.code == 5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "nothing to run"),
        (("--run", "none"), "there is no run 'none'"),
        (("--plan", "none.yaml"), "none.yaml: cannot be read: No such file"),
        (("--plan", "broken.yaml"), "broken.yaml:4:1: unknown key 'subtask'"),
        (("--plan", "plan.yaml"), "plan.yaml: the plan needs the input report (give it: --input report=FILE)"),
        (("other", "--plan", "plan.yaml"), "plan.yaml: the plan has another goal"),
        ((GOAL, "--input", "none.txt"), "--input none.txt: none.txt cannot be read: No such file"),
        ((GOAL, "--input", "A=Report.txt"), "--input A=Report.txt: 'A' is no name"),
        ((GOAL, "--input", "Report.txt", "--input", "report=Report.txt"), "there is an input 'report' already"),
        ((GOAL, "--max-usd", "0"), "max_usd: 0.0 must be an amount above 0"),
        ((GOAL, "--metadata", "x"), "--metadata x: must be NAME=VALUE"),
        ((" ",), "goal: must be a text"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    run: Run, serve: Serve, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    """In one line, before anything is asked."""
    save_plan(PLAN, tmp_path / "plan.yaml")
    (tmp_path / "broken.yaml").write_text("version: 1\ngoal: x\nsubtasks: [{id: a, instruction: b}]\nsubtask: 3\n")
    planner = Planner()
    ran = run("run", *arguments, *QUIET, emulator=serve(planner))
    assert (ran.code, planner.asked, planner.fleet.calls) == (2, [], 0)
    assert ran.err.startswith("cascade: ")
    assert told in ran.err


@pytest.mark.parametrize(
    ("file", "name"),
    [("Q3 Report.txt", "q3_report"), ("2024.csv", "input_2024"), ("Übersicht.md", "bersicht"), ("a=b.txt", "a_b")],
)
def test_an_input_is_named_after_its_file(run: Run, serve: Serve, tmp_path: Path, file: str, name: str) -> None:
    """In the form that a plan's names have."""
    (tmp_path / file).write_text("x", encoding="utf-8")
    planner = Planner(reply_of(written("a", name)))
    assert run("run", GOAL, "-i", file, *QUIET, emulator=serve(planner)).code == 0
    (shown,) = json.loads(planner.asked[0]["messages"][0]["content"])["inputs"]
    assert shown["name"] == name


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"reviewer": ReviewerStanding(why="it accepts everything")}, 3),
        ({"stopped": "budget"}, 5),
        ({"stopped": "deadline"}, 4),
    ],
)
def test_the_exit_code_says_what_became_of_a_run(changes: dict[str, Any], code: int) -> None:
    """Also where all results were accepted by a reviewer that is not believed."""
    plan = Plan(GOAL, (Subtask("a", "do"),))
    assert exit_code(Result(plan, {"a": SubtaskResult("a", "haiku", "accepted", "done")}, **changes)) == code


def test_what_cannot_be_written_is_said_before_anything_is_paid(run: Run, serve: Serve, tmp_path: Path) -> None:
    """And so is a file in place of a goal, and an input that a plan needs."""
    save_plan(PLAN, tmp_path / "plan.yaml")
    planner = Planner()
    emulator = serve(planner)
    refused = {
        (
            "--plan",
            "plan.yaml",
            "-i",
            "Report.txt",
            "--html",
            "nowhere/run.html",
        ): "--html nowhere/run.html: cannot be written: ",
        (
            "--plan",
            "plan.yaml",
            "-i",
            "Report.txt",
            "--save-plan",
            ".",
        ): "--save-plan .: cannot be written: it is a folder",
        ("plan.yaml",): "plan.yaml: this is a file, not a goal (give a plan with --plan plan.yaml, ",
        ("--plan", "plan.yaml"): "plan.yaml: the plan needs the input report (give it: --input report=FILE)",
    }
    for arguments, told in refused.items():
        ran = run("run", *arguments, *QUIET, emulator=emulator)
        assert (ran.code, ran.out, ran.err.startswith(f"cascade: {told}")) == (2, "", True), ran.err
    assert (planner.asked, planner.fleet.calls) == ([], 0)


def test_a_goal_without_a_plan_says_what_was_paid(run: Run, serve: Serve) -> None:
    """And, at an endpoint on this machine, that the emulator's own answers are no plans."""
    ran = run("run", GOAL, "-i", "Report.txt", *QUIET, emulator=serve(Planner(BAD)))
    assert ran.code == 3
    _, paid, hint = ran.err.splitlines()
    assert paid == "cascade: 0.000800 USD were paid for planning"
    assert "`cascade demo --plan`" in hint


class Interrupting(Planner):
    """Sends a process Ctrl-C with the first request of an executor, then answers it. `process`: its id, as soon as it is known."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Future[int]()
        self.is_done = False

    def __call__(self, body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        """As a script."""
        if "instruction" in json.loads(body["messages"][0]["content"]) and not self.is_done:
            self.is_done = True
            os.kill(self.process.result(), signal.SIGINT)
        return super().__call__(body, headers)


def test_a_run_that_was_interrupted_says_how_to_go_on(
    run: Run, serve: Serve, tmp_path: Path, warm_python: WarmPython, bare_environment: dict[str, str]
) -> None:
    """And goes on so: what was under way had come, and is not asked again."""
    planner = Interrupting()
    emulator = serve(planner)
    here = {"ANTHROPIC_BASE_URL": emulator.base_url, "ANTHROPIC_API_KEY": "none", "CASCADE_HOME": str(tmp_path)}
    command = ["-m", "cascade.cli", "run", GOAL, "-i", "Report.txt", *QUIET, "--run", "first"]
    with warm_python.start(command, env={**bare_environment, **here}, cwd=tmp_path) as process:
        planner.process.set_result(process.child)
        out, told = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert told == "cascade: stopped. Go on with: cascade run --run first --policy policy.yaml\n"
    assert planner.fleet.made == {("do names", "haiku"): 1}
    again = run("run", "--run", "first", *QUIET, emulator=emulator, environment={"CASCADE_HOME": str(tmp_path)})
    assert (again.code, again.out, len(planner.asked)) == (0, "do table by sonnet\n", 1)
    assert planner.fleet.made["do names", "haiku"] == 1
