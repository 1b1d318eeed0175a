"""The quick form of `benchmarks/plan_fleet.py` and of `plan_fleet_engine.py`: the kind that is under-routed is named, and no other."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.plan_fleet import (
    AT_THE_LIMIT,
    POLICY,
    RUNGS,
    START,
    VERSIONS,
    Fleet,
    report_of,
    runs_drawn,
    series,
    write_ledger,
)
from benchmarks.plan_fleet_engine import Script, run_fleet
from cascade import load_policy
from cascade.cli.costs.command import CostsOptions, run_costs
from cascade.cli.plan.hints import run_hints
from cascade.cli.plan.report import ReportOptions, run_report
from cascade.core.planning.hints import Hints
from cascade.costs.plans.bounds import lower_bound
from cascade.costs.plans.report import ALPHA, PlanReport, plan_report
from cascade.costs.plans.subtasks import runs_of
from cascade.ledger.opening import open_reader
from cascade.ledger.requests import gather
from cascade.ledger.verifying.verification import verify
from cascade.policy.roles import plan_roles
from tests.servers import PostgresServer

RUNS = 200
NOW = START + RUNS * 600.0 + 3_600


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of so many runs, with its policy beside it."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "fleet.yaml").write_text(POLICY, encoding="utf-8")
    write_ledger(folder / "ledger.db", Fleet(), RUNS)
    return folder / "ledger.db"


def options(ledger: Path) -> ReportOptions:
    """Of the commands."""
    return ReportOptions(str(ledger.with_name("fleet.yaml")), "30d", None, str(ledger))


def counted(report: PlanReport) -> list[tuple[str, str, int, int]]:
    """A report's counts."""
    return [(line.kind, line.assigned, line.failed, line.cell.subtasks) for line in report.lines]


def test_the_report_names_the_kind_and_no_other(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Within 200 runs, on a ledger that the real hook and writer made; and says how sure that is."""
    run_report(options(ledger), as_json=True, now=lambda: NOW)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["under_routed"] == [{"task": "edge_cases", "assigned": "haiku", "advice": "sonnet"}]
    assert (found["runs"], found["false_alarms_at_most"], found["prompts"]) == (RUNS, ALPHA, dict(VERSIONS))
    run_report(options(ledger), as_json=False, now=lambda: NOW)
    text = capsys.readouterr().out
    assert "under-routed: edge_cases at haiku" in text
    assert "with a probability of at most 5 %" in text
    assert text.count("under-routed") == 1


def test_its_hints_make_the_failures_fall(ledger: Path, tmp_path: Path) -> None:
    """The planner that is told assigns the rung above; nothing else changes."""
    out = tmp_path / "hints.yaml"
    run_hints(options(ledger), out, as_json=False, now=lambda: NOW)
    policy = tmp_path / "fleet.yaml"
    policy.write_text(POLICY.replace("plan: {", "plan: {hints: hints.yaml, "), encoding="utf-8")
    plan = load_policy(policy).plan
    assert plan is not None
    assert plan.hints is not None
    told = Hints.model_validate_json(plan.hints)
    before = report_of(ledger)
    after = plan_report(runs_drawn(Fleet(hints=told), RUNS), "fleet", RUNGS)
    edges = [next(one for one in report.lines if one.kind == "edge_cases") for report in (before, after)]
    assert [one.assigned for one in edges] == ["haiku", "sonnet"]
    assert edges[1].interval[1] < edges[0].interval[0]
    assert after.under_routed == ()
    assert [one for one in counted(after) if one[0] != "edge_cases"] == [
        one for one in counted(before) if one[0] != "edge_cases"
    ]


def test_what_is_read_from_the_ledger_is_what_was_drawn(ledger: Path) -> None:
    """Each count; and the money by role is the money of all entries, of a ledger whose sums are sound."""
    assert counted(report_of(ledger)) == counted(plan_report(runs_drawn(Fleet(), RUNS), "fleet", RUNGS))
    with closing(open_reader(ledger)) as reader:
        assert verify(reader).findings == ()
        spent = sum(run.spent.whole for run in runs_of(gather(reader)))
        assert spent == sum(one.outcome.cost for one in gather(reader) if one.outcome is not None)


def test_the_real_engine_leaves_the_same_figures(tmp_path: Path) -> None:
    """Planner, executors and reviewer on the emulator, through the SDK. The baseline is not asked again for what is sent back."""
    policy, runs = tmp_path / "fleet.yaml", 5
    policy.write_text(POLICY, encoding="utf-8")
    run_fleet(policy, tmp_path / "ledger.db", runs, Script())
    assert counted(report_of(tmp_path / "ledger.db")) == counted(plan_report(runs_drawn(Fleet(), runs), "fleet", RUNGS))
    with closing(open_reader(tmp_path / "ledger.db")) as reader:
        climbs = [one for one in gather(reader) if one.request.arm == "executor"]
    estimates = {
        (one.request.plan.attempt > 0, one.outcome.estimate == 0) for one in climbs if one.request.plan and one.outcome
    }
    assert estimates == {(False, False), (True, True)}
    words = plan_roles(load_policy(policy))
    assert {role: {one.request.prompts[role] for one in climbs} for role in ("planner", "executor")} == {
        "planner": {words["planner"]}, "executor": {words["executor"]}
    }  # fmt: skip


def test_a_ledger_in_postgres_says_the_same(postgres_server: PostgresServer) -> None:
    """The reader alone differs."""
    address = postgres_server.database()
    write_ledger(address, Fleet(), 20)
    assert counted(report_of(address)) == counted(plan_report(runs_drawn(Fleet(), 20), "fleet", RUNGS))


def test_false_alarms_are_at_most_as_frequent_as_stated() -> None:
    """Where every kind fails exactly as often as the limit allows; results of one run resemble each other."""
    found = series(Fleet(AT_THE_LIMIT), 40, 50)
    assert lower_bound(sum(bool(one.kinds) for one in found), len(found), ALPHA, single=True) <= ALPHA
    assert sum(bool(one.one_by_one) for one in found) > sum(
        bool(one.kinds) for one in found
    )  # it is not for want of chances


def test_the_kind_is_found_in_most_ledgers_of_half_as_many_runs() -> None:
    """And another one in next to none."""
    found = series(Fleet(), 100, 12)
    assert sum(one.kinds == {"edge_cases"} for one in found) >= 9
    assert sum(bool(one.kinds - {"edge_cases"}) for one in found) <= 1


def test_costs_show_what_runs_cost_by_role_and_what_is_overhead(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Planning and reviewing answer no request; they count against the saving, and what is made again has no baseline of its own."""

    def told(by: str) -> dict[str, Any]:
        run_costs(CostsOptions("30d", by, ledger=str(ledger)), as_json=True, now=lambda: NOW)
        return json.loads(capsys.readouterr().out)

    roles, assigned = told("role"), told("assigned")
    by_role = {line["role"]: line["cost_usd"] for line in roles["lines"]}
    assert sum(by_role.values()) == pytest.approx(roles["cost_usd"])
    assert roles["planning_usd"] == pytest.approx(by_role["planner"] + by_role["reviewer"])
    subtasks = sum(line["subtasks"] for line in assigned["lines"])
    climbs = sum(line["requests"] for line in assigned["lines"])
    assert (subtasks, climbs) == (RUNS * 8, roles["requests"])
    assert sum(line["cost_usd"] for line in assigned["lines"]) == pytest.approx(roles["cost_usd"] - by_role["planner"])
    assert roles["saved"]["baseline_usd"] == pytest.approx(subtasks * 0.0088)
    assert roles["saved"]["cost_usd"] == pytest.approx(roles["cost_usd"])
