"""Reports of a cascade with samples, for tests of the page."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cascade.calibration.objectives import Objective
from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.report import ReportInput
from cascade.calibration.report.build import report_of
from cascade.calibration.run import Calibration, CalibrationOptions, calibrate
from cascade.calibration.sampling import SampleSearch
from tests.calibration.votes import drawn_votes, write_votes

__all__ = ["Sampled", "sampled"]


class Sampled(NamedTuple):
    """A corpus with samples, what `--samples auto` makes of it, and the report of that."""

    corpus: Path
    result: Calibration
    report: ReportInput


def sampled(
    folder: Path, objective: Objective | None = None, *, reports: bool = True, frontier: bool = False
) -> Sampled:
    """Calibrate 400 drawn items for a risk of 15 % (or `objective`; or for the frontier alone)."""
    corpus = write_votes(folder / "votes.jsonl", drawn_votes(3, 400, reports=reports))
    wanted = None if frontier else objective or Target("false_confident", 0.15, 0.05)
    result = calibrate([corpus], CalibrationOptions(wanted, samples=SampleSearch(auto=True)))
    return Sampled(corpus, result, report_of(result, "Cascade.", {}))
