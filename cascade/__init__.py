"""cascade answers every request with the cheapest Claude model that can be trusted with it.

    import cascade

    answer = cascade.ask("Where is my order A-17?")
    print(answer, answer.rung, answer.cost_usd)

Names are imported when they are first used, so that `import cascade` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascade.core.errors import (
        AllRungsFailed as AllRungsFailed,
    )
    from cascade.core.errors import (
        BlockingWarning as BlockingWarning,
    )
    from cascade.core.errors import (
        BudgetExceeded as BudgetExceeded,
    )
    from cascade.core.errors import (
        CascadeError as CascadeError,
    )
    from cascade.core.errors import (
        ClimbError as ClimbError,
    )
    from cascade.core.errors import (
        ConfigurationError as ConfigurationError,
    )
    from cascade.core.errors import (
        CorpusError as CorpusError,
    )
    from cascade.core.errors import (
        DeadlineExceeded as DeadlineExceeded,
    )
    from cascade.core.errors import (
        MissingExtra as MissingExtra,
    )
    from cascade.core.errors import (
        MissingKey as MissingKey,
    )
    from cascade.core.errors import (
        PolicyError as PolicyError,
    )
    from cascade.core.errors import (
        RequestError as RequestError,
    )
    from cascade.core.errors import (
        UncertifiedWarning as UncertifiedWarning,
    )
    from cascade.core.errors import (
        UpstreamRejected as UpstreamRejected,
    )
    from cascade.core.policy import Policy as Policy
    from cascade.core.trail import Answer as Answer
    from cascade.core.trail import Step as Step
    from cascade.core.trail import Verdict as Verdict
    from cascade.engine import AskOptions as AskOptions
    from cascade.engine import AsyncCascade as AsyncCascade
    from cascade.engine import Cascade as Cascade
    from cascade.engine import aask as aask
    from cascade.engine import ask as ask
    from cascade.engine import reload as reload
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
