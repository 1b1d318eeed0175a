"""Policies and budgets for the tests of the state."""

from __future__ import annotations

from typing import Any

from cascade.core.budgets import ApplicableBudget
from cascade.core.policy import Policy

DAY = 1_800_000_000 // 86_400 * 86_400
"""A day's beginning, in Unix seconds."""


def make_policy(name: str, **more: Any) -> Policy:
    """Three rungs."""
    ladder = [
        {"rung": "haiku", "model": "claude-haiku-5-5", "threshold": 0.8, "max_tokens": 1024},
        {"rung": "sonnet", "model": "claude-sonnet-5-5", "threshold": 0.8, "max_tokens": 1024},
        {"rung": "opus", "model": "claude-opus-5-5", "max_tokens": 1024},
    ]
    return Policy.model_validate({"version": 1, "name": name, "ladder": ladder, **more})


def make_budget(policy: str, limit: int, *, value: str = "", day: int = 0) -> ApplicableBudget:
    """A daily budget of `limit` nano-USD, on the day so many days after `DAY`."""
    starts = DAY + 86_400 * day
    account = f"{policy}/workflow={value}" if value else policy
    scope = "workflow" if value else "policy"
    return ApplicableBudget(
        account, policy, scope, value, "daily", f"day-{day}", starts, starts + 86_400, limit, 0.8, "reject"
    )  # fmt: skip
