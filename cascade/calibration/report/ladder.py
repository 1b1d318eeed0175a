"""What a page hands out as YAML, and what it says of it: whether these thresholds are what was calibrated and certified."""

from __future__ import annotations

from collections.abc import Iterable

from cascade.calibration.report.inputs import ChosenThresholds, ReportInput
from cascade.policy.editing import threshold_text
from cascade.policy.loading import dump

__all__ = ["MOST_LETTERS", "states_of", "yaml_of"]

MOST_LETTERS = 40_000
"""Of the thresholds by task as YAML: with more, a page of 500 KB has no room for them."""


def states_of(report: ReportInput) -> tuple[str, str]:
    """What the sliders' YAML says of itself: where they start, and anywhere else."""
    by_hand = "set by hand in a report, not certified"
    if report.chosen is None:
        return by_hand, by_hand
    if report.by_task:
        shared = "one set for all tasks, not certified"
        return shared, shared
    return _state_text(report, report.chosen), by_hand


def yaml_of(report: ReportInput) -> str | None:
    """The chosen ladder and the tasks' own thresholds; None where that is too long for a page, or nothing was chosen."""
    chosen, counts = report.chosen, report.counts
    if chosen is None:
        return None
    point, below, n = chosen.point, counts.rungs[:-1], max(1, counts.n)
    comments = (
        f"{report.corpus[:200]}: {_state_text(report, chosen)}{', by task' if chosen.by_task else ''}",
        f"quality {point.quality:.4f}, risk {point.losses / n:.2%}",
        f"{point.cost / n / 1e6:.4f} USD per 1,000",
    )
    lines = [f"# {_line(text)}" for text in comments] + ["ladder:"]
    for rung, value in zip(below, point.thresholds, strict=True):
        lines.append(f"  - {{{_pair('rung', rung)}, threshold: {threshold_text(value)}}}")
    lines.append(f"  - {{{_pair('rung', counts.rungs[-1])}}}")
    if chosen.by_task:
        lines.append("tasks:")
        for task, own in chosen.by_task.items():
            lines.append(f"  - {{{_pair('name', task)}, thresholds: {{{_thresholds(below, own)}}}}}")
    text = "\n".join(lines) + "\n"
    return text if len(text) <= MOST_LETTERS else None


def _state_text(report: ReportInput, chosen: ChosenThresholds) -> str:
    """Of the chosen thresholds. Those of a learned score are what was certified only together with what scores."""
    if not chosen.certificate:
        return "as chosen, not certified"
    scored = ", of the learned score that --write adds" if chosen.scored else ""
    return f"as calibrated{'' if report.advised else ', not advised'}{scored}"


def _thresholds(below: Iterable[str], own: Iterable[float | None]) -> str:
    return ", ".join(f"{_key(rung)}: {threshold_text(value)}" for rung, value in zip(below, own, strict=True))


def _pair(key: str, value: str) -> str:
    return dump({key: value}, flow=True)[1:-1]


def _key(name: str) -> str:
    return dump({name: None}, flow=True)[1 : -len(": null}")]


def _line(text: str) -> str:
    """A comment ends with its line, whatever a name holds."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
