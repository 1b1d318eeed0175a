"""The audit's report: every figure of it, from the samples of a period, the ledger's sums, and what the detectors say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cascade.audit.drift import RIGHT_AT, Drift
from cascade.audit.grading import grader_of
from cascade.audit.rates import Loss, RateLine, graded_by, is_below, rate_of, rates_of, skipped_because
from cascade.audit.report.profit import Profit, profit_of
from cascade.audit.report.texts import Texts
from cascade.audit.report.thresholds import Alternative, alternatives_of
from cascade.audit.routing import Routing, routing_of
from cascade.core.arms import AUDITED_ARMS
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.costs import Period, PeriodSums
from cascade.ledger.audit import Mark, Sample

__all__ = ["MOST_DISAGREEMENTS", "AuditReport", "Disagreement", "Evidence", "disagreements_of", "loss_of", "report_of"]

MOST_DISAGREEMENTS = 200
_OTHER_JUDGE = "name another rung in audit.judge, or another audit.grader"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a report is made from: all of one policy, in one period.

    `withheld`: the judges that are not believed, by grader's name, with the reason; `tested`: those that have had enough control
    items to decide it. `certified`: the escalation rates that hold now.
    `drift`: what the detectors say now, whatever the period. `texts`: of `disagreements_of`, by request.
    """

    period: Period
    samples: Sequence[Sample]
    sums: PeriodSums
    drift: Drift
    withheld: Mapping[str, str] = field(default_factory=dict[str, str])
    certified: Escalation = field(default_factory=Escalation)
    marks: Sequence[Mark] = ()
    texts: Mapping[str, Texts] = field(default_factory=dict[str, Texts])
    tested: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A shipped answer that is wrong, or that the judge finds materially other than the shadow answer; texts where they are kept."""

    sample: Sample
    question: str | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The figures. Money in nano-USD.

    `requests`: what the ladder was asked in the period; `audited`: the uniform sample of them. `lines`: `rates.rates_of`. `faults`: the sample of the lowest confidences, which no rate counts. `disagreements`: newest first,
    `left_out` more are not in it. `epochs`: how many sets of thresholds were in force; `alternatives` are of the last.
    `todo`: what keeps the report from saying more, and what to do about it.
    """

    policy: str
    period: Period
    requests: int
    audited: int
    right_at: float
    epochs: int
    lines: tuple[RateLine, ...]
    faults: RateLine
    disagreements: tuple[Disagreement, ...]
    left_out: int
    profit: Profit | None
    alternatives: tuple[Alternative, ...]
    routing: Routing
    drift: Drift
    marks: tuple[Mark, ...]
    todo: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there was neither traffic nor a sample."""
        return not (self.requests or self.audited or self.faults.audited)

    @property
    def total(self) -> RateLine:
        """All requests of the uniform sample."""
        return self.lines[0]


def loss_of(policy: Policy, withheld: Mapping[str, str]) -> Loss:
    """What counts as wrong for this policy."""
    return Loss(policy.certificate.right_at if policy.certificate is not None else RIGHT_AT, withheld)


def disagreements_of(samples: Sequence[Sample], loss: Loss) -> list[Sample]:
    """The disagreements, newest first. What a judge says that is not believed is none."""
    found = [one for one in samples if is_below(one) and _disagrees(one, loss)]
    return sorted(found, key=lambda one: (-one.at, one.request))


def _disagrees(sample: Sample, loss: Loss) -> bool:
    judged = loss.judged(sample)
    is_other = sample.grading is not None and sample.grading.relation == "disagree"
    return judged == "wrong" or (is_other and judged == "right")


def report_of(policy: Policy, evidence: Evidence) -> AuditReport:
    """All figures. Pure: the same evidence always gives the same report."""
    loss = loss_of(policy, evidence.withheld)
    uniform = [one for one in evidence.samples if one.is_uniform]
    disagreements = disagreements_of(evidence.samples, loss)
    last = max(uniform, key=lambda one: one.at).epoch if uniform else ""
    price = policy.audit.cost_of_error_usd if policy.audit is not None else None
    requests = sum(row.requests for row in evidence.sums.traffic if row.arm in AUDITED_ARMS)
    return AuditReport(
        policy=policy.name,
        period=evidence.period,
        requests=requests,
        audited=len(uniform),
        right_at=loss.right_at,
        epochs=len({one.epoch for one in uniform}),
        lines=rates_of(uniform, loss),
        faults=replace(
            rate_of([one for one in evidence.samples if not one.is_uniform], loss), rate=None, interval=None, graders=()
        ),
        disagreements=tuple(_with_texts(one, evidence.texts) for one in disagreements[:MOST_DISAGREEMENTS]),
        left_out=max(0, len(disagreements) - MOST_DISAGREEMENTS),
        profit=profit_of(evidence.sums, uniform, loss, None if price is None else int(price * 1_000_000_000)),
        alternatives=alternatives_of([one for one in uniform if one.epoch == last], loss),
        routing=routing_of(policy, evidence.sums, uniform, evidence.certified, loss, evidence.drift.alpha),
        drift=evidence.drift,
        marks=tuple(_told(evidence.marks)),
        todo=tuple(_todo(policy, evidence, requests, loss)),
    )


def _todo(policy: Policy, evidence: Evidence, requests: int, loss: Loss) -> Iterator[str]:
    """What keeps the report from saying more, and what to do about it."""
    audit, samples = policy.audit, evidence.samples
    if audit is None:
        yield "the policy has no `audit` block, so nothing is sampled (add `audit: {sample: 0.01}`)"
    elif not policy.ledger.content:
        yield "the ledger keeps no texts, so answers cannot be graded (`ledger: {content: true}`; keep_days limits how long)"
    if not requests and not samples:
        yield "the ladder was asked nothing in this period (--since goes further back)"
    elif not samples and audit is not None:
        yield f"none of {requests} requests was sampled: the share is {audit.sample:g} (audit.sample; --since goes further back)"
    below = [(one, loss.judged(one)) for one in samples if is_below(one)]
    yield from _open(policy, evidence, [one for one, judged in below if judged == "open"])
    skipped = Counter(skipped_because(one) for one, judged in below if judged == "skipped")
    if count := skipped["no_content"]:
        yield f"{_answers(count)} not graded, since the ledger does not hold {'its' if count == 1 else 'their'} texts (`ledger: {{content: true}}`)"
    if count := skipped["too_costly"]:
        yield f"{_answers(count)} not graded, since a call for {'it' if count == 1 else 'one'} may cost more than audit.daily_usd (raise it)"
    for grader in sorted({graded_by(one) for one, judged in below if judged == "withheld"}):
        way = _OTHER_JUDGE if grader in evidence.tested else "cascade audit run tests it"
        yield f"the rates of {grader} are withheld: it is not believed, since {evidence.withheld[grader]} ({way})"


def _open(policy: Policy, evidence: Evidence, samples: Sequence[Sample]) -> Iterator[str]:
    """What is not graded yet: another run grades it, or only another judge."""
    waiting = Counter(grader_of(policy, one.task) for one in samples)
    disbelieved = {judge: waiting.pop(judge, 0) for judge in sorted(evidence.tested & evidence.withheld.keys())}
    if waiting:
        yield f"{_answers(waiting.total(), 'sampled ')} not graded yet (cascade audit run)"
    for judge, count in disbelieved.items():
        if count:
            yield (
                f"{_answers(count, 'sampled ')} waiting for a judge that is believed, since {judge} is not: {evidence.withheld[judge]}"
                f" ({_OTHER_JUDGE})"
            )


def _answers(count: int, kind: str = "") -> str:
    return f"1 {kind}answer is" if count == 1 else f"{count} {kind}answers are"


def _told(marks: Sequence[Mark]) -> Iterator[Mark]:
    """An alarm that several workers put on record is one: the first."""
    seen: set[tuple[object, object]] = set()
    for mark in marks:
        alarm = (mark.details.get("epoch"), mark.details.get("task"))
        if mark.kind != "alarm" or alarm not in seen:
            yield mark
        if mark.kind == "alarm":
            seen.add(alarm)


def _with_texts(sample: Sample, texts: Mapping[str, Texts]) -> Disagreement:
    own = texts.get(sample.request, Texts(None, None))
    return Disagreement(sample, own.question, own.answer)
