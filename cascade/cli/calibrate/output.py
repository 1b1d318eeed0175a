"""The output of `cascade calibrate`: sentences, tables and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cascade.calibration.objectives import Budget, Objective, describe
from cascade.calibration.proof.pareto_testing import Certified, NotCertified, Target
from cascade.calibration.run import Calibration, HalfFigures
from cascade.calibration.search.frontier import Point
from cascade.cli.calibrate.candidates import candidate_fields, print_candidates, scorer_fields
from cascade.cli.calibrate.samples import (
    asked_text,
    chosen_text,
    print_bought,
    samples_json,
    samples_of,
    threshold_json,
)
from cascade.cli.output import stdout, table
from cascade.core.context import not_recorded
from cascade.core.handoff.passing import unrecorded
from cascade.core.policy.certificate import Certificate
from cascade.replay.cold import cold_notes
from cascade.replay.mapping import undefined_tasks

__all__ = [
    "certificate_text",
    "fields_of",
    "meets_text",
    "notes_of",
    "other_models_text",
    "print_calibration",
    "print_frontier",
    "refusal_text",
    "thresholds_text",
    "verdict_text",
]

_MOST_POINTS = 12  # of the frontier, in the table; --json has them all


def refusal_text(result: Calibration, objective: Objective) -> str:
    """Why no thresholds were found, how many items are missing, and the best single model."""
    best = f"; best single model: {result.choice.advice.removeprefix('single:')}" if result.choice.advice else ""
    proof = result.choice.proof
    if not isinstance(proof, NotCertified):
        return f"no thresholds reach {describe(objective)}{best}"
    tested = proof.tested
    if result.others:
        needs = "other models' replies certify nothing for the policy"
    elif (needed := result.further_units) is not None:
        needs = f"about {needed:,} more {tested.units} (both halves together) are needed at the observed rate"
    else:
        needs = f"at the observed rate no number of {tested.units} is enough"
    return (
        f"nothing could be certified: {describe(objective)} (observed {tested.rate:.4g} on {tested.n:,} held-out"
        f" {tested.units}, upper bound {tested.upper_bound:.4g}; {needs}{best})"
    )


def other_models_text(result: Calibration) -> str | None:
    """A warning if the corpus holds other models than the policy's; None if they are the same."""
    if not result.others:
        return None
    return f"these are other models' replies: {'; '.join(result.others)}: nothing is certified for the policy"


def verdict_text(result: Calibration) -> str:
    """The verdict in one sentence."""
    return f"{'for the recorded models: ' if result.others else ''}{_verdict(result)}"


def _verdict(result: Calibration) -> str:
    if result.choice.too_few:
        n, units = result.held_out.units, "items" if result.held_out.units == len(result.held_out) else "groups"
        if result.others or result.further_units is None:
            return (
                f"too few to say: {n:,} held-out {units} show neither that the objective is met nor that it is missed"
            )
        return (
            f"too few to say: {n:,} held-out {units}; about {result.further_units:,} more {units} are needed"
            " (both halves together)"
        )
    if result.choice.advice == "cascade":
        if isinstance(result.options.objective, Budget):
            return "cascade: better than every single model within the budget"
        return "cascade: cheaper than every single model that meets the objective"
    if result.choice.advice is None:
        return "neither a cascade nor a single model meets the objective"
    single = (result.choice.advice or "").removeprefix("single:")
    if isinstance(result.options.objective, Budget):
        return f"do not cascade here: {single} alone is within the budget, and no cascade that is does better"
    by_definition = isinstance(result.options.objective, Target) and single == result.held_out.rungs[-1]
    how = " (the top's answers never count as this loss)" if by_definition else ""
    return f"do not cascade here: {single} alone meets the objective{how}, and no cascade that does is cheaper"


def notes_of(result: Calibration) -> list[str]:
    """Caveats: other models, what the certificate averages over, tasks that differ from the policy's."""
    choice, objective, notes = result.choice, result.options.objective, list[str]()
    if (others := other_models_text(result)) is not None:
        notes.append(others)
    if choice.chosen is not None and not choice.holds:
        notes.append(
            "the objective is not met on the held-out items: the chosen thresholds met it on the tuning half only"
        )
    for rung, why in (result.learned.left_out if result.learned else {}).items():
        notes.append(f"{rung} keeps its own confidence; no scorer was learned for it: {why}")
    if result.learned is not None and result.learned.target == "gain":
        notes.append(
            "the confidence is of the gain of escalating, not the probability of being right: its AUROC and ECE say little, and"
            " answers ship that are likely wrong if no rung above would do better"
        )
    notes += [*unrecorded(result.options.policy), *(f"no samples are chosen for {why}" for why in result.not_judged)]
    cold = () if result.counted else cold_notes(result.mapping)
    notes += filter(None, (result.manifest.estimated, *cold))
    without = [rung for rung, signal in result.signal.items() if not signal.items]
    if without and not (result.ways and objective is None):  # a frontier of several ways, and this is the signal of one
        notes.append(
            f"{' and '.join(without)} never ships on its own: none of its replies that may ship has a confidence"
        )
    by_groups = isinstance(choice.proof, Certified) and choice.proof.tested.units == "groups"
    if by_groups and choice.certify and isinstance(objective, Target) and choice.certify.lost > objective.alpha:
        notes.append(
            f"the loss rate over all items is {choice.certify.lost:.1%}, above {objective.alpha:.3g}: the certificate is of"
            " the mean over groups, and large groups do worse"
        )
    policy = result.options.policy
    if policy is not None and (differ := undefined_tasks(policy, result.tasks)) is not None:
        notes.append(differ)
    notes += not_recorded(policy) if policy is not None else ()
    defined = {task.name for task in policy.tasks} if policy is not None else result.own_tasks
    for task in sorted(result.own_tasks - defined):
        notes.append(
            f"task {task!r} gets thresholds of its own and is added to the policy, for requests with task={task!r}"
        )
    return notes


def certificate_text(proof: Certified) -> str:
    """The certificate in one line: the claim, the number of units, and the upper confidence limit."""
    tested = proof.tested
    errors = f"{tested.errors} errors in " if tested.errors is not None else ""
    return (
        f"certified: {describe(proof.target)}: {errors}{tested.n:,} {tested.units} ({tested.weighting}), upper bound"
        f" {tested.upper_bound:.4f}"
    )


def fields_of(result: Calibration, certificate: Certificate | None, seconds: float) -> dict[str, Any]:
    """The JSON of `calibrate --json`."""
    n = len(result.tune)
    mix = result.choice.random_mix
    objective = result.options.objective
    return {
        "objective": "none: the frontier of the whole corpus" if objective is None else describe(objective),
        "feasible": result.feasible,
        "thresholds": threshold_json(result),
        **({"samples": samples_json(result)} if result.samples else {}),
        "tasks": {task: {"thresholds": own} for task, own in result.task_thresholds.items()},
        "advice": result.choice.advice,
        "certificate": certificate.model_dump(mode="json") if certificate else None,
        "refusal": _not_certified(result.choice.proof, result.further_units)
        if isinstance(result.choice.proof, NotCertified)
        else None,
        "tune": _half(result.choice.tune),
        "certify": _half(result.choice.certify),
        "frontier": [_frontier_point(result, point, n) for point in result.choice.frontier],
        "baselines": {
            **{
                f"single:{rung}": {**(_half(single.figures) or {}), "meets": single.meets}
                for rung, single in result.choice.singles.items()
            },
            "random_mix": None if mix is None else {"quality": mix[0], "cost_per_request_usd": mix[1]},
        },
        "thinned": dict(zip(result.held_out.rungs, result.choice.thinned, strict=False)),
        "signal": {rung: signal.fields() for rung, signal in result.signal.items()},
        "shorter": [
            {"rungs": list(one.rungs), "frontier": [_point(one.rungs, point, n, "loss_rate") for point in one.frontier]}
            for one in result.choice.shorter
        ],
        "scorer": scorer_fields(result),
        "candidates": candidate_fields(result),
        **({"further_samples": [asdict(one) for one in result.further_samples()]} if result.ways else {}),
        "versus": asdict(result.choice.versus) if result.choice.versus else None,
        "notes": notes_of(result),
        "seconds": round(seconds, 3),
    }


def _not_certified(proof: NotCertified, in_all: int | None) -> dict[str, Any]:
    tested = proof.tested
    return {
        "units": tested.units, "n": tested.n, "errors": tested.errors, "rate": tested.rate,
        "upper_bound": tested.upper_bound, "further_units_needed": proof.further_units_needed,
        "further_units_in_all": in_all,
    }  # fmt: skip


def _half(half: HalfFigures | None) -> dict[str, Any] | None:
    if half is None:
        return None
    return {
        "items": half.items,
        "quality": half.quality,
        "quality_ci95": list(half.ci95) if half.ci95 else None,
        "cost_per_request_usd": half.cost_per_request_usd,
        "false_confident_rate": half.false_confident,
        "loss_rate": half.lost,
        "shipped": half.shipped,
    }


def _frontier_point(result: Calibration, point: Point, n: int) -> dict[str, Any]:
    """A point of the frontier; if samples were compared, with those it is of."""
    fields = _point(result.held_out.rungs, point, n)
    mapping = result.ways[point.way].mapping if result.ways else None
    if mapping is None:
        return fields
    return fields | {"samples": samples_of(mapping)}


def _point(rungs: tuple[str, ...], point: Point, n: int, losses: str = "false_confident_rate") -> dict[str, Any]:
    return {
        "thresholds": dict(zip(rungs, point.thresholds, strict=False)),
        "quality": point.quality,
        "cost_per_request_usd": point.cost / 1e9 / n,
        losses: point.losses / n,
    }


def print_calibration(result: Calibration, objective: Objective, certificate: Certificate | None) -> None:
    """Print the verdict, the chosen thresholds beside every single model, and the quality of each confidence."""
    _print_verdict(result)
    kind = "synthetic" if result.manifest.synthetic else "recorded"
    title = f"{result.manifest.name}: {describe(objective)}, on {len(result.held_out):,} held-out {kind} items"
    right = ("quality", "95 %", "USD per 1,000", "confidently wrong")
    rows = table(kind, "quality", "95 %", "USD per 1,000", "confidently wrong", "meets it", title=title, right=right)
    if result.choice.certify is not None:
        by_task = "by task, else " if result.own_tasks else ""
        rows.add_row(
            f"cascade at {by_task}{chosen_text(result.thresholds, result)}",
            *_row(result.choice.certify),
            _proof(result),
        )
    for rung, single in result.choice.singles.items():
        rows.add_row(f"{rung} alone", *_row(single.figures), meets_text(single.meets))
    if result.choice.random_mix is not None:
        quality, usd = result.choice.random_mix
        rows.add_row("random escalation", f"{quality:.4f}", "", f"{1e3 * usd:.4f}", "", "")
    stdout.print(rows)
    if (versus := result.choice.versus) is not None:
        cost = _between(f"{versus.cost:+.0%}", versus.cost_ci95, "+.0%")
        stdout.print(
            f"against {versus.rung} alone: cost {cost}, quality {_between(f'{versus.quality:+.4f}', versus.quality_ci95, '+.4f')}"
        )
    if isinstance(result.choice.proof, Certified) and certificate is not None:
        stdout.print(f"\n{certificate_text(result.choice.proof)}")
    elif not isinstance(objective, Target) and result.feasible:
        stdout.print("\nchosen on the tuning half and not certified (only --max-risk certifies)")
    _print_tasks(result)
    _print_thinned(result)
    print_candidates(result, objective)
    print_bought(result)
    _print_signal(result)
    _print_shorter(result, objective)
    if result.skipped:
        stdout.print(f"{result.skipped:,} bad items were skipped; the first: {result.problems[0]}")


def _print_verdict(result: Calibration) -> None:
    others = other_models_text(result)
    if others is not None:  # first, because it applies to everything below
        stdout.print(f"warning: {others}", style="bold")
    stdout.print(verdict_text(result), style="bold")
    for note in notes_of(result):
        if note != others:
            stdout.print(f"warning: {note}")
    stdout.print()


def meets_text(meets: bool | None) -> str:
    """Whether a single model meets the objective; None if the items show neither."""
    return {True: "yes", False: "no", None: "not shown"}[meets]


def _between(value: str, ci95: tuple[float, float] | None, form: str) -> str:
    return f"{value} ({ci95[0]:{form}} to {ci95[1]:{form}})" if ci95 else value


def _print_tasks(result: Calibration) -> None:
    if result.own_tasks and result.feasible:
        rungs = list(result.thresholds)
        rows = table("thresholds of", *rungs, right=rungs)
        others = {"all other tasks": result.thresholds}
        for task, own in {**result.task_thresholds, **others}.items():
            rows.add_row(task, *(_threshold(value) for value in own.values()))
        stdout.print()
        stdout.print(rows)


def _print_thinned(result: Calibration) -> None:
    kept = [
        f"{levels} of {rung}"
        for rung, levels in zip(result.held_out.rungs, result.choice.thinned, strict=False)
        if levels
    ]
    if kept:
        stdout.print(
            f"too many confidence levels to search them all: only quantiles, {' and '.join(kept)}, were searched"
        )


def _print_signal(result: Calibration) -> None:
    heads = ("AUROC", "ECE", "levels", "accuracy", "mean confidence", "beats random escalation")
    rows = table("confidence of", *heads, title=f"confidence, on all {result.items:,} items", right=heads[:-1])
    alone = [rung for rung in result.signal if rung in result.by_agreement]
    signals = {rung: one for rung, one in result.signal.items() if rung not in alone}
    for rung, one in signals.items():
        gain = one.gain_ci95
        gained = f"{'yes' if one.beats_random else 'no'} ({gain[0]:+.4f} to {gain[1]:+.4f})" if gain else "not known"
        rows.add_row(rung, _number(one.auroc), _number(one.ece), f"{one.levels:,}", _number(one.accuracy),
                     _number(one.mean_confidence), gained)  # fmt: skip
    stdout.print()
    if signals:
        stdout.print(rows)
    if alone:
        stdout.print(f"{' and '.join(alone)}: the agreement of the samples decides alone; no confidence is compared")
    poor = [rung for rung, one in signals.items() if not one.beats_random]
    if poor:
        stdout.print(f"escalating by the confidence of {' and '.join(poor)} is not shown to beat escalating at random")


def _print_shorter(result: Calibration, objective: Objective) -> None:
    """Print the cheapest point of each shorter ladder with the chosen risk or quality, both on the tuning half."""
    if result.choice.chosen is None or result.choice.tune is None:
        return
    chosen = result.choice.chosen
    how = "with no more losses" if isinstance(objective, Target) else "with no lower quality"
    for one in result.choice.shorter:
        good = [
            point for point in one.frontier
            if (point.losses <= chosen.losses if isinstance(objective, Target) else point.quality >= chosen.quality)
        ]  # fmt: skip
        best = min(good, key=lambda point: point.cost, default=None)
        if best is not None and chosen.cost:
            share = best.cost / chosen.cost - 1
            compared = f"{abs(share):.0%} {'cheaper' if share < 0 else 'dearer'} on the tuning half"
            stdout.print(f"shorter ladder {' → '.join(one.rungs)}, {how}: {compared}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _proof(result: Calibration) -> str:
    return "certified" if isinstance(result.choice.proof, Certified) and not result.others else "chosen"


def _row(half: HalfFigures) -> tuple[str, ...]:
    ci95 = f"{half.ci95[0]:.4f}–{half.ci95[1]:.4f}" if half.ci95 else "not known"
    return f"{half.quality:.4f}", ci95, f"{1e3 * half.cost_per_request_usd:.4f}", f"{half.false_confident:.1%}"


def thresholds_text(thresholds: Mapping[str, float | None]) -> str:
    """Thresholds by rung, in one line."""
    return ", ".join(f"{rung} {_threshold(x)}" for rung, x in thresholds.items())


def _threshold(value: float | None) -> str:
    return "never" if value is None else f"{value:g}"


def print_frontier(result: Calibration) -> None:
    """Print the frontier of all items, thinned to a short table."""
    n = len(result.held_out)
    for note in notes_of(result):
        stdout.print(f"warning: {note}")
    stdout.print("the frontier of the whole corpus: no split, no choice, nothing certified", style="bold")
    head = "samples and thresholds" if result.ways or result.samples else "thresholds"
    rows = table(head, "quality", "USD per 1,000", "confidently wrong", right=("quality", "USD per 1,000"))
    every = max(1, len(result.choice.frontier) // _MOST_POINTS)
    shown = [*result.choice.frontier[:-1:every], result.choice.frontier[-1]]
    for point in shown:
        named = dict(zip(result.held_out.rungs, point.thresholds, strict=False))
        mapping = result.ways[point.way].mapping if result.ways else None
        how = asked_text(named, mapping or result.mapping)
        rows.add_row(how, f"{point.quality:.4f}", f"{point.cost / 1e6 / n:.4f}", f"{point.losses / n:.1%}")
    for rung, single in result.choice.singles.items():
        alone = single.figures
        rows.add_row(f"{rung} alone", f"{alone.quality:.4f}", f"{1e3 * alone.cost_per_request_usd:.4f}", "")
    stdout.print(rows)
    if len(shown) < len(result.choice.frontier):
        stdout.print(f"{len(shown)} of {len(result.choice.frontier):,} points (all with --json)")
    _print_thinned(result)
