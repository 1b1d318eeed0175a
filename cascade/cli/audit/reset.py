"""`cascade audit reset`."""

from __future__ import annotations

__all__ = ["run_reset"]


def run_reset(policy: str | None, ledger: str | None, *, as_json: bool) -> None:
    """Undo the ratchet of a policy."""
    raise NotImplementedError
