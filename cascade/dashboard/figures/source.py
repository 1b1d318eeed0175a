"""A ledger's figures for pages that are asked for again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cascade.core.policy import Policy
from cascade.costs import Period
from cascade.dashboard.figures.overview import Known, read_overview
from cascade.dashboard.figures.pages import read_model, read_policy, read_request, read_stamp
from cascade.dashboard.values import ModelPage, Overview, PolicyPage, RequestRow
from cascade.ledger.reading import address_of, display_address

__all__ = ["LedgerSource"]


class LedgerSource:
    """The figures of the ledger at an address (None: as for the ledger). Safe between threads: each call reads on a connection of its own.

    `policies` gives those at hand now: a gateway may load others while it runs. `now` gives Unix seconds. Every call but `where` and `policies`
    raises LedgerError if the ledger cannot be read. Raises ConfigurationError if the address is invalid.
    """

    def __init__(
        self, address: str | None, policies: Callable[[], Sequence[Policy]], *, now: Callable[[], float] = time.time
    ) -> None:
        self._address, self._policies, self._now = address_of(address), policies, now
        self._known = Known()

    @property
    def where(self) -> str:
        """The ledger's address, without a password."""
        return display_address(self._address)

    @property
    def policies(self) -> Sequence[Policy]:
        """Those that are at hand."""
        return self._policies()

    def overview(self, period: Period) -> Overview:
        """The figures of a period."""
        return read_overview(self._address, period, self.policies, self._now(), known=self._known)

    def policy(self, name: str, period: Period) -> PolicyPage:
        """One policy's figures."""
        return read_policy(self._address, period, self.policies, self._now(), name, known=self._known)

    def model(self, name: str, period: Period, policy: str = "") -> ModelPage:
        """One model's figures, of one policy or ("") of all."""
        return read_model(self._address, period, self._now(), name, policy=policy, known=self._known)

    def request(self, request: str) -> RequestRow | None:
        """One request by its id; None if the ledger does not have it."""
        return read_request(self._address, request)

    def version(self) -> str:
        """A text that changes when the ledger has grown."""
        return read_stamp(self._address)
