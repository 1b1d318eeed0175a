"""Where a saving comes from, as JSON and as a table."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

from cascade.cli.output import table
from cascade.cli.savings.amounts import percent_text, usd_text
from cascade.savings import Parts

__all__ = ["parts_fields", "parts_table"]

_PARTS: Final = {
    "climbing": "climbing",
    "prompt_caching": "prompt caching",
    "batches": "batches",
    "response_cache": "response cache",
}
_NANO: Final = 1_000_000_000


def parts_fields(parts: Parts, months: Fraction, *, paid: str) -> dict[str, Any]:
    """Each part in USD, a month's amount, and as a share of the reference. `paid`: the basis of what is paid."""

    def amount(nano: int, basis: str = "estimate") -> dict[str, Any]:
        return {
            "usd": nano / _NANO,
            "usd_per_month": float(nano * months / _NANO),
            "share": nano / parts.reference if parts.reference else None,
            "basis": basis,
        }

    return {
        "reference": amount(parts.reference),
        **{name: amount(getattr(parts, name)) for name in _PARTS},
        "saved": amount(parts.saved),
        "paid": amount(parts.paid, paid),
    }


def parts_table(
    parts: Parts, months: Fraction, reference: str, *, paid: str, title: str = "where the saving comes from"
) -> Any:
    """The parts as a table that is read from top to bottom like an account."""
    heads = ("USD", "USD/month (estimate)", "share")
    rows = table("", *heads, "basis", title=title, right=heads)

    def add(name: str, nano: int, basis: str = "estimate") -> None:
        share = percent_text(nano / parts.reference) if parts.reference else ""
        rows.add_row(name, usd_text(Fraction(nano)), usd_text(nano * months), share, basis)

    add(reference, parts.reference)
    for field, name in _PARTS.items():
        add(f"saved by {name}", getattr(parts, field))
    add("paid", parts.paid, paid)
    return rows
