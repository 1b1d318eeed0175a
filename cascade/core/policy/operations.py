"""How a policy is operated: mode, rollout, ledger, budgets, audit.

None of these keys affects a verdict, a threshold or a certificate.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, Strict, StringConstraints, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from cascade.core.policy.ladder import Frozen, Name, Seconds, Text

__all__ = [
    "Audit",
    "Function",
    "Ledger",
    "LedgerKey",
    "Limits",
    "Mode",
    "Observe",
    "OnExhausted",
    "Per",
    "Rollout",
    "Sticky",
]

Function = Annotated[str, Strict(), StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
"""`module:function`."""

_Usd = Annotated[Decimal, Field(gt=0, le=1_000_000_000, allow_inf_nan=False)]
_Label = Annotated[str, Strict(), StringConstraints(pattern=r"^[A-Za-z_][\w.-]{0,63}$")]
_Notice = Annotated[
    str, Strict(), StringConstraints(pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*|https?://[^\s@]+)$", max_length=2048)
]


def _off(value: object) -> object:
    return "off" if value is False else value  # YAML reads `off` as false


Mode = Annotated[
    Literal["off", "observe", "enforce"],
    BeforeValidator(_off),
    WithJsonSchema({"enum": ["off", "observe", "enforce"]}),
]
"""off: every request goes unchanged to the baseline. observe: the baseline answers, a sample is also put to the ladder.
enforce: the ladder answers."""

Per = Literal["policy", "task", "workflow", "key"]
"""Whose spend is added up: the whole policy's, each task's, or each `workflow` or `key` that the caller's metadata name."""

OnExhausted = Literal["alert", "hold", "reject"]


class Observe(Frozen):
    """What `mode: observe` puts to the ladder, beside the baseline's answer."""

    sample: Annotated[float, Strict(), Field(gt=0, le=1, allow_inf_nan=False)] = 0.05
    """The share of the requests."""
    daily_usd: _Usd | None = Decimal("1.00")
    """What that may cost a day (the policy's time zone is the first budget's, else UTC). Null: no cap."""
    concurrency: Annotated[int, Strict(), Field(ge=1, le=64)] = 4
    """Requests put to the ladder at a time; a sampled one that finds no place is passed over, and counted."""


class Rollout(Frozen):
    """The share of the traffic that climbs; the rest goes to the baseline, as the holdout the saving is measured on."""

    percent: Annotated[float, Strict(), Field(ge=0, le=100, allow_inf_nan=False)]
    by: _Label = "request"
    """The name in the caller's metadata that is never split (`customer`), or `request`: each by itself."""


class Sticky(Frozen):
    """How a conversation that had to climb is treated afterwards. A tool loop stays on its rung in any case."""

    by: Literal["conversation", "session"] = "conversation"
    """What belongs together: the messages of one conversation, or what the caller names as one session."""
    cool_off: Annotated[int, Strict(), Field(ge=0, le=1000)] = 8
    """For so many further user turns no rung below the one that answered ships its answer. The climb begins at the first all the same."""
    loop_errors: Annotated[int, Strict(), Field(ge=1, le=100)] = 3
    """So many failed results in a row move a tool loop one rung up; 3 where `sticky` is absent."""


class Ledger(Frozen):
    """What is kept of each request. Nothing of what users wrote, unless `content` says so."""

    enabled: Annotated[bool, Strict()] = True
    """`ledger: off` is short for false."""
    content: Annotated[bool, Strict()] = False
    """Also prompts and answers."""
    keep_days: Annotated[int, Strict(), Field(ge=1, le=36_500)] | None = None
    """Prompts and answers are removed after so many days; the books stay. Default: they are kept."""
    redact: Function | None = None
    """`module:function`, called with each text before it is stored; it returns the text to store."""
    durability: Literal["batched", "commit"] = "batched"
    """batched: on the disk within 200 ms. commit: each call is on the disk before it is made, its outcome before the answer."""


class Audit(Frozen):
    """Grading a sample of what was shipped. Off when absent. Needs a ledger; to grade answers, `ledger: {content: true}`."""

    sample: Annotated[float, Strict(), Field(ge=0, le=1, allow_inf_nan=False)] = 0.01
    """The share of all requests, by a hash of their ids. Only these count in the rates."""
    lowest_confidence: Annotated[float, Strict(), Field(ge=0, le=1, allow_inf_nan=False)] = 0.05
    """The share of shipped answers with the lowest confidence of their rung and source. They find faults; no rate counts them."""
    daily_usd: _Usd | None = Decimal("1.00")
    """What shadow answers and judgements may cost a day (UTC). Null: no cap."""
    on_alarm: Literal["alert", "ratchet"] = "alert"
    """When the rate of the loss is above what was certified. alert: only says so. ratchet: also one step toward fewer losses on the
    certificate's path; without a certificate the first threshold rises by 0.1, to at most 0.9."""
    arl: Annotated[int, Strict(), Field(ge=100, le=100_000_000)] = 10_000
    """While the rate is at most what was certified, a false alarm comes on average after at least so many graded requests."""
    max_rate: Annotated[float, Strict(), Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    """The rate of the loss that is still right, where there is no certificate (default: 0.02). With one it is the certificate's alpha."""
    grader: Text | None = None
    """Who compares the shipped answer with the top rung's: a grader's name, or `judge`. Default: the certificate's, else `judge`."""
    judge: Name | None = None
    """The rung that judges. Default: the top rung."""
    cost_of_error_usd: _Usd | None = None
    """What a wrong answer costs, for the report's profit and loss."""
    notify: tuple[_Notice, ...] = Field(default=(), max_length=8)
    """Who is told of an alarm, beside the log: `module:function`, or an address that it is posted to as JSON."""
    notify_timeout_s: Seconds = 5.0
    """What one post to an address may take."""


def _switch(value: object) -> object:
    return {"enabled": False} if value is False or value == "off" else value


LedgerKey = Annotated[Ledger, BeforeValidator(_switch)]
"""Its settings, or `off`."""


class Limits(Frozen):
    """A budget. Every one that applies to a request must have room for its next call."""

    daily_usd: _Usd | None = None
    monthly_usd: _Usd | None = None
    call_usd: _Usd | None = None
    """Of one request: all the calls of its climb."""
    per: Per = "policy"
    alert_at: Annotated[float, Strict(), Field(gt=0, le=1, allow_inf_nan=False)] = 0.8
    """Told once a period when this share is spent, and again when all is."""
    on_exhausted: OnExhausted = "alert"
    """alert: only told. hold: a soft limit, the first rung is asked all the same and the climb stops there. reject: no call
    that might pass the limit is made."""
    timezone: Annotated[str, Strict(), StringConstraints(min_length=1, max_length=64)] = "UTC"
    """Where a day and a month begin: a name such as Europe/Berlin."""
    notify: tuple[_Notice, ...] = Field(default=(), max_length=8)
    """Who is told of an alert, beside the log: `module:function`, or an address that it is posted to as JSON."""
    notify_timeout_s: Seconds = 5.0
    """What one post to an address may take."""

    @model_validator(mode="after")
    def _has_a_limit(self) -> Limits:
        if self.daily_usd is None and self.monthly_usd is None and self.call_usd is None:
            raise PydanticCustomError("budget", "a budget needs daily_usd, monthly_usd or call_usd")
        return self
