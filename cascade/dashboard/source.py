"""Where the pages get their figures from: a ledger, as `figures` reads it. Every call may take a while, so `app` makes it in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cascade.core.policy import Policy
from cascade.costs import Period
from cascade.dashboard.values import ModelPage, Overview, PolicyPage, RequestRow

__all__ = ["Source"]


class Source(Protocol):
    """A ledger's figures. Safe between threads. Each raises LedgerError if the ledger cannot be read."""

    @property
    def where(self) -> str:
        """The ledger's address, without a password."""
        ...

    @property
    def policies(self) -> Sequence[Policy]:
        """Those that are at hand: served, or named to the command."""
        ...

    def overview(self, period: Period) -> Overview:
        """The figures of a period."""
        ...

    def policy(self, name: str, period: Period) -> PolicyPage:
        """One policy's figures."""
        ...

    def model(self, name: str, period: Period, policy: str) -> ModelPage:
        """One model's figures, of one policy or ("") of all."""
        ...

    def request(self, request: str) -> RequestRow | None:
        """One request by its id; None if the ledger does not have it."""
        ...

    def version(self) -> str:
        """A text that changes when the ledger has grown. Cheap: it is asked every few seconds while somebody watches."""
        ...
