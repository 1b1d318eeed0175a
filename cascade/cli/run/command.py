"""What `cascade run` does: reads goal, plan and inputs, plans, runs, and says what became of it by its exit code."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.cli.ask import read_text
from cascade.cli.output import pairs, print_json, stderr
from cascade.cli.run.output import print_forecast, print_result
from cascade.cli.run.page import write_page
from cascade.core.errors import ConfigurationError
from cascade.core.planning.graph import NAME, Plan
from cascade.core.planning.result import Result
from cascade.engine import Cascade
from cascade.engine.planning.forecasting import foresee
from cascade.engine.planning.journal import read_head
from cascade.engine.planning.making import plan_goal
from cascade.policy.plan_files import load_plan, save_plan

__all__ = ["RunCommand", "exit_code", "run_plan"]

_POLICY = "planning"
_STOPPED = {"budget": 5, "deadline": 4}


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
        result = driver.run(wanted, run=command.name, **options)
        _write_page(command, driver, result)
    if command.save_plan is not None:
        save_plan(result.plan, command.save_plan)
    if as_json:
        print_json(result.to_dict())
    else:
        if result.text is not None:
            sys.stdout.write(result.text + "\n")
        print_result(result)
    if result.stopped is not None:
        stderr.print(_how_to_go_on(command, result))
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
        planned = plan_goal(driver, wanted, options)  # pyright: ignore[reportArgumentType]
        wanted, cost = planned.plan, planned.cost_nanousd
    costs = foresee(driver, wanted, options["inputs"] or {})
    _write_page(command, driver, wanted)
    if command.save_plan is not None:
        save_plan(wanted, command.save_plan)
    if as_json:
        shown = {name: {"estimate_nanousd": one.estimate, "most_nanousd": one.most} for name, one in costs.items()}
        print_json({"plan": wanted.to_dict(), "planning_nanousd": cost, "subtasks": shown})
    else:
        print_forecast(wanted, costs, cost)
    return 0


def _write_page(command: RunCommand, driver: Cascade, run: Result | Plan) -> None:
    if command.html is not None:
        write_page(run, command.html, ladder=[rung.rung for rung in driver.policy.ladder])


def _wanted(command: RunCommand) -> tuple[Plan | str, dict[str, str]]:
    """What is to be run, and on which inputs. Of a run that is taken up again by its name alone: what it was begun with."""
    goal, inputs = None if command.goal is None else read_text(command.goal), _inputs(command.inputs)
    if command.plan is not None:
        plan = load_plan(command.plan)
        if goal is not None and goal != plan.goal:
            raise ConfigurationError(f"{command.plan}: the plan has another goal (leave the goal out, or the plan)")
        return plan, inputs
    if goal is not None:
        return goal, inputs
    if command.name is None:
        raise ConfigurationError(
            'nothing to run (give a goal, as in `cascade run "Compare …" --input FILE`, or --plan)'
        )
    head = read_head(command.name)
    return head.plan or head.goal, inputs or dict(head.inputs)


def _how_to_go_on(command: RunCommand, result: Result) -> str:
    left = ", ".join(result.of("pending"))
    more = "a larger --max-usd" if result.stopped == "budget" else "another --deadline"
    stopped = f"stopped by the {result.stopped}; not done: {left}."
    if command.name is None:
        return f"{stopped} Nothing of the run was kept: with --run NAME it could be taken up again."
    return f"{stopped} Go on with: cascade run --run {command.name}, the same --policy, and {more}"


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
