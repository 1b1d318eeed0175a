"""GET /metrics of a real gateway: it has every metric that the rules and the dashboard read, and its gauges say what is."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cascade.emulator import Emulator
from cascade.gateway.watching import Watching
from cascade.ledger.audit import AuditTables, Mark
from cascade.policy.certificates import epoch_of
from cascade.policy.loading import dump, load_policy
from cascade.telemetry.declared import METRICS
from tests.calibration.certified import certified, with_keys
from tests.gateway.serving import Gateway, policy_file
from tests.gateway.test_climbing import asked, script
from tests.gateway.test_endpoints import get, health
from tests.gateway.test_keys import wait_until
from tests.gateway.test_relay import body_of
from tests.servers import RedisServer, absent

RULES = Path(__file__).resolve().parents[2] / "docs" / "deploy" / "alerts.yaml"
STORM = "storm_guard: {rate: 0.2, window: 30, min_samples: 10, dwell_s: 600}\n"
AUDIT = "audit: {sample: 0.01}\n"
BUDGET = "budget: {daily_usd: 0.000001}\n"


def policy(folder: Path, more: str, name: str = "small") -> str:
    """A policy's file, with more in it."""
    path = policy_file(folder, name)
    path.write_text(path.read_text() + more)
    return str(path)


@pytest.fixture
def emulator(emulate: Callable[..., Emulator]) -> Emulator:
    """An emulator that plays the script of the climbs."""
    return emulate(script=script)


def scraped(gateway: Gateway) -> str:
    """What Prometheus gets."""
    return body_of(get(gateway, "/metrics")).decode()


def promtool(*arguments: str, given: str = "") -> tuple[int, str]:
    """Run promtool: its exit code, and what it says."""
    found = shutil.which("promtool") or absent("promtool", "promtool is not installed (Debian's package prometheus)")
    done = subprocess.run([found, *arguments], input=given, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def values(text: str, name: str) -> dict[tuple[str, ...], float]:
    """A gauge's values, by its labels in the order of their names."""
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples if one.name == name]
    return {tuple(value for _, value in sorted(one.labels.items())): one.value for one in samples}


def test_a_scrape_has_every_metric_that_there_is(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., Any], tmp_path: Path
) -> None:
    """So that no rule and no panel waits for one in vain; and promtool finds nothing wrong with it."""
    held = policy(tmp_path, "budget: {daily_usd: 0.000001, on_exhausted: hold}\n", "held")  # it stops every climb
    gateway = start(emulator.base_url, policies=(policy(tmp_path, STORM + AUDIT + BUDGET), held))
    client = sdk(gateway)
    client.messages.create(**asked("hard", model="claude-cascade-held"))
    for _ in range(12):
        client.messages.create(**asked("hard"))
    text = scraped(gateway)
    found = {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"^(cascade_\w+)[ {]", text, re.MULTILINE)
    }
    needed = {one.name for one in METRICS} - {"cascade_rung_failing"}  # no rung has failed
    assert needed <= found
    assert promtool("check", "metrics", given=text) == (0, "")


@pytest.mark.parametrize("shared", [False, True], ids=["memory", "redis"])
def test_a_storm_stands_in_the_metrics_of_every_gateway(
    start: Callable[..., Gateway],
    emulator: Emulator,
    sdk: Callable[..., Any],
    tmp_path: Path,
    redis_server: RedisServer,
    *,
    shared: bool,
) -> None:
    """With a shared state also of one that has served nothing; the event is counted where it was logged."""
    path = policy(tmp_path, STORM, f"storm-{shared}")
    state = {"state": redis_server.url} if shared else {}
    gateway, other = (start(emulator.base_url, policies=(path,), **state) for _ in range(2))
    client = sdk(gateway)
    for _ in range(12):
        client.messages.create(**asked("hard", model=f"claude-cascade-storm-{shared}"))
    text = scraped(gateway)
    name = f"storm-{shared}"
    assert values(text, "cascade_storm_tripped") == {(name, "haiku", "other"): 1.0}
    assert values(text, "cascade_events_total")["storm_tripped", name] == 1.0
    elsewhere = values(scraped(other), "cascade_storm_tripped")
    assert elsewhere == ({(name, "haiku", "other"): 1.0} if shared else {})


def series_of(text: str, label: str) -> dict[str, float]:
    """Every sample of a scrape, as Prometheus would store it, with one more label."""
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {
        f"{one.name}{{{','.join(f'{name}={json.dumps(value)}' for name, value in (*one.labels.items(), ('instance', label)))}}}": one.value
        for one in samples
        if not one.name.endswith("_created")
    }


def test_a_storm_wakes_somebody_and_a_quiet_gateway_nobody(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., Any], tmp_path: Path
) -> None:
    """The alert rules, by promtool, on what a real gateway tells: for an hour and a half before the storm, and in it."""
    path = policy(tmp_path, STORM + AUDIT)
    calm, gateway = (start(emulator.base_url, policies=(path,)) for _ in range(2))
    before = series_of(scraped(calm), "a")  # of another, because what was read is told for some seconds
    for _ in range(12):
        sdk(gateway).messages.create(**asked("hard"))
    after = series_of(scraped(gateway), "a")
    series = {name: f"{before[name]}x90" if name in before else "_x90" for name in before | after}
    inputs = [
        {"series": name, "values": f"{told} {after.get(name, before.get(name))}x15"} for name, told in series.items()
    ]
    firing = 'ALERTS{alertstate="firing"}'
    labels = 'alertname="CascadeStorm",alertstate="firing",policy="small",rung="haiku",severity="page",task="other"'
    storm = {"labels": f"ALERTS{{{labels}}}", "value": 1}
    checks = [
        *({"expr": firing, "eval_time": f"{minutes}m", "exp_samples": []} for minutes in (1, 20, 80)),
        *({"expr": firing, "eval_time": f"{minutes}m", "exp_samples": [storm]} for minutes in (92, 100)),
    ]
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": checks}
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    code, said = promtool("test", "rules", str(file))
    assert code == 0, said


def test_a_certificate_that_does_not_hold_stays_in_the_metrics(
    start: Callable[..., Gateway], emulator: Emulator, tmp_path: Path
) -> None:
    """Its event is logged before the first scrape, which no rate shows."""
    small = load_policy(policy_file(tmp_path))
    held, stale = (certified(with_keys(small, name=name)) for name in ("held", "stale"))
    paths = tuple(tmp_path / f"{one.name}.yaml" for one in (held, stale))
    for path, one in zip(paths, (held, with_keys(stale, triage={"order": "answer_first"})), strict=True):
        path.write_text(dump(one.model_dump(mode="json", by_alias=True, exclude_unset=True)))
    text = scraped(start(emulator.base_url, policies=tuple(map(str, paths))))
    assert values(text, "cascade_certificate_stale") == {("held",): 0.0, ("stale",): 1.0}


def test_whoever_watches_takes_no_thread_from_requests() -> None:
    """However many ask at once, while what they look at does not answer."""

    async def watched() -> str:
        watching, release = Watching(None), threading.Event()  # type: ignore[arg-type] - of no gateway
        stuck = [asyncio.ensure_future(watching.aside(release.wait)) for _ in range(100)]
        try:
            async with asyncio.timeout(30):
                return await asyncio.to_thread(str, "answered")
        finally:
            release.set()
            await asyncio.gather(*stuck)
            watching.close()

    assert asyncio.run(watched()) == "answered"


def test_budgets_and_alarms_are_read_from_the_ledger(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., Any], tmp_path: Path
) -> None:
    """Whoever wrote them: the audit is a process of its own."""
    path = policy(tmp_path, AUDIT + BUDGET)
    loaded, tables = load_policy(path), AuditTables(str(tmp_path / "ledger.db"))
    tables.add_mark(Mark("small", 1.0, "alarm", {"epoch": epoch_of(loaded, 0), "task": "", "by": "x"}))
    gateway = start(emulator.base_url, policies=(path,))
    sdk(gateway).messages.create(**asked("easy"))
    gateway.stop()  # its entries are written then
    text = scraped(start(emulator.base_url, policies=(path,)))
    assert values(text, "cascade_audit_alarms") == {("small",): 1.0}
    assert values(text, "cascade_audit_ratchet_step") == {("small",): 0.0}
    share = values(text, "cascade_budget_share")["small", "daily"]
    assert share > 1
    assert values(text, "cascade_ledger_up") == {(): 1.0}


def test_a_ledger_and_a_state_that_are_gone_are_said_to_be_down(
    start: Callable[..., Gateway], emulator: Emulator, tmp_path: Path
) -> None:
    """The scrape answers all the same; a policy whose file does not load is told, too."""
    path = Path(policy(tmp_path, ""))
    gateway = start(emulator.base_url, policies=(str(path),), state="redis://127.0.0.1:1/0", reload_s=0.01)
    (tmp_path / "ledger.db").unlink(missing_ok=True)
    (tmp_path / "ledger.db").mkdir()
    path.write_text("version: 1\n")
    wait_until(lambda: health(gateway)["policies"]["small"]["problem"] is not None)
    text = scraped(gateway)
    assert values(text, "cascade_ledger_up") == {(): 0.0}
    assert values(text, "cascade_state_up") == {(): 0.0}
    assert values(text, "cascade_policy_not_loaded") == {("small",): 1.0}
