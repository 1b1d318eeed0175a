"""Scene 2: the same tickets, certified on other tickets, with samples that `calibrate` chose there; beside asking once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from cascade.calibration.proof.pareto_testing import Certified, Target
from cascade.calibration.result import Calibration, CalibrationOptions
from cascade.calibration.run import calibrate
from cascade.calibration.sampling import SampleSearch
from cascade.cli.calibrate.output import certificate_text, meets_text, refusal_text, verdict_text
from cascade.cli.calibrate.samples import chosen_text, samples_json
from cascade.cli.demo.stage import HEADS, Run, against, more, row_of, single_row
from cascade.cli.emulate import synthetic_corpus
from cascade.cli.output import stdout, table
from cascade.cli.replay import per_thousand
from cascade.core.errors import RequirementNotMet
from cascade.core.policy import Policy, Samples
from cascade.core.policy.certificate import Certificate
from cascade.replay.figures import Figures, answering_reply

__all__ = ["TARGET", "CertifiedPolicy", "calibrate_tickets", "fields_of", "print_scene"]

TARGET = Target("false_confident", 0.1)
"""The scenes' objective: at most one request in ten is answered wrongly below the top rung."""

_OTHERS = "history"  # tickets of other customers, disjoint from the demo's


@dataclass(frozen=True, slots=True)
class CertifiedPolicy:
    """A successful calibration, and the policy with its thresholds and certificate."""

    result: Calibration
    proof: Certified
    certificate: Certificate
    policy: Policy

    @property
    def items(self) -> int:
        """The number of items in both halves."""
        return len(self.result.tune) + len(self.result.held_out)


def calibrate_tickets(policy: Policy, *, samples: bool) -> CertifiedPolicy:
    """Calibrate `policy` on the shipped history; with `samples`, how often its rungs are asked is searched, too.

    Raises RequirementNotMet if nothing can be certified.
    """
    options = CalibrationOptions(TARGET, policy, samples=SampleSearch(auto=samples))
    result = calibrate([synthetic_corpus(_OTHERS)], options)
    certificate = result.certificate()
    if certificate is None or not isinstance(result.choice.proof, Certified):
        raise RequirementNotMet(refusal_text(result, TARGET))
    return CertifiedPolicy(result, result.choice.proof, certificate, result.policy_with(certificate))


def print_scene(found: CertifiedPolicy, run: Run, once: Run, guess: Run) -> None:
    """Print the certified run with samples beside the one without, the guess and every single model; and why."""
    stdout.print("\n2. the same tickets, certified, each rung asked as often as pays", style="bold")
    title = f"{chosen_text(found.result.thresholds, found.result)}: found and proved on {found.items:,} other tickets, of other customers"
    heads = (*HEADS, f"at most {TARGET.alpha:.0%}")
    rows = table("synthetic", *heads, title=title, right=HEADS)
    rows.add_row(f"{_vote_text(run.policy)}, certified", *row_of(run), "certified")
    rows.add_row("once, certified", *row_of(once), "certified")
    rows.add_row("guessed 0.80", *row_of(guess), "not known")
    for rung, single in run.figures.singles.items():
        meets = meets_text(found.result.choice.singles[rung].meets)
        rows.add_row(f"{rung} alone", *single_row(run, rung, single), meets)
    stdout.print(rows)
    stdout.print(certificate_text(found.proof))
    for status, count in Counter(answer.certificate for answer in run.answers).items():
        stdout.print(f"{count} of {len(run.answers)} answers carry: {status}")
    stdout.print(f"on the held-out half of those tickets: {verdict_text(found.result)}")
    stdout.print(f"on these {len(run.answers)}: {_verdict(found, run.figures)}")
    stdout.print(_against("asking once, certified as well", once.figures, run.figures))
    stdout.print(_against("the guess", guess.figures, run.figures))
    rivals = dict.fromkeys(
        rung for rung in (run.policy.ladder[-1].rung, run.figures.cheapest_as_good) if rung is not None
    )
    stdout.print(
        f"{' '.join(against(run.figures, rung) for rung in rivals)} The proof is of the mistakes, not of the money."
    )
    facts = _facts(run)
    if facts is None:
        stdout.print("Further samples are worth nothing here: each rung is asked once.")
    else:
        stdout.print(_why(facts))
        stdout.print(
            "How often samples agree is simulated as measured on other data (GPT-3.5 on dates: one in ten unanimous votes was"
            f" wrong). Of {run.policy.ladder[0].model} nothing was measured: record your own."
        )
    command = f"cascade calibrate {_OTHERS} --policy support --max-risk {TARGET.alpha:g}"
    more("the same from files, and what each sample buys", f"{command} --samples auto")
    more("the same, asked once", command)


def _vote_text(policy: Policy) -> str:
    """How the first rung is asked, such as "3 of 4"."""
    samples = policy.ladder[0].samples
    return "once" if samples is None else f"{samples.agree} of {samples.max}"


def _verdict(found: CertifiedPolicy, figures: Figures) -> str:
    """Whether the cascade costs less, on the tickets asked, than every single model that is not shown to miss the objective."""
    n, cost = figures.items, per_thousand(figures.cost, figures.items)
    rivals = [rung for rung, single in found.result.choice.singles.items() if single.meets is not False]
    if cheaper := [rung for rung in rivals if figures.singles[rung].cost <= figures.cost]:
        rival = min(cheaper, key=lambda rung: figures.singles[rung].cost)
        its = per_thousand(figures.singles[rival].cost, n)
        return f"it does not win: {cost} USD per 1,000, and {rival} alone, which is not shown to miss the bound, {its}"
    theirs = ", ".join(f"{rung} {per_thousand(figures.singles[rung].cost, n)}" for rung in rivals)
    return f"{cost} USD per 1,000, less than every single model that is not shown to miss the bound ({theirs})"


def _against(what: str, then: Figures, now: Figures) -> str:
    """The certified run against another: cost, quality and confident mistakes."""
    ratio, fewer = now.cost / then.cost - 1, then.false_confident - now.false_confident
    better = now.quality - then.quality
    price = f", {(now.cost - then.cost) / 1e9 / fewer:.4f} USD for each one less" if fewer > 0 and ratio > 0 else ""
    return (
        f"Against {what}: {abs(ratio):.0%} {'dearer' if ratio > 0 else 'cheaper'}, {abs(better):.3f}"
        f" {'higher' if better > 0 else 'lower'} quality, {abs(fewer)} {'fewer' if fewer >= 0 else 'more'} confidently"
        f" wrong{price}."
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the first rung's votes are worth.

    vote        as the policy has it
    samples     asked a ticket; `cost`: theirs, as a share of one call of the rung `above`
    agree       the share of the votes that agree; `right`: the share of those that are right
    right_once  the share of the first samples that are right
    """

    rung: str
    above: str
    vote: Samples
    samples: float
    cost: float
    agree: float
    right: float
    right_once: float


def _facts(run: Run) -> _Facts | None:
    """None if the first rung is asked once."""
    vote = run.policy.ladder[0].samples
    if vote is None:
        return None
    first, above = (rung.rung for rung in run.policy.ladder[:2])
    figures, asked, right_at = run.figures, len(run.answers), run.corpus.manifest.right_at
    steps = [answer.steps[0] for answer in run.answers]
    agreed = [
        answering_reply(item, step).score or 0.0
        for item, step in zip(run.corpus.items, steps, strict=True)
        if step.verdict.vote is not None and step.verdict.vote.reached
    ]
    return _Facts(
        first,
        above,
        vote,
        sum(len(step.samples) for step in steps) / asked,
        sum(step.cost_nanousd for step in steps) / figures.singles[above].cost,
        len(agreed) / asked,
        sum(score >= right_at for score in agreed) / max(1, len(agreed)),
        1 - figures.singles[first].wrong / asked,
    )


def _why(facts: _Facts) -> str:
    return (
        f"Why: {facts.rung} is asked {facts.samples:.1f} times a ticket, for {facts.cost:.0%} of one call of {facts.above}."
        f" {facts.vote.agree} answers agree on {facts.agree:.0%} of the tickets, and are right on {facts.right:.0%} of those;"
        f" one answer is on {facts.right_once:.0%} of all."
    )


def fields_of(found: CertifiedPolicy, run: Run, without: CertifiedPolicy, once: Run) -> dict[str, Any]:
    """The fields of `certified` in the JSON; `once` holds those of the policy without samples."""
    singles = {
        f"single:{rung}": {
            "quality": one.quality, "quality_ci95": list(ci95) if (ci95 := run.intervals[rung]) else None,
            "cost_usd": one.cost / 1e9, "wrong": one.wrong, "meets": found.result.choice.singles[rung].meets,
        }
        for rung, one in run.figures.singles.items()
    }  # fmt: skip
    facts = _facts(run)
    return {
        "calibrated_on": {"corpus": _OTHERS, "items": found.items},
        "advice": found.result.choice.advice,
        "samples": samples_json(found.result),
        "votes": None if facts is None else {
            "rung": facts.rung, "asked_per_ticket": facts.samples, "cost_of_one_call_above": facts.cost,
            "agreed": facts.agree, "right_if_agreed": facts.right, "right_once": facts.right_once,
        },
        **_certified_fields(found, run),
        "baselines": singles,
        "once": _certified_fields(without, once),
    }  # fmt: skip


def _certified_fields(found: CertifiedPolicy, run: Run) -> dict[str, Any]:
    return {
        "thresholds": found.result.thresholds,
        "certificate": found.certificate.model_dump(mode="json"),
        "told": certificate_text(found.proof),
        "answers": dict(Counter(answer.certificate for answer in run.answers)),
        "policy_hash": run.policy.hash,
        **run.fields,
    }
