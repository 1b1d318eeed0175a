"""Names that the coding scenario's made-up code is made of, and how its developers ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .draws import Draws

__all__ = ["COLLECTIONS", "MODULES", "NOUNS", "POLITE", "VERBS", "name", "names", "spread"]

VERBS = (
    "load", "parse", "merge", "count", "group", "filter", "render", "collect", "split", "index", "score", "trim",
    "export", "resolve", "queue", "sample",
)  # fmt: skip
NOUNS = (
    "order", "cart", "invoice", "parcel", "track", "batch", "report", "image", "route", "sensor", "ticket", "chapter",
    "recipe", "flight", "lesson", "meter", "playlist", "shipment",
)  # fmt: skip
COLLECTIONS = ("rows", "items", "entries", "records", "lines", "values", "points", "events")
MODULES = ("store", "reports", "ingest", "views", "jobs", "catalog", "planner", "geo", "media", "exports", "search")

POLITE = ("", "", "", "Please ", "Can you ", "Could you ", "Hi, please ")
"""Openings that the policy's signals let pass before an order."""


def name(draws: Draws) -> str:
    """A function's name."""
    return f"{draws.pick(VERBS)}_{draws.pick(NOUNS)}"


def names(draws: Draws, count: int) -> list[str]:
    """Different functions' names."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[name(draws)] = None
    return list(found)


def spread(draws: Draws, options: Sequence[str], count: int) -> list[str]:
    """Some of the options, all different, in a random order."""
    return draws.shuffled(options)[:count]
