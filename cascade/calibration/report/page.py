"""Render a report as one self-contained HTML page. Names and texts are untrusted, so jinja2 escapes all of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cascade import pages
from cascade.calibration.report.drawing import draw_frontier, draw_reliability, thinned
from cascade.calibration.report.inputs import ReportInput, guess_of
from cascade.calibration.report.ladder import states_of, yaml_of
from cascade.calibration.report.table import Table, table_of
from cascade.calibration.search.frontier import Point, point_at
from cascade.policy.editing import threshold_text

__all__ = ["MOST_BYTES", "render_report", "write_report"]

MOST_BYTES = 500_000
"""The maximum size of a page."""

_ASSETS = Path(__file__).parent / "assets"
_MOST_ROWS = 60
"""The most rows of any table on the page."""
_MOST_LETTERS = 200

_MOST_SIGNALS = 25
"""The most signals of a rung."""


def write_report(path: str | os.PathLike[str], report: ReportInput) -> None:
    """Write the page atomically. Raises MissingExtra without jinja2, ConfigurationError if `path` cannot be written."""
    pages.write(Path(path), render_report(report), "--report", private=False)


def render_report(report: ReportInput) -> str:
    """The page. It needs no network, holds the table of counts, and is smaller than MOST_BYTES."""
    filters = {"usd": _usd, "share": _share, "threshold": threshold_text, "short": _short, "saving": _saving}
    styles, script = [_ASSETS / "report.css"], _ASSETS / "report.js"
    return pages.render(
        _ASSETS / "report.html.j2", lambda: _values(report), styles, script=script, filters=filters, what="the report"
    )


def _values(report: ReportInput) -> dict[str, Any]:
    counts = report.counts
    n, top = counts.n, len(counts.rungs) - 1
    top_cost = int(counts.cost[:, top].sum())
    at = report.chosen.point.at if report.chosen else guess_of(counts)
    point = report.chosen.point if report.chosen and not report.by_task else point_at(counts, at, report.loss)
    table = table_of(counts, at, report.loss, by_agreement=report.sampled.by_agreement)
    drawn = draw_frontier(report)
    return {
        "report": report,
        "n": n,
        "rungs": counts.rungs,
        "below": counts.rungs[:-1],
        "point": point,
        "start": _figures_of(point, n, top_cost),
        "picked": _figures_of(report.chosen.point, n, top_cost) if report.chosen else None,
        "picked_yaml": yaml_of(report) if report.by_task else None,
        "flow": _flow(point, n),
        "table": table,
        "data": _data(report, table, drawn.x, drawn.y),
        "drawn": drawn,
        "reliabilities": [draw_reliability(counts, rung) for rung in range(top)],
        "frontier_rows": [(one, _figures_of(one, n, top_cost)) for one in thinned(report.frontier, _MOST_ROWS)],
        "most_rows": _MOST_SIGNALS,
        "tasks": report.tasks[:_MOST_ROWS],
        "sampled": report.sampled,
        "votes": report.sampled.rows[:_MOST_ROWS],
        "baselines": list(report.baselines.items())[:_MOST_ROWS],
        "changes": list(report.storms.get("changes", ()))[:_MOST_ROWS],
        "risk": "confidently wrong" if report.loss == "false_confident" else "worse than the top rung",
    }


def _data(report: ReportInput, table: Table, x: Any, y: Any) -> dict[str, Any]:
    chosen, moved = states_of(report)
    rows = report.sampled.rows[:_MOST_ROWS]
    axes = {name: [axis.low, axis.high, axis.start, axis.end] for name, axis in (("x", x), ("y", y))}
    return {
        **table.fields,
        "start": list(table.at),
        "chosen": chosen,
        "moved": moved,
        "corpus": report.corpus[:200],
        **axes,
        "samples": [report.sampled.yaml.get(rung) for rung in report.counts.rungs],
        "votes": [
            [one.most, one.name[:_MOST_LETTERS], one.quality, 1e3 * one.cost_per_request, one.risk] for one in rows
        ],
    }


def _figures_of(point: Point, n: int, top_cost: int) -> dict[str, Any]:
    """Quality, USD per 1,000 requests, the loss rate over all requests, and the share saved of the top rung's cost."""
    saved = 1 - point.cost / top_cost if top_cost else None
    n = max(1, n)
    return {"quality": point.quality, "cost": point.cost / n / 1e6, "risk": point.losses / n, "saved": saved}


def _flow(point: Point, n: int) -> list[dict[str, float]]:
    """For each rung, how many requests reached it and how many ended there."""
    return [{"reached": sum(point.shipped[index:]), "here": here, "n": n} for index, here in enumerate(point.shipped)]


def _usd(value: float) -> str:
    return f"{value:,.4f}"


def _share(value: float) -> str:
    return f"{value:.2%}"


def _saving(value: float | None) -> str:
    """The saving without its sign: the label beside it says cheaper or dearer."""
    return "–" if value is None else f"{abs(value):.1%}"


def _short(text: object, most: int = _MOST_LETTERS) -> str:
    """Names may be very long; the page has a maximum size."""
    return pages.short(text, most)
