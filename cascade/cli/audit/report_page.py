"""The report as one self-contained HTML page. Texts of requests and names are hostile, so all of them are escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cascade import pages
from cascade.audit.report.build import AuditReport
from cascade.cli.audit.report_sections import sections_of
from cascade.cli.audit.report_view import heading_of, texts_of
from cascade.cli.output import one_line

__all__ = ["render_page", "write_page"]

_TEMPLATE = Path(__file__).parent / "assets" / "audit.html.j2"
_MOST_ROWS = 400


def write_page(path: Path, report: AuditReport, where: str) -> None:
    """Write the page atomically, readable by its owner alone: it may hold what users wrote.

    Raises MissingExtra without jinja2, ConfigurationError if `path` cannot be written.
    """
    pages.write(path, render_page(report, where), "--html")


def render_page(report: AuditReport, where: str) -> str:
    """The page. It has no script and needs no network. `where`: the ledger."""
    return pages.render(_TEMPLATE, lambda: _values(report, where), [pages.BASE_STYLE])


def _values(report: AuditReport, where: str) -> dict[str, Any]:
    return {
        "report": report,
        "where": where,
        "sections": () if report.is_empty else [one for one in sections_of(report) if one.facts or one.rows],
        "todo": [one_line(line) for line in report.todo],
        "disagreements": [(heading_of(one), texts_of(one)) for one in report.disagreements],
        "most_rows": _MOST_ROWS,
    }
