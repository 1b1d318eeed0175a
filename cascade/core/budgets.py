"""Budget arithmetic: which budgets apply to a request, in which period, and the most that a call may cost.

Money is integer nano-USD. The time is an argument: an aware datetime in the budget's time zone.
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

__all__ = ["ApplicableBudget", "Refusal", "Span", "applicable_budgets", "max_usage", "upper_bound", "usd_text"]

Span = Literal["daily", "monthly"]

_OVERHEAD_TOKENS = 1024  # what the API adds to a prompt: roles, the format's system text
_IMAGE_TOKENS = 4_800  # one image, at the highest resolution that any model takes
_DOCUMENT_TOKENS = 1_000_000  # its bytes do not tell a PDF's length; no context window is larger


@dataclass(frozen=True, slots=True)
class ApplicableBudget:
    """One budget that applies to a call, for one period.

    `account` names whose spend is added up ("support", "support/task=refund"), `period` is "2026-11-21" or "2026-11"; with
    `span` they identify the counter. `scope` and `value` are the parts of `account` ("task", "refund"; "arm", "shadow" for
    mode observe). `limit` is in nano-USD, `starts` and `ends` in Unix seconds. `nth` numbers budgets that add up the same
    spend (alert at 5 USD, reject at 10): each has its own counter, or a call would count twice in one.
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
        """The key of its spend."""
        return f"{self.account}|{self.span}|{self.period}" + (f"|{self.nth}" if self.nth else "")

    @property
    def description(self) -> str:
        """For messages: "the daily budget of support/task=refund, 1.5 USD"."""
        return f"the {self.span} budget of {self.account}, {usd_text(self.limit)}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that must not be made. `message` names the budget that has no room for it, in one line."""

    message: str


def usd_text(nano: int) -> str:
    """Money for messages, exact to the nano-USD: "1.5 USD", "0.0008315 USD"."""
    return f"{nano / 1e9:.9f}".rstrip("0").rstrip(".") + " USD"


def applicable_budgets(
    limits: Limits, policy: str, task: str, metadata: Mapping[str, str], now: datetime
) -> Iterator[ApplicableBudget]:
    """The counters of one budget that apply to a request. `now`: aware, in the budget's time zone."""
    value = str({"policy": policy, "task": task}.get(limits.per, metadata.get(limits.per, "")))
    if not value.isascii():  # an unpaired surrogate can be neither stored nor sent
        value = value.encode("utf-8", "replace").decode()
    account = policy if limits.per == "policy" else f"{policy}/{limits.per}={value}"
    day = now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)  # in some zones clocks go back over midnight
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
    return max(prices.cost(rates, usage) for usage in max_usage(prompt))


def max_usage(prompt: Prompt) -> tuple[Usage, ...]:
    """The most tokens that one call may be billed: no token is shorter than a byte, no reply longer than max_tokens.

    One Usage for each kind that the prompt may be billed as, the most expensive first: with `cache_control` in it, or
    of another vendor, whose API caches by itself, any of the cache's kinds. An image counts as many tokens as any model makes of one, a document as the largest context window.
    Tool inputs count as text.
    """
    media_tokens, cached = 0, prompt.rung.provider != "anthropic"

    def without_media(value: Any) -> Any:
        nonlocal media_tokens, cached
        if isinstance(value, Mapping):
            block: Mapping[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
            cached = cached or "cache_control" in block
            kind, source = block.get("type"), block.get("source")
            if kind in ("tool_use", "server_tool_use"):
                return dict(block)
            if kind == "image":
                media_tokens += _IMAGE_TOKENS
                return kind
            if kind == "document" and isinstance(source, Mapping) and source.get("type") not in ("text", "content"):  # pyright: ignore[reportUnknownMemberType]
                media_tokens += _DOCUMENT_TOKENS
                return kind
            return {str(key): without_media(one) for key, one in block.items()}
        if isinstance(value, (list, tuple)):
            return [without_media(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
        return value

    further = filter(None, (prompt.tools, prompt.extra, prompt.raw))
    written = json.dumps(
        [without_media(prompt.messages), without_media(prompt.system), prompt.schema, *map(without_media, further)],
        ensure_ascii=False,
        default=str,
    )
    tokens = len(written.encode("utf-8", "replace")) + _OVERHEAD_TOKENS + media_tokens
    most = prompt.max_tokens
    if not cached:
        return (Usage(tokens, most),)
    return (
        Usage(0, most, cache_write_1h=tokens),
        Usage(0, most, cache_write_5m=tokens),
        Usage(tokens, most),
        Usage(0, most, cache_read=tokens),
    )
