"""The arguments of `plan` and `run`; `cascade.plan` and `cascade.run` document them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

__all__ = ["PlanOptions", "RunOptions"]


class PlanOptions(TypedDict, total=False):
    """The keyword arguments of `plan`. None: not given."""

    inputs: Mapping[str, str] | None
    max_usd: float | None
    deadline_s: float | None
    metadata: Mapping[str, str] | None
    session: str | None


class RunOptions(PlanOptions, total=False):
    """The keyword arguments of `run`. None: not given."""

    run: str | None
    concurrency: int | None
