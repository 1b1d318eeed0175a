"""What each signal is worth on a corpus: how well it ranks, what it saves, and in which order to turn signals on.

    read_columns(…, on_items=collector.add) → tune half → a decision for each rung and signal → cost at equal quality → advice

`collecting` (results of checks, recorded signals), `deciding` (a signal as the confidence of one rung), `agreement` (votes on
the recorded samples), `discrimination` (AUROC), `costs` (cost at a share of the gap), `measuring` (the table), `advising` (the
order). Everything is measured on the tune half: the certify half is cut off before the first figure is computed.
"""

from __future__ import annotations

from cascade.calibration.signal_table.figures import (
    AdviceStep,
    CheckCounts,
    CostAt,
    Oracle,
    SignalRow,
    SignalTable,
)
from cascade.calibration.signal_table.measuring import SignalCollector, measure_signals
from cascade.calibration.signal_table.run import SignalOptions, signals_of

__all__ = [
    "AdviceStep",
    "CheckCounts",
    "CostAt",
    "Oracle",
    "SignalCollector",
    "SignalOptions",
    "SignalRow",
    "SignalTable",
    "measure_signals",
    "signals_of",
]
