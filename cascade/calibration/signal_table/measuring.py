"""Measure every signal of every rung on the tune half: how well it ranks, and what it costs to close the gap with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cascade.calibration.repeats import why_not_judged_by_rung
from cascade.calibration.scorer import learn
from cascade.calibration.signal_table.advising import Offer, advise
from cascade.calibration.signal_table.agreement import usable, variant_decisions, votes_on, with_plurality
from cascade.calibration.signal_table.collecting import REVIEWED, SignalCollector
from cascade.calibration.signal_table.costs import Sweep, Yardstick
from cascade.calibration.signal_table.deciding import Decision, TuneHalf, coded_with, tune_half
from cascade.calibration.signal_table.discrimination import auroc_with_interval
from cascade.calibration.signal_table.figures import SHARES, CheckCounts, Kind, SignalRow, SignalTable, Verdict
from cascade.core.errors import ConfigurationError
from cascade.core.policy.scorer import ScoringTarget
from cascade.replay.arrays import np
from cascade.replay.columns import Columns, MappedColumns

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Floats

__all__ = ["SignalCollector", "measure_signals"]

_DECIDING = SHARES[1]
_AGREEMENTS = (3, 5)  # samples; and all that were recorded


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """A row with the decisions behind its costs; `offered`: a policy can turn it on."""

    row: SignalRow
    decisions: tuple[Decision, ...] = ()
    sweep: Sweep | None = None
    offered: bool = False


def measure_signals(
    columns: Columns,
    mapped: MappedColumns,
    is_tune: Bools,
    collector: SignalCollector,
    *,
    targets: Sequence[ScoringTarget] = ("right", "gain"),
    seed: int = 0,
) -> SignalTable:
    """The table of all signals. Reads the rows in `is_tune` only.

    mapped     with the recorded samples (`PolicyMapping.same`), if agreement is to be judged
    collector  that has seen the items of `columns`
    targets    of the scorers to learn

    Raises ConfigurationError if the tune half has no items, CorpusError, naming item and rung, if a reply of it is missing or has
    no score or no cost.
    """
    if not is_tune.any():
        raise ConfigurationError("the tune half of the split has no items (give another --tune or --split-seed)")
    half = tune_half((columns, mapped), collector.features(mapped), collector.signals, collector.checks, is_tune)
    bench = _Bench(half, targets, seed)
    measured = [one for index in range(len(half.view.mapping.rungs) - 1) for one in bench.rung(index)]
    rungs, yard = half.view.mapping.names, bench.yard
    rows = tuple(one.row for one in measured)
    return SignalTable(
        corpus=columns.manifest.name,
        synthetic=columns.manifest.synthetic,
        items=len(half),
        groups=yard.groups,
        rungs=rungs,
        qualities=yard.qualities,
        prices=tuple(price / 1e9 / len(half) for price in yard.prices),
        best=rungs[yard.best],
        gap=yard.gap,
        out_of_fold=yard.out_of_fold,
        oracle=yard.oracle() if yard.prices[yard.best] else None,
        rows=rows,
        checks=tuple(bench.checks()),
        repeats={rung: said for rung in rungs[:-1] if (said := _of_repeats(rung, rows)) is not None},
        advice=advise(half, yard, bench.plain, _offers(measured, rungs)) if yard.has_costs else (),
        notes=tuple(bench.notes),
    )


def _offers(measured: Sequence[_Measured], rungs: Sequence[str]) -> list[Offer]:
    """What a policy can turn on. A scorer is learned for every rung at once."""
    made: list[Offer] = []
    scorers: dict[str, dict[int, Decision]] = {}
    for one in measured:
        row, index = one.row, rungs.index(one.row.rung)
        if not one.offered or not one.decisions:
            continue
        if row.kind == "scorer":
            scorers.setdefault(row.signal, {})[index] = one.decisions[0]
            continue
        settings = tuple(way.setting for way in one.decisions)
        made.append(Offer(row.rung, row.signal, tuple({index: way} for way in one.decisions), settings))
    for signal, by_rung in scorers.items():
        setting = next(iter(by_rung.values())).setting
        made.append(Offer("every rung", signal, (by_rung,), (setting,), everywhere=True))
    return made


class _Bench:
    """Measures the signals of one tune half."""

    def __init__(self, half: TuneHalf, targets: Sequence[ScoringTarget], seed: int) -> None:
        self.half, self.notes = half, list[str]()
        plain = coded_with(half, {})
        self.yard = Yardstick(plain)
        self.plain = self.yard.sweep([plain])
        self._rungs = half.view.mapping.names
        self._scored = {target: found for target in targets if (found := self._scores(target, seed)) is not None}
        same = half.view.mapping.same
        samples = half.view.samples
        self._same = str(same)
        self._why_not = (
            why_not_judged_by_rung(half.columns.manifest, samples, same)
            if same is not None and samples
            else ("it was asked once",) * len(self._rungs)
        )

    def _scores(self, target: ScoringTarget, seed: int) -> tuple[Floats, ...] | None:
        every = np.ones(len(self.half), np.bool_)
        try:
            learned = learn(self.half.table, self.half.columns, self.half.view, every, seed, target=target)
        except ConfigurationError:
            self.notes.append(
                f"no scorer ({target}) was learned: there are too few answers with a confidence to learn from"
            )
            return None
        if target == "gain":
            self.notes.append(
                "a score of the gain ships wrong answers that no rung above would mend: not for a bound on confident mistakes"
            )
        for rung, why in learned.left_out.items():
            self.notes.append(f"no scorer ({target}) was learned for {rung}: {why}")
        return learned.out_of_fold

    def rung(self, index: int) -> Iterator[_Measured]:
        """The signals of one rung, the self-report first."""
        half, own = self.half, self.half.replies(index)
        level = half.view.confidence[index]
        yield self._row(index, "self-report", "self_report", (level, own.score))
        yield from self._repeats(index)
        for name, passed in half.checks[index].items():
            if name.startswith(
                REVIEWED
            ):  # what it costs to read so many answers is for `calibrate` with the gate to say
                yield self._row(index, f"review by {name.removeprefix(REVIEWED)}", "check", (passed, own.score))
                continue
            gated = np.where(passed == 1, np.where(np.isnan(level), 1.0, level), np.nan)
            way = Decision(gated, setting=f"checks: the command {name!r}")
            yield self._row(index, f"check {name}", "check", (passed, own.score), (way,), offered=True)
        table = half.table
        for name in table.names[index]:
            if name.startswith("agrees:"):
                values, label = table.column(index, name), f"same as {name.removeprefix('agrees:')}"
                yield self._row(index, label, "rungs", (values, own.score), (Decision(values),))
        for name, label in (("log_input", "length of the input"), ("log_answer", "length of the answer")):
            values = table.column(index, name)  # which way round, the other groups tell
            yield self._row(index, label, "length", (values, own.score), (Decision(values), Decision(-values)))
        for target, scores in self._scored.items():
            if not np.isnan(scores[index]).all():
                option = "--scorer" if target == "right" else "--scorer-target gain"
                way = Decision(scores[index], setting=option)
                yield self._row(index, f"scorer, {target}", "scorer", (scores[index], own.score), (way,), offered=True)
        for name, values in half.signals[index].items():
            yield self._row(index, f"recorded {name}", "recorded", (values, own.score))

    def _repeats(self, index: int) -> Iterator[_Measured]:
        """Agreement among samples, the self-reports of those that agree, and each variant alone."""
        recorded = self.half.view.samples[index] if self.half.view.samples else None
        if recorded is None or len(recorded) < 2:
            return
        samples, rung = usable(recorded, self._same), self._rungs[index]
        why = self._why_not[index]
        if why is None and len(samples) < 2:
            why = "not every item has two samples with answer, score and cost"
        if why is not None:
            yield _Measured(SignalRow(rung, "agreement", "agreement", refused=why))
        else:
            for size in sorted({min(size, len(samples)) for size in (*_AGREEMENTS, len(samples))}):
                found, ways = with_plurality(samples, size), tuple(votes_on(samples, rung, size).decisions.values())
                ranks = (found.agreement, found.score)
                yield self._row(index, f"agreement of {size}", "agreement", ranks, ways, offered=True)
            votes = votes_on(samples, rung)
            yield self._voted(index, "votes of any size", "agreement", tuple(votes.decisions.values()))
            if votes.reports is not None:
                yield self._voted(index, "self-report if they agree", "agreeing", tuple(votes.reports.values()))
        for name, way in variant_decisions(self.half, index, samples).items():
            assert way.score is not None
            label = f"variant {name}" if name else "variant: the policy's own"
            yield self._row(index, label, "variant", (way.confidence, way.score), (way,), offered=True)

    def _voted(self, index: int, signal: str, kind: Kind, ways: tuple[Decision, ...]) -> _Measured:
        """Votes of several sizes: AUROC and accuracy are of those that are taken at 90 % of the gap."""
        ladders = [coded_with(self.half, {index: way}) for way in ways]
        sweep = self.yard.sweep(ladders)
        taken = ways[self.yard.way(sweep, _DECIDING)]
        assert taken.score is not None
        values = taken.confidence if kind == "agreeing" else np.where(np.isnan(taken.confidence), 0.0, 1.0)
        return self._row(index, signal, kind, (values, taken.score), ways, sweep=sweep, offered=True)

    def _row(
        self,
        index: int,
        signal: str,
        kind: Kind,
        ranks: tuple[Floats, Floats],
        ways: tuple[Decision, ...] = (),
        *,
        sweep: Sweep | None = None,
        offered: bool = False,
    ) -> _Measured:
        """A signal's row. `ranks`: its values, NaN where there is none, and the scores of the answers they are of."""
        values, score = ranks
        known = ~np.isnan(values)
        if not known.any():  # nothing would ever ship by it
            ways = ()
        right = self.half.right(score[known])
        area, ci95 = auroc_with_interval(values[known], right, self.half.columns.group[known])
        if kind == "self_report":
            sweep = self.plain
        elif sweep is None and ways:
            sweep = self.yard.sweep([coded_with(self.half, {index: way}) for way in ways])
        accuracy = float(right.mean()) if len(right) else None
        if kind in ("variant", "agreement"):  # of all items: without an answer it is wrong
            accuracy = float(self.half.right(score).mean())
        row = SignalRow(self._rungs[index], signal, kind, int(known.sum()), accuracy, area, ci95)
        if sweep is None or not (costs := self.yard.costs(sweep)):
            return _Measured(row, ways, sweep, offered)
        setting = ways[self.yard.way(sweep, _DECIDING)].setting if ways else ""
        row = replace(row, costs=costs, setting=setting)
        if kind != "self_report":
            found = self.yard.difference(sweep, self.plain, _DECIDING)
            verdict: Verdict = "helps" if found.is_less else "costs more" if found.is_more else "not shown to help"
            row = replace(row, difference=found.value, difference_ci95=found.ci95, verdict=verdict)
        return _Measured(row, ways, sweep, offered)

    def checks(self) -> Iterator[CheckCounts]:
        """Which check finds which mistakes, of the first answers of each rung."""
        for index, own in enumerate(self.half.checks):
            right = self.half.right(self.half.replies(index).score)
            for name, passed in own.items():
                yield _counted(self._rungs[index], name, passed, right)


def _counted(rung: str, name: str, passed: Floats, right: Bools) -> CheckCounts:
    failed, said = passed == 0, ~np.isnan(passed)
    return CheckCounts(
        rung,
        name,
        wrong=int((said & ~right).sum()),
        found=int((failed & ~right).sum()),
        right=int((said & right).sum()),
        blamed=int((failed & right).sum()),
        unsaid=int((~said).sum()),
    )


def _of_repeats(rung: str, rows: Sequence[SignalRow]) -> str | None:
    """What to say of asking a rung more than once; None if it was not."""
    own = [row for row in rows if row.rung == rung and row.kind in ("agreement", "agreeing")]
    if not own:
        return None
    if (why := next((row.refused for row in own if row.refused), None)) is not None:
        return f"agreement is not judged: {why}"
    known = [row for row in own if row.difference is not None]
    if not known:
        return None
    best = min(known, key=lambda row: row.difference or 0.0)
    if any(row.verdict == "helps" for row in known):
        return f"repeats help: {best.setting or best.signal}"
    if best.difference is not None and best.difference >= 0:
        return "repeats are worth nothing here: no vote lowers the cost at 90 % of the gap"
    return "repeats are not shown to help here: the interval of the difference in cost includes 0"
