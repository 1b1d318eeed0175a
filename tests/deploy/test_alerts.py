"""The alert rules and Grafana's dashboard: made of the list of metrics, valid, and each rule fires when it should and not before."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.telemetry.alerts import RULES
from cascade.telemetry.declared import METRICS
from cascade.telemetry.grafana import dashboard
from tests.servers import absent

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "docs" / "deploy"
SCRAPED = ("_bucket", "_count", "_sum")


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool; skip the test where it is not installed."""
    found = shutil.which("promtool") or absent("promtool", "promtool is not installed (Debian's package prometheus)")
    return subprocess.run([found, *arguments], capture_output=True, text=True, check=False, timeout=60)


@dataclass(frozen=True)
class Case:
    """What a rule reads when it must fire and when it must not, a sample a minute, and what its alert is about."""

    fires: dict[str, str]
    calm: dict[str, str]
    labels: str = ""
    at: str = "40m"


def event(name: str) -> Case:
    """An event of the log that happens once, after half an hour of none; and one that happened long ago."""
    series = f'cascade_events_total{{event="{name}",policy="p"}}'
    other = 'cascade_events_total{event="other",policy="p"}'
    return Case({series: "0x30 1x100"}, {series: "7x200", other: "0+1x200"}, 'policy="p"')


P = '{policy="p"}'
REQUESTS = 'cascade_requests_total{policy="p",task="t",arm="cascade",outcome="%s"}'
LATENCY = 'cascade_request_seconds_%s{policy="p",arm="cascade"%s}'
BUDGET = 'cascade_budget_share{policy="p",span="daily"}'


def latencies(slow: int, fast: int) -> dict[str, str]:
    """So many requests a minute that take 80 to 160 s, and less than 1 s."""
    return {
        LATENCY % ("bucket", ',le="1.0"'): f"0+{fast}x100",
        LATENCY % ("bucket", ',le="80.0"'): f"0+{fast}x100",
        LATENCY % ("bucket", ',le="160.0"'): f"0+{fast + slow}x100",
        LATENCY % ("bucket", ',le="+Inf"'): f"0+{fast + slow}x100",
        LATENCY % ("count", ""): f"0+{fast + slow}x100",
    }


CASES: dict[str, Case] = {
    "CascadeGatewayDown": Case(
        {'up{job="cascade",instance="a"}': "1x20 0x100"},
        {'up{job="cascade",instance="a"}': "1x20 0 1x100", 'up{job="node",instance="b"}': "0x100"},
        'instance="a",job="cascade"',
    ),
    "CascadeRequestsFail": Case(
        {REQUESTS % "answered": "0+90x100", REQUESTS % "failed": "0+10x100"},
        {REQUESTS % "answered": "0+97x100", REQUESTS % "failed": "0+3x100"},
        'policy="p"',
    ),
    "CascadeRequestsSlow": Case(latencies(slow=2, fast=98), latencies(slow=0, fast=100), 'policy="p"'),
    "CascadeStorm": Case(
        {'cascade_storm_tripped{policy="p",task="t",rung="haiku",instance="a"}': "0x30 1x100"},
        {'cascade_storm_tripped{policy="p",task="t",rung="haiku",instance="a"}': "0x10 1x20 0x100"},
        'policy="p",rung="haiku",task="t"',
    ),
    "CascadeRungFails": Case(
        {'cascade_rung_failing{policy="p",rung="haiku"}': "1x100"},
        {'cascade_rung_failing{policy="p",rung="haiku"}': "0x100"},
        'policy="p",rung="haiku"',
    ),
    "CascadeDrift": Case({f"cascade_audit_alarms{P}": "0x30 2x100"}, {f"cascade_audit_alarms{P}": "0x100"}, 'policy="p"'),
    "CascadeRatcheted": Case(
        {f"cascade_audit_ratchet_step{P}": "1x100"}, {f"cascade_audit_ratchet_step{P}": "0x100"}, 'policy="p"'
    ),
    "CascadeBudgetNearlySpent": Case({BUDGET: "0.81x100"}, {BUDGET: "1.2x100"}, 'policy="p",span="daily"'),
    "CascadeBudgetSpent": Case({BUDGET: "1x100"}, {BUDGET: "0.99x100"}, 'policy="p",span="daily"'),
    "CascadeLedgerDown": Case(
        {'cascade_ledger_up{instance="a"}': "1x100", 'cascade_ledger_up{instance="b"}': "0x100"},
        {'cascade_ledger_up{instance="a"}': "1x20 0 1x100"},
    ),
    "CascadeLedgerBehind": Case(
        {'cascade_ledger_waiting_entries{instance="a"}': "20000x100"},
        {'cascade_ledger_waiting_entries{instance="a"}': "9000x100"},
    ),
    "CascadeLedgerLoses": Case(
        {'cascade_ledger_dropped_entries_total{instance="a"}': "0x30 5x100"},
        {'cascade_ledger_dropped_entries_total{instance="a"}': "5x100"},
        'instance="a"',
    ),
    "CascadeStateDown": Case({"cascade_state_up": "0x100"}, {"cascade_state_up": "1x100"}),
    "CascadePolicyNotLoaded": Case(
        {f"cascade_policy_not_loaded{P}": "1x100"}, {f"cascade_policy_not_loaded{P}": "0x36 1x100"}, 'policy="p"'
    ),
    "CascadeClimbsStopped": Case(
        {REQUESTS % "answered": "0+50x100", 'cascade_degraded_total{policy="p",task="t",why="budget"}': "0+20x100"},
        {REQUESTS % "answered": "0+50x100", 'cascade_degraded_total{policy="p",task="t",why="budget"}': "0+2x100"},
        'policy="p",why="budget"',
    ),
    "CascadeGatewayFailed": event("gateway_failed"),
    "CascadeStormLimitWrong": Case(event("storm_limit_wrong").fires, {'cascade_events_total{event="x"}': "1x100"}, 'policy="p"'),
    "CascadeCertificateStale": Case(
        {f"cascade_certificate_stale{P}": "1x100"}, {f"cascade_certificate_stale{P}": "0x100"}, 'policy="p"'
    ),
    "CascadeBudgetRefuses": event("budget_refused"),
    "CascadeKeyBudget": event("key_budget"),
    "CascadeResponseCacheDown": event("response_cache_down"),
    "CascadeHookFailed": event("hook_failed"),
}  # fmt: skip


@dataclass
class Group:
    """Cases that are tested at once, because no two of them have the same metric: each test starts a database of its own."""

    series: dict[str, str]
    checks: list[dict[str, Any]]

    def has_room(self, series: dict[str, str]) -> bool:
        """Whether these can be added; of the events, those of another name can."""
        return not {_subject(one) for one in self.series} & {_subject(one) for one in series}


def _subject(series: str) -> str:
    return series if series.startswith("cascade_events_total") else series.partition("{")[0]


def unit_tests() -> dict[str, Any]:
    """Two tests for each rule: it fires, with these labels and no others; it does not."""
    groups: list[Group] = []
    severities = {rule.name: rule.severity for rule in RULES}
    for kind in ("fires", "calm"):
        begins = len(groups)
        for name, case in CASES.items():
            labels = f'alertname="{name}",alertstate="firing",severity="{severities[name]}"'
            sample = {"labels": f"ALERTS{{{','.join(filter(None, (labels, case.labels)))}}}", "value": 1}
            series: dict[str, str] = getattr(case, kind)
            group = next((one for one in groups[begins:] if one.has_room(series)), None)
            if group is None:
                groups.append(group := Group({}, []))
            group.series |= series
            asked = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
            group.checks.append(
                {"expr": asked, "eval_time": case.at, "exp_samples": [sample] if kind == "fires" else []}
            )
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in group.series.items()],
            "promql_expr_test": group.checks,
        }
        for group in groups
    ]
    assert sum(len(group.checks) for group in groups) == 2 * len(CASES)
    return {"rule_files": [str(DEPLOY / "alerts.yaml")], "evaluation_interval": "1m", "tests": tests}


def test_every_rule_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    """By promtool, on series a sample a minute. Each rule has a case of both kinds."""
    assert set(CASES) == {rule.name for rule in RULES}
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump(unit_tests()))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    """With the labels filled in; before it has lasted long enough nobody is told."""
    about = {"policy": "p", "task": "refund", "rung": "haiku"}
    series = {'cascade_storm_tripped{policy="p",task="refund",rung="haiku"}': "1x10", "cascade_ledger_up": "0x10"}
    storm, ledger = (
        next(rule for rule in RULES if rule.name == name) for name in ("CascadeStorm", "CascadeLedgerDown")
    )
    summary = storm.summary
    for label, value in about.items():
        summary = summary.replace(f"{{{{ $labels.{label} }}}}", value)
    told = {
        "exp_labels": {"severity": "page", **about},
        "exp_annotations": {"summary": summary, "description": storm.to_do},
    }
    down = {
        "exp_labels": {"severity": "page"},
        "exp_annotations": {"summary": ledger.summary, "description": ledger.to_do},
    }
    checks = [
        {"eval_time": "1m", "alertname": "CascadeStorm", "exp_alerts": [told]},
        {"eval_time": "1m", "alertname": "CascadeLedgerDown", "exp_alerts": []},
        {"eval_time": "2m", "alertname": "CascadeLedgerDown", "exp_alerts": [down]},
    ]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    path = tmp_path / "tests.yaml"
    test = {"interval": "1m", "input_series": inputs, "alert_rule_test": checks}
    path.write_text(
        yaml.safe_dump({"rule_files": [str(DEPLOY / "alerts.yaml")], "evaluation_interval": "1m", "tests": [test]})
    )
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rule_file_is_valid() -> None:
    """Promtool reads every rule."""
    done = promtool("check", "rules", str(DEPLOY / "alerts.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def test_the_files_are_as_the_code_makes_them() -> None:
    """`make docs` fails where they are not; here only the two that come from the metrics."""
    made = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert (DEPLOY / "alerts.yaml").read_text(encoding="utf-8") == made["alert_rules"]()
    assert (DEPLOY / "grafana.json").read_text(encoding="utf-8") == made["grafana_dashboard"]()


def names_in(text: str) -> set[str]:
    """The metrics that an expression names, without a histogram's endings."""
    found = set[str]()
    for name in re.findall(r"\bcascade_[a-z_]+", text):
        ending = next((one for one in SCRAPED if name.endswith(one)), "")
        found.add(name.removesuffix(ending))
    return found


def test_every_metric_has_one_panel_and_no_panel_asks_for_another() -> None:
    """And no two panels overlap."""
    panels = [one for one in dashboard()["panels"] if one["type"] != "row"]
    asked = [names_in(" ".join(target["expr"] for target in panel["targets"])) for panel in panels]
    assert asked == [{one.name} for one in METRICS]
    taken = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard()["panels"]]
    assert len(set(taken)) == len(taken)
    assert len({one["id"] for one in dashboard()["panels"]}) == len(taken)
    assert json.loads(json.dumps(dashboard())) == dashboard()


def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    """Promtool reads each as the expression of a rule, once Grafana's variables are filled in."""
    queries = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    filled = [one.replace("$__rate_interval", "5m").replace("$policy", ".*") for one in queries]
    rules = [{"record": f"asked:{number}", "expr": one} for number, one in enumerate(filled)]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_names_metrics_that_there_are(rule: Any) -> None:
    """By their names in `declared`; only `up` is Prometheus's own."""
    assert names_in(rule.promql) == {one.name for one in METRICS if one.field in rule.fields}
    assert rule.fields or "up{" in rule.promql
