"""What inspecting an endpoint finds, whoever its vendor is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cascade.core.errors import MissingKey
from cascade.core.messages import Failure
from cascade.core.policy import Rung
from cascade.transport.endpoints import address_of
from cascade.transport.failures import read_date

__all__ = ["EndpointStatus", "ModelStatus", "clock_skew", "inspect_models"]

_TIMEOUT_S = 10.0


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


def inspect_models(
    rungs: Sequence[Rung],
    own_client: Callable[[Rung], Any],
    failure_of: Callable[[Exception], Failure | None],
    status_of: Callable[[Rung, Any], ModelStatus],
) -> EndpointStatus:
    """Request the description of each rung's model from the endpoint that they share, which is free.

    `own_client`, `failure_of`: the vendor's. `status_of` reads a description, which is the SDK's raw response.
    """
    base_url = rungs[0].base_url or ""
    try:
        client = own_client(rungs[0])
    except MissingKey as problem:
        return EndpointStatus(base_url, str(problem), True, (), None)
    with client:
        base_url = address_of(client)
        models: list[ModelStatus] = []
        skew: float | None = None
        for rung in rungs:
            try:
                raw = client.models.with_raw_response.retrieve(rung.model, timeout=_TIMEOUT_S)
            except Exception as error:
                failure = failure_of(error)
                if failure is None:
                    raise
                if failure.status == 404:
                    models.append(ModelStatus(rung.rung, rung.model, None, None, None, "the endpoint does not know it"))
                    continue
                problem = f"HTTP {failure.status}: {failure.message}" if failure.status else failure.message
                return EndpointStatus(base_url, problem, failure.status in (401, 403), tuple(models), skew)
            skew = clock_skew(raw.headers.get("date"))
            models.append(status_of(rung, raw))
    return EndpointStatus(base_url, "", False, tuple(models), skew)
