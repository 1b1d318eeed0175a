"""The gauges of a gateway: what its state, its ledger and its policies' files say, read when they are scraped, at most every 5 s.

What belongs to this process alone (requests that run, entries that wait) is set all the time, because another worker may be scraped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from cascade.audit.drift import step_in_force, told_alarms
from cascade.core.budgets import applicable_budgets
from cascade.core.errors import CascadeError
from cascade.core.policy import Policy
from cascade.ledger.audit import AuditTables
from cascade.ledger.opening import address_of, backlog, open_reader
from cascade.ledger.stores import LedgerDown, NoLedger
from cascade.policy.budgets import zone_of
from cascade.policy.certificates import changed_parts, epoch_of
from cascade.state.opening import check_state

if TYPE_CHECKING:
    from cascade.gateway.hub import Hub

__all__ = ["Watching"]

_EVERY_S = 5.0
_QUERY_S = 1.0
_THREADS = 4

_T = TypeVar("_T")

Values = dict[tuple[str, ...], float]


@dataclass(slots=True)
class Watching:
    """Sets the gauges of one hub's metrics. Does nothing where the extra is not installed."""

    hub: Hub
    _read_at: float | None = None
    _dropped: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_THREADS, "cascade-watching"))

    async def aside(self, function: Callable[[], _T]) -> _T:
        """Run a function that may wait for a server, on threads of those who watch alone: requests never wait for one of these."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    def close(self) -> None:
        """Nothing more is looked at."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def watch(self) -> None:
        """Set what belongs to this process, again and again, for ever."""
        while True:
            self.set_own()
            await asyncio.sleep(_EVERY_S)

    def set_own(self) -> None:
        """Set what belongs to this process."""
        hub = self.hub
        if hub.metrics is None:
            return
        waiting, dropped = backlog(hub.settings.ledger) if hub.settings.ledger != "off" else (0, 0)
        hub.metrics.set("running", {(): hub.running})
        hub.metrics.set("ledger_waiting", {(): waiting})
        hub.metrics.add("ledger_dropped", max(0, dropped - self._dropped))
        self._dropped = max(dropped, self._dropped)

    async def refresh(self) -> None:
        """Set all of them. Raises nothing: what cannot be read keeps its value, and its part is said to be down."""
        hub = self.hub
        if hub.metrics is None:
            return
        async with self._lock:
            self.set_own()
            now = hub.clocks.clock()
            if self._read_at is not None and now - self._read_at < _EVERY_S:
                return
            self._read_at = now
            policies = {name: one.loaded.policy for name, one in hub.policies.served.items()}
            for name in policies:
                hub.metrics.know(name)
            found = await asyncio.gather(
                self.aside(self._state),
                self.aside(lambda: self._policies(policies)),
                self.aside(lambda: self._ledger(policies)),
            )
            for values in found:
                for name, one in values.items():
                    hub.metrics.set(name, one)

    def _state(self) -> Mapping[str, Values]:
        storms: Values = {}
        failing: Values = {}
        for name, one in self.hub.policies.served.items():
            for watch in one.loaded.driver.state.tripped():
                if watch.what == "storm":
                    storms[name, watch.task, watch.rung] = 1.0
                else:
                    failing[name, watch.rung] = 1.0
        try:
            _, problem = check_state(self.hub.settings.state)
        except CascadeError as wrong:
            problem = str(wrong)
        return {"storm": storms, "failing": failing, "state_up": {(): float(problem is None)}}

    def _policies(self, policies: Mapping[str, Policy]) -> Mapping[str, Values]:
        problems = {(name,): float(one.problem is not None) for name, one in self.hub.policies.served.items()}
        stale = {(name,): float(bool(changed_parts(policy))) for name, policy in policies.items()}
        return {"stale_policy": problems, "stale_certificate": stale}

    def _ledger(self, policies: Mapping[str, Policy]) -> Mapping[str, Values]:
        settings = self.hub.settings
        if settings.ledger == "off":
            return {"ledger_up": {(): 1.0}}
        shares: Values = {}
        alarms: Values = {}
        steps: Values = {}
        try:
            self.hub.tables.keys()
            tables = AuditTables(address_of(settings.ledger))
            for name, policy in policies.items():
                if policy.audit is not None:
                    step = step_in_force(policy, tables.ratchet(name))
                    alarms[name,] = len(told_alarms(epoch_of(policy, step), tables.marks(name)))
                    steps[name,] = step
            shares = self._shares([policy for policy in policies.values() if policy.budget])
        except LedgerDown:
            return {"ledger_up": {(): 0.0}}
        return {"ledger_up": {(): 1.0}, "audit_alarms": alarms, "ratchet": steps, "budget_share": shares}

    def _shares(self, policies: list[Policy]) -> Values:
        """Of the budgets that all requests of a policy share: the largest share by policy and span."""
        shares: Values = {}
        now = datetime.fromtimestamp(self.hub.clocks.wall(), UTC)
        budgets = [
            one
            for policy in policies
            for limits in policy.budget
            if limits.per == "policy"
            for one in applicable_budgets(limits, policy.name, "", {}, now.astimezone(zone_of(limits.timezone)))
        ]
        if not budgets:
            return shares
        try:
            reader: Any = open_reader(self.hub.settings.ledger, seconds=_QUERY_S)
        except NoLedger:
            return {(one.policy, one.span): 0.0 for one in budgets}
        try:
            for one in budgets:
                spent = reader.spent(one.policy, "policy", one.policy, one.starts, one.ends)
                share = spent / one.limit if one.limit else 1.0
                shares[one.policy, one.span] = max(share, shares.get((one.policy, one.span), 0.0))
        finally:
            reader.close()
        return shares
