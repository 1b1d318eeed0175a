"""Budgets as arithmetic: what a call may cost at most, which budgets apply to a request, in which period.

Money is integer nano-USD. The time is an argument: an aware datetime, in the budget's own time zone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from cascade.core import prices
from cascade.core.messages import Usage
from cascade.core.policy.operations import Limits, OnExhausted, Per
from cascade.core.triage import Prompt

__all__ = ["ApplicableBudget", "Refusal", "Span", "applicable_budgets", "most_tokens", "told_usd", "upper_bound"]

Span = Literal["daily", "monthly"]

_OVERHEAD_TOKENS = 1024  # roles, the format's own system text: what the API adds to a prompt
_IMAGE_TOKENS = 4_800  # the most that an image counts, at the highest resolution any of the models takes
_DOCUMENT_TOKENS = 1_000_000  # a PDF's pages cannot be told from its bytes: no context window holds more than this


@dataclass(frozen=True, slots=True)
class ApplicableBudget:
    """One budget that applies to a call, in its current period.

    `account` names whose spend is added up ("support", "support/task=refund"), `period` is "2026-11-21" or "2026-11";
    together with `span` they name the counter. `scope` and `value` are the account in two parts ("task", "refund"; "arm",
    "shadow": the shadow requests of `mode: observe`). `limit` is in nano-USD; `starts` and `ends` are Unix seconds. `nth`
    numbers the budgets that add up the same spend (alert at 5 USD, reject at 10): each has a counter of its own.
    """

    account: str
    policy: str
    scope: Per | Literal["arm"]
    value: str
    span: Span
    period: str
    starts: float
    ends: float
    limit: int
    alert_at: float
    on_exhausted: OnExhausted
    nth: int = 0

    @property
    def counter(self) -> str:
        """What its spend is kept under."""
        return f"{self.account}|{self.span}|{self.period}" + (f"|{self.nth}" if self.nth else "")

    @property
    def told(self) -> str:
        """For people: "the daily budget of support/task=refund, 1.5 USD"."""
        return f"the {self.span} budget of {self.account}, {told_usd(self.limit)}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call must not be made: `told` names the budget; `bound` is what the call may cost, in nano-USD."""

    told: str
    bound: int


def told_usd(nano: int) -> str:
    """Money for people, to the nano-USD where there is so little: "1.5 USD", "0.0008315 USD"."""
    return f"{nano / 1e9:.9f}".rstrip("0").rstrip(".") + " USD"


def applicable_budgets(
    limits: Limits, policy: str, task: str, metadata: Mapping[str, str], now: datetime
) -> Iterator[ApplicableBudget]:
    """The counters of one budget that a request falls under. `now`: aware, in the budget's time zone."""
    value = str({"policy": policy, "task": task}.get(limits.per, metadata.get(limits.per, "")))
    if not value.isascii():  # half a surrogate pair can neither be stored nor sent
        value = value.encode("utf-8", "replace").decode()
    account = policy if limits.per == "policy" else f"{policy}/{limits.per}={value}"
    day = now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)  # some clocks go back over midnight
    month = day.replace(day=1)
    spans: tuple[tuple[Span, Any, str, datetime, datetime], ...] = (
        ("daily", limits.daily_usd, day.strftime("%Y-%m-%d"), day, day + timedelta(days=1)),
        ("monthly", limits.monthly_usd, day.strftime("%Y-%m"), month, (month + timedelta(days=32)).replace(day=1)),
    )
    for span, usd, period, starts, ends in spans:
        if usd is not None:
            yield ApplicableBudget(
                account, policy, limits.per, value, span, period, starts.timestamp(), ends.timestamp(),
                int(usd * 1_000_000_000), limits.alert_at, limits.on_exhausted,
            )  # fmt: skip


def upper_bound(rates: prices.Rates, prompt: Prompt) -> int:
    """The most that one call may cost, in nano-USD."""
    return max(prices.cost(rates, usage) for usage in most_tokens(prompt))


def most_tokens(prompt: Prompt) -> tuple[Usage, ...]:
    """The most tokens that one call may be billed: no token is shorter than a byte, no reply longer than max_tokens.

    One Usage for each kind of token that the prompt may count as, the dearest of the list prices first. An image counts the most that any model makes of one, not its bytes; a document the largest context window. What a
    tool was given is text, whatever it looks like. A prompt with a cache's mark may be billed at any of the cache's rates.
    """
    pictures, cached = 0, False

    def plain(value: Any) -> Any:
        nonlocal pictures, cached
        if isinstance(value, Mapping):
            block: Mapping[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
            cached = cached or "cache_control" in block
            kind, source = block.get("type"), block.get("source")
            if kind in ("tool_use", "server_tool_use"):
                return dict(block)
            if kind == "image":
                pictures += _IMAGE_TOKENS
                return kind
            if kind == "document" and isinstance(source, Mapping) and source.get("type") not in ("text", "content"):  # pyright: ignore[reportUnknownMemberType]
                pictures += _DOCUMENT_TOKENS
                return kind
            return {str(key): plain(one) for key, one in block.items()}
        if isinstance(value, (list, tuple)):
            return [plain(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
        return value

    written = json.dumps([plain(prompt.messages), plain(prompt.system), prompt.schema], ensure_ascii=False, default=str)
    tokens = len(written.encode("utf-8", "replace")) + _OVERHEAD_TOKENS + pictures
    most = prompt.max_tokens
    if not cached:
        return (Usage(tokens, most),)
    return (
        Usage(0, most, cache_write_1h=tokens),
        Usage(0, most, cache_write_5m=tokens),
        Usage(tokens, most),
        Usage(0, most, cache_read=tokens),
    )
