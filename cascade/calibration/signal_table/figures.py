"""The figures of a signal table, as frozen values. Costs are multiples of the best single model's cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cascade.replay.intervals import Interval

__all__ = ["SHARES", "AdviceStep", "CheckCounts", "CostAt", "Kind", "Oracle", "SignalRow", "SignalTable", "Verdict"]

SHARES = (0.5, 0.9, 0.99)
"""The shares of the gap at which costs are given. The middle one decides what is worth turning on."""

Kind = Literal["self_report", "agreement", "agreeing", "variant", "check", "length", "rungs", "recorded", "scorer"]
"""What a signal is made of. `agreeing`: the mean self-report of the samples that agree. `rungs`: whether a lower rung gave
the same answer. `recorded`: another confidence that the corpus holds."""

Verdict = Literal["helps", "not shown to help", "costs more"]


@dataclass(frozen=True, slots=True)
class CostAt:
    """The least cost that closes a share of the gap, over the cost of the best single model; None: not reached.

    `shipped`: the share of the requests that each rung answers there.
    """

    share: float
    cost: float | None
    shipped: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One signal as the confidence of one rung; the other rungs keep their self-report.

    signal     its name
    items      how many replies have it; `accuracy`: the share of them that are right
    auroc      the chance that it is higher for a right answer than for a wrong one; `auroc_ci95`: by groups
    costs      at each of SHARES; empty if it cannot decide alone
    difference its cost at 90 % of the gap minus that of the self-reports, at equal quality; `difference_ci95`: by groups
    verdict    None for the self-report itself, and without costs
    setting    what turns it on; empty if it works through the scorer only
    refused    why it is not judged; it has no figures then
    """

    rung: str
    signal: str
    kind: Kind
    items: int = 0
    accuracy: float | None = None
    auroc: float | None = None
    auroc_ci95: Interval | None = None
    costs: tuple[CostAt, ...] = ()
    difference: float | None = None
    difference_ci95: Interval | None = None
    verdict: Verdict | None = None
    setting: str = ""
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class CheckCounts:
    """Which mistakes of a rung a check finds: of the wrong answers it fails `found`, of the right ones `blamed`.

    Answers of which it could not say are not counted, but in `unsaid`.
    """

    rung: str
    check: str
    wrong: int
    found: int
    right: int
    blamed: int
    unsaid: int

    def __str__(self) -> str:
        mistakes, answers = "mistake" + "s" * (self.wrong != 1), "right answer" + "s" * (self.right != 1)
        said = f"finds {self.found:,} of {self.wrong:,} {mistakes}, blames {self.blamed:,} of {self.right:,} {answers}"
        return f"{said}; could not say of {self.unsaid:,}" if self.unsaid else said


@dataclass(frozen=True, slots=True)
class Oracle:
    """The floor: every request ends at the first rung whose answer no rung above betters. Nobody knows that beforehand."""

    cost: float
    quality: float
    shipped: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class AdviceStep:
    """A signal to turn on after those before it: the cost at 90 % of the gap before and after, and the difference.

    `shown`: whether the whole interval of the difference is below 0. The last step may be one that is not.
    """

    rung: str
    signal: str
    setting: str
    before: float | None
    after: float | None
    difference: float
    difference_ci95: Interval | None
    shown: bool


@dataclass(frozen=True, slots=True)
class SignalTable:
    """What each signal is worth on the tune half.

    rungs       cheapest first; `qualities`, `prices`: each alone, its mean score and mean USD per request
    best        the single model that costs and gap refer to: the one of best quality, the cheapest of equals
    gap         its quality minus the first rung's; 0: there is nothing to close, and there are no costs (nor if it is free)
    out_of_fold whether costs are of thresholds chosen on other groups; else on the same items
    repeats     by rung: what is to be said of asking it more than once
    advice      the signals to turn on, in this order
    notes       what the figures do not say
    """

    corpus: str
    synthetic: bool
    items: int
    groups: int
    rungs: tuple[str, ...]
    qualities: tuple[float, ...]
    prices: tuple[float, ...]
    best: str
    gap: float
    out_of_fold: bool
    oracle: Oracle | None
    rows: tuple[SignalRow, ...]
    checks: tuple[CheckCounts, ...]
    repeats: Mapping[str, str]
    advice: tuple[AdviceStep, ...]
    notes: tuple[str, ...] = ()

    def of(self, rung: str) -> tuple[SignalRow, ...]:
        """The rows of one rung."""
        return tuple(row for row in self.rows if row.rung == rung)

    @property
    def verdict(self) -> str:
        """What is worth turning on, in one sentence."""
        if self.gap <= 0:
            return f"{self.best} alone is the best single model: there is no gap for a signal to close"
        shown = [step for step in self.advice if step.shown]
        if not (start := self.of(self.rungs[0])[0].costs):
            return f"{self.best} alone, the best single model, costs nothing: there is no cost to save"
        last = shown[-1].after if shown else next((one.cost for one in start if one.share == SHARES[1]), None)
        names = ", then ".join(f"{step.signal} on {step.rung}" for step in shown)
        does = f"turn on {names}" if shown else "no signal is shown to help beyond the self-reports"
        if last is None:
            return f"{does}; 90 % of the gap is not reached"
        compared = "cheaper" if last < 1 else "no cheaper"
        return f"{does}: {last:.2f} of the cost of {self.best} alone at 90 % of the gap, {compared} than it"

    def fields(self) -> dict[str, Any]:
        """The JSON of `calibrate --signals --json`."""
        return {
            "corpus": self.corpus,
            "half": "tune",
            "items": self.items,
            "groups": self.groups,
            "best_single": self.best,
            "gap": self.gap,
            "out_of_fold": self.out_of_fold,
            "singles": {
                rung: {"quality": quality, "cost_per_request_usd": price}
                for rung, quality, price in zip(self.rungs, self.qualities, self.prices, strict=True)
            },
            "oracle": None
            if self.oracle is None
            else {
                "cost": self.oracle.cost,
                "quality": self.oracle.quality,
                "shipped": self._by_rung(self.oracle.shipped),
            },
            "rows": [self._row(row) for row in self.rows],
            "checks": [asdict(one) for one in self.checks],
            "repeats": dict(self.repeats),
            "advice": [asdict(one) for one in self.advice],
            "verdict": self.verdict,
            "notes": list(self.notes),
        }

    def _row(self, row: SignalRow) -> dict[str, Any]:
        costs = [{"share": one.share, "cost": one.cost, "shipped": self._by_rung(one.shipped)} for one in row.costs]
        return asdict(row) | {"costs": costs}

    def _by_rung(self, shares: tuple[float, ...]) -> dict[str, float]:
        return dict(zip(self.rungs, shares, strict=False))
