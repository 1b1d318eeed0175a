"""What both live drivers hold: a runtime, the calls of the vendors, the slots of shadow requests."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from cascade.core.arms import Arm
from cascade.core.messages import Request
from cascade.core.policy import Policy
from cascade.engine.arguments import Arguments
from cascade.engine.cached import endpoint_of, with_cache
from cascade.engine.observing import ShadowSlots
from cascade.engine.runtime import RequestContext, Runtime, RuntimeOptions
from cascade.forks import renew_in_children
from cascade.hooks import Hook
from cascade.providers import AsyncProviders, Providers
from cascade.state import State

__all__ = ["DriverBase"]

_Calling = TypeVar("_Calling", Providers, AsyncProviders)


class DriverBase(Generic[_Calling]):
    """What both drivers hold."""

    _providers_type: type[_Calling]

    def __init__(  # noqa: PLR0913 - the public contract
        self,
        policy: Policy | str | Path | None = None,
        *,
        client: Any = None,
        ledger: str | Path | None = None,
        state: str | None = None,
        cache: str | Path | None = None,
        hooks: Sequence[Hook] = (),
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: random.Random | None = None,
    ) -> None:
        chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._has_client, self._endpoint = client is not None, endpoint_of(client)
        options = RuntimeOptions(ledger, state, cache, tuple(hooks), clock, wall, chance, self._endpoint)
        self._runtime = Runtime(policy, options)
        self.policy = self._runtime.policy
        self._providers = self._providers_type(self.policy.retry, client, clock=clock, chance=chance)
        self._shadow_slots = ShadowSlots(self.policy.observe.concurrency)
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        raise NotImplementedError

    def _start(self, arguments: Arguments, request: Request, arm: Arm) -> RequestContext:
        return with_cache(self._runtime, self._runtime.start(arguments, request, arm), arguments, self._endpoint)

    @property
    def state(self) -> State:
        """What its requests share, and those of every process with the same state: for those who watch."""
        return self._runtime.state

    def on(self, client: Any) -> Self:
        """The same policy, ledger and state on another client of the SDK. To close one of them is to close the ledger."""
        other = copy.copy(self)
        other._providers, other._has_client, other._endpoint = self._providers.on(client), True, endpoint_of(client)
        vars(other).pop("messages", None)
        other.renew_lock()
        renew_in_children(other)
        return other
