"""The HTML report for tuning thresholds: one page that needs no network, with the table of counts inside it.

`build` makes a `ReportInput` (`inputs`) of a calibration. `table` holds the counts that the sliders sum, `drawing` the charts,
`ladder` the YAML, `page` the HTML.
"""

from __future__ import annotations

from cascade.calibration.report.inputs import ChosenThresholds, ReportInput, TaskRow, input_of
from cascade.calibration.report.page import render_report, write_report
from cascade.calibration.report.samples import SampleReport, SampleRow

__all__ = [
    "ChosenThresholds",
    "ReportInput",
    "SampleReport",
    "SampleRow",
    "TaskRow",
    "input_of",
    "render_report",
    "write_report",
]
