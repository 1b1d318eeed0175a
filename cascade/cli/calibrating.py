"""`cascade calibrate`: thresholds chosen and proved on recorded cases, or the plain word that a single model is better."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.calibration.calibrating import Calibration, Half, Wish, calibrate, hold
from cascade.calibration.certificate import Certified, NotCertified, Target
from cascade.calibration.frontier import Point
from cascade.calibration.objectives import Budget, Objective, parse_quality, told
from cascade.calibration.report import write_report
from cascade.calibration.reporting import report_of
from cascade.cli.output import print_json, stderr, stdout, table
from cascade.core.certificate import Certificate
from cascade.core.errors import ConfigurationError, PolicyError, RequirementNotMet
from cascade.corpora.replays import Wish as Replayed
from cascade.corpora.replays import replay_corpus
from cascade.corpora.splits import Split
from cascade.editing import diff_of, edit_policy, write_policy
from cascade.loading import find_policy, load_policy
from cascade.shipped import find_corpus

__all__ = ["CalibrateWish", "run_calibrate"]

_MOST_POINTS = 12  # of the frontier, shown to a person; --json has them all


@dataclass(frozen=True, slots=True)
class CalibrateWish:
    """The command line, as given."""

    corpora: tuple[Path, ...]
    policy: str | None
    max_risk: float | None
    delta: float
    loss: str
    min_quality: str | None
    budget: float | None
    frontier_only: bool
    tune: float
    split_seed: int
    scorer: bool
    against: str | None
    write: str | None
    force: bool
    dry_run: bool
    report: Path | None
    skip_bad: bool

    @property
    def objective(self) -> Objective | None:
        """What is wanted. Raises ConfigurationError where it is nothing, or two things."""
        given = [name for name, value in self._objectives.items() if value is not None]
        if self.frontier_only:
            if given or self.write:
                raise ConfigurationError("--frontier chooses nothing: give no objective and no --write with it")
            return None
        if len(given) != 1:
            which = " and ".join(given) if given else "none is given"
            raise ConfigurationError(
                f"one objective is needed, {which} (use --max-risk, --min-quality, --budget or --frontier)"
            )
        if self.max_risk is not None:
            if self.loss not in ("false_confident", "regression", "disagreement"):
                raise ConfigurationError(f"--loss {self.loss}: use false_confident, regression or disagreement")
            return Target(self.loss, self.max_risk, self.delta)
        return parse_quality(self.min_quality) if self.min_quality is not None else Budget(self.budget or 0.0)

    @property
    def _objectives(self) -> dict[str, object]:
        return {"--max-risk": self.max_risk, "--min-quality": self.min_quality, "--budget": self.budget}


def run_calibrate(asked: CalibrateWish, *, as_json: bool) -> None:
    """Calibrate, print what came of it, and write it into a policy where that is wanted.

    Raises RequirementNotMet (exit 3) where nothing meets the objective.
    """
    if asked.against is not None:
        run_against(asked, as_json=as_json)
        return
    objective = asked.objective
    chosen = asked.write or asked.policy
    policy = load_policy(chosen) if chosen else None
    started = time.monotonic()
    paths = [find_corpus(path) for path in asked.corpora]
    split = Split(asked.tune, asked.split_seed)
    result = calibrate(paths, Wish(objective, policy, split, asked.scorer, asked.skip_bad))
    certificate = result.certificate()
    fields = _fields(result, certificate, time.monotonic() - started)
    diff = _written(asked, result, certificate)
    if asked.report is not None:
        advice = (
            _advice(result)
            if objective is not None
            else "The frontier of the whole corpus: nothing chosen, nothing certified."
        )
        write_report(asked.report, report_of(result, f"{advice[:1].upper()}{advice[1:]}", _storms(paths, result)))
        stderr.print(f"report: {asked.report}", style="dim")
    if as_json:
        print_json(fields | ({"diff": diff} if diff is not None else {}))
    elif objective is None:
        _print_frontier(result)
    else:
        _print(result, objective, certificate)
        if diff is not None:
            stdout.print(f"\n{diff or 'nothing to change'}".rstrip("\n"))
            if asked.dry_run:
                stderr.print("--dry-run: nothing was written")
    if objective is not None and not result.feasible:
        raise RequirementNotMet(_refusal(result, objective))


def run_against(asked: CalibrateWish, *, as_json: bool) -> None:
    """Whether the certificate in force still holds on fresh corpora. Raises RequirementNotMet where it is not shown to."""
    if asked.policy or asked.write or asked.frontier_only or asked.max_risk or asked.min_quality or asked.budget:
        raise ConfigurationError("--against looks at one policy's certificate: give corpora, and nothing else, with it")
    policy = load_policy(asked.against or "")
    started = time.monotonic()
    manifest, found = hold([find_corpus(path) for path in asked.corpora], policy, skip_bad=asked.skip_bad)
    tested, words = found.tested, {"holds": "holds", "no_longer": "no longer holds", "too_few": "too few to tell"}
    claim = f"{found.target.loss} <= {found.target.alpha:g} at {1 - found.target.delta:g}"
    seen = f"{tested.rate:.4g} on {tested.n:,} {tested.units}, {found.lower_bound:.4g} to {tested.upper_bound:.4g}"
    if as_json:
        print_json({
            "policy": policy.name, "corpus": manifest.name, "verdict": found.verdict, "claim": claim,
            "units": tested.units, "n": tested.n, "errors": tested.errors, "rate": tested.rate,
            "lower_bound": found.lower_bound, "upper_bound": tested.upper_bound,
            "further_units_needed": found.further_units_needed, "seconds": round(time.monotonic() - started, 3),
        })  # fmt: skip
    else:
        stdout.print(f"{words[found.verdict]}: {claim} (observed {seen})", style="bold")
    if found.verdict != "holds":
        needed = found.further_units_needed
        more = f"; {needed:,} further {tested.units} would prove it at the rate observed" if needed else ""
        raise RequirementNotMet(f"the certificate of {policy.name}: {words[found.verdict]} on {manifest.name}{more}")


def _storms(paths: Sequence[Path], result: Calibration) -> dict[str, Any]:
    """What the policy's storm guard would do at the chosen thresholds, as `replay` has it; of one corpus, in its order."""
    if len(paths) > 1 or result.wish.policy is None or not result.feasible:
        return {}
    return replay_corpus(paths[0], Replayed(policy=result.policy, skip_bad=result.wish.skip_bad)).storms


def _written(asked: CalibrateWish, result: Calibration, certificate: Certificate | None) -> str | None:
    """The change to the policy's text, made where there is one to make; None where none is wanted or allowed."""
    if asked.write is None or not result.feasible:
        return None
    if result.advice != "cascade" and not asked.force:
        raise PolicyError(
            f"not written: {_advice(result)}", where=asked.write, mend="--force writes the thresholds all the same"
        )
    path = find_policy(asked.write)
    before = path.read_text(encoding="utf-8")
    blocks: dict[str, dict[str, Any] | None] = {
        "certificate": None if certificate is None else certificate.model_dump(mode="json", exclude_none=True)
    }
    if result.learned is not None:
        blocks["scorer"] = {rung: one.model_dump(mode="json") for rung, one in result.learned.scorer.items()}
    after = edit_policy(before, result.thresholds, result.task_thresholds, blocks)
    if not asked.dry_run:
        write_policy(path, after)
    return diff_of(before, after, str(path))


def _refusal(result: Calibration, objective: Objective) -> str:
    best = f"; best single model: {_bare(result.advice)}" if result.advice else ""
    if isinstance(result.proof, NotCertified):
        proof = result.proof
        needed = proof.further_units_needed
        more = (
            f"{needed:,} further graded {proof.tested.units} would do at the rate observed"
            if needed is not None
            else "no number of further ones would do at the rate observed"
        )
        return (
            f"nothing could be certified: {told(objective)} (observed {proof.tested.rate:.4g} on {proof.tested.n:,}"
            f" {proof.tested.units}, bound {proof.tested.upper_bound:.4g}; {more}{best})"
        )
    return f"no thresholds reach {told(objective)}{best}"


def _bare(advice: str | None) -> str:
    return (advice or "").removeprefix("single:")


def _advice(result: Calibration) -> str:
    if result.advice == "cascade":
        return "cascade: cheaper than every single model that meets the objective"
    if result.advice is None:
        return "neither a cascade nor a single model meets the objective"
    single = _bare(result.advice)
    by_definition = isinstance(result.wish.objective, Target) and single == result.coded.rungs[-1]
    how = " (the top's answers never count as this loss)" if by_definition else ""
    return f"do not cascade here: {single} alone meets the objective{how}, and no cascade that does is cheaper"


def _fields(result: Calibration, certificate: Certificate | None, seconds: float) -> dict[str, Any]:
    n = int(result.tunes.sum()) if result.wish.objective is not None else len(result.coded)
    mix = result.random_mix
    objective = result.wish.objective
    return {
        "objective": "none: the frontier of the whole corpus" if objective is None else told(objective),
        "feasible": result.feasible,
        "thresholds": result.thresholds,
        "tasks": {task: {"thresholds": own} for task, own in result.task_thresholds.items()},
        "advice": result.advice,
        "certificate": certificate.model_dump(mode="json") if certificate else None,
        "refusal": _not_certified(result.proof) if isinstance(result.proof, NotCertified) else None,
        "tune": _half(result.tune),
        "certify": _half(result.certify),
        "frontier": [_point(result.coded.rungs, point, n) for point in result.frontier],
        "baselines": {
            **{
                f"single:{rung}": {**(_half(single.figures) or {}), "meets": single.meets}
                for rung, single in result.singles.items()
            },
            "random_mix": None if mix is None else {"quality": mix[0], "cost_per_request_usd": mix[1]},
        },
        "thinned": dict(zip(result.coded.rungs, result.thinned, strict=False)),
        "signal": {rung: signal.fields() for rung, signal in result.signal.items()},
        "shorter": [
            {"rungs": list(one.rungs), "frontier": [_point(one.rungs, point, n) for point in one.frontier]}
            for one in result.shorter
        ],
        "scorer": None
        if result.learned is None
        else {rung: scoring.model_dump(mode="json") for rung, scoring in result.learned.scorer.items()},
        "seconds": round(seconds, 3),
    }


def _not_certified(proof: NotCertified) -> dict[str, Any]:
    tested = proof.tested
    return {
        "units": tested.units, "n": tested.n, "errors": tested.errors, "rate": tested.rate,
        "upper_bound": tested.upper_bound, "further_units_needed": proof.further_units_needed,
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


def _point(rungs: tuple[str, ...], point: Point, n: int) -> dict[str, Any]:
    return {
        "thresholds": dict(zip(rungs, point.thresholds, strict=False)),
        "quality": point.quality,
        "cost_per_request_usd": point.cost / 1e9 / n,
        "false_confident_rate": point.losses / n,
    }


def _print(result: Calibration, objective: Objective, certificate: Certificate | None) -> None:
    stdout.print(_advice(result), style="bold")
    stdout.print()
    kind = "synthetic" if result.manifest.synthetic else "recorded"
    half = len(result.coded) - int(result.tunes.sum())
    title = f"{result.manifest.name}: {told(objective)}, on {half:,} {kind} items that the search never saw"
    right = ("quality", "95 %", "USD per 1,000", "confidently wrong")
    rows = table(kind, "quality", "95 %", "USD per 1,000", "confidently wrong", "meets it", title=title, right=right)
    if result.certify is not None:
        rows.add_row(f"cascade at {_thresholds(result.thresholds)}", *_row(result.certify), _yes(result))
    for rung, single in result.singles.items():
        rows.add_row(f"{rung} alone", *_row(single.figures), "yes" if single.meets else "no")
    if result.random_mix is not None:
        quality, usd = result.random_mix
        rows.add_row("as many, at random", f"{quality:.4f}", "", f"{1e3 * usd:.4f}", "", "")
    stdout.print(rows)
    if isinstance(result.proof, Certified) and certificate is not None:
        tested = result.proof.tested
        errors = f"{tested.errors} lost of " if tested.errors is not None else ""
        stdout.print(
            f"\ncertified: {told(objective)}: {errors}{tested.n:,} {tested.units} ({tested.weighting}), upper bound"
            f" {tested.upper_bound:.4f}"
        )
    elif not isinstance(objective, Target) and result.feasible:
        stdout.print("\nchosen on the tune half, not certified: only --max-risk proves anything")
    _print_thinned(result)
    _print_signal(result)
    _print_shorter(result, objective)
    if isinstance(objective, Target) and objective.loss == "disagreement":
        stdout.print(f"as judged by {result.manifest.grader or 'an unnamed grader'}")
    if result.skipped:
        stdout.print(f"{result.skipped:,} bad items were skipped, first: {result.problems[0]}")


def _print_thinned(result: Calibration) -> None:
    kept = [f"{levels} of {rung}" for rung, levels in zip(result.coded.rungs, result.thinned, strict=False) if levels]
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
    if result.chosen is None or result.tune is None:
        return
    chosen = result.chosen
    for one in result.shorter:
        good = [
            point for point in one.frontier
            if (point.losses <= chosen.losses if isinstance(objective, Target) else point.quality >= chosen.quality)
        ]  # fmt: skip
        best = min(good, key=lambda point: point.cost, default=None)
        if best is not None:
            share = best.cost / chosen.cost - 1
            told = f"{abs(share):.0%} {'cheaper' if share < 0 else 'dearer'} on the tune half"
            stdout.print(f"shorter: {' → '.join(one.rungs)} with no more {_what(objective)}: {told}")


def _what(objective: Objective) -> str:
    return "of the loss" if isinstance(objective, Target) else "loss of quality"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _yes(result: Calibration) -> str:
    return "certified" if isinstance(result.proof, Certified) else "chosen"


def _row(half: Half) -> tuple[str, ...]:
    ci95 = f"{half.ci95[0]:.4f}–{half.ci95[1]:.4f}" if half.ci95 else "not known"
    return f"{half.quality:.4f}", ci95, f"{1e3 * half.cost_per_request_usd:.4f}", f"{half.false_confident:.1%}"


def _thresholds(thresholds: dict[str, float | None]) -> str:
    return ", ".join(f"{rung} {'never' if x is None else format(x, 'g')}" for rung, x in thresholds.items())


def _print_frontier(result: Calibration) -> None:
    n = len(result.coded)
    stdout.print("the frontier of the whole corpus: no split, no choice, nothing certified", style="bold")
    rows = table("thresholds", "quality", "USD per 1,000", "confidently wrong", right=("quality", "USD per 1,000"))
    every = max(1, len(result.frontier) // _MOST_POINTS)
    shown = [*result.frontier[:-1:every], result.frontier[-1]]
    for point in shown:
        named = dict(zip(result.coded.rungs, point.thresholds, strict=False))
        rows.add_row(
            _thresholds(named), f"{point.quality:.4f}", f"{point.cost / 1e6 / n:.4f}", f"{point.losses / n:.1%}"
        )
    stdout.print(rows)
    if len(shown) < len(result.frontier):
        stdout.print(f"{len(shown)} of {len(result.frontier):,} points (all with --json)")
    _print_thinned(result)
