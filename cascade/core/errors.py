"""Every error that `cascade` raises, in one tree.

CascadeError
├── ConfigurationError        something that was set up wrongly; nothing was asked, nothing was paid   (exit 2)
│   ├── PolicyError           a policy that cannot be used; carries file, line, column, key
│   ├── CorpusError           a corpus that cannot be read; carries file, line, item
│   ├── UsageExportError      a usage export that cannot be read; carries file, line
│   ├── LedgerError           a ledger that cannot be reached, read or written by a command
│   ├── RequestError          a request that cannot be honoured as it stands (prefill, bad messages …)
│   └── MissingKey            no credentials for the endpoint of a rung
├── MissingExtra              an optional dependency is not installed                                  (exit 2)
├── RequirementNotMet         a figure is not what was required of it; the run itself went well        (exit 3)
└── ClimbError                raised out of a climb; carries the trail of what was tried and paid      (exit 4)
    ├── UpstreamRejected      400, 401, 402, 403, 404, 413: the caller's or the configuration's fault
    ├── DeadlineExceeded      the deadline passed and no answer was held
    ├── BudgetExceeded        a budget has no room for the next call, and no answer was held               (exit 5)
    └── AllRungsFailed        every rung was tried and none of their answers may be shipped

Errors are one line: what, where, what to do. None of them holds a prompt, an answer or a key of ours; UpstreamRejected
quotes the endpoint, which may quote the request: log it as you would log the request.

Two warnings stand beside them: UncertifiedWarning, BlockingWarning.
"""

from __future__ import annotations

from cascade.core.trail import Step

__all__ = [
    "AllRungsFailed",
    "BlockingWarning",
    "BudgetExceeded",
    "CascadeError",
    "ClimbError",
    "ConfigurationError",
    "CorpusError",
    "DeadlineExceeded",
    "LedgerError",
    "MissingExtra",
    "MissingKey",
    "PolicyError",
    "RequestError",
    "RequirementNotMet",
    "UncertifiedWarning",
    "UpstreamRejected",
    "UsageExportError",
]


class CascadeError(Exception):
    """Base of all errors of this library."""

    exit_code = 1


class ConfigurationError(CascadeError):
    """Something was set up wrongly: nothing was asked and nothing was paid."""

    exit_code = 2


class PolicyError(ConfigurationError):
    """A policy that cannot be used.

    `where` is `file:line:column` when the policy came from a file, else the file or "policy";
    `key` is the dotted path of the offending key, e.g. `ladder[1].threshold`.
    """

    def __init__(self, problem: str, *, where: str = "policy", key: str = "", hint: str = "") -> None:
        self.problem, self.where, self.key, self.hint = problem, where, key, hint
        at_key = f" {key}:" if key else ""
        to_do = f" ({hint})" if hint else ""
        super().__init__(f"{where}:{at_key} {problem}{to_do}")


class CorpusError(ConfigurationError):
    """A corpus that cannot be read, or that lacks what was asked of it. `where` is `file:line`."""

    def __init__(self, problem: str, *, where: str = "corpus", item: str = "", hint: str = "") -> None:
        self.problem, self.where, self.item, self.hint = problem, where, item, hint
        at_item = f" item {item!r}:" if item else ""
        to_do = f" ({hint})" if hint else ""
        super().__init__(f"{where}:{at_item} {problem}{to_do}")


class UsageExportError(ConfigurationError):
    """A usage export that cannot be read, or that lacks what was asked of it. `where` is `file` or `file:line`."""

    def __init__(self, problem: str, *, where: str, hint: str = "") -> None:
        self.problem, self.where, self.hint = problem, where, hint
        to_do = f" ({hint})" if hint else ""
        super().__init__(f"{where}: {problem}{to_do}")


class LedgerError(ConfigurationError):
    """A ledger that a command cannot reach, read or write. No answer ever fails with it: a ledger's trouble costs none."""


class RequestError(ConfigurationError):
    """A request that cannot be honoured as it stands; nothing of it is silently dropped."""


class MissingKey(ConfigurationError):
    """No credentials are set for an endpoint on the ladder."""


class MissingExtra(CascadeError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    exit_code = 2

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an optional dependency (pip install 'cascade-ladder[{extra}]')")


class RequirementNotMet(CascadeError):
    """A figure is not what was required of it (`--require`): the run went well, its result does not do."""

    exit_code = 3


class ClimbError(CascadeError):
    """Raised out of a climb. `steps` is the trail; `cost_usd` is what it cost, in USD, as far as observed."""

    exit_code = 4

    def __init__(self, message: str, *, steps: tuple[Step, ...] = ()) -> None:
        self.steps = steps
        super().__init__(message)

    @property
    def cost_usd(self) -> float:
        """What the steps taken so far cost, in USD."""
        return sum(step.cost_nanousd for step in self.steps) / 1e9


class UpstreamRejected(ClimbError):
    """The endpoint refused the request itself (400, 401, 402, 403, 404, 413): climbing would not help."""

    def __init__(
        self, message: str, *, status: int, request_id: str | None = None, steps: tuple[Step, ...] = ()
    ) -> None:
        self.status, self.request_id = status, request_id
        super().__init__(message, steps=steps)


class DeadlineExceeded(ClimbError):
    """The deadline of the climb passed and no answer was held."""


class BudgetExceeded(ClimbError):
    """A budget has no room for the next call, and no answer was held. `refused` names the budget, in one line.

    `steps` may be empty: then nothing was asked and nothing was paid.
    """

    exit_code = 5

    def __init__(self, message: str, *, refused: str = "", steps: tuple[Step, ...] = ()) -> None:
        self.refused = refused
        super().__init__(message, steps=steps)


class AllRungsFailed(ClimbError):
    """Every rung that might be tried was tried, and none of their answers may be shipped."""


class UncertifiedWarning(UserWarning):
    """A policy is in use whose thresholds no certificate proves. Warned once a process for each policy."""


class BlockingWarning(UserWarning):
    """`ask` was called in a running event loop, which stands still meanwhile. Warned once a process."""
