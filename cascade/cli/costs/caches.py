"""The output of `cascade costs --cache`: what prompt caches cost and were worth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cascade.cli.costs.figures import in_usd, money, percent
from cascade.cli.output import stdout, table, usd
from cascade.costs import CacheLine, Caches

__all__ = ["cache_fields", "show_caches"]


def cache_fields(line: CacheLine) -> dict[str, Any]:
    """A line's fields of `--json`."""
    return {
        "written_5m_tokens": line.written_5m,
        "written_1h_tokens": line.written_1h,
        "written_usd": in_usd(line.written_cost),
        "written_after_climb_tokens": line.cold,
        "written_after_climb_usd": in_usd(line.cold_cost),
        "read_tokens": line.read,
        "read_usd": in_usd(line.read_cost),
        "hit_rate": line.hit_rate,
        "write_premium_usd": in_usd(line.premium),
        "read_saving_usd": in_usd(line.spared),
        "saved_usd": in_usd(line.saved),
    }


def show_caches(found: Caches) -> None:
    """Print the table, and where caching loses money."""
    if not found.lines:
        stdout.print("no prompt cache was written or read in this period")
        return
    columns = ("written", "USD", "after a climb", "USD", "read", "USD", "hit rate", "saved USD")
    shown = table("rung", *columns, title="prompt caches, by rung (tokens)", right=columns)
    for line in (*found.lines, *((found.total,) if len(found.lines) > 1 else ())):
        spent = (usd(line.written_cost), usd(line.cold_cost), usd(line.read_cost))
        counts = (f"{line.written:,}", f"{line.cold:,}", f"{line.read:,}")
        worth = ("" if line.hit_rate is None else percent(line.hit_rate), money(line.saved))
        shown.add_row(line.rung or "all", *(text for pair in zip(counts, spent, strict=True) for text in pair), *worth)
    stdout.print(shown)
    stdout.print("hit rate: tokens read / (read + written); saved: against the same tokens without a cache")
    for text in _losses(found):
        stdout.print(text)
    for count, what in (
        (found.estimated, "calls whose money is an estimate, since tokens or prices are not exactly those of the bill"),
        (found.unpriced, "calls of models without a price, of which only the tokens are counted"),
    ):
        if count:
            stdout.print(f"{what}: {count}")


def _losses(found: Caches) -> Iterator[str]:
    """Where prompt caching loses money, and what to do."""
    for line in found.lines:
        if line.saved < 0:
            yield (
                f"prompt caching loses money at {line.rung}: writes cost {usd(line.premium)} USD more than uncached tokens, reads"
                f" saved {usd(line.spared)} USD, {usd(-line.saved)} USD lost"
            )
    total = found.total
    if total.saved < 0:
        yield (
            f"together it loses {usd(-total.saved)} USD: set `prompt_cache: off`, and remove cache_control where callers set it"
        )
    elif any(line.saved < 0 for line in found.lines):
        yield f"together it saves {usd(total.saved)} USD: keep it on"
