"""Does routing pay? Often not: there is little to save, or the confidence does not separate right answers from wrong.

The verdict is "pays" only if nothing is unsettled that could reverse it (`_UNSETTLED`). Above all that is the number of
requests, since each pays for the triage prompt: for the same tokens, more requests mean a smaller saving, so the verdict
reverses at one number at most, which is named. The limits below are judgement, not measurement; each gives its reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from cascade.core.policy import Policy
from cascade.savings.bill import Basis, Bill
from cascade.savings.mixes import Mix, ReplayedCorpus
from cascade.savings.periods import Period
from cascade.savings.projection import Projection

__all__ = ["FEW_ITEMS", "FEW_REQUESTS", "NO_SIGNAL", "SMALL_SAVING_USD", "Advice", "Case", "Finding", "advise"]

FEW_ITEMS: Final = 100
"""Items of a corpus. With fewer, each changes its quality by more than a point: too few for a verdict."""
FEW_REQUESTS: Final = 3_000
"""Requests a month. A certificate (2 %, 95 %) needs at least 149 graded requests, and again after each model change."""
SMALL_SAVING_USD: Final = 50
"""USD a month. A corpus must be recorded, graded and maintained: less does not pay for an hour of that."""
OTHER_SIZE: Final = 10
"""A factor. If the export's requests cost this much more or less than the corpus's, they are of another kind."""
NO_SIGNAL: Final = 0.60
"""AUROC of the first rung's confidence; 0.5 is chance. Measured models below this were no better than random."""

_NANO = 1_000_000_000

Code = Literal[
    "few_requests", "small_saving", "cheapest_already", "dearer_than_today", "break_even", "dominated", "no_signal",
    "uniform_stakes", "stakes", "signal_unknown", "mix_unknown", "requests_unknown", "few_items", "other_models",
    "other_size", "uncertified",
]  # fmt: skip


_UNSETTLED: Final[dict[str, str]] = {
    "requests_unknown": "the number of requests is not known (--requests N)",
    "few_requests": "there are too few requests to certify thresholds",
    "few_items": "the corpus has too few items to say",
    "other_models": "the corpus holds other models' replies",
    "other_size": "the corpus's requests are of another size",
    "uncertified": "the policy's thresholds are not certified (`cascade calibrate`)",
}
"""By the finding's code: what leaves the verdict unsettled, in a few words."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `against`: it speaks against routing; otherwise it is unknown, or for the user to weigh."""

    code: Code
    message: str
    basis: Basis
    against: bool


@dataclass(frozen=True, slots=True)
class Advice:
    """`pays` None: unsettled, or money is saved at a loss of quality, which is for the user to weigh.

    `verdict`: the same in one sentence. `instead`: the rung that alone is no dearer and no worse; None if there is none.
    """

    pays: bool | None
    verdict: str
    instead: str | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """The input of `advise`. `headline`: the bill under the policy in nano-USD; None without a mix.

    `certified`: whether the policy's certificate is valid. `triage_is_paid`: whether the headline includes the triage prompt
    if the number of requests is known (the routed bill does not).
    """

    bill: Bill
    projection: Projection
    policy: Policy
    mix: Mix | None
    headline: int | None
    requests: int | None
    period: Period
    certified: bool = False
    triage_is_paid: bool = True

    @property
    def most_requests(self) -> int | None:
        """The number of requests from which nothing is saved, at the same tokens; None if unknown, or if there is none."""
        climb, each = self.projection.as_today.climb, self.projection.triage_each
        if climb is None or not each or not self.triage_is_paid:
            return None
        return max(0, math.ceil((self.bill.cost - climb) / each))


def advise(case: Case) -> Advice:
    """All findings, those against routing first, and the verdict."""
    instead = _instead(case)
    rival = (instead[1],) if instead else tuple(_stakes(case))
    found = (*_money(case), *_quality(case), *_representative(case), *rival)
    findings = tuple(sorted(found, key=lambda finding: not finding.against))
    corpus = case.mix.observed if case.mix else None
    few = f"; {_few_items(corpus)}" if corpus and corpus.items < FEW_ITEMS else ""
    if instead:
        rung, dominated = instead
        text = f"routing does not pay here: {dominated.message}: use {rung} alone"
        if corpus and (best := _best(case, corpus)) and best[1] != rung:
            text += f" ({_quality_text(case, corpus)})"
        return Advice(False, text + few, rung, findings)
    if any(finding.against for finding in findings):
        return Advice(
            False,
            "routing does not pay here" + (f" ({_quality_text(case, corpus)})" if corpus else "") + few,
            None,
            findings,
        )
    pays, text = _in_favour(case, corpus, findings)
    return Advice(pays, text + few, None, findings)


def _in_favour(case: Case, corpus: ReplayedCorpus | None, findings: Sequence[Finding]) -> tuple[bool | None, str]:
    """The verdict if no finding is against routing: what it saves, and at what quality."""
    if corpus is None or case.headline is None:
        return None, "whether routing pays is not known"
    saves = f"saves {_saving_text(case, case.headline)}"
    best = _best(case, corpus)
    if best is None:
        return None, f"routing {saves}, but whether the answers are as good is not known: {_quality_text(case, corpus)}"
    if corpus.quality < best[0]:
        falls = f"quality falls from {best[0]:.4f} ({best[1]} alone) to {corpus.quality:.4f} on the corpus"
        return None, f"routing {saves}, but {falls}: the answers are not as good"
    saves += f", at no lower quality than any single model's: {_quality_text(case, corpus)}"
    if unsettled := [_UNSETTLED[finding.code] for finding in findings if finding.code in _UNSETTLED]:
        return None, f"whether routing pays is not settled: {' and '.join(unsettled)}; it {saves}"
    return True, f"routing pays: it {saves}"


def _saving_text(case: Case, headline: int) -> str:
    """The saving a month; an upper limit if the number of requests is not known."""
    today = case.bill.cost
    usd = float((today - headline) * case.period.months / _NANO)
    share = float(1 - Fraction(headline, today))
    if case.requests is not None:
        return f"{usd:,.2f} USD a month ({share:.1%}, estimate)"
    limit = f", and nothing from {case.most_requests:,} requests on" if case.most_requests is not None else ""
    return f"at most {usd:,.2f} USD a month ({share:.1%}{limit}, estimate)"


def _best(case: Case, corpus: ReplayedCorpus) -> tuple[float, str] | None:
    """The best single model: its quality on the corpus, and its rung. None if no single model's quality is known."""
    known = [(single[0], rung) for rung, single in zip(case.projection.rungs, corpus.singles, strict=True) if single]
    return max(known, key=lambda one: one[0], default=None)


def _quality_text(case: Case, corpus: ReplayedCorpus) -> str:
    best = _best(case, corpus)
    beside = (
        f"against {best[0]:.4f} of the best single model, {best[1]}"
        if best
        else "no single model is known to compare with"
    )
    return f"quality {corpus.quality:.4f} on the corpus, {beside}"


def _few_items(corpus: ReplayedCorpus) -> str:
    return f"few items ({corpus.items}): an estimate"


def _money(case: Case) -> Iterator[Finding]:
    today, cheapest = case.bill.cost, min(case.projection.as_today.alone)
    month = case.period.months
    if case.requests is None:
        text = (
            "the export does not give the number of requests (--requests N), so the bill leaves out the triage prompt"
        )
        yield Finding("requests_unknown", text, "estimate", False)
    elif case.requests * month < FEW_REQUESTS:
        text = f"{float(case.requests * month):,.0f} requests a month: too few to certify thresholds (below {FEW_REQUESTS:,})"
        yield Finding("few_requests", text, case.period.month_basis, False)
    if today <= cheapest:
        text = "today's bill is no higher than the first rung's would be for everything: there is nothing cheaper to route to"
        yield Finding("cheapest_already", text, "estimate", True)
        return
    most = (today - cheapest) * month
    if case.headline is None:
        if most < SMALL_SAVING_USD * _NANO:
            yield _small_saving(most, "even if the first rung answered everything,")
        yield Finding("mix_unknown", "no mix: give --corpus (measured) or --mix (a guess)", "estimate", False)
        return
    saved = (today - case.headline) * month
    if saved <= 0:
        text = f"the bill under the policy is {float(-saved / _NANO):,.2f} USD a month above today's"
        if case.requests and case.most_requests:
            text += (
                f", with the triage prompt of {case.requests:,} requests in the period; from {case.most_requests:,} on"
                " nothing is saved"
            )
        yield Finding("dearer_than_today", text, "estimate", True)
    elif saved < SMALL_SAVING_USD * _NANO:
        yield _small_saving(saved, "under the policy")
    yield from _break_even(case)


def _small_saving(saved: Fraction, how: str) -> Finding:
    text = f"{how} it saves {float(saved / _NANO):,.2f} USD a month: less than keeping a corpus costs"
    return Finding("small_saving", text, "estimate", True)


def _break_even(case: Case) -> Iterator[Finding]:
    if case.mix is None or case.mix.basis != "measured":
        return
    limit, measured = case.projection.break_even_today, case.mix.escalation[0]
    if limit is None or limit < measured:
        at = "at no escalation rate" if limit is None else f"up to an escalation rate of {float(limit):.1%}"
        who = "the corpus escalates" if case.mix.observed else "in the ledger the first rung escalates"
        text = f"a climb breaks even with today's bill {at}; {who} {float(measured):.1%}"
        yield Finding("break_even", text, "estimate", True)


def _quality(case: Case) -> Iterator[Finding]:
    corpus = case.mix.observed if case.mix else None
    if corpus is None:
        text = "how well the first rung's confidence separates right answers from wrong is not measured: give --corpus"
        yield Finding("signal_unknown", text, "estimate", False)
        return
    basis: Basis = "measured"
    if corpus.items < FEW_ITEMS:
        basis = "estimate"
        yield Finding("few_items", f"the mix and the quality are those of {_few_items(corpus)}", basis, False)
    if corpus.others:
        yield Finding("other_models", f"these are other models' replies: {'; '.join(corpus.others)}", "measured", False)
    first = case.projection.rungs[0]
    if corpus.auroc is None:
        yield Finding("no_signal", f"{first}'s confidence cannot be judged on this corpus", basis, True)
    elif corpus.auroc < NO_SIGNAL:
        text = f"{first}'s confidence separates right answers from wrong hardly better than chance (AUROC {corpus.auroc:.2f})"
        yield Finding("no_signal", text, basis, True)
    if corpus.tasks < 2 and not any(
        task.floor or task.ceiling for task in case.policy.tasks if task.name != "tampering"
    ):
        text = "one task and no floors: only confidence distinguishes the requests"
        yield Finding("uniform_stakes", text, basis, False)


def _representative(case: Case) -> Iterator[Finding]:
    """Whether the corpus represents this traffic, and the policy is certified."""
    corpus = case.mix.observed if case.mix else None
    if corpus is None:
        return
    if not case.certified:
        text = f"policy {case.policy.name} is not certified: `cascade calibrate` may choose other thresholds, or advise against"
        yield Finding("uncertified", text, "measured", False)
    for rung, cost, recorded in zip(
        case.projection.rungs, case.projection.as_today.alone, corpus.single_costs, strict=True
    ):
        if case.requests and cost and recorded:
            here, there = Fraction(cost, case.requests), Fraction(recorded, corpus.items)
            if not 1 / OTHER_SIZE < here / there < OTHER_SIZE:
                text = f"a request costs {_usd(here)} USD on {rung} alone, one of the corpus {_usd(there)}: another kind of request"
                yield Finding("other_size", text, "estimate", False)
                return


def _usd(nano: Fraction) -> str:
    return f"{float(nano / _NANO):.6f}"


def _instead(case: Case) -> tuple[str, Finding] | None:
    """The best single model that is at least as good as the cascade, and no dearer on the export's traffic or the corpus."""
    corpus = case.mix.observed if case.mix else None
    if corpus is None or case.headline is None:
        return None
    found: list[tuple[float, bool, str]] = []
    alone = zip(case.projection.rungs, case.projection.as_today.alone, corpus.singles, corpus.single_costs, strict=True)
    for rung, cost, single, recorded in alone:
        if single is None:
            continue
        quality, there = single[0], recorded is not None and corpus.cost is not None and recorded <= corpus.cost
        if quality >= corpus.quality and (cost <= case.headline or there):
            found.append((quality, cost <= case.headline, rung))
    if not found:
        return None
    quality, here, rung = max(found, key=lambda one: one[0])
    text = f"{rung} alone costs no more{'' if here else ' on the corpus'} and is at least as good"
    text += f" ({quality:.4f} against {corpus.quality:.4f})"
    return rung, Finding("dominated", text, "estimate" if here or corpus.items < FEW_ITEMS else "measured", True)


def _stakes(case: Case) -> Iterator[Finding]:
    corpus = case.mix.observed if case.mix else None
    if corpus is None or case.headline is None or (single := corpus.singles[-1]) is None:
        return
    top, alone = case.projection.rungs[-1], case.projection.as_today.alone[-1]
    more_wrong = corpus.wrong - single[1]
    if more_wrong > 0 and case.requests and alone > case.headline:
        each = (alone - case.headline) / (more_wrong * case.requests) / _NANO
        text = f"against {top} alone {more_wrong:.1%} more answers are wrong: it pays where such a mistake costs less than {each:,.4f} USD"
        yield Finding("stakes", text, "estimate", False)
