"""Match a policy's rungs to a corpus's, or build a policy from the corpus's own ladder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cascade.core.bound_policy import BoundPolicy
from cascade.core.errors import ConfigurationError, CorpusError, PolicyError
from cascade.core.models import identify
from cascade.core.policy import OTHER, Policy, Rung, Samples, Task
from cascade.core.prices import Rates, RateTier
from cascade.core.signals import Matcher, Signals
from cascade.core.text.suggestions import did_you_mean, listed
from cascade.corpora.items import LadderEntry, Manifest
from cascade.policy.binding import bind_policy, bound_keys
from cascade.policy.pricing import NoPrice, rates_of
from cascade.replay.columns import PolicyMapping

__all__ = [
    "OWN_LADDER",
    "THRESHOLD",
    "Asked",
    "Override",
    "asking",
    "mapping_for",
    "mapping_of",
    "other_models",
    "overridden_tasks",
    "own_mapping",
    "parse_override",
    "undefined_tasks",
]

THRESHOLD = 0.80
"""The default threshold of every rung but the last. It is a guess, and uncertified."""

OWN_LADDER = "corpus-ladder"
"""The name of the policy built from a corpus's own ladder."""

_UNPRICED = Rates(((0, RateTier(0, 0, 0, 0, 0)),))  # a placeholder, never read: recorded costs are used


@dataclass(frozen=True, slots=True)
class Override:
    """A threshold given on the command line. `where` is `rung` or `task:rung`; `value` None is `never`."""

    where: str
    value: float | None


def parse_override(text: str) -> Override:
    """Parse `[task:]rung=x`, x from 0 to 1 or `never`. Raises ConfigurationError."""
    where, _, value = text.rpartition("=")
    try:
        number = None if value == "never" else float(value)
    except ValueError:
        number = -1.0
    if not where or (number is not None and not 0 <= number <= 1):
        raise ConfigurationError(f"--threshold {text}: not [task:]rung=x (x is a number from 0 to 1, or never)")
    return Override(where, number)


def own_mapping(
    manifest: Manifest,
    overrides: Sequence[Override] = (),
    *,
    reprice: bool = False,
    samples: Mapping[str, Samples | None] | None = None,
    early_stop: bool = False,
) -> PolicyMapping:
    """The corpus's own ladder: 0.80 on every rung but the last, without guard, checks, floors or tampering rule.

    `samples`: by rung; the agreement of a rung's samples decides alone, unless a threshold is given for it.

    The policy is not validated: its invariants concern models that will be asked, and a corpus may have any names in
    any order. Raises CorpusError for a ladder of one rung, PolicyError if `reprice` or `early_stop` meets a model without a
    list price.
    """
    rungs, last = manifest.rungs, len(manifest.ladder) - 1
    if not last:
        raise CorpusError("its ladder has one rung: there is nothing to escalate to", hint="record at least two")
    own, by_task = _split_overrides(overrides, rungs)
    asked = samples or {}
    for rung in asked:
        _require_rung(rung, rungs)
    thresholds: dict[str, float | None] = {
        rung: own.get(rung, THRESHOLD) for rung in rungs[:last] if rung in own or not asked.get(rung)
    }
    thresholds[rungs[last]] = None
    ladder = tuple(_own_rung(entry, asked.get(entry.rung), thresholds) for entry in manifest.ladder)
    tasks = tuple(Task.model_construct(name=name, thresholds=values) for name, values in by_task.items())
    policy = Policy.model_construct(
        version=1, name=OWN_LADDER, ladder=ladder, tasks=tasks, checks=(), early_stop=early_stop
    )
    why = "--reprice" if reprice else "--early-stop" if early_stop else None
    rates = tuple(_UNPRICED if why is None else _list_price(rung, why) for rung in ladder)
    plan = BoundPolicy(policy, rates, Signals(policy, _compile_nothing), {}, (), keys=bound_keys(policy))
    return PolicyMapping(plan, rungs, "policy" if reprice else "recorded")


def _own_rung(entry: LadderEntry, samples: Samples | None, thresholds: Mapping[str, float | None]) -> Rung:
    values: dict[str, Any] = {"rung": entry.rung, "model": entry.name, "max_tokens": 1, "samples": samples}
    if entry.rung in thresholds:
        values["threshold"] = thresholds[entry.rung]
    return Rung.model_construct(None, **values)


def mapping_of(
    policy: Policy,
    manifest: Manifest,
    overrides: Sequence[Override] = (),
    *,
    reprice: bool = False,
    samples: Mapping[str, Samples | None] | None = None,
    early_stop: bool = False,
) -> PolicyMapping:
    """A policy with its rungs matched to the corpus's, by name or else by model.

    `samples` replace the policy's, by rung. `early_stop` turns that on, whatever the policy says.

    Raises CorpusError if a rung of the policy was not recorded, and whatever `bind_policy` raises.
    """
    names = tuple(rung.rung for rung in policy.ladder)
    rungs = tuple(_match(policy, rung, manifest) for rung in policy.ladder)
    for number, rung in enumerate(rungs):
        if rung in rungs[:number]:
            first = names[rungs.index(rung)]
            problem = f"rungs {first!r} and {names[number]!r} of policy {policy.name!r} both match its rung {rung!r}"
            raise CorpusError(problem, hint="give the policy's rungs the corpus's names")
    for rung in samples or {}:
        _require_rung(rung, names)
    if overrides or samples:
        policy = _overridden(policy, *_split_overrides(overrides, names), samples or {})
    if early_stop and not policy.early_stop:
        policy = policy.model_copy(update={"early_stop": True})
    return PolicyMapping(bind_policy(policy), rungs, "policy" if reprice else "recorded")


@dataclass(frozen=True, slots=True)
class Asked:
    """How a rung is asked: its samples (None: once), and whether their agreement alone decides, without a threshold."""

    samples: Samples | None
    by_agreement: bool = False


def asking(mapping: PolicyMapping, asked: Mapping[str, Asked]) -> PolicyMapping:
    """The mapping with these rungs asked in this way. A rung that needs a threshold and has none gets THRESHOLD."""
    policy = mapping.plan.policy
    ladder = tuple(rung if rung.rung not in asked else _asked_so(rung, asked[rung.rung]) for rung in policy.ladder)
    made = policy.model_copy(update={"ladder": ladder})
    return replace(mapping, plan=replace(mapping.plan, policy=made, keys={**mapping.plan.keys, **bound_keys(made)}))


def _asked_so(rung: Rung, asked: Asked) -> Rung:
    values = {name: getattr(rung, name) for name in rung.model_fields_set} | {"samples": asked.samples}
    if asked.by_agreement:
        values.pop("threshold", None)
    else:
        values.setdefault("threshold", THRESHOLD)
    return Rung.model_construct(None, **values)


def _require_rung(rung: str, rungs: Sequence[str]) -> None:
    if rung not in rungs[:-1]:
        which = "the last rung has no samples" if rung == rungs[-1] else f"there is no rung {rung!r}"
        meant = did_you_mean(rung, rungs[:-1])
        raise ConfigurationError(f"--samples {rung}: {which} ({meant}use {' or '.join(rungs[:-1])})")


def mapping_for(
    policy: Policy | None,
    manifest: Manifest,
    where: str,
    samples: Mapping[str, Samples | None] | None = None,
    *,
    early_stop: bool = False,
    reprice: bool = False,
) -> PolicyMapping:
    """`mapping_of`, or `own_mapping` without a policy. CorpusError names the corpus at `where`."""
    try:
        if policy is None:
            return own_mapping(manifest, samples=samples, early_stop=early_stop, reprice=reprice)
        return mapping_of(policy, manifest, samples=samples, early_stop=early_stop, reprice=reprice)
    except CorpusError as error:
        raise CorpusError(error.problem, where=where, hint=error.hint) from None


def other_models(mapping: PolicyMapping, manifest: Manifest) -> list[str]:
    """Describe, by rung, where the corpus recorded a model other than the policy's."""
    recorded = {entry.rung: entry.model for entry in manifest.ladder}
    pairs = [
        (rung.rung, recorded[name], rung.model)
        for rung, name in zip(mapping.plan.policy.ladder, mapping.rungs, strict=True)
    ]
    return [
        f"{rung!r} was recorded with {model}, the policy asks {own}"
        for rung, model, own in pairs
        if model is not None and mapping.plan.policy.name != OWN_LADDER and _model(model) != _model(own)
    ]


def undefined_tasks(policy: Policy, tasks: Sequence[str]) -> str | None:
    """Describe which of a corpus's tasks the policy does not define; None if none, or if it defines no tasks.

    An undefined name may be just a label, or a typo.
    """
    defined = [task.name for task in policy.tasks]
    unknown = [task for task in tasks if task not in defined and task != OTHER]
    if not defined or not unknown:
        return None
    names = (f"{task} ({meant.rstrip()})" if (meant := did_you_mean(task, defined)) else task for task in unknown)
    return (
        f"the corpus has tasks that policy {policy.name} does not define: {listed(names)}; it defines {listed(defined)}."
        " Items of undefined tasks follow the ladder's own thresholds"
    )


def overridden_tasks(overrides: Sequence[Override], mapping: PolicyMapping) -> tuple[str, ...]:
    """The tasks that the overrides name."""
    return tuple(task for one in overrides if (task := _task_and_rung(one.where, mapping.names)[0]) is not None)


def _match(policy: Policy, rung: Rung, manifest: Manifest) -> str:
    if rung.rung in manifest.rungs:
        return rung.rung
    names = {one.rung for one in policy.ladder}
    same = [
        entry.rung for entry in manifest.ladder if entry.rung not in names and _model(entry.name) == _model(rung.model)
    ]
    if len(same) == 1:
        return same[0]
    has = ", ".join(_describe(entry) for entry in manifest.ladder)
    problem = f"has no rung {rung.rung!r} ({rung.model}), which policy {policy.name!r} asks"
    raise CorpusError(problem, hint=f"it has {has}: give a --policy with these rungs or models, or none")


def _model(name: str) -> str:
    known = identify(name)
    return known.canonical if known else name


def _describe(entry: LadderEntry) -> str:
    return entry.rung if entry.model in (None, entry.rung) else f"{entry.rung} ({entry.model})"


def _split_overrides(
    overrides: Sequence[Override], rungs: Sequence[str]
) -> tuple[dict[str, float | None], dict[str, dict[str, float | None]]]:
    """The overrides of the ladder, and those of each task, by rung."""
    own: dict[str, float | None] = {}
    by_task: dict[str, dict[str, float | None]] = {}
    for override in overrides:
        task, rung = _task_and_rung(override.where, rungs)
        if rung == rungs[-1]:
            raise ConfigurationError(
                f"--threshold {override.where}: the last rung has no threshold (it answers plainly)"
            )
        given = own if task is None else by_task.setdefault(task, {})
        if rung in given:
            raise ConfigurationError(f"--threshold {override.where}: it is given twice (leave one out)")
        given[rung] = override.value
    return own, by_task


def _task_and_rung(where: str, rungs: Sequence[str]) -> tuple[str | None, str]:
    if where in rungs:
        return None, where
    for colon in re.finditer(":", where):  # names of models and tasks may contain colons
        task, rung = where[: colon.start()], where[colon.end() :]
        if task and rung in rungs:
            return task, rung
    rung = where.rpartition(":")[2]
    raise ConfigurationError(
        f"--threshold {where}: there is no rung {rung!r} ({did_you_mean(rung, rungs[:-1])}use {' or '.join(rungs[:-1])})"
    )


def _overridden(
    policy: Policy,
    own: dict[str, float | None],
    by_task: dict[str, dict[str, float | None]],
    samples: Mapping[str, Samples | None],
) -> Policy:
    values: dict[str, Any] = policy.model_dump(by_alias=True, exclude_unset=True)
    for rung in values["ladder"]:
        if rung["rung"] in samples:
            asked = samples[rung["rung"]]
            rung["samples"] = None if asked is None else asked.model_dump(exclude_unset=True)
            if asked is None:  # agreement cannot decide any more
                rung.setdefault("threshold", THRESHOLD)
        if rung["rung"] in own:
            rung["threshold"] = own[rung["rung"]]
    tasks = [dict(task) for task in values.get("tasks", ())]
    known = {task["name"]: task for task in tasks}
    for name, thresholds in by_task.items():
        if name not in known:
            known[name] = {"name": name}
            tasks.append(known[name])
        known[name]["thresholds"] = {**known[name].get("thresholds", {}), **thresholds}
    return Policy.model_validate({**values, "tasks": tasks})


def _list_price(rung: Rung, why: str) -> Rates:
    try:
        return rates_of(rung)
    except NoPrice as problem:
        hint = f"give a --policy that has one, or use the recorded costs: leave {why} out"
        raise PolicyError(str(problem), where=why, key=rung.rung, hint=hint) from None


def _compile_nothing(_pattern: str) -> Matcher:
    """A matcher that never matches: a ladder without tasks has no signals and no tampering rule."""
    return lambda _text: False
