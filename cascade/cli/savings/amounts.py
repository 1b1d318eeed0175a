"""Amounts, shares and tokens as `cascade savings` prints them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from cascade.core.messages import Usage

__all__ = ["percent_text", "usage_fields", "usd_text"]


def usd_text(nano: Fraction) -> str:
    """An amount (nano-USD) as text: cents, and below a dollar four digits."""
    amount = float(nano / 1_000_000_000)
    return f"{amount:,.2f}" if abs(amount) >= 1 or not amount else f"{amount:.4f}"


def percent_text(share: float | None, digits: int = 1) -> str:
    """A share as text; "" for None."""
    return "" if share is None else f"{share:.{digits}%}"


def usage_fields(usage: Usage) -> dict[str, Any]:
    """Tokens that were measured."""
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read": usage.cache_read,
        "cache_write_5m": usage.cache_write_5m,
        "cache_write_1h": usage.cache_write_1h,
        "basis": "measured",
    }
