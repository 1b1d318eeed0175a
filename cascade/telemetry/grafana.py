"""Grafana's dashboard, made of `declared.METRICS`: `docs/generate.py` writes it to docs/deploy/grafana.json. Each metric has one panel."""

from __future__ import annotations

from typing import Any

from cascade.telemetry.declared import METRICS, Metric

__all__ = ["dashboard", "query_of"]

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 24
_QUANTILES = (0.5, 0.9, 0.99)
_AN_HOUR = 3600


def dashboard() -> dict[str, Any]:
    """The dashboard, as JSON values. Its variables: the data source, and the policies that are shown."""
    panels: list[dict[str, Any]] = []
    x = y = 0
    section = ""
    for number, one in enumerate(METRICS, 1):
        if one.section != section:
            y, x, section = y + (_HEIGHT if x else 0), 0, one.section
            place = {"h": 1, "w": _COLUMNS, "x": 0, "y": y}
            panels.append(
                {
                    "type": "row",
                    "title": section,
                    "id": 100 + number,
                    "collapsed": False,
                    "gridPos": place,
                    "panels": [],
                }
            )
            y += 1
        if x + _WIDTH > _COLUMNS:
            x, y = 0, y + _HEIGHT
        panels.append(_panel(one, number, {"h": _HEIGHT, "w": _WIDTH, "x": x, "y": y}))
        x += _WIDTH
    policies = {
        "name": "policy", "label": "Policy", "type": "query", "datasource": _SOURCE, "multi": True, "includeAll": True, "allValue": ".*",
        "query": {"query": f"label_values({METRICS[0].name}, policy)", "refId": "policies"}, "refresh": 2, "sort": 1,
        "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return {
        "title": "cascade", "uid": "cascade-ladder", "tags": ["cascade"], "schemaVersion": 39, "version": 1, "editable": True,
        "timezone": "browser", "time": {"from": "now-24h", "to": "now"}, "refresh": "1m",
        "templating": {"list": [source, policies]}, "annotations": {"list": []}, "panels": panels,
    }  # fmt: skip


def query_of(one: Metric) -> tuple[tuple[str, str], ...]:
    """What a metric's panel asks: (expression, legend) each."""
    selected = one.name + ('{policy=~"$policy"}' if "policy" in one.labels and one.field != "events" else "")
    kept = ", ".join(one.by)
    legend = " ".join(f"{{{{{label}}}}}" for label in one.by) or one.title
    if one.kind == "histogram":
        by = ", ".join((*one.by, "le"))
        buckets = selected.replace(one.name, f"{one.name}_bucket", 1)
        return tuple(
            (
                f"histogram_quantile({q}, sum by ({by}) (rate({buckets}[$__rate_interval])))",
                f"p{q * 100:g} {legend if one.by else ''}".strip(),
            )
            for q in _QUANTILES
        )
    if one.kind == "counter":
        if one.field == "events":
            return ((f"sum by ({kept}) (increase({selected}[$__rate_interval])) > 0", legend),)
        hourly = f" * {_AN_HOUR}" if one.field == "cost" else ""
        return ((f"sum by ({kept}) (rate({selected}[$__rate_interval])){hourly}", legend),)
    added = one.multiprocess == "livesum"  # of each instance alone; else all instances say the same
    if added:
        return ((f"sum by (instance) ({selected})", "{{instance}}"),)
    how = "min" if one.name.endswith("_up") else "max"
    return ((f"{how} by ({kept}) ({selected})" if kept else f"{how}({selected})", legend),)


def _panel(one: Metric, number: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"datasource": _SOURCE, "expr": expression, "legendFormat": legend, "refId": chr(ord("A") + at), "range": True}
        for at, (expression, legend) in enumerate(query_of(one))
    ]
    return {
        "type": "timeseries", "id": number, "title": one.title, "description": f"{one.help} ({one.name})", "datasource": _SOURCE,
        "gridPos": place, "targets": targets, "fieldConfig": {"defaults": {"unit": one.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
    }  # fmt: skip
