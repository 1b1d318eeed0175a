"""Every error that `cascade` raises, in one tree.

CascadeError
├── ConfigurationError        something is set up wrongly; nothing was asked, nothing was paid         (exit 2)
│   ├── PolicyError           a policy that cannot be used; carries file, line, column, key
│   ├── CorpusError           a corpus that cannot be read; carries file, line, item
│   ├── UsageExportError      a usage export that cannot be read; carries file, line
│   ├── LedgerError           a ledger that cannot be reached, read or written
│   ├── RequestError          a request that no rung could take (prefill, invalid messages …)
│   └── MissingKey            no credentials for the endpoint of a rung
├── MissingExtra              an optional dependency is not installed                                  (exit 2)
├── BatchError                a call to the Message Batches API failed; carries the failure            (exit 4)
├── PlanError                 a plan that cannot be run, or none that the planner made; carries its faults     (exit 3)
├── RequirementNotMet         a figure misses its requirement; the run itself succeeded                (exit 3)
└── ClimbError                raised out of a climb; carries the trail of what was tried and paid      (exit 4)
    ├── UpstreamRejected      400, 401, 402, 403, 404, 413: the caller's or the configuration's fault
    ├── DeadlineExceeded      the deadline passed and no answer was held
    ├── BudgetExceeded        a budget does not allow the next call, and no answer was held            (exit 5)
    ├── AllRungsFailed        every rung was tried and none of their answers may be shipped
    ├── StreamBroken          the reply broke off after its first words had been given to the caller
    └── BatchCanceled         a call was canceled within its batch, by whoever canceled the batch

A message is one line: what, where, what to do. It holds no prompt, answer or key. Only UpstreamRejected quotes the
endpoint, which may quote the request: treat its message as you treat the request.

There are two warnings: UncertifiedWarning, BlockingWarning.
"""

from __future__ import annotations

from cascade.core.messages import Failure
from cascade.core.trail import Step

__all__ = [
    "AllRungsFailed",
    "BatchCanceled",
    "BatchError",
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
    "PlanError",
    "PolicyError",
    "RequestError",
    "RequirementNotMet",
    "StreamBroken",
    "UncertifiedWarning",
    "UpstreamRejected",
    "UsageExportError",
]


class CascadeError(Exception):
    """Base of all errors of this library."""

    exit_code = 1

    def __reduce__(self) -> tuple[object, ...]:
        """As it is, also where its message was made of other arguments: it may come from another process."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[CascadeError], args: tuple[object, ...], fields: dict[str, object]) -> CascadeError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class ConfigurationError(CascadeError):
    """Something is set up wrongly: nothing was asked and nothing was paid."""

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
    """A corpus that cannot be read, or lacks what is needed. `where` is `file:line`."""

    def __init__(self, problem: str, *, where: str = "corpus", item: str = "", hint: str = "") -> None:
        self.problem, self.where, self.item, self.hint = problem, where, item, hint
        at_item = f" item {item!r}:" if item else ""
        to_do = f" ({hint})" if hint else ""
        super().__init__(f"{where}:{at_item} {problem}{to_do}")


class UsageExportError(ConfigurationError):
    """A usage export that cannot be read, or lacks what is needed. `where` is `file` or `file:line`."""

    def __init__(self, problem: str, *, where: str, hint: str = "") -> None:
        self.problem, self.where, self.hint = problem, where, hint
        to_do = f" ({hint})" if hint else ""
        super().__init__(f"{where}: {problem}{to_do}")


class LedgerError(ConfigurationError):
    """A ledger that a command, or `report_outcome`, cannot reach, read or write. Requests never fail with it."""


class RequestError(ConfigurationError):
    """A request that no rung could take as it is; nothing of it is silently dropped."""


class MissingKey(ConfigurationError):
    """No credentials are set for an endpoint on the ladder."""


class MissingExtra(CascadeError):
    """An optional dependency is not installed; the message names the extra that installs it."""

    exit_code = 2

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an optional dependency (pip install 'cascade-ladder[{extra}]')")


class BatchError(CascadeError):
    """A call to the Message Batches API failed, after its retries. `failure` says why, in the terms of a call to a model.

    `maybe_made`: a batch may have been made all the same, since the response was lost.
    """

    exit_code = 4

    def __init__(self, what: str, failure: Failure, *, maybe_made: bool = False) -> None:
        self.failure, self.maybe_made = failure, maybe_made
        where = f" {failure.where}" if failure.where else ""
        super().__init__(f"batches:{where} {what} failed: {failure.message or failure.kind} ({failure.summary})")


class PlanError(CascadeError):
    """The planner made no plan that can be run, not even when it was told what is wrong with it; or the `given` one cannot be run.

    `faults`: what is wrong with it, a line each. `cost_nanousd`: what was paid for planning.
    """

    exit_code = 3

    def __init__(
        self, message: str, *, faults: tuple[str, ...] = (), cost_nanousd: int = 0, given: bool = False
    ) -> None:
        self.faults, self.cost_nanousd, self.given = faults, cost_nanousd, given
        self.exit_code = 2 if given else 3  # what the caller gave is a mistake in the arguments
        super().__init__(message)


class RequirementNotMet(CascadeError):
    """A figure misses its requirement (`--require`); the run itself succeeded."""

    exit_code = 3


class ClimbError(CascadeError):
    """Raised out of a climb. `steps` is the trail; `cost_usd` its cost in USD, as far as observed."""

    exit_code = 4

    def __init__(self, message: str, *, steps: tuple[Step, ...] = ()) -> None:
        self.steps = steps
        super().__init__(message)

    @property
    def cost_usd(self) -> float:
        """The cost of the steps so far, in USD."""
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
    """A budget does not allow the next call, and no answer was held. `refused` names the budget, in one line.

    If `steps` is empty, nothing was asked and nothing was paid.
    """

    exit_code = 5

    def __init__(self, message: str, *, refused: str = "", steps: tuple[Step, ...] = ()) -> None:
        self.refused = refused
        super().__init__(message, steps=steps)


class AllRungsFailed(ClimbError):
    """Every rung that may be tried was tried, and none of the answers may be shipped."""


class StreamBroken(ClimbError):
    """The reply broke off after its first words had been given to the caller: no other rung may repeat or continue them."""


class BatchCanceled(ClimbError):
    """A call was canceled within its batch, by whoever canceled the batch. It is not made again."""


class UncertifiedWarning(UserWarning):
    """A policy is in use whose thresholds no certificate proves. Issued once per process and policy."""


class BlockingWarning(UserWarning):
    """`ask` was called in a running event loop, which it blocks. Issued once per process."""
