"""The arms: who answers a request, or what else a call is for."""

from __future__ import annotations

from typing import Literal

__all__ = ["AUDITED_ARMS", "LADDER_ARMS", "PLAN_ARMS", "Arm"]

Arm = Literal[
    "cascade", "holdout", "observe", "shadow", "bypass", "relay", "audit", "batch", "cache", "executor", "planner", "reviewer",
]  # fmt: skip
"""Who answered. `cascade`: the ladder. `holdout`: the baseline, for requests outside the rollout. `observe`: the baseline, in
mode observe. `shadow`: the ladder in mode observe, recorded in the ledger but never returned. `bypass`: the baseline, in
mode off or for a request that cannot climb. `relay`: the model that the request names, through the gateway. `audit`: the calls
that grade a sampled request, likewise. `batch`: the ladder, through the Message Batches API. `cache`: the response cache; no model was asked. `executor`: the ladder, for a
subtask of a plan. `planner`, `reviewer`: the one call that makes a plan, or reads a result of one."""

LADDER_ARMS: frozenset[str] = frozenset({"cascade", "batch", "executor"})
"""The arms whose answers are the ladder's, by the rule."""

AUDITED_ARMS: frozenset[str] = LADDER_ARMS - {"executor"}
"""Those of which the audit samples: results of subtasks have a reviewer of their own, and climb by their plan's floors."""

PLAN_ARMS: frozenset[str] = frozenset({"planner", "reviewer"})
"""The arms of calls that answer no request: they plan and review."""
