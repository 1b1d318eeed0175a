"""The state in Redis: one guard, and one set of budgets, for all processes and machines that share a server.

Each decision is one script, one round trip. A Redis that is slow or gone costs one caller `timeout_s`, once each
`retry_s`; the rest go on at once, with this process's own guard (it was fed all along) and with what the process
holds of each hard budget (`entitlements`). It is told once, and once that it is back.

Let its `maxmemory-policy` be noeviction, as for anything that counts. With `appendonly yes` a restart forgets nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from weakref import WeakSet, finalize, ref

from cascade.core.budgets import Claim
from cascade.core.climb import Observation
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.core.storm import Action
from cascade.forks import at_worker_exit, renew_in_children
from cascade.state import Alert, Seed
from cascade.state.circuit import Link
from cascade.state.memory_guard import MemoryGuard, tell_change
from cascade.state.redis_budgets import Entitlements, Tuning
from cascade.state.redis_guard import SharedGuard

__all__ = ["RedisState"]

_MOST_USD = 9_000_000  # Lua counts nano-USD in doubles: exact below 2^53


class RedisState:
    """What the decisions of many processes share. `url`: redis://, rediss:// or unix://.

    `clock`: seconds from any origin, for what this process does alone; what is shared goes by the server's clock. Raises
    ConfigurationError for an address that is none and for a budget above 9,000,000 USD, MissingExtra without redis-py.
    It does not connect before the first decision.
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
        tuning: Tuning | None = None,
    ) -> None:
        self._tuning = tuning or Tuning()
        _check(policy)
        self._policy = policy.name
        self._link = Link(url, policy.name, clock, self._tuning.timeout_s, self._tuning.retry_s)
        self._alone = MemoryGuard(policy.name, policy.storm_guard, clock, escalation)
        self._guard = SharedGuard(policy, escalation, self._link, self._tuning.at)
        self._budgets = Entitlements(policy.name, self._link, clock, seed, self._tuning)
        self.renew_lock()
        renew_in_children(self)
        # Also where nobody closes it: when it is forgotten, or the interpreter ends.
        _states.add(self)
        self._let_go = finalize(self, _let_go, self._budgets, self._link)

    def renew_lock(self) -> None:
        """For `forks`: the heart of the parent does not beat in a child."""
        self._lock = threading.Lock()
        self._heart: threading.Thread | None = None
        self._is_used = False
        self._stop = threading.Event()

    @property
    def is_down(self) -> bool:
        """As `State.is_down`."""
        return self._link.is_down

    def observe(self, observation: Observation) -> Action | None:
        """As `State.observe`."""
        action, changes = self._alone.count(observation)
        shared = self._guard.observe(observation)
        if shared is not None:
            action, changes = shared
        for change in changes:
            tell_change(self._policy, change, alone=shared is None)
        return action

    def may_wait(self, claims: Sequence[Claim]) -> bool:
        """As `State.may_wait`."""
        return bool(claims)

    def reserve(self, claims: Sequence[tuple[Claim, bool]], bound: int) -> Claim | None:
        """As `State.reserve`."""
        if not claims:
            return None
        if not self._is_used:
            self._is_used = True
            at_worker_exit(_close_all)
        refusing = self._budgets.reserve(claims, bound)
        if self._tuning.beat_s is not None and (self._heart is None or not self._heart.is_alive()):
            self._start_heart(self._tuning.beat_s)
        return refusing

    def settle(self, claims: Sequence[Claim], bound: int, cost: int) -> tuple[Alert, ...]:
        """As `State.settle`."""
        return self._budgets.settle(claims, bound, cost)

    def held(self, claim: Claim) -> tuple[int, int]:
        """What this process uses of a budget, and may use at most without asking, in nano-USD."""
        return self._budgets.held(claim)

    def beat(self) -> None:
        """What the heart does each `beat_s`."""
        self._budgets.beat()

    def close(self) -> None:
        """Give back what this process holds and close the connections."""
        self._stop.set()
        _let_go(self._budgets, self._link)

    def _start_heart(self, every_s: float) -> None:
        with self._lock:
            if self._heart is not None and self._heart.is_alive():
                return
            self._stop = threading.Event()
            self._heart = threading.Thread(
                target=_beat, args=(ref(self), self._stop, every_s), name="cascade-state", daemon=True
            )
            with suppress(RuntimeError):  # the interpreter is going down
                self._heart.start()


_states: WeakSet[RedisState] = WeakSet()


def _close_all() -> None:
    for state in list(_states):
        state.close()


def _beat(of: ref[RedisState], stop: threading.Event, every_s: float) -> None:
    while not stop.wait(every_s):
        state = of()
        if state is None:
            return
        state.beat()
        del state


def _check(policy: Policy) -> None:
    amounts = [
        (f"budget: {key}", getattr(limits, key)) for limits in policy.budget for key in ("daily_usd", "monthly_usd")
    ]
    for key, usd in (*amounts, ("observe: daily_usd", policy.observe.daily_usd)):
        if usd is not None and usd > _MOST_USD:
            raise ConfigurationError(
                f"policy {policy.name}: {key} {usd} is above {_MOST_USD:,} USD, the most that a state in Redis"
                " counts exactly (lower it, or keep the state in memory)"
            )


def _let_go(budgets: Entitlements, link: Link) -> None:
    if budgets.holds:
        budgets.close()
    link.close()
