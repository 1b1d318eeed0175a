"""The YAML that a page offers, with a comment on whether these thresholds were calibrated and certified."""

from __future__ import annotations

from collections.abc import Iterable

from cascade.calibration.report.inputs import ChosenThresholds, ReportInput
from cascade.policy.editing import threshold_text
from cascade.policy.loading import dump

__all__ = ["MOST_LETTERS", "states_of", "yaml_of"]

MOST_LETTERS = 40_000
"""The longest YAML of thresholds by task that fits on a page of 500 KB."""


def states_of(report: ReportInput) -> tuple[str, str]:
    """The comment in the sliders' YAML: at their start, and anywhere else."""
    by_hand = "set by hand in a report, not certified"
    if report.chosen is None:
        return by_hand, by_hand
    if report.by_task:
        shared = "one set for all tasks, not certified"
        return shared, shared
    return _state_text(report, report.chosen), by_hand


def yaml_of(report: ReportInput) -> str | None:
    """The chosen thresholds of the ladder and the tasks; None if too long for a page, or if nothing was chosen."""
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
        lines.append(f"  - {{{', '.join((_pair('rung', rung), *_keys(report, rung, value)))}}}")
    lines.append(f"  - {{{_pair('rung', counts.rungs[-1])}}}")
    if chosen.by_task:
        lines.append("tasks:")
        for task, own in chosen.by_task.items():
            lines.append(f"  - {{{_pair('name', task)}, thresholds: {{{_thresholds(below, own)}}}}}")
    text = "\n".join(lines) + "\n"
    return text if len(text) <= MOST_LETTERS else None


def _state_text(report: ReportInput, chosen: ChosenThresholds) -> str:
    """How the chosen thresholds are described. Those of a learned score are certified only together with the scorer."""
    if not chosen.certificate:
        return "as chosen, not certified"
    scored = ", of the learned score that --write adds" if chosen.scored else ""
    return f"as calibrated{'' if report.advised else ', not advised'}{scored}"


def _thresholds(below: Iterable[str], own: Iterable[float | None]) -> str:
    return ", ".join(f"{_key(rung)}: {threshold_text(value)}" for rung, value in zip(below, own, strict=True))


def _keys(report: ReportInput, rung: str, value: float | None) -> list[str]:
    """The other keys of a rung: its samples, and its threshold unless agreement decides."""
    samples = report.sampled.yaml.get(rung)
    keys = [] if samples is None else [f"samples: {samples}"]
    if rung not in report.sampled.by_agreement or value is None:
        keys.append(f"threshold: {threshold_text(value)}")
    return keys


def _pair(key: str, value: str) -> str:
    return dump({key: value}, flow=True)[1:-1]


def _key(name: str) -> str:
    return dump({name: None}, flow=True)[1 : -len(": null}")]


def _line(text: str) -> str:
    """Text on one line, so that it cannot end the comment."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
