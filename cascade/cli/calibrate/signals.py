"""`calibrate --signals`: what each signal of a corpus is worth, as tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade.calibration.signal_table import AdviceStep, Oracle, SignalRow, SignalTable
from cascade.cli.output import stdout, table
from cascade.replay.intervals import Interval

__all__ = ["print_signals", "signal_fields"]

_HEADS = ("n", "right", "AUROC", "95 %", "50 %", "90 %", "99 %", "ships %")
_VERDICTS = {"helps": "helps", "not shown to help": "not shown", "costs more": "dearer"}


def signal_fields(found: SignalTable | None) -> dict[str, Any]:
    """The key `signals` of `calibrate --json`; nothing without --signals."""
    return {} if found is None else {"signals": found.fields()}


def print_signals(found: SignalTable | None) -> None:
    """Print the verdict, the signals of each rung, which check finds which mistakes, and what to turn on in order.

    Nothing without --signals.
    """
    if found is None:
        return
    kind = "synthetic" if found.synthetic else "recorded"
    units = f", {found.groups:,} groups" if found.groups != found.items else ""
    stdout.print()
    stdout.print(f"signals of {found.corpus}, on {found.items:,} {kind} items of the tuning half{units}", style="bold")
    stdout.print(found.verdict, style="bold")
    first, best = found.rungs[0], found.rungs.index(found.best)
    stdout.print(
        f"the gap: from {first} alone, quality {found.qualities[0]:.3f}, to {found.best} alone, the best single model,"
        f" {found.qualities[best]:.3f}"
    )
    stdout.print(f"costs: at a share of the gap, as a multiple of the cost of {found.best} alone{_how(found)}")
    if found.oracle is not None:
        stdout.print(_oracle(found.oracle, found.rungs))
    for rung in found.rungs[:-1]:
        stdout.print()
        stdout.print(_table(rung, found.of(rung)))
        if rung in found.repeats:
            stdout.print(found.repeats[rung])
        for one in found.checks:
            if one.rung == rung:
                stdout.print(f"check {one.check}: {one}")
    if found.gap > 0:
        _print_advice(found.advice)
    for note in found.notes:
        stdout.print(f"note: {note}")


def _how(found: SignalTable) -> str:
    if found.out_of_fold:
        return "; thresholds are chosen on other groups than they are measured on"
    return "; thresholds are chosen on the items they are measured on, so costs are slightly too low"


def _oracle(oracle: Oracle, rungs: Sequence[str]) -> str:
    ends = ", ".join(f"{rung} {share:.0%}" for rung, share in zip(rungs, oracle.shipped, strict=True))
    return (
        f"the floor, if every request ended at the first rung that no other betters: cost {oracle.cost:.2f}, quality"
        f" {oracle.quality:.3f} ({ends})"
    )


def _table(rung: str, rows: Sequence[SignalRow]) -> object:
    made = table(f"signals of {rung}", *_HEADS, "", right=_HEADS)
    for row in rows:
        if row.refused:
            continue
        costs = ["–" if one.cost is None else f"{one.cost:.2f}" for one in row.costs] or [""] * 3
        ships = "/".join(f"{100 * share:.0f}" for share in row.costs[1].shipped) if row.costs else ""
        verdict = _VERDICTS[row.verdict] if row.verdict else ""
        made.add_row(row.signal, f"{row.items:,}", _decimals(row.accuracy), _decimals(row.auroc), _range(row.auroc_ci95),
                     *costs, ships, verdict)  # fmt: skip
    return made


def _print_advice(steps: Sequence[AdviceStep]) -> None:
    stdout.print("\nworth turning on, in this order (cost at 90 % of the gap, at equal quality):")
    if not steps:
        stdout.print("  nothing: no signal lowers the cost")
    for number, step in enumerate(steps, 1):
        stdout.print(f"  {number}. {_step(step)}")


def _step(step: AdviceStep) -> str:
    before, after = ("not reached" if one is None else f"{one:.2f}" for one in (step.before, step.after))
    low_high = f" [{step.difference_ci95[0]:+.2f}, {step.difference_ci95[1]:+.2f}]" if step.difference_ci95 else ""
    told = "" if step.shown else ": not shown to help"
    turned = f" ({step.setting})" if step.setting else ""
    return f"{step.rung}: {step.signal}{turned}: {before} → {after}, {step.difference:+.2f}{low_high}{told}"


def _decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".removeprefix("0")


def _range(ci95: Interval | None) -> str:
    return "" if ci95 is None else f"{_decimals(ci95[0])}–{_decimals(ci95[1])}"
