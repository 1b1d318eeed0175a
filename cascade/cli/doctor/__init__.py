"""`cascade doctor`: check the setup, and with `--deep` each part of a deployment; say how to fix what is missing. Costs nothing."""

from __future__ import annotations

from cascade.cli.doctor.command import run_doctor
from cascade.cli.doctor.findings import Finding

__all__ = ["Finding", "run_doctor"]
