"""The samples that `calibrate` uses or has chosen: as JSON, as text, and as a policy has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cascade.calibration.run import Calibration
from cascade.calibration.sampling import brief_names, variants_compared
from cascade.calibration.search.frontier import Point
from cascade.cli.output import stdout, table
from cascade.core.errors import PolicyError
from cascade.core.policy import Policy, Samples
from cascade.core.policy.samples import Same
from cascade.core.triage import triage_name
from cascade.replay.columns import PolicyMapping
from cascade.replay.samples import samples_fields, samples_text

__all__ = [
    "AGREEMENT",
    "asked_text",
    "chosen_text",
    "print_bought",
    "samples_json",
    "samples_of",
    "threshold_json",
    "written_samples",
]

AGREEMENT = "agreement"
"""In place of a threshold: the agreement of the rung's samples alone decides."""


def samples_json(result: Calibration) -> dict[str, dict[str, Any]]:
    """By rung that is asked more than once: its samples."""
    return samples_of(result.mapping)


def samples_of(mapping: PolicyMapping) -> dict[str, dict[str, Any]]:
    """By rung that a mapping's policy asks more than once: its samples."""
    policy = mapping.plan.policy
    return {rung.rung: samples_fields(rung.samples, policy) for rung in policy.ladder if rung.samples is not None}


def threshold_json(result: Calibration) -> dict[str, float | str | None]:
    """By rung: its threshold, null for `never`, AGREEMENT where its samples decide alone."""
    alone = result.by_agreement
    return {rung: AGREEMENT if rung in alone and x is not None else x for rung, x in result.thresholds.items()}


def chosen_text(thresholds: Mapping[str, float | None], result: Calibration) -> str:
    """Thresholds and samples by rung, in one line, e.g. "haiku 3 of 4 the same at 0.8, sonnet 0.9"."""
    return asked_text(thresholds, result.mapping)


def asked_text(thresholds: Mapping[str, float | None], mapping: PolicyMapping) -> str:
    """The same for other samples than the chosen ones: those of the mapping's policy."""
    policy = mapping.plan.policy
    samples, alone = {rung.rung: rung.samples for rung in policy.ladder}, mapping.by_agreement
    return ", ".join(
        f"{rung} {_of_rung(x, samples[rung], policy, alone=rung in alone)}" for rung, x in thresholds.items()
    )


def _of_rung(threshold: float | None, samples: Samples | None, policy: Policy, *, alone: bool) -> str:
    if threshold is None:
        return "never"
    if samples is None:
        return f"{threshold:g}"
    return samples_text(samples, policy) + ("" if alone else f" at {threshold:g}")


def print_bought(result: Calibration) -> None:
    """Print what each further sample buys."""
    bought = result.further_samples()
    if not bought:
        return
    variants, names = variants_compared(result.ways), brief_names(result.ways)
    title = f"what further samples of {' and '.join(variants)} buy, on the tuning half, with {result.as_good_as_chosen} than chosen"
    right = ("samples, at most", "quality", "USD per 1,000")
    rows = table("samples, at most", "the same", *right[1:], title=title, right=right)
    chosen = result.choice.chosen.way if isinstance(result.choice.chosen, Point) else None
    for one in bought:
        mark = " (chosen)" if one.way == chosen else ""
        cost = f"{1e3 * one.cost_per_request_usd:.4f}"
        rows.add_row(str(one.most), f"{names[one.way]}{mark}", f"{one.quality:.4f}", cost)
    stdout.print()
    stdout.print(rows)
    for rung, own in variants.items():
        stdout.print(f"variants of {rung}, in turn: {', '.join(own)}")
    stdout.print(f"{len(result.ways)} ways to ask were compared, each with all thresholds")
    if bought[0].most == 1 and min(bought, key=lambda one: one.cost_per_request_usd) is bought[0]:
        stdout.print("further samples are worth nothing here: asking each rung once is as cheap")


def written_samples(result: Calibration, where: str | None) -> dict[str, dict[str, Any] | None]:
    """By rung whose samples change: what the policy is to have, None for none.

    Raises PolicyError for samples that a policy's file cannot express: variants that it does not define, or a rung that has
    a threshold although no reply of the corpus has a confidence to compare with it.
    """
    before = {rung.rung: rung for rung in result.options.policy.ladder} if result.options.policy is not None else {}
    made: dict[str, dict[str, Any] | None] = {}
    for rung, old in before.items():
        new = result.samples.get(rung)
        if rung in result.by_agreement and "threshold" in old.model_fields_set:
            problem = (
                f"no reply of {rung!r} in the corpus has a confidence, and the policy compares it with a threshold"
            )
            raise PolicyError(problem, where=where or "", hint="remove the rung's threshold: then agreement decides")
        if new == old.samples:
            continue
        made[rung] = None if new is None else _block(new, old.samples, rung, where or "", result.mapping.plan.policy)
    return made


def _block(samples: Samples, old: Samples | None, rung: str, where: str, policy: Policy) -> dict[str, Any]:
    """The YAML values of samples; variants that the file has already are None."""
    block: dict[str, Any] = {"max": samples.max, "agree": samples.agree}
    if old is not None and samples.variants == old.variants:
        if samples.variants:
            block["variants"] = None  # as the file has them
    else:
        own = triage_name(policy)
        for variant in samples.variants:
            if variant.order is None or variant.model is not None:
                problem = f"rung {rung!r}: the chosen variant {variant.label(own)!r} is none of the built-in prompts"
                hint = "list it alone under the rung's `samples`, and calibrate with --samples RUNG=M/N"
                raise PolicyError(problem, where=where, hint=hint)
        if samples.variants:
            block["variants"] = [variant.prompt for variant in samples.variants]
    if samples.at_once != 1:
        block["at_once"] = samples.at_once
    if samples.same != Same():
        same = samples.same
        block["same"] = (
            {"numeric": same.tolerance} if same.tolerance else {"json": list(same.fields)} if same.fields else str(same)
        )
    return block
