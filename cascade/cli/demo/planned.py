"""`cascade demo --plan`: a goal is planned and run through the real SDK and the emulator, beside ways to do the same without a plan."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cascade.claude import connect
from cascade.cli.demo.recorded import Recorded, landscape
from cascade.cli.demo.running import require, without_mode_switch
from cascade.cli.output import print_json, stderr, stdout, table, usd
from cascade.cli.run.output import print_result
from cascade.cli.run.page import costs_by_rung, write_page
from cascade.core.planning.graph import Plan
from cascade.core.planning.part import Part
from cascade.core.planning.result import Result
from cascade.core.policy import Policy
from cascade.engine import Cascade
from cascade.hooks import Begun, Calling, Ended
from cascade.policy.loading import load_policy

__all__ = ["planning_policy", "run_plan_demo"]


def planning_policy() -> Policy:
    """The shipped `planning` policy; results that their executor is sure of are not reviewed, so that every demo is the same."""
    values = load_policy("planning", environment={}).model_dump(by_alias=True, exclude_unset=True)
    planning = {**values["plan"], "review_high": 0}
    return Policy.model_validate({**values, "plan": planning, "name": "planning-demo"})


@dataclass(frozen=True, slots=True)
class Instead:
    """Another way to the same result: its calls and their cost in nano-USD. `flaws`: of its answers, which nobody noticed."""

    name: str
    calls: int
    cost: int
    flaws: tuple[str, ...] = ()


def run_plan_demo(html: Path | None, *, as_json: bool) -> None:
    """Plan, run, print. Raises MissingExtra before the first request, ConfigurationError if the page cannot be written."""
    require({"h11": "emulator"} | ({"jinja2": "report"} if html is not None else {}))
    from cascade.emulator import Emulator  # noqa: PLC0415 - needs an extra

    started = time.monotonic()
    given, texts = landscape()
    policy = planning_policy()
    watch = _Watch(is_shown=not as_json)
    script = Recorded(given, policy)
    with without_mode_switch(), Emulator(script=script) as emulator, connect(emulator.base_url, "demo") as client:
        driver = Cascade(policy, client=client, ledger="off", state="memory", hooks=[watch])
        if not as_json:
            stdout.print(f"goal: {given.goal}\n")
        plan = driver.plan(given.goal, inputs=texts)
        if not as_json:
            _print_plan(plan)
        result = driver.run(plan, inputs=texts)
        result = replace(result, costs={"planner": watch.costs.get("planner", 0), **result.costs})
        instead = _instead(plan, texts, policy, client, script)
    if html is not None:
        write_page(result, html, ladder=[rung.rung for rung in policy.ladder])
    seconds = time.monotonic() - started
    if as_json:
        print_json({**_fields(result, policy, instead), "seconds": round(seconds, 1)})
        return
    _print(result, policy, instead)
    if html is not None:
        stdout.print(f"\nthe run with its graph: {html}")
    stderr.print(f"{seconds:.0f} s, no key, no network beyond this machine", style="dim")


class _Watch:
    """A hook that prints each request of the run as it ends, and adds up what each role costs."""

    def __init__(self, *, is_shown: bool) -> None:
        self.is_shown = is_shown
        self.costs: dict[str, int] = {}

    def begin(self, begun: Begun) -> _Watched | None:
        return None if begun.part is None else _Watched(self, begun.part)


class _Watched:
    def __init__(self, watch: _Watch, part: Part) -> None:
        self._watch, self._part = watch, part

    def calling(self, call: Calling) -> None:
        """Nothing is to be done before a call."""

    def ended(self, end: Ended) -> None:
        """Add up and print."""
        part, watch, cost = self._part, self._watch, sum(step.cost_nanousd for step in end.steps)
        watch.costs[part.role] = watch.costs.get(part.role, 0) + cost
        if watch.is_shown and end.answer is not None:
            stdout.print(f"{part.role:<8}  {part.subtask or '-':<10}  {usd(cost):>8}  {_said(part, end)}")


def _said(part: Part, end: Ended) -> str:
    """What came of a request of the run."""
    answer = end.answer
    assert answer is not None
    data: Any = answer.data
    if part.role == "planner":
        return f"a plan with {len(data['subtasks'])} subtasks"
    if part.control is not None:
        return f"{data['verdict']} (a control item, known to be {part.control})"
    if part.role == "reviewer":
        return f"{data['verdict']}: {data['reason']}"
    sure = "" if answer.confidence is None else f", confidence {answer.confidence:.2f}"
    level = f", assessed {answer.assessment.level}" if answer.assessment else ""
    return f"{' → '.join(step.rung for step in end.steps)} (assigned {part.assigned}){sure}{level}"


def _instead(
    plan: Plan, texts: Mapping[str, str], policy: Policy, client: Any, script: Recorded
) -> tuple[Instead, ...]:
    """The same subtasks as plain climbs and by the strongest model alone, without planner and reviewer; and the goal in one call."""
    values = policy.model_dump(by_alias=True, exclude_unset=True)
    top = policy.ladder[-1].rung
    alone = Policy.model_validate({**values, "mode": "off", "baseline": top, "name": f"{top}-alone"})
    climbing, single = (Cascade(one, client=client, ledger="off", state="memory") for one in (policy, alone))
    whole = single.ask(json.dumps({"goal": plan.goal, "inputs": dict(texts)}, ensure_ascii=False))
    return (
        _each("each subtask a plain climb", plan, texts, climbing, script),
        _each(f"each subtask one call of {top}", plan, texts, single, script),
        Instead(f"the whole goal in one call of {top}", len(whole.steps), whole.cost_nanousd),
    )


def _each(name: str, plan: Plan, texts: Mapping[str, str], driver: Cascade, script: Recorded) -> Instead:
    """Ask every subtask by itself; each is given the answers of those that it rests on."""
    made, calls, cost = dict(texts), 0, 0
    for level in plan.levels():
        for one in level:
            sources = [{"name": source, "text": made[source]} for source in one.inputs]
            asked = {"instruction": one.instruction, "sources": sources, "form": one.schema or "text"}
            answer = driver.ask(json.dumps(asked, ensure_ascii=False), task=one.task)
            made[one.id] = answer.text or ""
            calls, cost = calls + len(answer.steps), cost + answer.cost_nanousd
    return Instead(name, calls, cost, script.flaws(made))


def _print_plan(plan: Plan) -> None:
    rows = table("subtask", "rung", "task", "is given", "why this rung")
    for one in plan.subtasks:
        needs = plan.needs(one)
        texts = len(one.inputs) - len(needs)
        given = [*needs, *([f"{texts} text{'s' if texts > 1 else ''}"] if texts else [])]
        rows.add_row(one.id, one.rung, one.kind, ", ".join(given), one.why)
    stdout.print("")
    stdout.print(rows)
    stdout.print("")


def _print(result: Result, policy: Policy, instead: Sequence[Instead]) -> None:
    rungs = [rung.rung for rung in policy.ladder]
    stdout.print("")
    print_result(result, stdout)
    below = sum(row.below for row in costs_by_rung(result, rungs))
    stdout.print(
        f"Every climb begins with {rungs[0]}: {usd(below)} of it was paid for answers below the assigned rungs."
    )
    title = "\nthe same without planner and reviewer"
    rows = table("instead", "calls", "USD", "what nobody noticed", title=title, right=("calls", "USD"))
    for one in instead:
        rows.add_row(one.name, str(one.calls), usd(one.cost), "; ".join(one.flaws) or "-")
    stdout.print(rows)
    stdout.print(
        "Companies and replies are made up, so these figures show how a run is told, not whether a plan pays on your work."
    )
    stdout.print(f"\n{result.text}")


def _fields(result: Result, policy: Policy, instead: Sequence[Instead]) -> dict[str, Any]:
    by_rung = costs_by_rung(result, [rung.rung for rung in policy.ladder])
    return {
        **result.to_dict(),
        "executors": [asdict(one) for one in by_rung],
        "instead": [asdict(one) for one in instead],
    }
