"""Plans as YAML files, which people read and edit."""

from __future__ import annotations

from pathlib import Path

from cascade.core.planning.graph import Plan
from cascade.policy.loading import dump

__all__ = ["load_plan", "save_plan"]


def load_plan(path: str | Path) -> Plan:
    """The plan in a YAML file. Raises ConfigurationError that names the file, the line and what to do."""
    raise NotImplementedError


def save_plan(plan: Plan, path: str | Path) -> None:
    """Write a plan as YAML. Raises ConfigurationError if the file cannot be written."""
    Path(path).write_text(dump(plan.to_dict()) + "\n", encoding="utf-8")
