"""What calibration comes to on recorded corpora of real models: wins, losses and refusals, one row each.

    python benchmarks/recorded.py [CORPUS…] [--max-risk 0.1 0.05] [--markdown]

CORPUS is a recorded corpus (default: all beside the checkout under ../shared/corpora). Every figure is of the certify
half, which the search never saw: the corpus's own ladder at a raw 0.80 on every rung, the thresholds that `calibrate`
certified, the best single model below the top, and the top alone. USD are per 1,000 requests.

The target is one for all rows: confidently wrong (shipped below the top, and wrong) in at most `--max-risk` of all
requests, at 95 %. 0.1 follows from how many units there are, before any outcome is read: it is the smallest of 0.01,
0.02, 0.05 and 0.1 that the smallest certify half can prove with a single mistake in it. At 0.05 those 62 groups would
have to be spotless. Each further target is told in a line below the table.

    win      certified, and cheaper than every single model that meets the target ("within noise": by its sample mean alone)
    loss     a single model meets it for no more money: the tool says "do not cascade here"
    refused  nothing could be certified: how many more graded units would do

Quality is no part of the target, and a sample's saving is not proved: beside each verdict stand cost and quality against
the cheapest single model that meets the target, with the 95 % intervals of the paired differences (groups are drawn).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cascade.calibration.bounds import most_errors
from cascade.calibration.calibrating import Calibration, Half, Wish, calibrate
from cascade.calibration.certificate import NotCertified, Target
from cascade.calibration.sides import Items
from cascade.corpora.arrays import np
from cascade.corpora.intervals import Interval, interval_of
from cascade.corpora.lenses import Override
from cascade.corpora.replays import Replay, replay_corpus
from cascade.corpora.replays import Wish as Replayed

__all__ = ["Cell", "Row", "main", "row_of"]

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "corpora"
ROUND = (0.01, 0.02, 0.05, 0.1)
DELTA = 0.05


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
class Row:
    """One corpus at one target. `units`: what is counted, and how many the certify half has; `best`: below the top."""

    corpus: str
    items: int
    units: tuple[str, int]
    guess: Cell
    certified: Cell | None
    best: Cell
    top: Cell
    verdict: str
    why: str


def main(arguments: list[str] | None = None) -> None:
    """Print the table of the first target, and a line for each other."""
    parser = argparse.ArgumentParser(description="Calibration on recorded corpora: wins, losses and refusals.")
    parser.add_argument("corpora", nargs="*", type=Path, default=sorted(RECORDED.glob("*.jsonl.gz")))
    parser.add_argument("--max-risk", type=float, nargs="+", default=[0.1, 0.05])
    parser.add_argument("--markdown", action="store_true", help="as the README has it")
    wish = parser.parse_args(arguments)
    if not wish.corpora:
        parser.error("there are no recorded corpora under ../shared/corpora: name some")
    first, *others = wish.max_risk
    rows = [row_of(path, first) for path in wish.corpora]
    print("\n".join(_markdown(rows, first) if wish.markdown else _text(rows, first)))
    for alpha in others:
        print(f"\n{_line([row_of(path, alpha) for path in wish.corpora], alpha)}")
    if not wish.markdown:
        print(f"\n{_why(rows)}")


def row_of(path: Path, alpha: float) -> Row:
    """Calibrate one corpus, and replay the guess and the choice on its certify half."""
    result = calibrate([path], Wish(Target("false_confident", alpha, DELTA)))
    guess = replay_corpus(path, Replayed(part="certify"))
    held, choice = result.held, result.choice
    alone = {rung: _of_half(rung, single.figures) for rung, single in choice.singles.items()}
    *below, top = alone.values()
    units = "items" if held.units == len(held) else "groups"
    return Row(
        result.manifest.name,
        len(held),
        (units, held.units),
        _of_replay("raw 0.80", guess),
        None if choice.certify is None else _of_half(_thresholds(result), choice.certify),
        max(below, key=lambda cell: cell.quality),
        top,
        *_judged(path, result),
    )


def _judged(path: Path, result: Calibration) -> tuple[str, str]:
    """The tool's own verdict, and the certified cascade against the cheapest single model that meets the target."""
    rival = min(
        (rung for rung, single in result.choice.singles.items() if single.meets),
        key=lambda rung: result.choice.singles[rung].figures.cost,
    )  # there is one: the top meets every risk
    if isinstance(result.choice.proof, NotCertified):
        needed, units = result.choice.proof.further_units_needed, result.choice.proof.tested.units
        return "refused", f"{needed:,} further {units} needed" if needed else f"no number of further {units} would do"
    certify, chosen, held = result.choice.certify, result.choice.chosen, result.held
    assert certify is not None
    assert chosen is not None
    assert isinstance(held, Items)
    overrides = tuple(Override(rung, value) for rung, value in result.thresholds.items())
    replay = replay_corpus(path, Replayed(part="certify", overrides=overrides))
    assert replay.figures.cost == certify.cost  # one rule, two drivers
    assert abs(replay.figures.quality - certify.quality) < 1e-9
    (quality, ci95), costs = _paired(replay, rival), held.coded.costs(held.at(chosen))
    alone = held.coded.cost[:, held.rungs.index(rival)]
    usd = interval_of((costs - alone).astype(np.float64), held.coded.group)
    share = [f"{change / alone.mean():+.0%}" for change in (costs.mean() - alone.mean(), *(usd or ()))]
    whom = "the top" if rival == held.rungs[-1] else rival
    told = f"against {whom} cost {_between(share)}, quality {_between([f'{x:+.3f}' for x in (quality, *(ci95 or ()))])}"
    if result.choice.advice != "cascade":
        return "loss", told
    return "win" if usd is not None and usd[1] < 0 else "win, within noise", told


def _paired(replay: Replay, rival: str) -> tuple[float, Interval | None]:
    difference = replay.beside[rival][1]
    return difference.value, difference.ci95


def _between(told: Sequence[str]) -> str:
    return f"{told[0]} ({told[1]} to {told[2]})" if len(told) > 1 else told[0]


def _of_half(name: str, half: Half) -> Cell:
    return Cell(name, half.quality, half.ci95, 1e3 * half.cost_per_request_usd, half.false_confident)


def _of_replay(name: str, replay: Replay) -> Cell:
    figures = replay.figures
    usd = 1e3 * figures.cost_per_request_usd
    return Cell(name, figures.quality, replay.intervals[""], usd, figures.false_confident_rate)


def _thresholds(result: Calibration) -> str:
    return ", ".join(f"{rung} {'never' if x is None else format(x, 'g')}" for rung, x in result.thresholds.items())


def _text(rows: Sequence[Row], alpha: float) -> list[str]:
    lines = [f"confidently wrong <= {alpha:g} at {1 - DELTA:g}; on items that the search never saw"]
    for row in rows:
        lines += ["", f"{row.corpus}: {row.items:,} items, {row.units[1]:,} {row.units[0]}: {row.verdict}: {row.why}"]
        certified = [("certified", row.certified)] if row.certified else []
        ways = [("guess", row.guess), *certified, ("best below the top", row.best), ("top", row.top)]
        lines += [f"  {way:<19} {cell}   {cell.name}" for way, cell in ways]
    return lines


def _markdown(rows: Sequence[Row], alpha: float) -> list[str]:
    heads = (
        "recorded: n in groups",
        "raw 0.80",
        f"certified ≤ {alpha:.0%}",
        "best model below the top",
        "top model",
        "verdict",
    )
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        cells = (
            f"`{row.corpus}`: {row.items:,}" + (f" in {row.units[1]:,}" if row.units[0] == "groups" else ""), str(row.guess), str(row.certified or "–"), str(row.best), str(row.top),
            f"**{row.verdict}**: {row.why}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _line(rows: Sequence[Row], alpha: float) -> str:
    told: list[str] = []
    for verdict in ("win", "win, within noise", "loss", "refused"):
        named = [
            f"`{row.corpus}`" + (f" ({row.why})" if verdict == "refused" else "")
            for row in rows
            if row.verdict == verdict
        ]
        told += [f"{verdict} on {', '.join(named)}"] if named else []
    return f"At {alpha:.0%}: {'; '.join(told)}."


def _why(rows: Sequence[Row]) -> str:
    fewest = min(rows, key=lambda row: row.units[1])
    units, n = fewest.units
    most = {alpha: most_errors(n, alpha, DELTA) for alpha in ROUND}
    told = ", ".join(f"{alpha:g}: {'none proves it' if k < 0 else k}" for alpha, k in most.items())
    return (
        f"the smallest certify half is {fewest.corpus}'s, {n} {units}; how many of them may be lost at a risk of {told}"
    )


if __name__ == "__main__":
    main()
