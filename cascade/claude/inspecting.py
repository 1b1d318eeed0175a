"""Inspect an endpoint at no cost: whether it answers, accepts the key, and knows the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade.claude.connections import address_of, own_client
from cascade.claude.failures import failure_of
from cascade.core.errors import MissingKey
from cascade.core.policy import Rung
from cascade.transport.inspecting import EndpointStatus, ModelStatus, clock_skew

__all__ = ["EndpointStatus", "ModelStatus", "inspect_endpoint"]

_TIMEOUT_S = 10.0


def inspect_endpoint(rungs: Sequence[Rung]) -> EndpointStatus:
    """Inspect the endpoint that these rungs share, by requesting each model's description, which is free."""
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
            models.append(_status(rung, raw.parse()))
    return EndpointStatus(base_url, "", False, tuple(models), skew)


def _status(rung: Rung, info: Any) -> ModelStatus:
    capabilities = info.capabilities
    structured = capabilities.structured_outputs.supported if capabilities is not None else None
    return ModelStatus(rung.rung, rung.model, info.lifecycle, info.retires_at, structured)
