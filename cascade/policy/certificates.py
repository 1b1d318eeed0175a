"""Whether a policy's certificate still holds: compares its hashes with those of the policy as it is now."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cascade.core.context import summarisers
from cascade.core.early import can_refuse
from cascade.core.handoff.passing import versions_of
from cascade.core.policy import OTHER, Policy, Rung, Samples, Variant
from cascade.core.policy.certificate import UNCERTIFIED, Escalation
from cascade.core.policy.ladder import asked_as
from cascade.core.prompts import judge, review_gate, summariser
from cascade.core.triage import rules_for, triage_name
from cascade.logs import log_event
from cascade.policy.pricing import rates_of
from cascade.policy.roles import climb_roles

__all__ = [
    "certificate_digest",
    "certificate_text",
    "certified_escalation",
    "changed_parts",
    "changed_roles",
    "changes_text",
    "epoch_of",
    "hash_of",
    "hash_of_file",
    "hashes_of",
    "is_of_policy",
    "warn_of_changes",
]

_HOW_ASKED = {"rung", "max_tokens", "thinking", "effort", "base_url", "provider"}
_TRAFFIC = frozenset(
    {"ladder", "models", "prompts", "thresholds"}
)  # prices change what an escalation costs, not how many


def hash_of(content: bytes) -> str:
    """SHA-256 in a certificate's form."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def hash_of_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file of any size, in a certificate's form."""
    with Path(path).open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def hashes_of(policy: Policy) -> dict[str, str]:
    """The hashes of a policy's parts, by the certificate's names, without the corpus.

    Defaults are left out, so that a key of a later version does not invalidate a certificate. A policy whose rungs are
    asked more than once also has, by part: `models` and `prices` those of other models that vote; `prompts` the prompts
    that are used, by name; `thresholds` max, agree, the variants' names and `same`. With a review `prompts` has its rules too, with a
    handoff its version, with summaries theirs. Words that come to no climb (the audit's, a planner's) are no part of it. Raises NoPrice
    for a model without a price.
    """
    rungs = [rung.model_dump(mode="json", include=_HOW_ASKED, exclude_defaults=True) for rung in policy.ladder]
    decides = policy.model_dump(
        mode="json",
        by_alias=True,
        include={"tasks", "checks", "scorer", "early_stop", "prepare", "handoff"},
        exclude={"tasks": {"__all__": {"grader", "cache"}}},  # these come after an answer was shipped
        exclude_defaults=True,
    )
    _leave_out_nothing(decides)
    if policy.early_stop:  # what is closed cannot be held; where a budget may refuse a call, nothing is closed
        decides["early_stop"] = "ships" if can_refuse(policy) else "closes"
    parts: dict[str, Any] = {
        "ladder": rungs,
        "models": [rung.model for rung in policy.ladder],
        "prompts": [*rules_for(policy)],
        "prices": [_prices(rung) for rung in policy.ladder],
        "thresholds": {**decides, "ladder": [rung.threshold for rung in policy.ladder]},
    }  # fmt: skip
    if any(rung.samples for rung in policy.ladder) or any(task.samples for task in policy.tasks):
        _add_samples(policy, parts)
    if any(check.kind for checks in (policy.checks, *(task.checks for task in policy.tasks)) for check in checks):
        parts["prompts"] = [parts["prompts"], review_gate.RULES]
    if words := versions_of(policy):
        parts["prompts"] = [parts["prompts"], words]
    if summarisers(policy):
        parts["prompts"] = [parts["prompts"], summariser.VERSION]
    return {part: hash_of(json.dumps(value, sort_keys=True).encode()) for part, value in parts.items()}


def _leave_out_nothing(decides: dict[str, Any]) -> None:
    """Remove `prepare: none` and `handoff: none` where nothing else would hold: they change no reply."""
    for key in ("prepare", "handoff"):
        if not decides.get(key):
            decides.pop(key, None)
            for task in decides.get("tasks", ()):
                if not task.get(key):
                    task.pop(key, None)


def _prices(rung: Rung) -> list[list[int]]:
    return [
        [above, tier.input, tier.output, tier.cache_write_5m, tier.cache_write_1h, tier.cache_read]
        for above, tier in rates_of(rung).tiers
    ]


def _add_samples(policy: Policy, parts: dict[str, Any]) -> None:
    """Add to each part what the samples rest on. How many are asked at once changes no outcome, so it is left out."""
    own = triage_name(policy)
    prompts: dict[str, list[Any]] = {}
    panel: dict[str, list[Any]] = {}
    for rung, samples in _asked(policy):
        variants = (Variant(),) if samples is None else samples.variants or (Variant(),)
        for variant in variants:
            _add(prompts, variant.label(own), [*rules_for(policy, variant)])
            if variant.model is not None:
                _add(panel, variant.label(own), asked_as(rung, variant))
        if samples is not None and samples.same.kind == "judge":
            _add(prompts, "judge", judge.RULES)
    parts["prompts"] = prompts
    if panel:
        models = {name: [_voter(rung) for rung in rungs] for name, rungs in panel.items()}
        parts["models"] = [*parts["models"], models]
        parts["prices"] = [*parts["prices"], {name: [_prices(rung) for rung in rungs] for name, rungs in panel.items()}]
    decides = parts["thresholds"]
    for task, dumped in zip(policy.tasks, decides.get("tasks", ()), strict=True):
        if task.samples:
            dumped["samples"] = {name: _decisive(samples, own) for name, samples in task.samples.items()}
    decides["samples"] = [_decisive(rung.samples, own) for rung in policy.ladder]
    # An omitted threshold means that agreement decides; it is not `never`, though both are None.
    decides["given"] = ["threshold" in rung.model_fields_set for rung in policy.ladder]


def _voter(rung: Rung) -> list[str | None]:
    return [rung.model, rung.base_url, *(() if rung.provider == "anthropic" else (rung.provider,))]


def _asked(policy: Policy) -> list[tuple[Rung, Samples | None]]:
    """Each rung below the top, as some task asks it."""
    routes = [policy.route(name) for name in (OTHER, *(task.name for task in policy.tasks))]
    return [(rung, route.samples[at]) for route in routes for at, rung in enumerate(policy.ladder[: policy.top])]


def _add(to: dict[str, list[Any]], name: str, value: object) -> None:
    listed = to.setdefault(name, [])
    if value not in listed:
        listed.append(value)


def _decisive(samples: Samples | None, own: str) -> dict[str, Any] | None:
    """What of the samples decides, prompts and models aside."""
    if samples is None:
        return None
    names = [variant.label(own) for variant in samples.variants] or [own]
    return {"max": samples.max, "agree": samples.agree, "variants": names, "same": str(samples.same)}


def changed_parts(policy: Policy) -> tuple[str, ...]:
    """The parts that changed since they were certified; empty without a certificate. Raises NoPrice."""
    if policy.certificate is None:
        return ()
    certified, words = policy.certificate.hashes, changed_roles(policy)
    return tuple(
        part
        for part, now in hashes_of(policy).items()
        if getattr(certified, part) != now or (part == "prompts" and words)
    )


def changed_roles(policy: Policy) -> tuple[str, ...]:
    """The roles whose words changed since they were certified. Empty for a certificate that does not name them, as older ones do not."""
    certified = None if policy.certificate is None else policy.certificate.roles
    if certified is None:
        return ()
    now = climb_roles(policy)
    return tuple(role for role in dict.fromkeys((*certified, *now)) if certified.get(role) != now.get(role))


def changes_text(policy: Policy, changed: tuple[str, ...]) -> str:
    """What changed, in words: "ladder and prompts (judge) changed". `changed`: as `changed_parts`."""
    roles = ", ".join(changed_roles(policy))
    told = (f"{part} ({roles})" if part == "prompts" and roles else part for part in changed)
    return f"{' and '.join(told)} changed"


def certificate_digest(policy: Policy) -> str:
    """Names the policy's certificate; "" without one. A ratchet goes with one certificate, and ends with the next."""
    if policy.certificate is None:
        return ""
    values = policy.certificate.model_dump(mode="json", exclude_defaults=True)
    named = json.dumps(values, sort_keys=True)  # a file may be written again with its keys in another order
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def epoch_of(policy: Policy, ratchet: int) -> str:
    """Names what decides which answers ship, at this ratchet step. Prices do not: they change no answer."""
    parts = {part: value for part, value in hashes_of(policy).items() if part != "prices"}
    named = json.dumps([parts, certificate_digest(policy), ratchet], sort_keys=True)
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def certificate_text(policy: Policy, changed: tuple[str, ...]) -> str:
    """What an answer carries: the certificate in one line if it holds, else "uncertified"."""
    return UNCERTIFIED if policy.certificate is None or changed else policy.certificate.summary


def certified_escalation(policy: Policy, changed: tuple[str, ...]) -> Escalation:
    """The certified escalation rates, for the storm guard; none if what they depend on has changed.

    They do not depend on prices: a new price table must not make every guard trip.
    """
    if policy.certificate is None or not _TRAFFIC.isdisjoint(changed):
        return Escalation()
    return policy.certificate.expected


def is_of_policy(policy: Policy) -> bool:
    """Whether the policy's certificate is of its answers: prices aside, nothing has changed since. Raises NoPrice."""
    return policy.certificate is not None and _TRAFFIC.isdisjoint(changed_parts(policy))


def warn_of_changes(policy: Policy, changed: tuple[str, ...]) -> None:
    """Log, when a driver is made, that the policy's certificate no longer holds. Its answers are "uncertified"."""
    if changed:
        hint = "answers are uncertified: calibrate again, or restore what was certified"
        named = {"roles": list(roles)} if (roles := changed_roles(policy)) else {}
        log_event("warning", "certificate_stale", policy=policy.name, changed=list(changed), **named, hint=hint)
