"""The simulated fleet through the real engine: `python -m benchmarks.plan_fleet_engine [--runs N]`.

The emulator plays planner, executors and reviewer of `benchmarks/plan_fleet.py`, over a socket and through the real SDK; the planner reads the
hints in its system prompt, and follows them. First it plans by itself; `cascade plan hints` writes its figures to a file, and a policy with
that file plans again. Exits with 1 if edge_cases is not the one kind that is named, or if its failures do not fall.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic

from benchmarks.plan_fleet import POLICY, RUNGS, Fleet, lucks
from cascade import Cascade, load_policy
from cascade.cli.plan.hints import run_hints
from cascade.cli.plan.report import ReportOptions, read_report
from cascade.core.planning.controls import CONTROLS
from cascade.costs.plans.report import PlanReport
from cascade.emulator import Emulator
from cascade.emulator.scripting import ScriptedReply

_RIGHT = {(item.instruction, item.result): item.is_right for item in CONTROLS}
_MODELS = {"claude-haiku-5-5": "haiku", "claude-sonnet-5-5": "sonnet", "claude-opus-5-5": "opus"}
_HINT = re.compile(r"^- (\w+) at (\w+): .*: assign (\w+)$", re.MULTILINE)
_SUBTASK = re.compile(r"(\w+_\d+) of run (\d+)")
_USAGE = {"input_tokens": 1_200, "output_tokens": 200}


@dataclass(frozen=True, slots=True)
class Script:
    """The emulator's replies. `seed`: of the runs, as in `lucks`."""

    fleet: Fleet = field(default_factory=Fleet)
    seed: int = 0

    def __call__(self, body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
        """One reply: a plan, a review, or a result."""
        asked = json.loads(body["messages"][0]["content"])
        if "goal" in asked and "instruction" not in asked:
            return _reply(self._plan(asked["goal"], "\n".join(part["text"] for part in body["system"])))
        if "result" in asked:
            return _reply(self._review(asked["instruction"], asked["result"]))
        return self._result(asked["instruction"], _MODELS[body["model"]])

    def _plan(self, goal: str, system: str) -> dict[str, Any]:
        told = {(kind, rung): better for kind, rung, better in _HINT.findall(system)}
        subtasks = [
            {
                "id": f"{kind.name}_{number}", "instruction": f"{kind.name}_{number} of {goal}", "inputs": [], "task": kind.name,
                "schema": "", "why": "it looks easy", "rung": told.get((kind.name, kind.assigned), kind.assigned),
            }
            for kind in self.fleet.kinds
            for number in range(kind.each)
        ]  # fmt: skip
        return {"subtasks": subtasks, "result": subtasks[-1]["id"]}

    def _result(self, instruction: str, rung: str) -> ScriptedReply:
        """What the run's luck makes of it at this rung."""
        doubts, is_wrong = self._luck(instruction, rung)
        said = {
            "result": "wrong" if is_wrong else "right",
            "assessment": "medium" if is_wrong else "high",
            "reason": "it seems so",
        }
        return _reply(said, None if rung == RUNGS[-1] else 0.5 if doubts else 0.9)

    def _review(self, instruction: str, result: str) -> dict[str, str]:
        is_right = _RIGHT.get((instruction, result), result == "right")
        return {"reason": "it was read", "verdict": "accept" if is_right else "retry"}

    def _luck(self, instruction: str, rung: str) -> tuple[bool, bool]:
        found, index = _SUBTASK.search(instruction), RUNGS.index(rung)
        assert found is not None
        kind, _, luck = next(one for one in lucks(self.fleet, f"{self.seed}/{found[2]}") if one[1] == found[1])
        return kind.doubts(index, luck), kind.is_wrong(index, luck)


def _reply(said: Mapping[str, Any], confidence: float | None = None) -> ScriptedReply:
    return ScriptedReply([{"type": "text", "text": json.dumps(said)}], usage=_USAGE, confidence=confidence)


def run_fleet(policy: Path, ledger: Path, runs: int, script: Script) -> None:
    """So many goals, each planned and run."""
    with (
        Emulator((), script=script) as emulator,
        anthropic.Anthropic(api_key="test", base_url=emulator.base_url) as client,
        Cascade(load_policy(policy), client=client, ledger=str(ledger)) as driver,
    ):
        for number in range(runs):
            driver.run(f"run {number}")


def before_and_after(folder: Path, runs: int) -> tuple[PlanReport, PlanReport]:
    """The reports of the planner by itself, and with the hints that come of it."""
    policy = folder / "fleet.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    options = [ReportOptions(str(policy), "1d", None, str(folder / f"{name}.db")) for name in ("before", "after")]
    run_fleet(policy, folder / "before.db", runs, Script())
    before = _report(options[0])
    run_hints(options[0], folder / "hints.yaml", as_json=False)
    policy.write_text(POLICY.replace("plan: {", "plan: {hints: hints.yaml, "), encoding="utf-8")
    run_fleet(policy, folder / "after.db", runs, Script())
    return before, _report(options[1])


def _report(options: ReportOptions) -> PlanReport:
    return read_report(options, time.time()).report


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="runs before, and after (default: 200)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        before, after = before_and_after(Path(name), given.runs)
    for words, report in (("the planner by itself", before), ("with the hints", after)):
        print(f"\n{words}: {report.runs} runs; named: {', '.join(line.kind for line in report.under_routed) or 'none'}")
        for line in report.lines:
            print(f"  {line.kind:12}{line.assigned:8}{line.failed:>5} of {line.cell.subtasks:<5}{line.finding}")
    rates = [
        [line.failed / line.cell.subtasks for line in one.lines if line.kind == "edge_cases"] for one in (before, after)
    ]
    print(f"edge_cases: {rates[0][0]:.1%} of the results did not stand, {rates[1][0]:.1%} with the hints")
    return 0 if {line.kind for line in before.under_routed} == {"edge_cases"} and rates[1] < rates[0] else 1


if __name__ == "__main__":
    sys.exit(main())
