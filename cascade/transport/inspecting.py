"""What inspecting an endpoint finds, whoever its vendor is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cascade.transport.failures import read_date

__all__ = ["EndpointStatus", "ModelStatus", "clock_skew"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """What the endpoint reports about a rung's model; None if it does not say."""

    rung: str
    model: str
    lifecycle: str | None
    retires_at: datetime | None
    structured_outputs: bool | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """One endpoint: the problem in reaching it ("" if none), its models, and its clock minus ours, in seconds."""

    base_url: str
    problem: str
    missing_key: bool
    models: tuple[ModelStatus, ...]
    clock_skew_s: float | None


def clock_skew(date: str | None) -> float | None:
    """The endpoint's clock minus ours, in seconds, by its `date` header; None if there is none."""
    read = read_date(date)
    return (read - datetime.now(UTC)).total_seconds() if read is not None else None
