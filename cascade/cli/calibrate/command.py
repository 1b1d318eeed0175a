"""`cascade calibrate`: choose thresholds on a corpus and certify them, or report that a single model is better."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from cascade.calibration.objectives import Budget, Objective, parse_quality
from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.report import write_report
from cascade.calibration.report.build import report_of
from cascade.calibration.run import Calibration, CalibrationOptions, calibrate, calibrate_counts, recheck
from cascade.calibration.sampling import SampleSearch
from cascade.calibration.scored import ScorerTarget, targets_of
from cascade.calibration.signal_table import SignalOptions, SignalTable, signals_of
from cascade.cli.calibrate.candidates import scorer_fields
from cascade.cli.calibrate.disagreement import agreement_of, print_agreement
from cascade.cli.calibrate.early import early_fields, print_early
from cascade.cli.calibrate.output import (
    fields_of,
    notes_of,
    other_models_text,
    print_calibration,
    print_frontier,
    refusal_text,
    verdict_text,
)
from cascade.cli.calibrate.review import print_review, review_fields
from cascade.cli.calibrate.samples import written_samples
from cascade.cli.calibrate.signals import print_signals, signal_fields
from cascade.cli.calibrate.storms import print_storms, storms_of
from cascade.cli.output import print_json, stderr, stdout
from cascade.core.context import summarisers
from cascade.core.errors import ConfigurationError, PolicyError, RequirementNotMet
from cascade.core.handoff.passing import unrecorded
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Certificate, Loss
from cascade.core.text.suggestions import did_you_mean
from cascade.corpora.splits import Split
from cascade.policy.editing import edit_policy
from cascade.policy.loading import find_policy, load_policy
from cascade.policy.shipped import find_corpus
from cascade.policy.writing import diff_of, write_policy
from cascade.replay.samples import parse_same, parse_samples

__all__ = ["CalibrateOptions", "run_calibrate"]


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """The command's arguments."""

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
    per_task: bool
    scorer: bool
    scorer_target: str | None
    signals: bool
    counts: bool
    against: str | None
    write: str | None
    force: bool
    dry_run: bool
    report: Path | None
    skip_bad: bool
    samples: tuple[str, ...] = ()
    same: str | None = None
    early_stop: bool = False
    reprice: bool = False

    @property
    def sample_search(self) -> SampleSearch:
        """What is asked of the samples. Raises ConfigurationError."""
        given = tuple(parse_samples(text) for text in self.samples if text != "auto")
        return SampleSearch(given, "auto" in self.samples, parse_same(self.same))

    @property
    def objective(self) -> Objective | None:
        """The objective. Raises ConfigurationError unless exactly one is given."""
        given = [name for name, value in self._objectives.items() if value is not None]
        if self.frontier_only:
            if given or self.write or self.per_task:
                raise ConfigurationError(
                    "--frontier chooses no thresholds (leave out the objective, --per-task and --write)"
                )
            return None
        if len(given) != 1:
            which = f"given: {' and '.join(given)}" if given else "none is given"
            raise ConfigurationError(
                f"exactly one objective is needed, {which} (use --max-risk, --min-quality, --budget or --frontier)"
            )
        if self.max_risk is not None:
            if self.loss not in (losses := get_args(Loss)):
                meant, either = did_you_mean(self.loss, losses), f"{', '.join(losses[:-1])} or {losses[-1]}"
                raise ConfigurationError(f"--loss {self.loss}: there is no such loss ({meant}use {either})")
            for name, value in (("--max-risk", self.max_risk), ("--delta", self.delta)):
                if not 0 < value < 1:
                    raise ConfigurationError(f"{name} {value:g}: must be between 0 and 1 (5 % is 0.05)")
            return Target(cast("Loss", self.loss), self.max_risk, self.delta)
        return parse_quality(self.min_quality) if self.min_quality is not None else Budget(self.budget or 0.0)

    @property
    def target(self) -> ScorerTarget | None:
        """What a score is to predict, None without one. Raises ConfigurationError for what does not suit the objective."""
        asked = self.scorer_target or ("right" if self.scorer else None)
        if asked is None:
            return None
        if asked not in (known := get_args(ScorerTarget)):
            meant = did_you_mean(asked, known)
            raise ConfigurationError(
                f"--scorer-target {asked}: there is no such target ({meant}use right, gain or best)"
            )
        target = cast("ScorerTarget", asked)
        targets_of(target, self.objective)
        return target

    @property
    def only_signals(self) -> bool:
        """Whether signals are measured and nothing is chosen: `--signals` without an objective or what needs one."""
        given = (
            *self._objectives.values(),
            self.write,
            self.report,
            self.scorer_target,
            self.against,
            self.samples or None,
        )
        flags = (self.frontier_only, self.per_task, self.scorer, self.dry_run, self.force)
        return self.signals and all(one is None for one in given) and not any(flags)

    @property
    def _objectives(self) -> dict[str, object]:
        return {"--max-risk": self.max_risk, "--min-quality": self.min_quality, "--budget": self.budget}


def run_calibrate(options: CalibrateOptions, *, as_json: bool) -> None:
    """Calibrate, print the result and, with --write, write it into a policy.

    Raises RequirementNotMet (exit 3) if nothing meets the objective, PolicyError if the result is not written.
    """
    if options.against is not None:
        run_against(options, as_json=as_json)
        return
    objective, target, policy = options.objective, options.target, _policy_of(options)
    started = time.monotonic()
    paths = list(options.corpora) if options.counts else [find_corpus(path) for path in options.corpora]
    agreement = None if options.counts else agreement_of(paths, objective, skip_bad=options.skip_bad)
    split = Split(options.tune, options.split_seed)
    found = _signals_of(options, paths, policy, objective)
    settings = CalibrationOptions(
        objective,
        policy,
        split,
        options.per_task,
        target,
        options.skip_bad,
        options.sample_search,
        options.early_stop,
        options.reprice,
    )
    result = calibrate_counts(paths, settings) if options.counts else calibrate(paths, settings)
    certificate = result.certificate()
    storms = storms_of(paths, result, certificate)
    fields = fields_of(result, certificate, time.monotonic() - started) | {"storms": storms} | signal_fields(found)
    fields |= early_fields(result) | review_fields(result)
    if agreement is not None:
        fields["disagreement"] = agreement.fields(options.max_risk or 0.0)
    if options.report is not None:
        _report(options.report, result, storms, found)
    refusal = _refusal(options, result)
    diff = _write(options, result, certificate) if refusal is None or options.dry_run else None
    if as_json:
        print_json(fields | ({"diff": diff} if diff is not None else {}))
    elif objective is None:
        print_frontier(result)
        print_signals(found)
    else:
        print_calibration(result, objective, certificate)
        print_early(result)
        print_review(result)
        print_storms(storms, result)
        print_agreement(agreement, objective)
        print_signals(found)
        if diff is not None:
            stdout.print(f"\n{diff or 'nothing to change'}".rstrip("\n"))
    if diff is not None:
        stderr.print(f"--dry-run: {options.write} is unchanged" if options.dry_run else f"written: {options.write}")
    if objective is not None and not result.feasible:
        unchanged = f"; {options.write} is unchanged" if options.write else ""
        raise RequirementNotMet(f"{refusal_text(result, objective)}{unchanged}")
    if refusal is not None:
        raise refusal


def run_signals(options: CalibrateOptions, *, as_json: bool) -> None:
    """Measure what each signal is worth on the tuning half, and choose nothing."""
    started = time.monotonic()
    paths = [path if options.counts else find_corpus(path) for path in options.corpora]
    found = _signals_of(options, paths, _policy_of(options), None)
    if as_json:
        print_json(signal_fields(found) | {"seconds": round(time.monotonic() - started, 3)})
    else:
        print_signals(found)


def _signals_of(
    options: CalibrateOptions, paths: list[Path], policy: Policy | None, objective: Objective | None
) -> SignalTable | None:
    """What each signal is worth on the half that is tuned on; None without --signals."""
    if not options.signals:
        return None
    if options.counts:
        raise ConfigurationError("--signals: tables of counts do not hold single items (give the corpora themselves)")
    if options.early_stop:
        raise ConfigurationError("--signals: it compares signals at the cost of whole replies (leave --early-stop out)")
    if options.reprice:
        raise ConfigurationError("--signals: it compares signals at the recorded costs (leave --reprice out)")
    split = Split(options.tune, options.split_seed)
    return signals_of(paths, SignalOptions(policy, objective, split, options.skip_bad, parse_same(options.same)))


def _policy_of(options: CalibrateOptions) -> Policy | None:
    """The policy to calibrate, which is also the one to write. Raises ConfigurationError if two are given."""
    if options.write and options.policy and options.write != options.policy:
        raise ConfigurationError(
            f"--policy {options.policy} and --write {options.write} differ: the policy calibrated is the one written (give --write)"
        )
    if (options.dry_run or options.force) and not options.write:
        raise ConfigurationError("--dry-run and --force need --write POLICY")
    chosen = options.write or options.policy
    policy = load_policy(chosen) if chosen else None
    if options.write and options.early_stop and policy is not None and not policy.early_stop:
        hint = "add `early_stop: true` to it, and leave --early-stop out"
        problem = "without early_stop its answers are not those that --early-stop would certify"
        raise PolicyError(problem, where=options.write, key="early_stop", hint=hint)
    if options.write and unrecorded(policy):
        problem = "a corpus holds replies to plain requests, so it proves nothing of answers after a handoff"
        hint = "leave --write out to see thresholds, or write `handoff: none`"
        raise PolicyError(problem, where=options.write, key="handoff", hint=hint)
    if options.write and policy is not None and summarisers(policy):
        problem = "a corpus holds replies to whole conversations, so it proves nothing of answers after a summary"
        hint = "leave --write out to see thresholds, or write `prepare: none`"
        raise PolicyError(problem, where=options.write, key="prepare", hint=hint)
    return policy


def _report(path: Path, result: Calibration, storms: dict[str, Any] | None, found: SignalTable | None) -> None:
    advice = "The frontier of the whole corpus: nothing chosen, nothing certified."
    if result.options.objective is not None:
        advice = verdict_text(result)
    report = report_of(result, f"{advice[:1].upper()}{advice[1:]}", storms or {}, notes_of(result))
    write_report(path, replace(report, measured=found))
    stderr.print(f"report: {path}", style="dim")


def run_against(options: CalibrateOptions, *, as_json: bool) -> None:
    """Test whether a policy's certificate holds on fresh corpora. Raises RequirementNotMet unless it is shown to."""
    others = (
        options.policy, options.write, options.report, options.max_risk, options.min_quality, options.budget,
        options.scorer_target, options.same, options.samples or None,
    )  # fmt: skip
    flags = (
        options.frontier_only,
        options.per_task,
        options.scorer,
        options.counts,
        options.dry_run,
        options.force,
        options.signals,
        options.early_stop,
        options.reprice,
    )
    if any(one is not None for one in others) or any(flags):
        raise ConfigurationError("--against tests one policy's certificate: it takes corpora and no other option")
    policy = load_policy(options.against or "")
    started = time.monotonic()
    manifest, found = recheck([find_corpus(path) for path in options.corpora], policy, skip_bad=options.skip_bad)
    tested, texts = found.tested, {"holds": "holds", "no_longer": "no longer holds", "too_few": "too few to say"}
    claim = f"{found.target.loss} <= {found.target.alpha:g} at {1 - found.target.delta:g}"
    observed = f"{tested.rate:.4g} on {tested.n:,} {tested.units}, {found.lower_bound:.4g} to {tested.upper_bound:.4g}"
    if as_json:
        print_json({
            "policy": policy.name, "corpus": manifest.name, "verdict": found.verdict, "claim": claim,
            "units": tested.units, "n": tested.n, "errors": tested.errors, "rate": tested.rate,
            "lower_bound": found.lower_bound, "upper_bound": tested.upper_bound,
            "further_units_needed": found.further_units_needed, "seconds": round(time.monotonic() - started, 3),
        })  # fmt: skip
    else:
        stdout.print(f"{texts[found.verdict]}: {claim} (observed {observed})", style="bold")
    if found.verdict != "holds":
        needed = found.further_units_needed
        more = f"; about {needed:,} more {tested.units} are needed at the observed rate" if needed else ""
        raise RequirementNotMet(f"the certificate of {policy.name}: {texts[found.verdict]} on {manifest.name}{more}")


def _refusal(options: CalibrateOptions, result: Calibration) -> PolicyError | None:
    """Why the policy is not written without --force; None if it is written, or if there is nothing to write."""
    if options.write is None or not result.feasible or options.force:
        return None
    if result.choice.advice != "cascade":
        hint = "--force writes the thresholds anyway"
        return PolicyError(f"unchanged: {verdict_text(result)}", where=options.write, hint=hint)
    if (others := other_models_text(result)) is not None:
        problem = f"unchanged: {others}"
        return PolicyError(problem, where=options.write, hint="--force writes the thresholds, uncertified")
    return None


def _write(options: CalibrateOptions, result: Calibration, certificate: Certificate | None) -> str | None:
    """The change to the policy's text, as a diff; written unless --dry-run. None without --write or without a result."""
    if options.write is None or not result.feasible:
        return None
    path = find_policy(options.write)
    before = path.read_bytes().decode()  # keeps its line ends
    blocks: dict[str, dict[str, Any] | None] = {
        "certificate": None if certificate is None else certificate.model_dump(mode="json", exclude_defaults=True)
    }
    if result.compared is not None:
        blocks["scorer"] = scorer_fields(result)
    samples = written_samples(result, options.write)
    thresholds = {
        rung: one for rung, one in result.thresholds.items() if rung not in result.by_agreement or one is None
    }
    after = edit_policy(
        before, thresholds, result.task_thresholds, blocks, samples, where=str(path), folder=path.parent
    )
    if not options.dry_run:
        write_policy(path, after)
    return diff_of(before, after, str(path))
