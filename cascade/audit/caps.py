"""The caps on what the audit spends: `audit.daily_usd`, and `--max-usd` of a run. A call is made only if the most it may cost fits."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Literal

from cascade.audit.grading import judges_of
from cascade.audit.judge import judge_prompt, judge_request
from cascade.budgets.gate import bound_of
from cascade.core.bound_policy import BoundPolicy
from cascade.core.messages import Request
from cascade.core.policy import Policy
from cascade.core.triage import Prompt, build_prompt
from cascade.corpora.grading import judge_rung
from cascade.policy.binding import bind_policy

__all__ = ["Cap", "cap_text", "daily_cap", "daily_note", "smallest_call", "smallest_call_usd"]

Cap = Literal["daily_usd", "max_usd"]


def daily_cap(policy: Policy) -> int | None:
    """`audit.daily_usd` in nano-USD; None: no cap."""
    daily = policy.audit.daily_usd if policy.audit is not None else None
    return None if daily is None else int(daily * 1_000_000_000)


def smallest_call(plan: BoundPolicy) -> int:
    """The cap that has room for every kind of call that the audit makes, if prompts are short; in nano-USD.

    A shadow answer of the top rung may cost its `max_tokens`. Raises ConfigurationError for a judge that is not on the ladder.
    """
    policy = plan.policy
    shadow = build_prompt(policy, policy.top, Request(({"role": "user", "content": "?"},)))
    prompts: list[tuple[int, Prompt]] = [(policy.top, shadow)]
    for judge in judges_of(policy):
        index = next(nth for nth, one in enumerate(policy.ladder) if one.rung == judge_rung(judge))
        prompts.append((index, judge_prompt(policy, index, judge_request("?", "", ""))))
    return max(bound_of(plan.rates[index], prompt, policy.retry.attempts) for index, prompt in prompts)


def smallest_call_usd(policy: Policy) -> Decimal:
    """The same in USD: with less, `audit.daily_usd` grades nothing. Raises NoPrice."""
    return Decimal(smallest_call(bind_policy(policy))) / 1_000_000_000


def daily_note(policy: Policy) -> str | None:
    """What is wrong with `audit.daily_usd`, if no call of the audit fits into it. Raises as `smallest_call_usd`."""
    cap = daily_cap(policy)
    if cap is None or (smallest := smallest_call(bind_policy(policy))) <= cap:
        return None
    return (
        f"audit.daily_usd: no sample that needs a call is graded: one call may cost {_at_most(smallest)} USD, and the day's cap is"
        f" {cap / 1e9:g} USD (raise it, or lower the top rung's max_tokens)"
    )


def cap_text(cap: Cap, limit: int, used: int, bound: int) -> str:
    """Why no further call is made. In nano-USD: `limit`, what is `used` of it, and the most that the next call may cost."""
    if cap == "max_usd":
        return f"--max-usd {limit / 1e9:g}: {used / 1e9:.2f} USD is spent, and the next call may cost up to {_at_most(bound)} USD: raise it"
    wait = "raise it" if bound > limit else "the rest waits until tomorrow (UTC), or raise it"
    return (
        f"audit.daily_usd: {used / 1e9:.2f} of {limit / 1e9:g} USD is spent or reserved by running calls, and the next call may cost"
        f" {_at_most(bound)} USD: {wait}"
    )


def _at_most(nano: int) -> str:
    """In USD, rounded up: with the amount that is told the call has room."""
    return f"{math.ceil(nano / 100_000) / 10_000:.4f}"
