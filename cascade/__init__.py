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
        AllRungsFailed as AllRungsFailed,
        BlockingWarning as BlockingWarning,
        BudgetExceeded as BudgetExceeded,
        CascadeError as CascadeError,
        ClimbError as ClimbError,
        ConfigurationError as ConfigurationError,
        CorpusError as CorpusError,
        DeadlineExceeded as DeadlineExceeded,
        MissingExtra as MissingExtra,
        MissingKey as MissingKey,
        PolicyError as PolicyError,
        RequestError as RequestError,
        UncertifiedWarning as UncertifiedWarning,
        UpstreamRejected as UpstreamRejected,
    )
    from cascade.core.policy import Policy as Policy
    from cascade.core.trail import Answer as Answer, Step as Step, Verdict as Verdict
    from cascade.engine import (
        AskOptions as AskOptions,
        AsyncCascade as AsyncCascade,
        Cascade as Cascade,
        aask as aask,
        ask as ask,
        reload as reload,
    )
    from cascade.policy.loading import load_policy as load_policy

_HOMES = {
    "cascade.core.errors": (
        "AllRungsFailed",
        "BlockingWarning",
        "BudgetExceeded",
        "CascadeError",
        "ClimbError",
        "ConfigurationError",
        "CorpusError",
        "DeadlineExceeded",
        "MissingExtra",
        "MissingKey",
        "PolicyError",
        "RequestError",
        "UncertifiedWarning",
        "UpstreamRejected",
    ),
    "cascade.core.policy": ("Policy",),
    "cascade.core.trail": ("Answer", "Step", "Verdict"),
    "cascade.engine": ("AskOptions", "AsyncCascade", "Cascade", "aask", "ask", "reload"),
    "cascade.policy.loading": ("load_policy",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AllRungsFailed",
    "Answer",
    "AskOptions",
    "AsyncCascade",
    "BlockingWarning",
    "BudgetExceeded",
    "Cascade",
    "CascadeError",
    "ClimbError",
    "ConfigurationError",
    "CorpusError",
    "DeadlineExceeded",
    "MissingExtra",
    "MissingKey",
    "Policy",
    "PolicyError",
    "RequestError",
    "Step",
    "UncertifiedWarning",
    "UpstreamRejected",
    "Verdict",
    "aask",
    "ask",
    "load_policy",
    "reload",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'cascade' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
