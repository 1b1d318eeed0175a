"""Inspect an endpoint at no cost: whether it answers, accepts the key, and knows the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade.claude.connections import own_client
from cascade.claude.failures import failure_of
from cascade.core.policy import Rung
from cascade.transport.inspecting import EndpointStatus, ModelStatus, inspect_models

__all__ = ["EndpointStatus", "ModelStatus", "inspect_endpoint"]


def inspect_endpoint(rungs: Sequence[Rung]) -> EndpointStatus:
    """Inspect the endpoint that these rungs share, by requesting each model's description, which is free."""
    return inspect_models(rungs, own_client, failure_of, _status)


def _status(rung: Rung, raw: Any) -> ModelStatus:
    info = raw.parse()
    capabilities = info.capabilities
    structured = capabilities.structured_outputs.supported if capabilities is not None else None
    return ModelStatus(rung.rung, rung.model, info.lifecycle, info.retires_at, structured)
