"""How `cascade costs` writes its figures. Money is in nano-USD."""

from __future__ import annotations

__all__ = ["in_usd", "money", "percent"]


def in_usd(nano: float | None) -> float | None:
    """In USD, for JSON."""
    return None if nano is None else nano / 1e9


def money(nano: float | None) -> str:
    """In USD, as text; "-" where it is not known."""
    return "-" if nano is None else f"{nano / 1e9:.6f}"


def percent(share: float) -> str:
    """A share, as text."""
    return f"{share:.1%}".replace("%", " %")
