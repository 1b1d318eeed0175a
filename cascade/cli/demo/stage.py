"""Shared by the scenes: ask the tickets on a simulated clock, and compute the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cascade.cli.output import stderr, stdout
from cascade.cli.replay import count_and_share, per_thousand
from cascade.core.policy import Policy
from cascade.core.trail import Answer
from cascade.corpora import Corpus, Item
from cascade.engine import Cascade
from cascade.policy.loading import load_policy
from cascade.replay.arrays import np
from cascade.replay.building import group_codes
from cascade.replay.figures import Figures, Single, answering_reply, figures_of
from cascade.replay.intervals import Interval, interval_of

__all__ = [
    "HEADS",
    "TICKETS",
    "Run",
    "Storm",
    "against",
    "ask_all",
    "demo_policy",
    "more",
    "row_of",
    "single_row",
    "storm_text",
]

TICKETS = 600
HEADS = ("quality", "95 %", "USD/1,000", "wrong shipped", "confidently wrong")


def demo_policy() -> Policy:
    """The shipped `support` policy, with short retries and a storm guard that can decide within 600 tickets."""
    values = load_policy("support", environment={}).model_dump(by_alias=True, exclude_unset=True)
    guard: dict[str, Any] = {**(values.get("storm_guard") or {}), "window": 200, "min_samples": 50}
    changes: dict[str, Any] = {"storm_guard": guard, "retry": {"attempts": 2, "max_wait_s": 0.05}}
    return Policy.model_validate({**values, **changes, "name": f"{values['name']}-demo"})


@dataclass(frozen=True, slots=True)
class Storm:
    """A storm guard event: the ticket's number (from 1) and the event's fields."""

    ticket: int
    event: str
    details: Mapping[str, Any]

    @property
    def fields(self) -> dict[str, Any]:
        """The event's fields in the JSON."""
        return {"ticket": self.ticket, "event": self.event, **self.details}


@dataclass(frozen=True, slots=True)
class Run:
    """The tickets asked under one policy. `intervals`: quality intervals by single model; "" is the cascade."""

    policy: Policy
    corpus: Corpus
    answers: tuple[Answer, ...]
    figures: Figures
    intervals: Mapping[str, Interval | None]
    storms: tuple[Storm, ...]

    @property
    def storm_cost(self) -> int:
        """The storm guard's extra cost in nano-USD: every step after one that escalated for a storm."""
        total = 0
        for answer in self.answers:
            sent_up = next(
                (number for number, step in enumerate(answer.steps) if step.reason == "storm"), len(answer.steps)
            )
            total += sum(step.cost_nanousd for step in answer.steps[sent_up + 1 :])
        return total

    @property
    def fields(self) -> dict[str, Any]:
        """The run's fields in the JSON, without the single models."""
        figures, ci95 = self.figures, self.intervals[""]
        return {
            **{key: value for key, value in asdict(figures).items() if key not in ("singles", "cost")},
            "quality_ci95": list(ci95) if ci95 else None,
            "cost_usd": figures.cost_usd,
            "false_confident_rate": figures.false_confident_rate,
            "storms": [storm.fields for storm in self.storms],
            "storm_cost_usd": self.storm_cost / 1e9,
        }


class _Stage:
    """The simulated clock, set to each ticket's arrival time, and a listener that collects storm guard events."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ticket = 0
        self.storms: list[Storm] = []

    def clock(self) -> float:
        return self.now

    def listen(self, _logger: object, _method: str, event: Mapping[str, Any]) -> Mapping[str, Any]:
        if "rung" in event:  # only the guards' events name a rung
            details = {key: value for key, value in event.items() if key not in ("event", "hint")}
            self.storms.append(Storm(self.ticket, event["event"], details))
        raise structlog.DropEvent


def ask_all(policy: Policy, client: Any, corpus: Corpus, how: str) -> Run:
    """Ask every ticket in order, with a new driver. `how` is shown in the progress bar."""
    stage, answers = _Stage(), list[Answer]()
    structlog.configure(processors=[stage.listen])
    driver = Cascade(policy, client=client, ledger="off", state="memory", clock=stage.clock)
    bar = Progress(
        TextColumn("asking {task.fields[name]}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=stderr, transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("ask", total=len(corpus.items), name=f"{len(corpus.items)} tickets, {how}")
        for stage.ticket, item in enumerate(corpus.items, start=1):
            stage.now = item.at or stage.now
            answers.append(driver.ask(item.input, task=item.task))
            bar.advance(task)
    rungs = [rung.rung for rung in policy.ladder]
    figures = figures_of(corpus.items, answers, rungs, right_at=corpus.manifest.right_at)
    shipped = [_score(item, answer) for item, answer in zip(corpus.items, answers, strict=True)]
    intervals = {"": _interval(corpus.items, shipped)}
    intervals |= {rung: _interval(corpus.items, [item.reply(rung).score for item in corpus.items]) for rung in rungs}
    return Run(policy, corpus, tuple(answers), figures, intervals, tuple(stage.storms))


def _score(item: Item, answer: Answer) -> float | None:
    step = next((step for step in reversed(answer.steps) if step.rung == answer.rung), None)
    return None if step is None else answering_reply(item, step).score


def _interval(items: Sequence[Item], scores: Sequence[float | None]) -> Interval | None:
    """The interval of the mean score, None counting 0; resamples customers."""
    return interval_of(np.array([score or 0.0 for score in scores], np.float64), group_codes(items))


def row_of(run: Run) -> tuple[str, ...]:
    """The cascade's cells under HEADS."""
    figures, n = run.figures, run.figures.items
    return (
        f"{figures.quality:.3f}", _ci95(run.intervals[""]), per_thousand(figures.cost, n), count_and_share(figures.wrong, n),
        count_and_share(figures.false_confident, n),
    )  # fmt: skip


def single_row(run: Run, rung: str, single: Single) -> tuple[str, ...]:
    """A single model's cells under HEADS."""
    n, ci95 = run.figures.items, _ci95(run.intervals[rung])
    below_top = run.figures.single_false_confident(rung) or 0
    return (
        f"{single.quality:.3f}", ci95, per_thousand(single.cost, n), count_and_share(single.wrong, n), count_and_share(below_top, n),
    )  # fmt: skip


def against(figures: Figures, rung: str) -> str:
    """The cascade against a single model, in one sentence."""
    single = figures.singles[rung]
    dearer, better = figures.cost / single.cost - 1, figures.quality - single.quality
    by = f"{abs(better):.3f}"
    quality = "the same" if not float(by) else f"{by} {'lower' if better < 0 else 'higher'}"
    return f"Against {rung} alone: {abs(dearer):.0%} {'dearer' if dearer > 0 else 'cheaper'}, {quality} quality."


def more(what: str, command: str) -> None:
    """Print a command that shows more."""
    stdout.print(f"  {what}: {command}", style="dim")


def storm_text(storm: Storm) -> str:
    """A storm guard event in one line."""
    details = storm.details
    where = f"{details.get('task', 'all')} at {details['rung']}"
    seen = (
        f"{details['rate']:.0%} of {details['samples']} escalated by themselves, normal is up to {details['limit']:.0%}"
    )
    return f"ticket {storm.ticket}: {storm.event.replace('_', ' ')}: {where} ({seen})"


def _ci95(interval: Interval | None) -> str:
    return f"{interval[0]:.3f}–{interval[1]:.3f}" if interval else "not known"
