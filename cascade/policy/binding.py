"""Policy → BoundPolicy: look up the prices, compile the patterns and import the functions that a policy names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cascade.core.bound_policy import BoundPolicy, ReviewGate
from cascade.core.errors import PolicyError
from cascade.core.policy import Check, Fault, Policy, Rung, Samples, Task, Variant, When
from cascade.core.policy.certificate import UNCERTIFIED, Escalation
from cascade.core.policy.economy import Prepare
from cascade.core.policy.ladder import asked_as
from cascade.core.prices import Rates
from cascade.core.sameness import KeyOf, key_function
from cascade.core.signals import Signals, words_pattern
from cascade.core.text.parsing import Repair
from cascade.policy.budgets import audit_faults, budget_faults, import_function
from cascade.policy.certificates import certificate_text, certified_escalation, changed_parts, epoch_of
from cascade.policy.checks import bound, compile_schema, unusable_command
from cascade.policy.graders import grader_faults
from cascade.policy.hint_files import hint_faults
from cascade.policy.patterns import compile_blind, compile_exact
from cascade.policy.pricing import NoPrice, rates_of
from cascade.policy.roles import plan_roles, prompts_by_task

__all__ = [
    "baseline_rung",
    "bind_baseline",
    "bind_policy",
    "bind_single",
    "binding_faults",
    "bound_keys",
    "called_rungs",
]

_NOT_EMPTY = Check(not_empty=True)


def bind_policy(policy: Policy, *, batch: bool = False) -> BoundPolicy:
    """The policy, ready to run. Imports the modules that its checks name. `batch`: at the prices of the Message Batches API.

    Raises PolicyError if a model has no price, a pattern is not linear-time or a function cannot be imported; MissingExtra
    if a check needs an optional package. `not_empty` is always checked: an empty answer is never shipped.
    """
    for fault in binding_faults(policy):
        raise PolicyError(fault.problem, where=f"policy {policy.name!r}", key=_dotted(fault.key), hint=fault.hint)
    stale = changed_parts(policy)
    by_task = {task.name: bound(task.checks) for task in policy.tasks if task.checks}
    listed = policy.checks if _NOT_EMPTY in policy.checks else (_NOT_EMPTY, *policy.checks)
    shared = bound(listed)
    return BoundPolicy(
        policy=policy,
        rates=tuple(_rates(rung, batch=batch) for rung in policy.ladder),
        signals=Signals(policy, compile_blind),
        checks={name: functions for name, (functions, _) in by_task.items()},
        shared_checks=shared[0],
        repair=_repair(),
        certificate=certificate_text(policy, stale),
        stale=stale,
        escalation=certified_escalation(policy, stale),
        verifiers={name: verifiers for name, (_, verifiers) in by_task.items()},
        shared_verifiers=shared[1],
        panel=_panel(policy, batch=batch),
        keys=bound_keys(policy),
        compile_schema=compile_schema,
        epoch=epoch_of(policy, 0),
        reviews={task.name: gate for task in policy.tasks if (gate := _review_gate(policy, task.checks)) is not None},
        shared_review=_review_gate(policy, policy.checks),
        auxiliaries={rung.rung: (rung, _rates(rung, batch=batch)) for _, rung in _summarisers(policy)},
        batch=batch,
        prompts=prompts_by_task(policy),
        plan_prompts=plan_roles(policy),
    )


def _rates(rung: Rung, *, batch: bool) -> Rates:
    """A rung's rates. Message Batches has no other vendor's models: in a batch run they are called live, at list price."""
    return rates_of(rung, batch=batch and rung.provider == "anthropic")


def called_rungs(policy: Policy) -> Iterator[Rung]:
    """Whatever the policy may call, as a rung: the ladder, the variants that name another model, and those that summarise."""
    yield from policy.ladder
    for _, rung, samples in _samples_in(policy):
        yield from (asked_as(rung, variant) for variant in samples.variants if variant.model is not None)
    yield from (rung for _, rung in _summarisers(policy))


def _review_gate(policy: Policy, checks: tuple[Check, ...]) -> ReviewGate | None:
    """The review in a list of checks, which has at most one."""
    names = [rung.rung for rung in policy.ladder]
    return next(
        (
            ReviewGate(names.index(check.rung), check.rung, check.below)
            for check in checks
            if check.rung is not None and check.below is not None
        ),
        None,
    )


def _samples_in(policy: Policy) -> Iterator[tuple[tuple[str | int, ...], Rung, Samples]]:
    """Every `samples` of the policy, with its path and its rung."""
    for number, rung in enumerate(policy.ladder):
        if rung.samples is not None:
            yield ("ladder", number, "samples"), rung, rung.samples
    rungs = {rung.rung: rung for rung in policy.ladder}
    for number, task in enumerate(policy.tasks):
        for name, samples in task.samples.items():
            if samples is not None:
                yield ("tasks", number, "samples", name), rungs[name], samples


def _panel(policy: Policy, *, batch: bool) -> dict[Variant, Rates]:
    """The prices of the variants that name another model."""
    return {
        variant: _rates(asked_as(rung, variant), batch=batch)
        for _, rung, samples in _samples_in(policy)
        for variant in samples.variants
        if variant.model is not None
    }


def _summarisers(policy: Policy) -> Iterator[tuple[tuple[str | int, ...], Rung]]:
    """The rungs beside the ladder that summarise, with their paths. One name stands for one rung (`binding_faults`)."""
    places: list[tuple[tuple[str | int, ...], Prepare | None]] = [(("prepare",), policy.prepare)]
    places += [(("tasks", number, "prepare"), task.prepare) for number, task in enumerate(policy.tasks)]
    for at, prepare in places:
        summarize = prepare.summarize if prepare is not None else None
        if summarize is not None and isinstance(summarize.by, Rung):
            yield (*at, "summarize", "by"), summarize.by


def bound_keys(policy: Policy) -> dict[str, KeyOf]:
    """By `samples.same` as text, the function that compares answers."""
    return {
        str(samples.same): key_function(
            samples.same, import_function(samples.same.function) if samples.same.function else None
        )
        for _, _, samples in _samples_in(policy)
    }


def bind_baseline(plan: BoundPolicy) -> BoundPolicy:
    """The same policy with the baseline as its only rung, for requests that the ladder does not answer.

    Requests go through the same climb, so they are priced and recorded alike. There is no threshold, floor, scorer, storm
    guard or certificate. The policy's checks only trigger escalation, so they do not apply: only `not_empty` and the
    caller's own do.
    """
    return bind_single(plan, baseline_rung(plan.policy))


def bind_single(plan: BoundPolicy, rung: Rung) -> BoundPolicy:
    """The same policy with `rung` as its only one, as `bind_baseline` makes it: for the calls that plan and review, too."""
    policy = plan.policy
    rates = _rates(rung, batch=plan.batch)  # `binding_faults` has checked that there are some
    tasks = tuple(Task(name=task.name, when=task.when) for task in policy.tasks)
    changed = {
        "ladder": (rung,), "tasks": tasks, "checks": (_NOT_EMPTY,), "storm_guard": None, "certificate": None, "scorer": None,
        "prepare": None, "handoff": None,
    }  # fmt: skip
    # A ladder of one rung breaks the invariants, so they are not checked. Its answers carry this policy's hash.
    single = Policy.model_construct(
        None, **{**{name: getattr(policy, name) for name in Policy.model_fields}, **changed}
    )
    vars(single)["hash"] = policy.hash
    return replace(
        plan, policy=single, rates=(rates,), checks={}, shared_checks=bound((_NOT_EMPTY,))[0], certificate=UNCERTIFIED,
        stale=(), escalation=Escalation(), verifiers={}, shared_verifiers=(), reviews={}, shared_review=None,
        prompts={},
    )  # fmt: skip


def baseline_rung(policy: Policy, wanted: str | None = None) -> Rung:
    """The baseline's rung: the one that the policy's `baseline` names by rung or model, else the top.

    `wanted` overrides `baseline`. Of several rungs with that model it is the highest. A model that is not on the ladder is
    called at the default endpoint, with the top rung's max_tokens. Raises ValueError for an invalid model name.
    """
    top = policy.ladder[policy.top]
    wanted = wanted or policy.baseline
    found = [rung for rung in policy.ladder if wanted in (rung.rung, rung.model)]
    if wanted is None:
        return top
    return found[-1] if found else Rung(rung="baseline", model=wanted, max_tokens=top.max_tokens)


def binding_faults(policy: Policy) -> Iterator[Fault]:
    """Why a valid policy cannot be bound on this machine: no price or program, unusable patterns, functions, graders or time zones."""
    yield from _price_faults(policy)
    if policy.ledger.redact is not None:
        try:
            import_function(policy.ledger.redact)
        except LookupError as problem:
            hint = "name a function as module:function, in a module that can be imported"
            yield Fault(("ledger", "redact"), str(problem), hint)
    for at, rung, samples in _samples_in(policy):
        yield from _sample_faults(at, rung, samples)
    yield from _check_faults(("checks",), policy.checks)
    for number, task in enumerate(policy.tasks):
        if task.when is not None:
            yield from _pattern_faults(("tasks", number, "when"), task.when)
        yield from _check_faults(("tasks", number, "checks"), task.checks)
    yield from budget_faults(policy.budget)
    yield from audit_faults(policy.audit)
    yield from grader_faults(policy)
    yield from hint_faults(policy)


def _price_faults(policy: Policy) -> Iterator[Fault]:
    """The rungs without a price: on the ladder, beside it, and the baseline."""
    rungs: list[tuple[tuple[str | int, ...], Rung]] = [(("ladder", n), rung) for n, rung in enumerate(policy.ladder)]
    named = {rung.rung: rung for rung in policy.ladder}
    for at, rung in (*rungs, *_summarisers(policy)):
        try:
            rates_of(rung)
        except NoPrice as problem:
            hint = "give the rung a price: {input: …, output: …} in USD per million tokens, or correct the name"
            yield Fault((*at, "model"), str(problem), hint)
        if named.setdefault(rung.rung, rung) != rung and at[0] != "ladder":
            yield Fault((*at, "rung"), f"another rung is called {rung.rung!r}", "give it a name of its own")
    try:
        if policy.baseline is not None:
            rates_of(baseline_rung(policy))
    except NoPrice as problem:
        yield Fault(("baseline",), str(problem), "name a rung of the ladder, or a model that has a price")


def _sample_faults(at: tuple[str | int, ...], rung: Rung, samples: Samples) -> Iterator[Fault]:
    for number, variant in enumerate(samples.variants):
        if variant.model is None:
            continue
        try:
            rates_of(asked_as(rung, variant))
        except NoPrice as problem:
            hint = "give the variant a price: {input: …, output: …} in USD per million tokens, or correct the name"
            yield Fault((*at, "variants", number, "model"), str(problem), hint)
    if samples.same.function is not None:
        try:
            import_function(samples.same.function)
        except LookupError as problem:
            hint = "name a function as module:function, in a module that can be imported"
            yield Fault((*at, "same"), str(problem), hint)


_LINEAR = "RE2 runs in linear time and has no back-references or look-around: write it without"


def _pattern_faults(at: tuple[str | int, ...], when: When) -> Iterator[Fault]:
    if when.pattern is not None:
        try:
            compile_blind(when.pattern)
        except ValueError as problem:
            yield Fault((*at, "pattern"), f"not a linear-time pattern: {problem}", _LINEAR)
    if when.words is not None:
        try:
            compile_blind(words_pattern(when.words))
        except ValueError as problem:
            yield Fault(
                (*at, "words"), f"these words cannot be searched: {problem}", "spread them over tests under `any`"
            )
    for key, tests in (("any", when.any), ("all", when.all)):
        for number, one in enumerate(tests or ()):
            yield from _pattern_faults((*at, key, number), one)
    if when.not_ is not None:
        yield from _pattern_faults((*at, "not"), when.not_)


def _check_faults(at: tuple[str | int, ...], checks: tuple[Check, ...]) -> Iterator[Fault]:
    for number, check in enumerate(checks):
        if check.pattern is not None:
            try:
                compile_exact(check.pattern)
            except ValueError as problem:
                yield Fault((*at, number, "pattern"), f"not a linear-time pattern: {problem}", _LINEAR)
        if (unusable := unusable_command(check)) is not None:
            yield Fault((*at, number, "command"), *unusable)


def _repair() -> Repair | None:
    """json-repair, if installed; `core.text.parsing` decides which repairs to accept."""
    try:
        from json_repair import loads  # noqa: PLC0415 - an extra, and only wanted when a reply is broken
    except ImportError:
        return None
    return loads  # pyright: ignore[reportReturnType]


def _dotted(key: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")
