"""The trail as people read it: a row for each step, and one for each call of a rung that is asked more than once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cascade.core.text.tables import text_entry, text_list, text_table
from cascade.core.voting import Vote

if TYPE_CHECKING:
    from cascade.core.prepared import Handed
    from cascade.core.trail import Review, Sample, Step, Verdict

__all__ = ["trail_rows", "trail_text"]

_WIDE = 100  # characters; below that the trail is a list, so that no column is lost
_WIDE_WITH_SAMPLES = 120


def trail_text(steps: Sequence[Step], shipped: str | None, width: int) -> str:
    """The trail in `width` characters: a plain table, one row per step, or a list. `shipped`: the rung that was shipped."""
    if width >= (
        _WIDE_WITH_SAMPLES if any(step.samples or step.review or step.auxiliaries for step in steps) else _WIDE
    ):
        return text_table(trail_rows(steps, shipped), width)
    lines: list[str] = []
    for number, step in enumerate(steps, start=1):
        lines.append(text_list([_HEADS, _step_row(number, step, shipped)], width))
        lines += [text_entry(_call_line(number, step, sample), width) for sample in step.samples]
        lines += [text_entry(_review_line(number, step.review), width)] if step.review is not None else []
        lines += [text_entry(_call_line(number, step, call), width) for call in step.auxiliaries]
    return "\n".join(lines)


_HEADS = ("step", "rung", "verdict", "confidence", "then", "USD", "model", "attempts", "ms")


def trail_rows(steps: Sequence[Step], shipped: str | None) -> list[tuple[str, ...]]:
    """The trail's cells, the column heads first. Step 1's samples are 1.1, 1.2 …; a judge's call is 1.judge, its review 1.review, an auxiliary call 1.summary."""
    rows: list[tuple[str, ...]] = [_HEADS]
    for number, step in enumerate(steps, start=1):
        rows.append(_step_row(number, step, shipped))
        rows += [_call_row(number, step, sample) for sample in step.samples]
        rows += [_review_row(number, step.review)] if step.review is not None else []
        rows += [_call_row(number, step, call) for call in step.auxiliaries]
    return rows


def _step_row(number: int, step: Step, shipped: str | None) -> tuple[str, ...]:
    """The cells of a step, without what its review and auxiliary calls cost: that is in rows of their own."""
    cost, attempts, latency_s = step.cost_nanousd, step.attempts, step.latency_s
    for beside in (*step.auxiliaries, *(() if step.review is None else (step.review,))):
        cost, attempts, latency_s = cost - beside.cost_nanousd, attempts - beside.attempts, latency_s - beside.latency_s
    return (
        str(number), step.rung, _shown(step), _confidence(step.verdict), _fate(step, shipped), _usd(cost),
        step.model, str(attempts), _ms(max(0.0, latency_s)),
    )  # fmt: skip


def _shown(step: Step) -> str:
    """What was made of a step: how the samples voted, if there are any, else the verdict; and what passed to its rung."""
    vote = step.verdict.vote
    if vote is None:
        shown = _verdict(step.verdict, is_estimate=step.usage.is_estimate)
    else:
        shown = f"{step.verdict.kind}: {_vote_text(vote)}" if vote.members else _vote_text(vote)
    beside = [step.prepared.said] if step.prepared is not None else []
    beside += [_handed_text(step.handed)] if step.handed is not None else []
    return f"{shown} ({', '.join(beside)})" if beside else shown


def _handed_text(handed: Handed) -> str:
    if handed.kind == "doubt":
        return "told the doubt"
    if handed.executed_by is not None:
        return f"its plan, answered by {handed.executed_by}"
    if not handed.is_open:
        return "its own answer, after its plan"
    return "a plan, not answered" if handed.artifact is not None else "no plan"


def _verdict(verdict: Verdict, *, is_estimate: bool) -> str:
    why = {result.name: f": {result.detail}" for result in verdict.checks if result.passed is False and result.detail}
    parts = [verdict.kind, *(f"[{name}{why.get(name, '')}]" for name in verdict.failed_checks)]
    parts += [f"({verdict.detail})"] if verdict.detail else []
    for result in verdict.checks:
        if result.passed is None:
            parts.append(f"({result.name} could not say: {result.detail or 'no reason recorded'})")
    parts += ["(repaired)"] if verdict.repaired else []
    parts += ["(usage: estimate)"] if is_estimate else []
    return " ".join(parts)


def _vote_text(vote: Vote) -> str:
    """For example "3 of 4 samples agree, 3 of 5 needed"."""
    return f"{len(vote.members)} of {vote.asked} samples agree, {vote.agree} of {vote.most} needed"


def _call_row(number: int, step: Step, sample: Sample) -> tuple[str, ...]:
    """The cells of one sample, or of a call that grouped the answers of those before it."""
    name = "" if sample.is_judge else f"· {sample.variant}"
    return (
        _label(number, sample), name, _call_shown(sample), _confidence(sample.verdict), _vote_of(step, sample),
        _usd(sample.cost_nanousd), sample.model, str(sample.attempts), _ms(sample.latency_s),
    )  # fmt: skip


def _call_line(number: int, step: Step, sample: Sample) -> str:
    """The same in a line: "1.1 steps: answered 0.9, agrees; 0.000020 USD, 11 ms"."""
    name = "" if sample.is_judge else f" {sample.variant}"
    confidence = _confidence(sample.verdict)
    said = f"{_label(number, sample)}{name}: {_call_shown(sample)}{f' {confidence}' if confidence else ''}"
    agrees = _vote_of(step, sample)
    facts = [f"{_usd(sample.cost_nanousd)} USD", f"{_ms(sample.latency_s)} ms"]
    facts += [f"{sample.attempts} attempts"] if sample.attempts != 1 else []
    facts += [sample.model] if sample.model != step.model else []
    return f"{said}{f', {agrees}' if agrees else ''}; {', '.join(facts)}"


def _review_row(number: int, review: Review) -> tuple[str, ...]:
    """The cells of a review."""
    return (
        f"{number}.review", f"· {review.rung}", _review_shown(review), "", "", _usd(review.cost_nanousd), review.model,
        str(review.attempts), _ms(review.latency_s),
    )  # fmt: skip


def _review_line(number: int, review: Review) -> str:
    """The same in a line."""
    facts = [f"{_usd(review.cost_nanousd)} USD", f"{_ms(review.latency_s)} ms"]
    facts += [f"{review.attempts} attempts"] if review.attempts > 1 else []
    return f"{number}.review {review.rung}: {_review_shown(review)}; {', '.join((*facts, review.model))}"


def _review_shown(review: Review) -> str:
    if review.accepted is None:
        return f"not asked: {review.detail}" if review.refused else f"could not say: {review.detail}"
    return f"{review.said}: {review.reason}" if review.reason else review.said


def _label(number: int, sample: Sample) -> str:
    if sample.auxiliary is not None:
        return f"{number}.{sample.auxiliary}"
    return f"{number}.judge" if sample.is_judge else f"{number}.{sample.number + 1}"


def _call_shown(sample: Sample) -> str:
    if sample.is_judge and sample.verdict.kind == "answered":
        return "grouped the answers"
    return _verdict(sample.verdict, is_estimate=sample.usage.is_estimate)


def _vote_of(step: Step, sample: Sample) -> str:
    vote = step.verdict.vote
    return "agrees" if not sample.is_judge and vote is not None and sample.number in vote.members else ""


def _confidence(verdict: Verdict) -> str:
    return "" if verdict.confidence is None else f"{verdict.confidence:g}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}"


def _usd(nano: int) -> str:
    return f"{nano / 1e9:.6f}" if nano else "0"


def _fate(step: Step, shipped: str | None) -> str:
    if step.reason is None:
        return "shipped" if step.rung == shipped else "not shipped"
    return f"up: {step.reason}" + (", held and shipped" if step.rung == shipped else "")
