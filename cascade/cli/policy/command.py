"""`cascade policy check | show | schema | explain`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.cli.ask import read_text
from cascade.cli.output import print_json, stdout, table
from cascade.cli.policy.audit import audit_fields, audit_notes, describe_audit
from cascade.cli.policy.conduct import describe_conduct, notes_of
from cascade.cli.policy.hints import hint_notes
from cascade.cli.policy.prompts import roles_shown
from cascade.cli.policy.reviews import describe_review, each_review, idle_reviews, review_fields
from cascade.cli.policy.samples import describe_samples, each_samples
from cascade.core.bound_policy import BoundPolicy
from cascade.core.errors import PolicyError
from cascade.core.messages import Request
from cascade.core.policy import OTHER, Budget, Policy, Rung, Samples, StormGuard, Task
from cascade.core.policy.certificate import Escalation
from cascade.core.policy.ladder import unranked
from cascade.core.policy.operations import Limits
from cascade.core.prices import Rates, RateTier
from cascade.core.requests import read_messages
from cascade.core.storm import storm_limit
from cascade.engine import default_policy
from cascade.policy.binding import baseline_rung, bind_policy
from cascade.policy.certificates import changed_roles, changes_text
from cascade.policy.loading import load_policy, policy_schema
from cascade.policy.pricing import rates_of
from cascade.policy.shipped import find_corpus

__all__ = ["ExplainOptions", "run_check", "run_explain", "run_schema", "run_show"]


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """The arguments of `policy explain`; the storm guard is replayed on `corpus` (a path or a shipped name)."""

    text: str
    policy: str | None = None
    task: str | None = None
    flags: tuple[str, ...] = ()
    corpus: str | None = None


def _load(name: str | None) -> tuple[Policy, BoundPolicy]:
    policy = load_policy(name or default_policy())
    return policy, bind_policy(policy)


def run_check(name: str | None, *, as_json: bool) -> None:
    """Print that the policy is valid. Raises PolicyError if it is not, or if its certificate no longer holds."""
    policy, plan = _load(name)
    if plan.stale:
        raise PolicyError(
            f"this certificate no longer holds: {changes_text(policy, plan.stale)} since it was made",
            where=name or default_policy(),
            key="certificate",
            hint="calibrate again, put back what was certified, or remove the key",
        )
    ladder, not_checked, notes = " → ".join(rung.rung for rung in policy.ladder), _not_checked(policy), notes_of(policy)
    notes += (
        *idle_reviews(plan, (OTHER, *(task.name for task in policy.tasks))),
        *audit_notes(policy),
        *hint_notes(policy),
    )
    if as_json:
        fields = {"ok": True, "policy": policy.name, "hash": policy.hash, "certificate": plan.certificate}
        print_json({**fields, "not_checked": not_checked, "notes": notes})
        return
    sys.stdout.write(
        f"ok: {policy.name} ({policy.hash[:12]}), {ladder}, {len(policy.tasks)} tasks, {plan.certificate}\n"
    )
    for line in each_samples(policy):
        sys.stdout.write(f"{line}\n")
    for line in each_review(plan):
        sys.stdout.write(f"{line}\n")
    for one in not_checked:
        sys.stdout.write(f"not checked: {one}\n")
    for one in notes:
        sys.stdout.write(f"note: {one}\n")


def _not_checked(policy: Policy) -> list[str]:
    """What a check cannot tell about a valid policy, each with what to do."""
    rungs = unranked(policy.ladder)
    if not rungs:
        return []
    models = ", ".join(f"{rung.model} ({rung.rung})" for rung in rungs)
    order = f"the order of the ladder, because the capability of these models is not known: {models}."
    return [
        f"{order} Put the rungs from the cheapest to the strongest (`cascade record` and `cascade replay` show whether escalating helps)"
    ]


def run_schema() -> None:
    """Print the JSON Schema."""
    sys.stdout.write(json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n")


def run_show(name: str | None, *, as_json: bool) -> None:
    """Print the policy with its defaults and prices."""
    policy, plan = _load(name)
    words = roles_shown(policy, name or default_policy())
    if as_json:
        print_json({**_shown_fields(policy, plan), "prompts": [one._asdict() for one in words]})
        return
    stdout.print(f"{policy.name}  {policy.hash[:12]}  {_certificate_text(policy, plan)}", style="bold")
    rungs = table(
        "rung", "model", "ships at", "max_tokens", "thinking", "USD/M tokens in", "out", right=("max_tokens",)
    )
    for rung, rates in zip(policy.ladder, plan.rates, strict=True):
        ships = "always" if rung is policy.ladder[-1] else _ships_at(rung)
        rungs.add_row(rung.rung, _model(rung), ships, f"{rung.max_tokens:,}", _thinking(rung), *_prices(rates))
    for voter in policy.panel:
        vote = f"vote at {voter.rung}"
        rungs.add_row("", _model(voter), vote, f"{voter.max_tokens:,}", _thinking(voter), *_prices(rates_of(voter)))
    for one, rates in plan.auxiliaries.values():
        rungs.add_row(one.rung, _model(one), "summarises", f"{one.max_tokens:,}", _thinking(one), *_prices(rates))
    stdout.print(rungs)
    for line in each_samples(policy):
        stdout.print(line)
    if policy.tasks:
        tasks = table("task", "floor", "ceiling", "thresholds", "checks", "chosen by")
        for task in policy.tasks:
            tasks.add_row(
                task.name,
                task.floor or "",
                task.ceiling or "",
                ", ".join(_task_thresholds(task)),
                ", ".join(check.name for check in task.checks),
                "signals" if task.when else "task= only",
            )
        stdout.print(tasks)
    prompts = table("prompt of", "version", "from", "for")
    for one in words:
        prompts.add_row(*one)
    stdout.print(prompts)
    guard = policy.storm_guard
    stdout.print(
        f"storm guard: {_guard(guard, plan.escalation)};"
        f" deadline {policy.deadline_s:g} s; {policy.retry.attempts} attempts a rung;"
        f" checks {', '.join(check.name for check in (*plan.shared_checks, *plan.shared_verifiers))}; exhausted: {policy.exhausted}"
    )
    for line in _operation(policy, plan):
        stdout.print(line)


def _model(rung: Rung) -> str:
    return rung.model if rung.provider == "anthropic" else f"{rung.model} ({rung.provider})"


def _operation(policy: Policy, plan: BoundPolicy) -> Iterator[str]:
    """Reviews, plans, mode, conduct, budgets and audit, a line each."""
    yield from each_review(plan)
    if (planning := policy.plan) is not None:
        yield (
            f"plan: at most {planning.max_subtasks} subtasks; a result is made again at most {planning.max_retries} times;"
            f" the share of sure results that is reviewed is {planning.review_high:g}"
        )
    yield _run(policy)
    yield from describe_conduct(policy, (OTHER, *(task.name for task in policy.tasks)))
    yield from (f"budget: {_budget(limits)}" for limits in policy.budget)
    yield from describe_audit(policy)


def _shown_fields(policy: Policy, plan: BoundPolicy) -> dict[str, Any]:
    """What `policy show --json` prints."""
    prices = {
        rung.rung: [{"above_prompt_tokens": above, **_per_million(tier)} for above, tier in rates.tiers]
        for rung, rates in zip(policy.ladder, plan.rates, strict=True)
    }
    body = policy.model_dump(mode="json", by_alias=True, exclude_none=True)
    state = {
        "hash": policy.hash,
        "standing": plan.certificate,
        "changed": list(plan.stale),
        "changed_roles": list(changed_roles(policy)),
    }
    audit = audit_fields(policy)
    state |= {} if audit is None else {"audit_state": audit}
    return {**body, "certificate": body.get("certificate"), **state, "prices_usd_per_mtok": prices}


def _run(policy: Policy) -> str:
    """Mode, rollout, baseline and ledger, in one line."""
    rollout, ledger = policy.rollout, policy.ledger
    share = f", {rollout.percent:g} % climb, by {rollout.by}" if rollout is not None else ""
    observed = ""
    if policy.mode == "observe":
        cap = "no cap" if policy.observe.daily_usd is None else f"{policy.observe.daily_usd} USD a day"
        observed = f", {policy.observe.sample:.0%} also sent to the ladder ({cap})"
    ledger_text = "off"
    if ledger.enabled:
        texts = "with texts" if ledger.content else "without texts"
        ledger_text = f"{ledger.durability}, {texts}{f', kept {ledger.keep_days} days' if ledger.keep_days else ''}"
        ledger_text += f", redacted by {ledger.redact}" if ledger.redact else ""
    return f"mode {policy.mode} (`cascade mode` shows the mode in force){share}{observed}; baseline {baseline_rung(policy).model}; ledger {ledger_text}"


def _budget(limits: Limits) -> str:
    spans = (("a day", limits.daily_usd), ("a month", limits.monthly_usd), ("a request", limits.call_usd))
    amounts = ", ".join(f"{usd} USD {span}" for span, usd in spans if usd is not None)
    return f"{amounts} per {limits.per}, {limits.on_exhausted}, alert at {limits.alert_at:.0%} ({limits.timezone})"


def run_explain(options: ExplainOptions, *, as_json: bool) -> None:
    """Print how the policy treats a request, without calling a model. With a corpus, raises what a replay raises."""
    policy, plan = _load(options.policy)
    task = options.task
    request = Request(messages=read_messages(read_text(options.text)), task=task, flags=frozenset(options.flags))
    storms = None if options.corpus is None else _storms_on(options.corpus, policy)
    match = plan.signals.classify(request)
    route = policy.route(match.task)
    floor = max(route.floor, match.floor)
    every = plan.checks_for(match.task)
    checks = [check.name for check in (*every.functions, *every.verifiers)]
    rungs = [
        {"rung": rung.rung, "model": rung.model, "may_ship": floor <= number <= route.ceiling,
         "threshold": None if number == policy.top else route.thresholds[number],
         **_samples_fields(route.samples[number], by_agreement=route.by_agreement[number])}
        for number, rung in enumerate(policy.ladder)
    ]  # fmt: skip
    if as_json:
        body: dict[str, Any] = {"policy": policy.name, "task": match.task, "flags": sorted(match.flags)}
        body |= {"certificate": plan.certificate} | ({} if storms is None else {"storms": storms})
        body |= policy.model_dump(mode="json", include={"early_stop", "bypass", "sticky"})
        body |= review_fields(plan, match.task)
        tokens = request.characters() // 4
        print_json(body | {"tokens_estimate": tokens, "floor": policy.ladder[floor].rung,
                           "ceiling": policy.ladder[route.ceiling].rung, "checks": checks, "ladder": rungs})  # fmt: skip
        return
    why = "the first task whose `when` matches"
    if task is not None:
        known = any(one.name == task for one in policy.tasks)
        why = "given by the caller" if known else "given by the caller, but not in the policy: treated as other"
    elif match.task == OTHER:
        why = "no task's `when` matches"
    stdout.print(f"task {match.task}: {why}")
    stdout.print(
        f"flags: {', '.join(sorted(match.flags)) or 'none'}; about {request.characters() // 4:,} tokens (estimate)"
    )
    rows = table("rung", "model", "what happens")
    for number, rung in enumerate(policy.ladder):
        rows.add_row(rung.rung, rung.model, _what_happens(policy, match.task, number, floor, route.ceiling))
    stdout.print(rows)
    stdout.print(f"every answer must pass: {', '.join(checks)}")
    for line in describe_review(plan, match.task):
        stdout.print(line)
    stdout.print(f"answers carry: {_certificate_text(policy, plan)}")
    for line in describe_conduct(policy, (match.task,)):
        stdout.print(line)
    if storms is not None:
        _show_storms(storms)


def _show_storms(storms: dict[str, Any]) -> None:
    from cascade.cli.replay import describe_storms  # noqa: PLC0415 - only with a corpus

    kind = "synthetic" if storms["synthetic"] else "recorded"
    stdout.print(f"on {storms['corpus']} ({storms['items']:,} {kind} items): {describe_storms(storms)}")


def _storms_on(corpus: str, policy: Policy) -> dict[str, Any]:
    """What the storm guard does on the replayed corpus, as in `replay --json`, and the corpus's name and size."""
    from cascade.replay.run import ReplayOptions, replay_corpus  # noqa: PLC0415 - only with a corpus

    replay = replay_corpus(find_corpus(corpus), ReplayOptions(policy))
    about = {"corpus": replay.manifest.name, "synthetic": replay.manifest.synthetic, "items": replay.figures.items}
    return {**about, **replay.storms}


def _samples_fields(samples: Samples | None, *, by_agreement: bool) -> dict[str, Any]:
    """Samples as JSON values; nothing for a rung that is asked once."""
    if samples is None:
        return {}
    return {"samples": samples.model_dump(mode="json", exclude_none=True), "by_agreement": by_agreement}


def _what_happens(policy: Policy, task: str, number: int, floor: int, ceiling: int) -> str:
    route = policy.route(task)
    if number > ceiling:
        return "not called: above the task's ceiling"
    if number < floor:
        return f"called, never ships: the floor is {policy.ladder[floor].rung}"
    if number == policy.top:
        return "called without the triage prompt; ships"
    if not route.decides(number):
        return "called, never ships on its own"
    if route.samples[number] is not None:
        return f"{describe_samples(policy, task, number)}, else one rung up"
    return f"ships at confidence {route.thresholds[number]:g} or above, else one rung up"


def _guard(guard: StormGuard | None, escalation: Escalation) -> str:
    if guard is None:
        return "off"
    limits = [_limits(guard, "", escalation.rungs)] if escalation.rungs else []
    for task, rates in escalation.tasks.items():
        others = {
            rung: rate for rung, rate in rates.items()
            if storm_limit(guard, rate) != storm_limit(guard, escalation.rungs.get(rung))
        }  # fmt: skip
        limits += [_limits(guard, f"{task}: ", others)] if others else []
    certified = f" (by certificate: {'; '.join(limits)})" if limits else ""
    return (
        f"rate {guard.rate:g}{certified}, window {guard.window}, min_samples {guard.min_samples},"
        f" on trip {guard.on_trip}"
    )


def _limits(guard: StormGuard, whose: str, rates: Mapping[str, float]) -> str:
    return whose + ", ".join(f"{rung} {storm_limit(guard, rate):g}" for rung, rate in rates.items())


def _certificate_text(policy: Policy, plan: BoundPolicy) -> str:
    """The certificate's state, and why."""
    certificate = policy.certificate
    if certificate is None:
        return f"{plan.certificate}: its thresholds are not certified on a corpus"
    if plan.stale:
        return f"{plan.certificate}: {changes_text(policy, plan.stale)} since its certificate was made"
    errors = "" if certificate.errors is None else f", {certificate.errors} errors"
    judged = "" if certificate.grader is None else f", as judged by {certificate.grader}"
    if certificate.grader_error is not None:
        judged += f", wrong on {certificate.grader_error:.1%} of its control items"
    return (
        f"{plan.certificate} ({certificate.n:,} {certificate.units}{errors}, {certificate.weighting};"
        f" upper bound {certificate.upper_bound:.4f}{judged})"
    )


def _threshold(value: float | None) -> str:
    return "never" if value is None else f"{value:g}"


def _ships_at(rung: Rung) -> str:
    if rung.samples is None:
        return _threshold(rung.threshold)
    agree = f"{rung.samples.agree} of {rung.samples.max}"
    return f"{agree}, {_threshold(rung.threshold)}" if "threshold" in rung.model_fields_set else agree


def _task_thresholds(task: Task) -> list[str]:
    """The task's own thresholds and samples."""
    samples = [f"{rung} {'once' if own is None else f'{own.agree} of {own.max}'}" for rung, own in task.samples.items()]
    return [*(f"{rung} {_threshold(value)}" for rung, value in task.thresholds.items()), *samples]


def _prices(rates: Rates) -> tuple[str, str]:
    """In and out, USD per million tokens."""
    tiers = [(_usd(tier.input), _usd(tier.output)) for _, tier in rates.tiers]
    return " / ".join(price for price, _ in tiers), " / ".join(price for _, price in tiers)


def _thinking(rung: Rung) -> str:
    thinking = f"budget {rung.thinking.budget_tokens}" if isinstance(rung.thinking, Budget) else rung.thinking
    parts = [thinking] if thinking else []
    if rung.effort:
        parts.append(f"effort {rung.effort}")
    return ", ".join(parts) or "model's own"


def _usd(rate: int) -> str:
    return f"{rate / 1e9:g}"


def _per_million(tier: RateTier) -> dict[str, float]:
    names = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
    return {name: getattr(tier, name) / 1e9 for name in names}
