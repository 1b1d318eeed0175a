"""The state in Redis: one storm guard, one set of budgets and of values, for all processes and machines that share a server.

Each decision is one script and one round trip. While Redis is slow or unreachable, one caller per `retry_s` waits for at most
`timeout_s`. The others go on at once with this process's own guard, which counts every step too, with what the process
holds of each hard budget (`redis_budgets`), and with the values that it remembers itself (`redis_values`). The failure is logged once, and so is the recovery.

Set Redis's `maxmemory-policy` to noeviction, so that no counter is lost. With `appendonly yes` a restart loses nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from weakref import WeakSet, finalize, ref

from cascade.core.budgets import ApplicableBudget
from cascade.core.climb import Observation
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.core.storm import Action, Tripped
from cascade.forks import at_worker_exit, renew_in_children
from cascade.state import Alert, Seed, Told
from cascade.state.circuit import RedisConnection
from cascade.state.memory_guard import MemoryGuard, log_change
from cascade.state.redis_budgets import Entitlements, RedisTimings
from cascade.state.redis_guard import SharedGuard
from cascade.state.redis_values import SharedValues

__all__ = ["RedisState"]

_MAX_USD = 9_000_000  # Lua counts nano-USD in doubles: exact below 2^53


class RedisState:
    """The state that many processes share. `url`: redis://, rediss:// or unix://.

    `clock`: seconds from any origin, for what this process decides alone; the shared state uses the server's clock. Raises
    ConfigurationError for an invalid address or a budget above 9,000,000 USD, MissingExtra if redis-py is not installed.
    It connects at the first decision.
    """

    is_remote = True

    def __init__(
        self,
        url: str,
        policy: Policy,
        escalation: Escalation,
        clock: Callable[[], float],
        *,
        seed: Seed | None = None,
        told: Told | None = None,
        timings: RedisTimings | None = None,
    ) -> None:
        self._timings = timings or RedisTimings()
        _check(policy)
        self._policy, self._told = policy.name, told
        self._connection = RedisConnection(url, policy.name, clock, self._timings.timeout_s, self._timings.retry_s)
        self._own_guard = MemoryGuard(policy.name, policy.storm_guard, clock, escalation)
        self._shared_guard = SharedGuard(policy, escalation, self._connection, self._timings.at)
        self._budgets = Entitlements(policy.name, self._connection, clock, seed, self._timings)
        self._values = SharedValues(policy.name, self._connection, clock)
        self.renew_lock()
        renew_in_children(self)
        # If nobody calls `close`: at garbage collection, or when the interpreter ends.
        _states.add(self)
        finalize(self, _release, self._budgets, self._connection)

    def renew_lock(self) -> None:
        """For `forks`: the parent's heartbeat thread does not run in a child."""
        self._lock = threading.Lock()
        self._heartbeat_thread: threading.Thread | None = None
        self._is_used = False
        self._stop = threading.Event()

    @property
    def is_down(self) -> bool:
        """As `State.is_down`."""
        return self._connection.is_down

    def observe(self, observation: Observation) -> Action | None:
        """As `State.observe`."""
        action, changes = self._own_guard.count(observation)
        shared = self._shared_guard.observe(observation)
        if shared is not None:
            action, changes = shared
        for change in changes:
            log_change(self._policy, change, alone=shared is None, told=self._told)
        return action

    def tripped(self) -> tuple[Tripped, ...]:
        """As `State.tripped`: for all who share the state; while it is down, as this process alone sees it."""
        shared = self._shared_guard.tripped()
        return self._own_guard.tripped() if shared is None else shared

    def expect(self, escalation: Escalation) -> None:
        """As `State.expect`. Processes that expect the same rates share their watches."""
        self._own_guard.expect(escalation)
        self._shared_guard.expect(escalation)

    def may_wait(self, budgets: Sequence[ApplicableBudget]) -> bool:
        """As `State.may_wait`."""
        return bool(budgets)

    def reserve(self, budgets: Sequence[tuple[ApplicableBudget, bool]], bound: int) -> ApplicableBudget | None:
        """As `State.reserve`."""
        if not budgets:
            return None
        if not self._is_used:
            self._is_used = True
            at_worker_exit(_close_all)
        refused = self._budgets.reserve(budgets, bound)
        if self._timings.heartbeat_s is not None and (
            self._heartbeat_thread is None or not self._heartbeat_thread.is_alive()
        ):
            self._start_heartbeat(self._timings.heartbeat_s)
        return refused

    def settle(self, budgets: Sequence[ApplicableBudget], bound: int, cost: int) -> tuple[Alert, ...]:
        """As `State.settle`."""
        return self._budgets.settle(budgets, bound, cost)

    def remember(self, keys: Sequence[str], value: str, ttl_s: float) -> None:
        """As `State.remember`."""
        self._values.remember(keys, value, ttl_s)

    def recall(self, keys: Sequence[str]) -> str | None:
        """As `State.recall`."""
        return self._values.recall(keys)

    def held(self, budget: ApplicableBudget) -> tuple[int, int]:
        """What this process uses of a budget, and what it may use without asking Redis, in nano-USD."""
        return self._budgets.held(budget)

    def heartbeat(self) -> None:
        """What the heartbeat thread does every `heartbeat_s`."""
        self._budgets.heartbeat()

    def close(self) -> None:
        """Give back what this process holds and close the connections."""
        self._stop.set()
        _release(self._budgets, self._connection)

    def _start_heartbeat(self, every_s: float) -> None:
        with self._lock:
            if self._heartbeat_thread is not None and self._heartbeat_thread.is_alive():
                return
            self._stop = threading.Event()
            self._heartbeat_thread = threading.Thread(
                target=_run_heartbeat, args=(ref(self), self._stop, every_s), name="cascade-state", daemon=True
            )
            with suppress(RuntimeError):  # the interpreter is ending
                self._heartbeat_thread.start()


_states: WeakSet[RedisState] = WeakSet()


def _close_all() -> None:
    for state in list(_states):
        state.close()


def _run_heartbeat(weak: ref[RedisState], stop: threading.Event, every_s: float) -> None:
    while not stop.wait(every_s):
        state = weak()
        if state is None:
            return
        state.heartbeat()
        del state


def _check(policy: Policy) -> None:
    amounts = [
        (f"budget: {key}", getattr(limits, key)) for limits in policy.budget for key in ("daily_usd", "monthly_usd")
    ]
    for key, usd in (*amounts, ("observe: daily_usd", policy.observe.daily_usd)):
        if usd is not None and usd > _MAX_USD:
            raise ConfigurationError(
                f"policy {policy.name}: {key} {usd} is above {_MAX_USD:,} USD, the most that a state in Redis"
                " counts exactly (lower it, or use the state in memory)"
            )


def _release(budgets: Entitlements, connection: RedisConnection) -> None:
    if budgets.holds:
        budgets.close()
    connection.close()
