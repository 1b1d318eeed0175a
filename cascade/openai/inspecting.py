"""Inspect an endpoint at no cost: whether it answers, accepts the key, and knows the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade.core.policy import Rung
from cascade.openai.connections import own_client
from cascade.openai.failures import failure_of
from cascade.transport.inspecting import EndpointStatus, ModelStatus, inspect_models

__all__ = ["inspect_endpoint"]


def inspect_endpoint(rungs: Sequence[Rung]) -> EndpointStatus:
    """Inspect the endpoint that these rungs share. It says nothing of a model but that it is there.

    Raises MissingExtra without the SDK.
    """
    return inspect_models(rungs, own_client, failure_of, _status)


def _status(rung: Rung, _: Any) -> ModelStatus:
    return ModelStatus(rung.rung, rung.model, None, None, None)
