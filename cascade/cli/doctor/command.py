"""`cascade doctor`: check the setup, and say how to fix what is missing. Costs nothing."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from cascade.cli.doctor.findings import Finding, tried
from cascade.cli.output import print_json, stdout, table
from cascade.core.bound_policy import BoundPolicy
from cascade.core.errors import CascadeError
from cascade.core.policy import Policy, Rung
from cascade.engine import default_policy
from cascade.engine.mode_switch import ModeSwitch
from cascade.ledger.reading import address_of, display_address, reading
from cascade.policy.binding import bind_policy
from cascade.policy.loading import load_policy
from cascade.providers import EndpointStatus, ModelStatus, inspect_endpoint
from cascade.response_cache import check_cache
from cascade.state.opening import check_state

__all__ = ["run_doctor"]

_MOST_SKEW_S = 60.0
_EXTRAS = {
    "json_repair": "repair", "jsonschema_rs": "schema", "h11": "emulator", "redis": "redis", "psycopg": "postgres",
}  # fmt: skip
_EXIT = {"configuration": 2, "upstream": 4}


def run_doctor(policy_name: str | None, *, as_json: bool, deep: bool = False, gateway: str | None = None) -> int:
    """Print the findings; returns 0 if nothing is missing, else 2 (configuration) or 4 (upstream).

    `deep`: each part of a deployment is tried out, and with `gateway`, an address, a gateway, too.
    """
    findings = [_python(), _extras()]
    name = policy_name or default_policy()
    try:
        policy = load_policy(name)
        plan = bind_policy(policy)
    except CascadeError as problem:
        findings.append(Finding("policy", "missing", str(problem), "fix it, then `cascade policy check`"))
    else:
        findings.append(_policy(policy, plan))
        findings.append(Finding("prices", "ok", "every model on the ladder has a price (`cascade policy show`)"))
        findings.append(_mode(policy))
        if deep or gateway is not None:
            findings += tried("deep", "correct it", lambda: _deep(policy, gateway))
        else:
            findings += [_ledger(policy), _state(), *_cache(policy)]
        findings.extend(_endpoints(plan))
    missing = [finding for finding in findings if finding.state == "missing"]
    if as_json:
        print_json({"ok": not missing, "findings": [asdict(finding) for finding in findings]})
    else:
        rows = table("", "what", "found", "what to do")
        for finding in findings:
            rows.add_row(
                {"ok": "ok", "warning": "!", "missing": "✗"}[finding.state], finding.what, finding.found, finding.to_do
            )
        stdout.print(rows)
        stdout.print('all well: cascade ask "…"' if not missing else "without any key: cascade demo")
    return _EXIT[missing[0].blame] if missing else 0


def _deep(policy: Policy, gateway: str | None) -> list[Finding]:
    from cascade.cli.doctor.deep import deep_findings  # noqa: PLC0415 - few need it

    return deep_findings(policy, gateway, os.environ.get("CASCADE_GATEWAY_KEY") or None)


def _policy(policy: Policy, plan: BoundPolicy) -> Finding:
    found = f"{policy.name} ({policy.hash[:12]}), {plan.certificate}"
    if plan.stale:
        return Finding("policy", "warning", f"{found}: {', '.join(plan.stale)} changed", "cascade policy check")
    return Finding("policy", "ok", found if policy.certificate else f"{found}: its thresholds are a guess")


def _mode(policy: Policy) -> Finding:
    try:
        in_force = ModeSwitch(policy.name, policy.mode).in_force(log=False)
    except CascadeError as wrong:
        return Finding("mode", "missing", str(wrong), "correct CASCADE_MODE, or unset it")
    found = f"{in_force.mode}, by {in_force.source}"
    if in_force.mode == "off":
        return Finding("mode", "warning", f"{found}: the baseline answers", "cascade mode enforce")
    return Finding("mode", "ok", found)


def _ledger(policy: Policy) -> Finding:
    if not policy.ledger.enabled:
        return Finding("ledger", "ok", "off, by the policy")
    try:
        address = address_of(None)
        where = display_address(address)
        if "://" not in address and not Path(address).exists():
            folder = next(path for path in Path(address).parents if path.exists())
            if folder.is_dir() and os.access(folder, os.W_OK):
                return Finding("ledger", "ok", f"{where}: created with the first request")
            return Finding(
                "ledger", "warning", f"{where}: {folder} cannot be written", "set CASCADE_HOME, or fix its permissions"
            )
        with reading(None):
            return Finding("ledger", "ok", where)
    except (CascadeError, OSError) as problem:
        return Finding("ledger", "warning", str(problem), "requests are still answered; rows wait in memory")


def _state() -> Finding:
    try:
        where, problem = check_state(None)
    except CascadeError as wrong:
        return Finding("state", "missing", str(wrong), "correct CASCADE_STATE, or unset it")
    if problem is not None:
        return Finding("state", "warning", f"{where}: {problem}", "each process continues on its own until it is back")
    return Finding("state", "ok", where)


def _cache(policy: Policy) -> list[Finding]:
    """Only of a policy that has a response cache."""
    if policy.cache is None:
        return []
    try:
        where, problem = check_cache(None)
    except CascadeError as wrong:
        return [Finding("response cache", "missing", str(wrong), "correct CASCADE_CACHE, or unset it")]
    if problem is not None:
        to_do = "start it, or correct CASCADE_CACHE; until then requests are answered without it"
        return [Finding("response cache", "warning", f"{where}: {problem}", to_do)]
    return [Finding("response cache", "ok", where)]


def _python() -> Finding:
    return Finding("python", "ok", ".".join(map(str, sys.version_info[:3])))


def _extras() -> Finding:
    absent = [extra for module, extra in _EXTRAS.items() if find_spec(module) is None]
    if not absent:
        return Finding("extras", "ok", "all installed")
    return Finding(
        "extras", "warning", f"not installed: {', '.join(absent)}", f"pip install 'cascade-ladder[{','.join(absent)}]'"
    )


_ADDRESSES = {"anthropic": "ANTHROPIC_BASE_URL", "openai": "OPENAI_BASE_URL"}
_APIS = {"anthropic": "the Messages API", "openai": "chat completions"}
_PATHS = {"anthropic": "without /v1", "openai": "with /v1"}


def _endpoints(plan: BoundPolicy) -> list[Finding]:
    """Every endpoint that the policy's models are at, those that vote and those that summarise among them."""

    def endpoint(rung: Rung) -> tuple[str, str, str]:
        return rung.provider, rung.base_url or "", rung.api_key_env or ""

    policy, beside = plan.policy, [rung for rung, _ in plan.auxiliaries.values()]
    plain = {policy.ladder[-1].rung, *(rung.rung for rung in beside)}  # they are not asked for JSON
    findings: list[Finding] = []
    for (provider, _, _), rungs in groupby(
        sorted((*policy.ladder, *policy.panel, *beside), key=endpoint), key=endpoint
    ):
        if provider == "openai" and find_spec("openai") is None:
            names = ", ".join(rung.rung for rung in rungs)
            found = f"the package openai is not installed, and {names} needs it"
            findings.append(Finding("provider openai", "missing", found, "pip install 'cascade-ladder[openai]'"))
        else:
            findings.extend(_findings(inspect_endpoint(list(rungs)), plain, provider))
    return findings


def _findings(looked: EndpointStatus, plain: set[str], provider: str) -> list[Finding]:
    where = looked.base_url or "the endpoint"
    if looked.missing_key:
        to_do = "export the variable, then run this again"
        return [Finding("key", "missing", looked.problem, to_do)]
    if looked.problem:
        to_do = f"check the network, a proxy, and {_ADDRESSES[provider]}; {where} must be reachable"
        return [
            Finding("key", "ok", "set"),
            Finding("reachability", "missing", f"{where}: {looked.problem}", to_do, blame="upstream"),
        ]
    if looked.models and all(model.problem for model in looked.models):
        to_do = f"check the path in {_ADDRESSES[provider]} ({_PATHS[provider]}), or name models that it has"
        found = f"{where} knows none of the policy's models, or does not speak {_APIS[provider]}"
        return [Finding("reachability", "missing", found, to_do, blame="upstream")]
    return [
        Finding("key", "ok", f"accepted by {where}"),
        Finding("reachability", "ok", where),
        *(_lifecycle(model) for model in looked.models),
        *(_structured(model) for model in looked.models if model.rung not in plain and not model.problem),
        _clock(looked.clock_skew_s),
    ]


def _lifecycle(model: ModelStatus) -> Finding:
    what = f"model {model.model}"
    if model.problem or model.lifecycle == "retired":
        found = model.problem or "retired: requests to it fail"
        return Finding(what, "missing", found, f"name another model for rung {model.rung}", blame="upstream")
    if model.lifecycle == "deprecated":
        until = f", retires {model.retires_at:%Y-%m-%d}" if model.retires_at else ""
        return Finding(
            what, "warning", f"deprecated{until}", f"plan another model for rung {model.rung}, and calibrate it"
        )
    return Finding(what, "ok", model.lifecycle or "known")


def _structured(model: ModelStatus) -> Finding:
    what = f"JSON by {model.model}"
    if model.structured_outputs is False:
        return Finding(
            what, "missing", "no structured outputs", "triage needs them: name another model", blame="upstream"
        )
    if model.structured_outputs is None:
        return Finding(what, "warning", "the endpoint does not report it", "ask once: cascade ask --explain hello")
    return Finding(what, "ok", "structured outputs")


def _clock(skew_s: float | None) -> Finding:
    if skew_s is None:
        return Finding("clock", "warning", "the endpoint sends no date")
    if abs(skew_s) > _MOST_SKEW_S:
        return Finding(
            "clock", "warning", f"{abs(skew_s):.0f} s off the endpoint's clock", "set this machine's clock (NTP)"
        )
    return Finding("clock", "ok", f"within {max(1, abs(round(skew_s)))} s of the endpoint's clock")
