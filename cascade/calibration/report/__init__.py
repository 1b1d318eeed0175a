"""The report people tune with: one HTML page that needs no network, with the table of counts inside it.

`inputs` is what a page is made of, `table` the counts that its sliders sum, `drawing` its pictures, `ladder` its YAML, `page`
the HTML.
"""

from __future__ import annotations

from cascade.calibration.report.inputs import ChosenThresholds, ReportInput, TaskRow, input_of
from cascade.calibration.report.page import render_report, write_report

__all__ = ["ChosenThresholds", "ReportInput", "TaskRow", "input_of", "render_report", "write_report"]
