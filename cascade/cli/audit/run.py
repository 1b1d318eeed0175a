"""`cascade audit run`: grade the sampled requests, and look for drift."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RunOptions", "run_audit"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The command's options. `max_usd`: of this run; None: no limit beside the policy's."""

    policy: str | None
    watch: bool
    max_usd: float | None
    ledger: str | None


def run_audit(options: RunOptions, *, as_json: bool) -> None:
    """Run the audit."""
    raise NotImplementedError
