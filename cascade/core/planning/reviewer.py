"""The reviewer: what it is asked about a result, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from cascade.core.planning.result import ReviewVerdict

__all__ = ["verdict_in"]

_VERDICTS = frozenset({"accept", "retry", "escalate"})


def verdict_in(data: object) -> ReviewVerdict:
    """The verdict in a reviewer's JSON value; unusable if there is none."""
    value = cast("Mapping[str, Any]", data).get("verdict") if isinstance(data, Mapping) else None
    return cast("ReviewVerdict", value) if value in _VERDICTS else "unusable"
