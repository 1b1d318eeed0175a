"""cascade answers every request with the cheapest Claude model that can be trusted with it.

    import cascade

    answer = cascade.ask("Where is my order A-17?")
    print(answer, answer.rung, answer.cost_usd)

Names are imported on first use, so that `import cascade` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascade.core.errors import (
        AllRungsFailed,
        BlockingWarning,
        BudgetExceeded,
        CascadeError,
        ClimbError,
        ConfigurationError,
        CorpusError,
        DeadlineExceeded,
        MissingExtra,
        MissingKey,
        PlanError,
        PolicyError,
        RequestError,
        StreamBroken,
        UncertifiedWarning,
        UpstreamRejected,
    )
    from cascade.core.planning.graph import Plan, Subtask
    from cascade.core.planning.result import Result
    from cascade.core.policy import Policy
    from cascade.core.trail import Answer, Step, Verdict
    from cascade.engine import (
        AskOptions,
        AsyncCascade,
        AsyncDelegationOptions,
        Cascade,
        DelegationOptions,
        aask,
        aclassify,
        aextract,
        aplan,
        arewrite,
        arun,
        ask,
        asummarize,
        atranslate,
        classify,
        extract,
        plan,
        reload,
        report_outcome,
        rewrite,
        run,
        summarize,
        translate,
        wrap,
    )
    from cascade.policy.loading import load_policy
    from cascade.policy.plan_files import load_plan, save_plan

__all__ = [
    "AllRungsFailed",
    "Answer",
    "AskOptions",
    "AsyncCascade",
    "AsyncDelegationOptions",
    "BlockingWarning",
    "BudgetExceeded",
    "Cascade",
    "CascadeError",
    "ClimbError",
    "ConfigurationError",
    "CorpusError",
    "DeadlineExceeded",
    "DelegationOptions",
    "MissingExtra",
    "MissingKey",
    "Plan",
    "PlanError",
    "Policy",
    "PolicyError",
    "RequestError",
    "Result",
    "Step",
    "StreamBroken",
    "Subtask",
    "UncertifiedWarning",
    "UpstreamRejected",
    "Verdict",
    "aask",
    "aclassify",
    "aextract",
    "aplan",
    "arewrite",
    "arun",
    "ask",
    "asummarize",
    "atranslate",
    "classify",
    "extract",
    "load_plan",
    "load_policy",
    "plan",
    "reload",
    "report_outcome",
    "rewrite",
    "run",
    "save_plan",
    "summarize",
    "translate",
    "wrap",
]

_HOME = dict.fromkeys(__all__, "cascade.core.errors") | {
    "Answer": "cascade.core.trail",
    "AskOptions": "cascade.engine",
    "AsyncCascade": "cascade.engine",
    "AsyncDelegationOptions": "cascade.engine",
    "Cascade": "cascade.engine",
    "DelegationOptions": "cascade.engine",
    "Plan": "cascade.core.planning.graph",
    "Policy": "cascade.core.policy",
    "Result": "cascade.core.planning.result",
    "Step": "cascade.core.trail",
    "Subtask": "cascade.core.planning.graph",
    "Verdict": "cascade.core.trail",
    "aask": "cascade.engine",
    "aclassify": "cascade.engine",
    "aextract": "cascade.engine",
    "aplan": "cascade.engine",
    "arewrite": "cascade.engine",
    "arun": "cascade.engine",
    "ask": "cascade.engine",
    "asummarize": "cascade.engine",
    "atranslate": "cascade.engine",
    "classify": "cascade.engine",
    "extract": "cascade.engine",
    "load_plan": "cascade.policy.plan_files",
    "load_policy": "cascade.policy.loading",
    "plan": "cascade.engine",
    "reload": "cascade.engine",
    "report_outcome": "cascade.engine",
    "rewrite": "cascade.engine",
    "run": "cascade.engine",
    "save_plan": "cascade.policy.plan_files",
    "summarize": "cascade.engine",
    "translate": "cascade.engine",
    "wrap": "cascade.engine",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'cascade' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
