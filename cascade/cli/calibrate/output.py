"""What a calibration came to, in words, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any

from cascade.calibration.proof.pareto_testing import Certified, NotCertified, Target
from cascade.calibration.run import Calibration, Half
from cascade.calibration.search.frontier import Point
from cascade.calibration.search.objectives import Budget, Objective, told
from cascade.cli.output import stdout, table
from cascade.core.policy.certificate import Certificate

__all__ = [
    "advice_told",
    "certificate_told",
    "fields_of",
    "notes_of",
    "print_calibration",
    "print_frontier",
    "refusal_told",
    "thresholds_told",
]

_MOST_POINTS = 12  # of the frontier, shown to a person; --json has them all


def refusal_told(result: Calibration, objective: Objective) -> str:
    """Why nothing was found, what is missing, and the best single model."""
    best = f"; best single model: {_bare(result.choice.advice)}" if result.choice.advice else ""
    if isinstance(result.choice.proof, NotCertified):
        proof = result.choice.proof
        more = "no number of further ones would do at the rate observed"
        if (needed := result.further_units) is not None:
            more = f"{needed:,} further graded {proof.tested.units}, tuning included, would do at the rate observed"
        return (
            f"nothing could be certified: {told(objective)} (observed {proof.tested.rate:.4g} on {proof.tested.n:,}"
            f" {proof.tested.units}, bound {proof.tested.upper_bound:.4g}; {more}{best})"
        )
    return f"no thresholds reach {told(objective)}{best}"


def _bare(advice: str | None) -> str:
    return (advice or "").removeprefix("single:")


def advice_told(result: Calibration) -> str:
    """The verdict in one sentence."""
    if result.choice.advice == "cascade":
        if isinstance(result.wish.objective, Budget):
            return "cascade: better than every single model within the budget"
        return "cascade: cheaper than every single model that meets the objective"
    if result.choice.advice is None:
        return "neither a cascade nor a single model meets the objective"
    single = _bare(result.choice.advice)
    if isinstance(result.wish.objective, Budget):
        return f"do not cascade here: {single} alone is within the budget, and no cascade that is does better"
    by_definition = isinstance(result.wish.objective, Target) and single == result.held.rungs[-1]
    how = " (the top's answers never count as this loss)" if by_definition else ""
    return f"do not cascade here: {single} alone meets the objective{how}, and no cascade that does is cheaper"


def notes_of(result: Calibration) -> list[str]:
    """What must not be overlooked: whom the proof does not hold for, what it is a mean of, names that may be typos."""
    choice, objective, told = result.choice, result.wish.objective, list[str]()
    if result.others:
        told.append(f"these are other models' replies: {'; '.join(result.others)}: nothing is certified for the policy")
    if choice.chosen is not None and not choice.holds:
        told.append("on the items that the search never saw it is not met: what was chosen met it where it was chosen")
    for rung, why in (result.learned.left_out if result.learned else {}).items():
        told.append(f"{rung} keeps its own confidence, no score was learned for it: {why}")
    if (estimated := result.manifest.estimated) is not None:
        told.append(estimated)
    silent = [rung for rung, signal in result.signal.items() if not signal.items]
    if silent:
        told.append(f"no reply of {' and '.join(silent)} that may ship has a confidence: it never ships on its own")
    by_groups = isinstance(choice.proof, Certified) and choice.proof.tested.units == "groups"
    if by_groups and choice.certify and isinstance(objective, Target) and choice.certify.lost > objective.alpha:
        told.append(
            f"of all items {choice.certify.lost:.1%} are lost, more than {objective.alpha:.3g}: the bound is of the mean over"
            " groups, and large groups do worse"
        )
    known = {task.name for task in result.wish.policy.tasks} if result.wish.policy else result.own_tasks
    for task in sorted(result.own_tasks - known):
        close = get_close_matches(task, known, n=1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        told.append(f"task {task!r} is not in the policy{meant}: it is put in, for requests with task={task!r}")
    return told


def certificate_told(proof: Certified) -> str:
    """What was proved, on how many, and the bound, in a line."""
    tested = proof.tested
    errors = f"{tested.errors} lost of " if tested.errors is not None else ""
    return (
        f"certified: {told(proof.target)}: {errors}{tested.n:,} {tested.units} ({tested.weighting}), upper bound"
        f" {tested.upper_bound:.4f}"
    )


def fields_of(result: Calibration, certificate: Certificate | None, seconds: float) -> dict[str, Any]:
    """The JSON of `calibrate --json`."""
    n = len(result.tune)
    mix = result.choice.random_mix
    objective = result.wish.objective
    return {
        "objective": "none: the frontier of the whole corpus" if objective is None else told(objective),
        "feasible": result.feasible,
        "thresholds": result.thresholds,
        "tasks": {task: {"thresholds": own} for task, own in result.task_thresholds.items()},
        "advice": result.choice.advice,
        "certificate": certificate.model_dump(mode="json") if certificate else None,
        "refusal": _not_certified(result.choice.proof, result.further_units)
        if isinstance(result.choice.proof, NotCertified)
        else None,
        "tune": _half(result.choice.tune),
        "certify": _half(result.choice.certify),
        "frontier": [_point(result.held.rungs, point, n) for point in result.choice.frontier],
        "baselines": {
            **{
                f"single:{rung}": {**(_half(single.figures) or {}), "meets": single.meets}
                for rung, single in result.choice.singles.items()
            },
            "random_mix": None if mix is None else {"quality": mix[0], "cost_per_request_usd": mix[1]},
        },
        "thinned": dict(zip(result.held.rungs, result.choice.thinned, strict=False)),
        "signal": {rung: signal.fields() for rung, signal in result.signal.items()},
        "shorter": [
            {"rungs": list(one.rungs), "frontier": [_point(one.rungs, point, n, "loss_rate") for point in one.frontier]}
            for one in result.choice.shorter
        ],
        "scorer": None
        if result.learned is None
        else {rung: scoring.model_dump(mode="json") for rung, scoring in result.learned.scorer.items()},
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


def _half(half: Half | None) -> dict[str, Any] | None:
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


def _point(rungs: tuple[str, ...], point: Point, n: int, losses: str = "false_confident_rate") -> dict[str, Any]:
    return {
        "thresholds": dict(zip(rungs, point.thresholds, strict=False)),
        "quality": point.quality,
        "cost_per_request_usd": point.cost / 1e9 / n,
        losses: point.losses / n,
    }


def print_calibration(result: Calibration, objective: Objective, certificate: Certificate | None) -> None:
    """The verdict, the chosen thresholds beside every single model, and what each signal is worth."""
    stdout.print(advice_told(result), style="bold")
    for note in notes_of(result):
        stdout.print(f"mind: {note}")
    stdout.print()
    kind = "synthetic" if result.manifest.synthetic else "recorded"
    title = f"{result.manifest.name}: {told(objective)}, on {len(result.held):,} {kind} items that the search never saw"
    right = ("quality", "95 %", "USD per 1,000", "confidently wrong")
    rows = table(kind, "quality", "95 %", "USD per 1,000", "confidently wrong", "meets it", title=title, right=right)
    if result.choice.certify is not None:
        by_task = "by task, else " if result.own_tasks else ""
        rows.add_row(
            f"cascade at {by_task}{thresholds_told(result.thresholds)}", *_row(result.choice.certify), _yes(result)
        )
    for rung, single in result.choice.singles.items():
        rows.add_row(f"{rung} alone", *_row(single.figures), "yes" if single.meets else "no")
    if result.choice.random_mix is not None:
        quality, usd = result.choice.random_mix
        rows.add_row("as many, at random", f"{quality:.4f}", "", f"{1e3 * usd:.4f}", "", "")
    stdout.print(rows)
    if (versus := result.choice.versus) is not None:
        cost = _between(f"{versus.cost:+.0%}", versus.cost_ci95, "+.0%")
        stdout.print(
            f"against {versus.rung} alone: cost {cost}, quality {_between(f'{versus.quality:+.4f}', versus.quality_ci95, '+.4f')}"
        )
    if isinstance(result.choice.proof, Certified) and certificate is not None:
        stdout.print(f"\n{certificate_told(result.choice.proof)}")
    elif not isinstance(objective, Target) and result.feasible:
        stdout.print("\nchosen on the tune half, not certified: only --max-risk proves anything")
    _print_tasks(result)
    _print_thinned(result)
    _print_signal(result)
    _print_shorter(result, objective)
    if result.skipped:
        stdout.print(f"{result.skipped:,} bad items were skipped, first: {result.problems[0]}")


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
        f"{levels} of {rung}" for rung, levels in zip(result.held.rungs, result.choice.thinned, strict=False) if levels
    ]
    if kept:
        stdout.print(f"not every level was looked at, there are too many: {' and '.join(kept)}, by quantiles")


def _print_signal(result: Calibration) -> None:
    heads = ("AUROC", "ECE", "levels", "right", "mean confidence", "better than at random")
    rows = table("confidence of", *heads, right=heads[:-1])
    for rung, one in result.signal.items():
        gain = one.gain_ci95
        told = f"{'yes' if one.beats_random else 'no'} ({gain[0]:+.4f} to {gain[1]:+.4f})" if gain else "not known"
        rows.add_row(rung, _number(one.auroc), _number(one.ece), f"{one.levels:,}", _number(one.accuracy),
                     _number(one.mean_confidence), told)  # fmt: skip
    stdout.print()
    stdout.print(rows)
    poor = [rung for rung, one in result.signal.items() if not one.beats_random]
    if poor:
        stdout.print(f"escalating by the confidence of {' and '.join(poor)} is not shown to beat escalating at random")


def _print_shorter(result: Calibration, objective: Objective) -> None:
    """The cheapest point of each shorter ladder with the chosen one's risk or quality, both on the tune half."""
    if result.choice.chosen is None or result.choice.tune is None:
        return
    chosen = result.choice.chosen
    for one in result.choice.shorter:
        good = [
            point for point in one.frontier
            if (point.losses <= chosen.losses if isinstance(objective, Target) else point.quality >= chosen.quality)
        ]  # fmt: skip
        best = min(good, key=lambda point: point.cost, default=None)
        if best is not None and chosen.cost:
            share = best.cost / chosen.cost - 1
            told = f"{abs(share):.0%} {'cheaper' if share < 0 else 'dearer'} on the tune half"
            stdout.print(f"shorter: {' → '.join(one.rungs)} with no more {_what(objective)}: {told}")


def _what(objective: Objective) -> str:
    return "of the loss" if isinstance(objective, Target) else "loss of quality"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _yes(result: Calibration) -> str:
    return "certified" if isinstance(result.choice.proof, Certified) else "chosen"


def _row(half: Half) -> tuple[str, ...]:
    ci95 = f"{half.ci95[0]:.4f}–{half.ci95[1]:.4f}" if half.ci95 else "not known"
    return f"{half.quality:.4f}", ci95, f"{1e3 * half.cost_per_request_usd:.4f}", f"{half.false_confident:.1%}"


def thresholds_told(thresholds: Mapping[str, float | None]) -> str:
    """By rung, in a line."""
    return ", ".join(f"{rung} {_threshold(x)}" for rung, x in thresholds.items())


def _threshold(value: float | None) -> str:
    return "never" if value is None else f"{value:g}"


def print_frontier(result: Calibration) -> None:
    """The frontier of all items, thinned to what a person reads."""
    n = len(result.held)
    stdout.print("the frontier of the whole corpus: no split, no choice, nothing certified", style="bold")
    rows = table("thresholds", "quality", "USD per 1,000", "confidently wrong", right=("quality", "USD per 1,000"))
    every = max(1, len(result.choice.frontier) // _MOST_POINTS)
    shown = [*result.choice.frontier[:-1:every], result.choice.frontier[-1]]
    for point in shown:
        named = dict(zip(result.held.rungs, point.thresholds, strict=False))
        rows.add_row(
            thresholds_told(named), f"{point.quality:.4f}", f"{point.cost / 1e6 / n:.4f}", f"{point.losses / n:.1%}"
        )
    for rung, single in result.choice.singles.items():
        alone = single.figures
        rows.add_row(f"{rung} alone", f"{alone.quality:.4f}", f"{1e3 * alone.cost_per_request_usd:.4f}", "")
    stdout.print(rows)
    if len(shown) < len(result.choice.frontier):
        stdout.print(f"{len(shown)} of {len(result.choice.frontier):,} points (all with --json)")
    _print_thinned(result)
