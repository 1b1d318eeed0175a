"""Scene 1: thresholds of 0.80, a storm that trips the guard, and an outage in the middle of a climb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cascade.cli.demo.stage import HEADS, Run, against, more, row_of, single_row, storm_text
from cascade.cli.output import stdout, table, usd
from cascade.core.errors import AllRungsFailed
from cascade.core.policy import Policy
from cascade.core.trail import Answer, Step
from cascade.core.trail_table import trail_text
from cascade.corpora import Item
from cascade.engine import Cascade
from cascade.replay.figures import Figures

__all__ = ["Outage", "fields_of", "outages", "print_scene"]


@dataclass(frozen=True, slots=True)
class Outage:
    """One ticket asked while the models in `down` fail, and its result."""

    down: tuple[str, ...]
    answer: Answer | None
    steps: tuple[Step, ...]
    result: str


def outages(policy: Policy, client: Any, emulator: Any, run: Run) -> tuple[Outage, ...]:
    """Ask a ticket that climbs to the top again, with the second, all but the first, then all models down."""
    driver = Cascade(policy, client=client, ledger="off", state="memory")
    item = next(item for item, answer in zip(run.corpus.items, run.answers, strict=True) if _climbs_by_itself(answer))
    models = [rung.model for rung in policy.ladder]
    return tuple(_with_down(driver, emulator, item, tuple(down)) for down in (models[1:2], models[1:], models))


def _climbs_by_itself(answer: Answer) -> bool:
    return len(answer.steps) > 2 and all(step.reason in ("low_confidence", None) for step in answer.steps)


def _with_down(driver: Cascade, emulator: Any, item: Item, down: tuple[str, ...]) -> Outage:
    emulator.faults = ";".join(f"overloaded,model={model}" for model in down)
    try:
        answer = driver.ask(item.input, task=item.task)
    except AllRungsFailed as error:
        return Outage(down, None, error.steps, str(error))
    finally:
        emulator.faults = None
    how = f"degraded: {answer.degraded}" if answer.degraded else "answered as usual"
    return Outage(down, answer, answer.steps, f"{answer.rung}'s answer ships, {how}")


def print_scene(run: Run, results: Sequence[Outage]) -> None:
    """Print the table, the storm and the outage."""
    figures = run.figures
    stdout.print("1. thresholds 0.80, as everyone ships them", style="bold")
    title = f"{figures.items} synthetic support tickets, policy support, thresholds 0.80: a guess, uncertified"
    rows = table("synthetic", *HEADS, title=title, right=HEADS)
    rows.add_row("cascade", *row_of(run))
    for rung, single in figures.singles.items():
        rows.add_row(f"{rung} alone", *single_row(run, rung, single))
    stdout.print(rows)
    more(
        "confidently wrong: shipped below the top rung, and wrong (a single model below the top: all that it gets wrong)",
        "cascade demo --json",
    )
    stdout.print(f"{_verdict(figures, run.policy.ladder[-1].rung)}")
    more("thresholds, prices, floors", "cascade policy show support")
    shipped = ", ".join(f"{rung} {count}" for rung, count in figures.shipped.items())
    reasons = ", ".join(f"{reason} {count}" for reason, count in figures.reasons.items())
    stdout.print(f"answered by: {shipped}\nclimbed because: {reasons}")
    more("one ticket's trail", "cascade ask --explain (try it on `cascade emulate`)")
    _print_storm(run)
    stdout.print("\nan outage in the middle of a climb")
    for outage in results:
        stdout.print(f"{', '.join(outage.down)} down: {outage.result}")
        if outage.answer is not None and outage.answer.degraded:
            stdout.print(trail_text(outage.steps, outage.answer.rung, stdout.width))
    more("your own outage", f"cascade emulate --faults overloaded,model={results[0].down[0]}")


def _print_storm(run: Run) -> None:
    stdout.print("\na storm")
    for storm in run.storms:
        stdout.print(storm_text(storm))
    sent_up = run.figures.reasons.get("storm", 0)
    stdout.print(f"{sent_up} answers were not trusted meanwhile and went one rung up, for {usd(run.storm_cost)} USD")
    guard = run.policy.storm_guard
    assert guard is not None
    here = f"here it decides on {guard.min_samples} requests and a window of {guard.window}"
    more(f"the guard's settings ({here})", "cascade policy show support")


def _verdict(figures: Figures, top: str) -> str:
    rivals = [
        rung
        for rung, single in figures.singles.items()
        if single.quality >= figures.quality and single.cost <= figures.cost
    ]
    beaten = f" {' and '.join(rivals)} alone is better and cheaper: do not cascade here." if rivals else ""
    return f"{against(figures, top)}{beaten} A guessed threshold ships confident mistakes: measure yours before you trust it."


def fields_of(run: Run, results: Sequence[Outage]) -> dict[str, Any]:
    """The scene's fields, at the top level of the JSON."""
    singles = {
        f"single:{rung}": {"quality": one.quality, "cost_usd": one.cost / 1e9, "wrong": one.wrong}
        for rung, one in run.figures.singles.items()
    }
    return {
        "synthetic": True,
        "policy": run.policy.name,
        "policy_hash": run.policy.hash,
        "certificate": "uncertified",
        **run.fields,
        "baselines": singles,
        "outages": [
            {"down": list(outage.down), "said": outage.result, "steps": [step.to_dict() for step in outage.steps],
             "answer": outage.answer.to_dict() if outage.answer else None}
            for outage in results
        ],
    }  # fmt: skip
