"""Calibration on recorded corpora of real models: wins, losses and refusals, one row per corpus.

    python benchmarks/recorded.py [CORPUS…] [--max-risk 0.1 0.05] [--markdown]

CORPUS is a recorded corpus (default: all under ../shared/corpora, beside the checkout). All figures are measured on the
certify half, which the search never saw: the corpus's own ladder at a raw 0.80 on every rung, the thresholds that
`calibrate` certified, those it certified on a learned score (`--scorer`) and with samples (`--samples auto`, where a rung was recorded more than
once), the best single model below the top, and the
top alone. USD are per 1,000 requests.

All rows have the same target: confidently wrong (shipped below the top, and wrong) in at most `--max-risk` of all
requests, at 95 %. 0.1 was chosen by the number of units, before any outcome was read: it is the smallest of 0.01, 0.02,
0.05 and 0.1 that the smallest certify half can prove with one mistake in it. At 0.05 those 62 groups would have to be
without a mistake. Each further target is summarised in a line below the table.

    win      certified, and cheaper than every single model that meets the target ("within noise": only by the sample mean)
    cheaper, but worse   the same, with measurably lower quality
    loss     a single model meets the target at no higher cost: the tool says "do not cascade here"
    refused  nothing could be certified: how many more graded units are needed

A second table compares at equal quality: the least cost, as a share of the top's, that recovers 90 % of the gap between the
first rung and the top on the same certify half, by raw confidences, by a score of being right and by a score of the gain
(`benchmarks/scorer.py`, its reading "held frontier", and "tuned path" where nothing is chosen on the certify half). The last
column is what `calibrate --min-quality … --scorer-target best` takes, by the tuning half alone, at 90 % of that half's gap.

Quality is not part of the target, and the saving is not certified: each verdict is followed by cost and quality against
the cheapest single model that meets the target (the top, if none is named), with 95 % intervals of the paired
differences (groups are resampled).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scorer import MEAN, READINGS, WAYS, Comparison, compare
from cascade.calibration.bounds import most_errors
from cascade.calibration.objectives import MinQuality
from cascade.calibration.proof.pareto_testing import NotCertified, Target
from cascade.calibration.run import Calibration, CalibrationOptions, HalfFigures, calibrate
from cascade.calibration.sampling import SampleSearch
from cascade.core.errors import ConfigurationError
from cascade.replay.intervals import Interval
from cascade.replay.run import Replay, ReplayOptions, replay_corpus
from cascade.replay.samples import samples_text

__all__ = ["Cell", "EqualQuality", "Outcome", "Row", "equal_quality_of", "main", "row_of"]

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "corpora"
ROUND = (0.01, 0.02, 0.05, 0.1)
DELTA = 0.05
SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Cell:
    """One way to answer the held items. `cost`: USD per 1,000; `false_confident`: a share of all of them."""

    name: str
    quality: float
    ci95: Interval | None
    cost: float
    false_confident: float

    def __str__(self) -> str:
        between = f" ({self.ci95[0]:.3f}–{self.ci95[1]:.3f})" if self.ci95 else ""
        return f"{self.quality:.3f}{between} ${self.cost:.2f} {self.false_confident:.1%}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one calibration: the certified cell (None without one), the verdict, and its reason."""

    cell: Cell | None
    verdict: str
    why: str

    def __str__(self) -> str:
        if self.verdict == "–":
            return self.why
        return " ".join([*([str(self.cell)] if self.cell else []), f"**{self.verdict}**: {self.why}"])


@dataclass(frozen=True, slots=True)
class Row:
    """One corpus at one target. `units`: their kind and number in the certify half; `best`: below the top."""

    corpus: str
    items: int
    units: tuple[str, int]
    guess: Cell
    raw: Outcome
    scored: Outcome
    voted: Outcome
    best: Cell
    top: Cell


@dataclass(frozen=True, slots=True)
class EqualQuality:
    """One corpus at SHARE of the gap. `held`, `tuned`: by the two readings, None if there is too little to learn from.

    taken    what `calibrate` takes on the tune half, its cost over the top's and its share of the gap, both held out
    """

    corpus: str
    held: Comparison | None
    tuned: Comparison | None
    taken: str

    def cells(self) -> list[str]:
        """The row of the Markdown table."""
        if self.held is None or self.tuned is None:
            return [f"`{self.corpus}`", *(["too little to learn a score from"] + [""] * 5)]
        held = [f"{self.held.cost[way]:.3f}, {self.held.false_confident[way]:.1%}" for way in WAYS]
        low, high = self.held.against_right
        by = f"{self.held.cost['gain'] - self.held.cost['right']:+.3f} ({low:+.3f} to {high:+.3f})"
        return [f"`{self.corpus}`", *held, by, ", ".join(f"{self.tuned.cost[way]:.3f}" for way in WAYS), self.taken]


def main(arguments: list[str] | None = None) -> None:
    """Print the table of the first target, and a line for each other."""
    parser = argparse.ArgumentParser(description="Calibration on recorded corpora: wins, losses and refusals.")
    parser.add_argument("corpora", nargs="*", type=Path, default=sorted(RECORDED.glob("*.jsonl.gz")))
    parser.add_argument("--max-risk", type=float, nargs="+", default=[0.1, 0.05])
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args(arguments)
    if not options.corpora:
        parser.error("there are no recorded corpora under ../shared/corpora: name some")
    first, *others = options.max_risk
    rows = [row_of(path, first) for path in options.corpora]
    print("\n".join(_markdown(rows, first) if options.markdown else _text(rows, first)))
    for alpha in others:
        print(f"\n{_line([row_of(path, alpha) for path in options.corpora], alpha)}")
    print("\n" + "\n".join(_equal_quality_table([equal_quality_of(path) for path in options.corpora])))
    if not options.markdown:
        print(f"\n{_why(rows)}")


def row_of(path: Path, alpha: float) -> Row:
    """Calibrate one corpus, by its own confidences and by a learned score, beside the guess, on its certify half."""
    result = calibrate([path], CalibrationOptions(Target("false_confident", alpha, DELTA)))
    guess = replay_corpus(path, ReplayOptions(part="certify"))
    held = result.held_out
    *below, top = [_of_half(rung, single.figures) for rung, single in result.choice.singles.items()]
    return Row(
        result.manifest.name,
        len(held),
        ("items" if held.units == len(held) else "groups", held.units),
        _of_replay("raw 0.80", guess),
        _outcome(result),
        _scored(path, alpha),
        _voted(path, alpha),
        max(below, key=lambda cell: cell.quality),
        top,
    )


def equal_quality_of(path: Path) -> EqualQuality:
    """Raw confidences and both scores at equal quality on the certify half, and what calibrate takes."""
    name = path.name.removesuffix(".jsonl.gz")
    try:
        found = compare(path, [0])
        taken = _taken(path)
    except ConfigurationError:  # too few outcomes of either kind
        return EqualQuality(name, None, None, "")
    held, tuned = (found[reading][MEAN, f"{SHARE:.0%}"] for reading in READINGS)
    return EqualQuality(name, held, tuned, taken)


def _taken(path: Path) -> str:
    tune = calibrate([path], CalibrationOptions(MinQuality(1.0))).tune
    first, top = (tune.figures_alone(index, "false_confident").quality for index in (0, len(tune.rungs) - 1))
    result = calibrate([path], CalibrationOptions(MinQuality(first + SHARE * (top - first)), scorer="best"))
    if result.compared is None or result.choice.certify is None:
        return "nothing reaches it"
    low, *_, high = [single.figures for single in result.choice.singles.values()]
    figures = result.choice.certify
    gap = (figures.quality - low.quality) / (high.quality - low.quality)
    return f"{result.compared.winner.name}: {figures.cost / high.cost:.3f} at {gap:.0%}"


def _equal_quality_table(rows: Sequence[EqualQuality]) -> list[str]:
    heads = (f"recorded, {SHARE:.0%} of the gap", *(f"{way}: cost, confidently wrong" for way in WAYS),
             "gain - right (95 %)", "nothing chosen there", "taken on the tuning half")  # fmt: skip
    return [
        f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *(f"| {' | '.join(row.cells())} |" for row in rows)
    ]  # fmt: skip


def _scored(path: Path, alpha: float) -> Outcome:
    try:
        return _outcome(calibrate([path], CalibrationOptions(Target("false_confident", alpha, DELTA), scorer="right")))
    except ConfigurationError:  # too few wrong answers to learn from
        return Outcome(None, "refused", "too little to learn a score from")


def _voted(path: Path, alpha: float) -> Outcome:
    try:
        result = calibrate(
            [path], CalibrationOptions(Target("false_confident", alpha, DELTA), samples=SampleSearch(auto=True))
        )
    except ConfigurationError:  # no rung was recorded more than once
        return Outcome(None, "–", "asked once")
    return Outcome(None, "not judged", "; ".join(result.not_judged)) if result.not_judged else _outcome(result)


def _outcome(result: Calibration) -> Outcome:
    """The tool's own verdict, and the certified cascade against the cheapest single model that meets the target."""
    choice, held = result.choice, result.held_out
    if isinstance(choice.proof, NotCertified):
        needed, units = result.further_units, choice.proof.tested.units
        why = f"{needed:,} further {units} needed" if needed else f"no number of further {units} would do"
        return Outcome(None, "refused", why)
    assert choice.certify is not None
    assert choice.versus is not None  # the top meets every risk
    versus = choice.versus
    cost, quality = versus.cost_ci95, versus.quality_ci95
    compared = (
        f"cost {_between([f'{x:+.0%}' for x in (versus.cost, *(cost or ()))])},"
        f" quality {_between([f'{x:+.3f}' for x in (versus.quality, *(quality or ()))])}"
    )
    whom = "" if versus.rung == held.rungs[-1] else f"against {versus.rung} "
    if choice.advice != "cascade":
        verdict = "loss"
    elif cost is None or cost[1] >= 0:
        verdict = "win, within noise"
    else:
        verdict = "cheaper, but worse" if quality is not None and quality[1] < 0 else "win"
    return Outcome(_of_half(_thresholds(result), choice.certify), verdict, f"{whom}{compared}")


def _between(texts: Sequence[str]) -> str:
    return f"{texts[0]} ({texts[1]} to {texts[2]})" if len(texts) > 1 else texts[0]


def _of_half(name: str, half: HalfFigures) -> Cell:
    return Cell(name, half.quality, half.ci95, 1e3 * half.cost_per_request_usd, half.false_confident)


def _of_replay(name: str, replay: Replay) -> Cell:
    figures = replay.figures
    usd = 1e3 * figures.cost_per_request_usd
    return Cell(name, figures.quality, replay.intervals[""], usd, figures.false_confident_rate)


def _thresholds(result: Calibration) -> str:
    votes = {rung: samples_text(one, result.mapping.plan.policy) for rung, one in result.samples.items()}
    return ", ".join(
        f"{rung} {votes.get(rung, '')} {'never' if x is None else format(x, 'g')}".replace("  ", " ")
        for rung, x in result.thresholds.items()
    )


def _text(rows: Sequence[Row], alpha: float) -> list[str]:
    lines = [f"confidently wrong <= {alpha:g} at {1 - DELTA:g}; on items that the search never saw"]
    for row in rows:
        lines += ["", f"{row.corpus}: {row.items:,} items, {row.units[1]:,} {row.units[0]}"]
        ways = {"guess": row.guess, "certified": row.raw.cell, "certified, scored": row.scored.cell,
                "certified, samples": row.voted.cell, "best below the top": row.best, "top": row.top}  # fmt: skip
        lines += [f"  {way:<19} {cell}   {cell.name}" for way, cell in ways.items() if cell is not None]
        for way, one in (("", row.raw), ("scored: ", row.scored), ("samples: ", row.voted)):
            lines.append(f"  {way}{one.verdict}: {one.why}")
    return lines


def _markdown(rows: Sequence[Row], alpha: float) -> list[str]:
    heads = (
        "recorded: n in groups", "raw 0.80", f"certified ≤ {alpha:.0%}", "certified, `--scorer`",
        "certified, `--samples auto`", "best below the top", "top model",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        groups = f" in {row.units[1]:,}" if row.units[0] == "groups" else ""
        cells = (f"`{row.corpus}`: {row.items:,}{groups}", row.guess, row.raw, row.scored, row.voted, row.best, row.top)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _line(rows: Sequence[Row], alpha: float) -> str:
    ways = {"": [row.raw for row in rows], ", with `--scorer`": [row.scored for row in rows]}
    ways[", with `--samples auto`"] = [row.voted for row in rows]
    return "\n".join(f"At {alpha:.0%}{way}: {_verdicts(rows, outcomes)}." for way, outcomes in ways.items())


def _verdicts(rows: Sequence[Row], outcomes: Sequence[Outcome]) -> str:
    parts: list[str] = []
    for verdict in ("win", "win, within noise", "cheaper, but worse", "loss", "refused"):
        named = [
            f"`{row.corpus}`" + (f" ({one.why})" if verdict != "loss" else "")
            for row, one in zip(rows, outcomes, strict=True)
            if one.verdict == verdict
        ]
        parts += [f"{verdict} on {', '.join(named)}"] if named else []
    return "; ".join(parts)


def _why(rows: Sequence[Row]) -> str:
    fewest = min(rows, key=lambda row: row.units[1])
    units, n = fewest.units
    most = {alpha: most_errors(n, alpha, DELTA) for alpha in ROUND}
    mistakes = ", ".join(f"{alpha:g}: {'none proves it' if k < 0 else k}" for alpha, k in most.items())
    return f"the smallest certify half is {fewest.corpus}'s, {n} {units}; how many of them may be lost at a risk of {mistakes}"


if __name__ == "__main__":
    main()
