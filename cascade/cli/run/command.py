"""What `cascade run` does: reads goal, plan and inputs, plans, runs, and says what became of it by its exit code."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cascade.cli.ask import read_text
from cascade.cli.output import pairs, print_json, stderr, usd
from cascade.cli.run.output import print_forecast, print_result
from cascade.cli.run.page import write_page
from cascade.core.errors import ConfigurationError, PlanError
from cascade.core.planning.graph import NAME, Plan
from cascade.core.planning.result import Result
from cascade.engine import Cascade
from cascade.engine.planning.forecasting import foresee
from cascade.engine.planning.journal import read_head
from cascade.engine.planning.making import plan_goal
from cascade.gateway.hosts import is_loopback
from cascade.policy.plan_files import load_plan, save_plan

__all__ = ["RunCommand", "exit_code", "run_plan"]

_POLICY = "planning"
_LONGEST_PATH = 300
_STOPPED = {"budget": 5, "deadline": 4, "mode": 2}


@dataclass(frozen=True, slots=True)
class RunCommand:
    """The command's arguments."""

    goal: str | None = None
    inputs: tuple[str, ...] = ()
    plan: Path | None = None
    policy: str | None = None
    name: str | None = None
    max_usd: float | None = None
    deadline_s: float | None = None
    dry_run: bool = False
    save_plan: Path | None = None
    metadata: tuple[str, ...] = ()
    ledger: str | None = None
    html: Path | None = None


def run_plan(command: RunCommand, *, as_json: bool) -> int:
    """Plan and run. The final result goes to stdout, the tables to stderr. Returns the exit code."""
    _check_files(command)
    wanted, inputs = _wanted(command)
    policy = command.policy or os.environ.get("CASCADE_POLICY") or _POLICY
    options: dict[str, Any] = {
        "inputs": inputs or None,
        "max_usd": command.max_usd,
        "deadline_s": command.deadline_s,
        "metadata": dict(pairs(command.metadata, "--metadata")),
    }
    with Cascade(policy, ledger=command.ledger) as driver:
        if command.dry_run:
            return _show(command, driver, wanted, options, as_json=as_json)
        with _explained(command):
            result = driver.run(wanted, run=command.name, **options)
    if as_json:
        print_json(result.to_dict())
    else:
        if result.text is not None:
            sys.stdout.write(result.text + "\n")
        print_result(result)
    if result.stopped is not None:
        stderr.print(_how_to_go_on(command, result))
    _write_files(command, driver, result, result.plan)  # last: what was paid for is told even if they cannot be written
    return exit_code(result)


def exit_code(result: Result) -> int:
    """5 or 4 if the budget or the deadline ended the run, else 0 if all of it stands, else 3."""
    if result.stopped is not None:
        return _STOPPED[result.stopped]
    return 0 if result.ok else 3


def _show(command: RunCommand, driver: Cascade, wanted: Plan | str, options: dict[str, Any], *, as_json: bool) -> int:
    """The plan, and what it may cost."""
    cost = 0
    if isinstance(wanted, str):
        with _explained(command):
            planned = plan_goal(driver, wanted, options)  # pyright: ignore[reportArgumentType]
        wanted, cost = planned.plan, planned.cost_nanousd
    costs = foresee(driver, wanted, options["inputs"] or {})
    if as_json:
        shown = {name: {"estimate_nanousd": one.estimate, "most_nanousd": one.most} for name, one in costs.items()}
        print_json({"plan": wanted.to_dict(), "planning_nanousd": cost, "subtasks": shown})
    else:
        print_forecast(wanted, costs, cost)
    _write_files(command, driver, wanted, wanted)
    return 0


@contextmanager
def _explained(command: RunCommand) -> Generator[None]:
    """Around what plans and runs: an error of the planner says what was paid, an interrupt how to go on."""
    try:
        yield
    except PlanError as error:
        if not error.given:
            error.add_note(f"{usd(error.cost_nanousd)} USD were paid for planning")
            if is_loopback(urlsplit(os.environ.get("ANTHROPIC_BASE_URL", "")).hostname or ""):
                error.add_note("`cascade emulate --any` cannot plan a goal: `cascade demo --plan` runs one offline")
        raise
    except KeyboardInterrupt:
        if not command.dry_run:
            stderr.print(f"cascade: stopped. {_how_to_take_up(command)}")
        raise


def _check_files(command: RunCommand) -> None:
    """Raises ConfigurationError before anything is paid if what is asked for cannot be written."""
    for option, path in (("--html", command.html), ("--save-plan", command.save_plan)):
        if path is None:
            continue
        reason = "it is a folder" if path.is_dir() else None if path.parent.is_dir() else "there is no such folder"
        if reason is None and not os.access(path if path.exists() else path.parent, os.W_OK):
            reason = "permission denied"
        if reason is not None:
            raise ConfigurationError(f"{option} {path}: cannot be written: {reason} (give another path)")


def _write_files(command: RunCommand, driver: Cascade, run: Result | Plan, plan: Plan) -> None:
    if command.save_plan is not None:
        save_plan(plan, command.save_plan)
    if command.html is not None:
        write_page(run, command.html, ladder=[rung.rung for rung in driver.policy.ladder])


def _wanted(command: RunCommand) -> tuple[Plan | str, dict[str, str]]:
    """What is to be run, and on which inputs. Of a run that is taken up again by its name alone: what it was begun with."""
    goal, inputs = None if command.goal is None else read_text(command.goal), _inputs(command.inputs)
    if command.plan is not None:
        plan = load_plan(command.plan)
        if goal is not None and goal != plan.goal:
            raise ConfigurationError(f"{command.plan}: the plan has another goal (leave the goal out, or the plan)")
        if command.name is None or inputs:  # a run that is taken up again has its inputs
            _check_inputs(plan, inputs, command.plan)
        return plan, inputs
    if goal is not None:
        _check_goal(goal)
        return goal, inputs
    if command.name is None:
        raise ConfigurationError(
            'nothing to run (give a goal, as in `cascade run "Compare …" --input FILE`, or --plan)'
        )
    head = read_head(command.name)
    return head.plan or head.goal, inputs or dict(head.inputs)


def _check_goal(goal: str) -> None:
    """A path where the goal belongs would be planned, and paid for, as if it were one."""
    if "\n" not in goal and len(goal) < _LONGEST_PATH and " " not in goal and Path(goal).is_file():
        hint = f"give a plan with --plan {goal}, a text about which something is to be done with --input {goal}, a goal with - < {goal}"
        raise ConfigurationError(f"{goal}: this is a file, not a goal ({hint})")


def _check_inputs(plan: Plan, inputs: Mapping[str, str], path: Path) -> None:
    missing = [name for name in plan.inputs if name not in inputs and any(name in one.inputs for one in plan.subtasks)]
    if missing:
        given = " ".join(f"--input {name}=FILE" for name in missing)
        raise ConfigurationError(f"{path}: the plan needs the input {', '.join(missing)} (give it: {given})")


def _how_to_go_on(command: RunCommand, result: Result) -> str:
    left = ", ".join(result.of("pending"))
    more = {"budget": ", and a larger --max-usd", "deadline": ", and another --deadline"}.get(result.stopped or "", "")
    stopped = f"stopped by the {result.stopped}; not done: {left}."
    return f"{stopped} {_how_to_take_up(command)}" + (more if command.name is not None else "")


def _how_to_take_up(command: RunCommand) -> str:
    if command.name is None:
        return "Nothing of the run was kept: with --run NAME it could be taken up again."
    policy = "" if command.policy is None else f" --policy {shlex.quote(command.policy)}"
    return f"Go on with: cascade run --run {command.name}{policy}"


def _inputs(given: tuple[str, ...]) -> dict[str, str]:
    """The texts of --input, by name."""
    texts: dict[str, str] = {}
    for one in given:
        name, equals, file = one.partition("=")
        path = Path(file)
        if not equals or Path(one).is_file():
            path = Path(one)
            name = _name_of(path)
        elif NAME.fullmatch(name) is None:
            raise ConfigurationError(f"--input {one}: {name!r} is no name (use lower-case letters, digits, - and _)")
        if name in texts:
            raise ConfigurationError(
                f"--input {one}: there is an input {name!r} already (give it a name, as in --input other={path})"
            )
        try:
            texts[name] = path.read_bytes().decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
            raise ConfigurationError(f"--input {one}: {path} cannot be read: {reason}") from None
    return texts


def _name_of(path: Path) -> str:
    """A file's name as the name of an input: `Q3 Report.txt` is q3_report."""
    name = re.sub(r"[^a-z0-9_-]+", "_", path.stem.lower()).strip("_-")[:40]
    return name if NAME.fullmatch(name) else f"input_{name}"[:40].rstrip("_-")
