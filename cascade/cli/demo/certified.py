"""Scene 2: the same tickets, certified on other tickets, with the first rung asked several times; beside asking it once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.calibration.proof.pareto_testing import Certified, Target
from cascade.calibration.run import Calibration, CalibrationOptions, calibrate
from cascade.cli.calibrate.output import certificate_text, meets_text, refusal_text, thresholds_text, verdict_text
from cascade.cli.demo.stage import HEADS, Run, against, more, row_of, single_row
from cascade.cli.emulate import synthetic_corpus
from cascade.cli.output import stdout, table
from cascade.cli.replay import per_thousand
from cascade.core.errors import RequirementNotMet
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Certificate
from cascade.core.policy.samples import ORDERS
from cascade.replay.figures import Figures, answering_reply

__all__ = ["TARGET", "VOTE", "CertifiedPolicy", "calibrate_tickets", "fields_of", "print_scene", "with_samples"]

TARGET = Target("false_confident", 0.1)
"""The scenes' objective: at most one request in ten is answered wrongly below the top rung."""

VOTE: Mapping[str, Any] = {"max": 4, "agree": 3, "variants": ORDERS}
"""How the first rung is asked: the vote that did best on the measured data, not one picked on these tickets."""

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


def with_samples(policy: Policy) -> Policy:
    """The policy with its first rung asked as `VOTE` says."""
    values = policy.model_dump(by_alias=True, exclude_unset=True)
    first, *rest = values["ladder"]
    return Policy.model_validate({**values, "ladder": [{**first, "samples": VOTE}, *rest]})


def calibrate_tickets(policy: Policy) -> CertifiedPolicy:
    """Calibrate `policy` on the shipped history. Raises RequirementNotMet if nothing can be certified."""
    result = calibrate([synthetic_corpus(_OTHERS)], CalibrationOptions(TARGET, policy))
    certificate = result.certificate()
    if certificate is None or not isinstance(result.choice.proof, Certified):
        raise RequirementNotMet(refusal_text(result, TARGET))
    return CertifiedPolicy(result, result.choice.proof, certificate, result.policy_with(certificate))


def print_scene(found: CertifiedPolicy, run: Run, once: Run, guess: Run) -> None:
    """Print the certified run with samples beside the one without, the guess and every single model; and why."""
    first, vote = run.policy.ladder[0].rung, f"{VOTE['agree']} of {VOTE['max']}"
    stdout.print(f"\n2. the same tickets, certified, with {first} asked until {vote} answers agree", style="bold")
    title = f"{thresholds_text(found.result.thresholds)}: found and proved on {found.items:,} other tickets, of other customers"
    heads = (*HEADS, f"at most {TARGET.alpha:.0%}")
    rows = table("synthetic", *heads, title=title, right=HEADS)
    rows.add_row(f"{vote}, certified", *row_of(run), "certified")
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
    stdout.print(_why(_facts(run)))
    stdout.print(
        "How often samples agree is simulated as measured on other data (GPT-3.5 on dates: one in ten unanimous votes was"
        f" wrong). Of {run.policy.ladder[0].model} nothing was measured: record your own."
    )
    more(
        "the same, asked once, from files", f"cascade calibrate {_OTHERS} --policy support --max-risk {TARGET.alpha:g}"
    )


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

    samples     asked a ticket; `cost`: theirs, as a share of one call of the rung `above`
    agree       the share of the votes that agree; `right`: the share of those that are right
    right_once  the share of the first samples that are right
    """

    rung: str
    above: str
    samples: float
    cost: float
    agree: float
    right: float
    right_once: float


def _facts(run: Run) -> _Facts:
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
        sum(len(step.samples) for step in steps) / asked,
        sum(step.cost_nanousd for step in steps) / figures.singles[above].cost,
        len(agreed) / asked,
        sum(score >= right_at for score in agreed) / max(1, len(agreed)),
        1 - figures.singles[first].wrong / asked,
    )


def _why(facts: _Facts) -> str:
    return (
        f"Why: {facts.rung} is asked {facts.samples:.1f} times a ticket, for {facts.cost:.0%} of one call of {facts.above}."
        f" {VOTE['agree']} answers agree on {facts.agree:.0%} of the tickets, and are right on {facts.right:.0%} of those;"
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
        "samples": {
            "rung": facts.rung, "max": VOTE["max"], "agree": VOTE["agree"], "variants": list(VOTE["variants"]),
            "asked_per_ticket": facts.samples, "cost_of_one_call_above": facts.cost, "agreed": facts.agree,
            "right_if_agreed": facts.right, "right_once": facts.right_once,
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
