"""Telemetry as hooks of a driver: OpenTelemetry spans and metrics, and Prometheus metrics.

    Cascade("default", hooks=[OpenTelemetry(), Prometheus()])

Neither holds a prompt, an answer or a caller's metadata. Each needs its extra: `cascade-ladder[otel]`, `[prometheus]`.
"""

from __future__ import annotations

from cascade.telemetry.metrics import Prometheus
from cascade.telemetry.spans import OpenTelemetry

__all__ = ["OpenTelemetry", "Prometheus"]
