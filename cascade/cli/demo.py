"""`cascade demo`: synthetic support tickets through the real SDK and the emulator, offline; then what a person asks.

Nothing here decides anything: the tickets climb as live requests do, the figures are those of `corpora.figures`, and
the same corpus replayed by the rule gives the same table (a test holds them equal). The storm guard's clock is the
tickets' own arrival time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cascade.claude import connect
from cascade.cli.emulating import support_corpus
from cascade.cli.output import answer_fields, print_json, stderr, stdout, step_fields, table, trail_table, usd
from cascade.core.errors import AllRungsFailed, MissingExtra
from cascade.core.policy import Policy
from cascade.core.trail import Answer, Step
from cascade.corpora import Corpus, Item, read_corpus
from cascade.corpora.figures import Figures, figures_of
from cascade.engine import Cascade
from cascade.loading import load_policy

__all__ = ["TICKETS", "demo_policy", "run_demo"]

TICKETS = 600


def demo_policy() -> Policy:
    """The shipped `support` policy, with a guard that can make up its mind within 600 tickets, and short retries."""
    values = load_policy("support", environment={}).model_dump(by_alias=True, exclude_unset=True)
    guard: dict[str, Any] = {**(values.get("storm_guard") or {}), "window": 200, "min_samples": 50}
    changes: dict[str, Any] = {"storm_guard": guard, "retry": {"attempts": 2, "max_wait_s": 0.05}}
    return Policy.model_validate({**values, **changes, "name": f"{values['name']}-demo"})


@dataclass(frozen=True, slots=True)
class Outage:
    """One ticket asked while some models are down: what was down, and what became of it."""

    down: tuple[str, ...]
    answer: Answer | None
    steps: tuple[Step, ...]
    said: str


@dataclass(frozen=True, slots=True)
class Storm:
    """A change of the storm guard: at which ticket (from 1), and the event's fields."""

    ticket: int
    event: str
    details: Mapping[str, Any]


class _Stage:
    """The demo's clock and its ears: tickets arrive when the corpus says so, events are kept for the report."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ticket = 0
        self.storms: list[Storm] = []

    def clock(self) -> float:
        return self.now

    def listen(self, _logger: object, _method: str, event: Mapping[str, Any]) -> Mapping[str, Any]:
        details = {key: value for key, value in event.items() if key not in ("event", "hint")}
        self.storms.append(Storm(self.ticket, event["event"], details))
        raise structlog.DropEvent


def run_demo(*, as_json: bool) -> None:
    """Run it and print the report."""
    try:
        from cascade.emulator import Emulator  # noqa: PLC0415 - needs an extra
    except ImportError:
        raise MissingExtra("the demo", "emulator") from None
    started = time.monotonic()
    policy, stage = demo_policy(), _Stage()
    whole = read_corpus(support_corpus())
    corpus = Corpus(whole.manifest, whole.items[:TICKETS], whole.source)
    structlog.configure(processors=[stage.listen])
    with Emulator(corpus) as emulator, connect(emulator.base_url, "demo") as client:
        driver = Cascade(policy, client=client, clock=stage.clock)
        answers = _ask_all(driver, corpus, stage)
        storms = tuple(stage.storms)
        outages = _outages(Cascade(policy, client=client), emulator, corpus, answers)
    rungs = [rung.rung for rung in policy.ladder]
    figures = figures_of(corpus.items, answers, rungs, right_at=corpus.manifest.right_at)
    seconds = time.monotonic() - started
    if as_json:
        print_json(_fields(policy, figures, storms, outages, seconds) | {"storm_cost_usd": _storm_cost(answers) / 1e9})
    else:
        _print(policy, figures, storms, _storm_cost(answers), outages)
        stderr.print(f"{seconds:.0f} s, no key, no network beyond this machine", style="dim")


def _ask_all(driver: Cascade, corpus: Corpus, stage: _Stage) -> list[Answer]:
    answers: list[Answer] = []
    bar = Progress(
        TextColumn("asking {task.fields[name]} tickets"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=stderr, transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("ask", total=len(corpus.items), name=len(corpus.items))
        for stage.ticket, item in enumerate(corpus.items, start=1):
            stage.now = item.at or stage.now
            answers.append(driver.ask(item.input, task=item.task))
            bar.advance(task)
    return answers


def _storm_cost(answers: list[Answer]) -> int:
    """What the storm guard added, in nano-USD: every step after one that only a storm sent up."""
    total = 0
    for answer in answers:
        sent_up = next(
            (number for number, step in enumerate(answer.steps) if step.reason == "storm"), len(answer.steps)
        )
        total += sum(step.cost for step in answer.steps[sent_up + 1 :])
    return total


def _outages(driver: Cascade, emulator: Any, corpus: Corpus, answers: list[Answer]) -> list[Outage]:
    """A ticket that climbs to the top is asked again while the rungs above the first, then all, are down."""
    item = next(item for item, answer in zip(corpus.items, answers, strict=True) if _climbs_by_itself(answer))
    models = [rung.model for rung in driver.policy.ladder]
    return [_with_down(driver, emulator, item, tuple(down)) for down in (models[1:2], models[1:], models)]


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
    said = f"degraded: {answer.degraded}" if answer.degraded else "answered as usual"
    return Outage(down, answer, answer.steps, f"{answer.rung}'s answer ships, {said}")


def _print(policy: Policy, figures: Figures, storms: tuple[Storm, ...], storm_cost: int, outages: list[Outage]) -> None:
    n, top = figures.items, policy.ladder[-1].rung
    rows = table(
        "synthetic", "quality", "USD per 1,000", "wrong answers shipped", "confidently wrong",
        title=f"{n} synthetic support tickets, policy support, thresholds 0.80: a guess, uncertified",
        right=("quality", "USD per 1,000", "wrong answers shipped", "confidently wrong"),
    )  # fmt: skip
    rows.add_row(
        "cascade", f"{figures.quality:.3f}", _per_thousand(figures.cost, n),
        _share(figures.wrong, n), _share(figures.false_confident, n),
    )  # fmt: skip
    for rung, single in figures.singles.items():
        cells = (f"{single.quality:.3f}", _per_thousand(single.cost, n), _share(single.wrong, n), "not asked")
        rows.add_row(f"{rung} alone", *cells)
    stdout.print(rows)
    _more("confidently wrong: shipped below the top rung, at 0.80 or above, and wrong", "cascade demo --json")
    stdout.print(f"\n{_verdict(figures, top)}")
    _more("thresholds, prices, floors", "cascade policy show support")
    shipped = ", ".join(f"{rung} {count}" for rung, count in figures.shipped.items())
    reasons = ", ".join(f"{reason} {count}" for reason, count in figures.reasons.items())
    stdout.print(f"\nanswered by: {shipped}\nclimbed because: {reasons}")
    _more("one ticket's trail", "cascade ask --explain (try it on `cascade emulate`)")
    stdout.print("\nthe storm", style="bold")
    for storm in storms:
        stdout.print(f"ticket {storm.ticket}: {_told(storm)}")
    sent_up = figures.reasons.get("storm", 0)
    stdout.print(f"{sent_up} answers were not trusted meanwhile and went one rung up, for {usd(storm_cost)} USD")
    guard = policy.storm_guard
    assert guard is not None
    here = f"here it decides on {guard.min_samples} requests and a window of {guard.window}"
    _more(f"the guard's settings ({here})", "cascade policy show support")
    stdout.print("\nan outage in the middle of a climb", style="bold")
    for outage in outages:
        stdout.print(f"{', '.join(outage.down)} down: {outage.said}")
        stdout.print(trail_table(outage.steps, outage.answer.rung if outage.answer else None))
    _more("your own outage", f"cascade emulate --faults overloaded,model={outages[0].down[0]}")


def _more(what: str, command: str) -> None:
    stdout.print(f"  {what}: {command}", style="dim")


def _verdict(figures: Figures, top: str) -> str:
    best = figures.singles[top]
    saved = 1 - figures.cost / best.cost
    lost = best.quality - figures.quality
    rivals = [
        rung
        for rung, single in figures.singles.items()
        if single.quality >= figures.quality and single.cost <= figures.cost
    ]
    says = f"Against {top} alone: {saved:.0%} cheaper, {abs(lost):.3f} {'lower' if lost > 0 else 'higher'} quality."
    beaten = f" {' and '.join(rivals)} alone is better and cheaper: do not cascade here." if rivals else ""
    return f"{says}{beaten} A guessed threshold ships confident mistakes: measure yours before you trust it."


def _told(storm: Storm) -> str:
    details = storm.details
    where = f"{details.get('task', 'all')} at {details['rung']}"
    seen = (
        f"{details['rate']:.0%} of {details['samples']} escalated by themselves, normal is up to {details['limit']:.0%}"
    )
    return f"{storm.event.replace('_', ' ')}: {where} ({seen})"


def _per_thousand(cost: int, n: int) -> str:
    return f"{cost / 1e6 / n:.4f}"


def _share(count: int, n: int) -> str:
    return f"{count} ({count / n:.1%})"


def _fields(
    policy: Policy, figures: Figures, storms: tuple[Storm, ...], outages: list[Outage], seconds: float
) -> dict[str, Any]:
    values = asdict(figures)
    singles = {
        f"single:{rung}": {"quality": one.quality, "cost_usd": one.cost / 1e9, "wrong": one.wrong}
        for rung, one in figures.singles.items()
    }
    return {
        "synthetic": True,
        "policy": policy.name,
        "policy_hash": policy.hash,
        "certificate": "uncertified",
        **{key: value for key, value in values.items() if key not in ("singles", "cost")},
        "cost_usd": figures.cost_usd,
        "false_confident_rate": figures.false_confident_rate,
        "baselines": singles,
        "storms": [{"ticket": storm.ticket, "event": storm.event, **storm.details} for storm in storms],
        "outages": [
            {"down": list(outage.down), "said": outage.said, "steps": [step_fields(step) for step in outage.steps],
             "answer": answer_fields(outage.answer) if outage.answer else None}
            for outage in outages
        ],
        "seconds": round(seconds, 1),
    }  # fmt: skip
