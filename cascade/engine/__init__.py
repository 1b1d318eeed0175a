"""The live engine: `ask` and `aask`, and the two drivers behind them, `Cascade` and `AsyncCascade`.

Read in this order:

- `api`: `ask`, `plan`, `run`, their async twins and `reload`, on drivers that the process shares
- `arguments`: the arguments of one request (`response_types`: what `response_model` may be; `unsupported`: refused keywords)
- `delegation`: `summarize`, `extract`, `rewrite`, `classify` and `translate`: an `ask` each, with words and checks of their own
- `runtime`: what a driver holds: policy, mode, state, budgets, hooks, clocks
- `lifecycle`: one request from its first call to its answer, as a generator without I/O
- `drivers`: the two classes that run that generator and do the I/O, blocking or in asyncio
- `messages`: `Cascade.messages`, which takes and returns the SDK's own types (`wrapping`: a client whose messages climb)
- `planning`: `Cascade.plan` and `Cascade.run`
- `ratchet`: the thresholds that the audit has raised, read from the ledger (`outcomes`: what callers report of answers)
- `observing`: the shadow requests of `mode: observe`
- `mode_switch`: `cascade mode`, and the mode in force
"""

from __future__ import annotations

from cascade.engine.api import aask, aplan, arun, ask, plan, reload, report_outcome, run
from cascade.engine.arguments import AskOptions, Prompt, default_policy
from cascade.engine.delegation import (
    AsyncDelegationOptions,
    DelegationOptions,
    aclassify,
    aextract,
    arewrite,
    asummarize,
    atranslate,
    classify,
    extract,
    rewrite,
    summarize,
    translate,
)
from cascade.engine.drivers import AsyncCascade, Cascade
from cascade.engine.wrapping import wrap

__all__ = [
    "AskOptions",
    "AsyncCascade",
    "AsyncDelegationOptions",
    "Cascade",
    "DelegationOptions",
    "Prompt",
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
    "default_policy",
    "extract",
    "plan",
    "reload",
    "report_outcome",
    "rewrite",
    "run",
    "summarize",
    "translate",
    "wrap",
]
