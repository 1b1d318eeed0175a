"""What to record of a rung that is asked more than once: its policy's samples, or those the command line asks for.

policy + `SampleOptions` → `with_samples` → the policy whose samples are recorded, all `max` of them, never curtailed
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cascade.core.errors import ConfigurationError
from cascade.core.policy import OTHER, Policy, Samples, Variant
from cascade.core.policy.ladder import asked_as
from cascade.core.policy.samples import MOST_SAMPLES, ORDERS
from cascade.core.text.suggestions import did_you_mean
from cascade.core.triage import rules_for, triage_name

__all__ = ["SampleId", "SampleOptions", "own_sample", "parse_counts", "prompt_hash", "samples_of", "with_samples"]

_LONGEST_PROMPT = 1_000_000  # bytes, as for a policy's own prompt


@dataclass(frozen=True, slots=True)
class SampleId:
    """Which sample of a rung: the `nth`, from 0, of those asked as `variant`, with the prompt of this hash.

    `is_plain`: the first that is asked with the policy's own triage prompt. That is what the rung is asked without samples, so a recording without samples holds it already.
    """

    variant: str
    nth: int
    prompt: str
    is_plain: bool


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """What the command line says of samples. All empty: record what the policy asks for.

    `counts`: samples by rung, "" for every rung below the top. `variants`: names of prompts. `judge`: answers are grouped by
    meaning.
    """

    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    variants: tuple[str, ...] = ()
    judge: bool = False


def parse_counts(texts: tuple[str, ...]) -> dict[str, int]:
    """Parse `N` and `RUNG=N`. Raises ConfigurationError."""
    counts: dict[str, int] = {}
    for text in texts:
        rung, _, number = text.rpartition("=")
        if not (number.isascii() and number.isdecimal() and 2 <= int(number) <= MOST_SAMPLES):
            hint = f"N from 2 to {MOST_SAMPLES}, or RUNG=N"
            raise ConfigurationError(f"--samples {text}: not a number of samples ({hint})")
        counts[rung] = int(number)
    return counts


def with_samples(policy: Policy, options: SampleOptions) -> Policy:
    """The policy with the samples that the options ask for, on rungs below the top; they replace those of its tasks.

    Raises ConfigurationError for an unknown rung or variant, or variants without a number of samples.
    """
    _check_rungs(policy, options.counts)
    if options == SampleOptions():
        return policy
    variants = [_variant(policy, name) for name in options.variants]
    raw = policy.model_dump(by_alias=True, exclude_unset=True)
    found = False
    for rung in raw["ladder"][: policy.top]:
        count = options.counts.get(rung["rung"], options.counts.get(""))
        if (made := _changed(rung.get("samples"), count, variants, options)) is not None:
            rung["samples"], found = made, True
    for task in raw.get("tasks", ()):
        kept: dict[str, Any] = {}
        for name, given in dict[str, Any](task.get("samples", {})).items():
            if options.counts.get(name, options.counts.get("")) is None:  # else the rung's number is for every task
                kept[name] = _changed(given, None, variants, options)
        found = found or any(kept.values())
        task["samples"] = kept
    if not found:
        option = "--variants" if variants else "--same judge"
        raise ConfigurationError(f"{option}: no rung of this policy is asked more than once (give --samples N too)")
    try:
        return Policy.model_validate(raw)
    except ValidationError as problem:
        raise ConfigurationError(f"--samples, --variants: {problem.errors()[0]['msg']}") from None


def _check_rungs(policy: Policy, counts: Mapping[str, int]) -> None:
    below = [rung.rung for rung in policy.ladder[: policy.top]]
    for rung in filter(None, counts):
        if rung not in below:
            hint = f"{did_you_mean(rung, below)}below the top there are {', '.join(below)}"
            raise ConfigurationError(f"--samples {rung}={counts[rung]}: no such rung below the top ({hint})")


def _changed(
    given: Mapping[str, Any] | None, count: int | None, variants: list[Variant], options: SampleOptions
) -> dict[str, Any] | None:
    """A rung's samples as the options have them; None if it has none and none are asked for."""
    if given is None and count is None:
        return None
    made: dict[str, Any] = {"max": 2, "agree": 2, **(given or {})}
    if count is not None:
        made |= {"max": count, "agree": min(made["agree"], count)}
    if variants:
        made["variants"] = [variant.model_dump(exclude_unset=True) for variant in variants]
    if options.judge:
        made["same"] = "judge"
    return made


def _variant(policy: Policy, name: str) -> Variant:
    """A variant by the name of a built-in prompt, of one of the policy's variants, or of a text file."""
    if name in ORDERS:
        return Variant(prompt=name)
    own = triage_name(policy)
    known = {
        variant.label(own): variant
        for samples in _all_samples(policy)
        for variant in samples.variants
    } | {own: Variant()}  # fmt: skip
    if name in known:
        return known[name]
    try:
        with Path(name).open("rb") as file:
            text = file.read(_LONGEST_PROMPT + 1).decode()
    except (OSError, ValueError):
        names = [*ORDERS, *known]
        hint = f"{did_you_mean(name, names)}use {', '.join(dict.fromkeys(names))}, or a text file"
        raise ConfigurationError(
            f"--variants: there is no variant {name!r}, and no file of UTF-8 text ({hint})"
        ) from None
    if not text.strip() or len(text) > _LONGEST_PROMPT:
        raise ConfigurationError(f"--variants: the file {name} is empty or larger than 1 MB (give it a text)")
    return Variant(prompt=text, name=Path(name).stem)


def _all_samples(policy: Policy) -> Iterator[Samples]:
    for task in (OTHER, *(task.name for task in policy.tasks)):
        yield from filter(None, policy.route(task).samples)


def samples_of(policy: Policy, index: int, samples: Samples) -> Iterator[tuple[SampleId, Variant]]:
    """All samples of the rung at `index`, in the order in which they are asked."""
    own = triage_name(policy)
    plain = prompt_hash(policy, index, Variant())
    asked: dict[str, int] = {}
    for number in range(samples.max):
        variant = samples.variant(number)
        name, prompt = variant.label(own), prompt_hash(policy, index, variant)
        nth = asked.get(name, 0)
        asked[name] = nth + 1
        yield SampleId(name, nth, prompt, is_plain=(nth, name, prompt) == (0, own, plain)), variant


def own_sample(policy: Policy) -> SampleId:
    """The first sample that is asked with the policy's own triage prompt."""
    return SampleId(triage_name(policy), 0, prompt_hash(policy, 0, Variant()), is_plain=True)


def prompt_hash(policy: Policy, index: int, variant: Variant) -> str:
    """SHA-256 of what a variant asks: its rules, and the model and endpoint if it names another one."""
    asked: list[Any] = [*rules_for(policy, variant)]
    if variant.model is not None:
        rung = asked_as(policy.ladder[index], variant)
        asked += [rung.model, rung.base_url]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()
