"""The drop-in functions: `ask` and `aask`, on drivers that outlive the single call."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, Unpack, overload

from cascade.core.policy import Policy
from cascade.core.trail import Answer
from cascade.engine.arguments import AskOptions, Prompt, default_policy, lists_options
from cascade.engine.drivers import AsyncCascade, Cascade
from cascade.forks import renew_in_children

__all__ = ["aask", "ask", "reload"]

PolicyLike: TypeAlias = Policy | str | Path | None
_Data = TypeVar("_Data")
_Driver = TypeVar("_Driver", Cascade, AsyncCascade)


class _Shared:
    """The process's drivers, one a policy: their connections and their storm guards outlive the single call."""

    _MOST = 16

    def __init__(self) -> None:
        self._drivers: dict[tuple[type[Cascade | AsyncCascade], str], Any] = {}
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()

    def driver(self, kind: type[_Driver], policy: PolicyLike) -> _Driver:
        """The driver for a policy, made when first asked for; the one least lately used goes when there are too many."""
        chosen = default_policy() if policy is None else policy
        key = (kind, chosen.hash if isinstance(chosen, Policy) else repr(chosen))
        with self._lock:
            driver = self._drivers.pop(key, None)
            if driver is None:
                driver = kind(chosen)  # type: ignore[call-arg]
                while len(self._drivers) >= self._MOST:  # its connections close with its last user
                    self._drivers.pop(next(iter(self._drivers)))
            self._drivers[key] = driver
            return driver

    def forget(self) -> None:
        """Drop them all; requests under way keep theirs."""
        with self._lock:
            self._drivers = {}


_shared = _Shared()


@overload
def ask(
    prompt: Prompt, *, policy: PolicyLike = None, response_model: None = None, **options: Unpack[AskOptions]
) -> Answer[None]: ...
@overload
def ask(
    prompt: Prompt, *, policy: PolicyLike = None, response_model: type[_Data] | None, **options: Unpack[AskOptions]
) -> Answer[_Data]: ...
@overload
def ask(
    prompt: Prompt, *, policy: PolicyLike = None, response_model: object, **options: Unpack[AskOptions]
) -> Answer[Any]: ...
@lists_options
def ask(
    prompt: Prompt = "", *, policy: PolicyLike = None, response_model: Any = None, **options: Unpack[AskOptions]
) -> Answer[Any]:
    """Answer one request with the cheapest model that can be trusted with it.

    `prompt`: a text, or a list of messages as `messages.create` takes it.
    `policy`: a Policy, a path, or a shipped name (default: `CASCADE_POLICY`, else "default"); loaded once a process, as
    the environment's key and `ANTHROPIC_BASE_URL` are: `cascade.reload()` reads them anew.
    `response_model`: a pydantic class; the answer's `data` is an instance of it.
    `system`: your system prompt, a text or blocks; it stays first and unchanged.
    `task`: the class of input, where you know it.
    `checks`: functions of the answer's text that return True where it passes, beside the policy's.
    `flags`: names for the policy's signals.
    `metadata`: your names for the request, texts by name. They stay on the answer and in the ledger, and budgets and
    rollouts can go by them. `user_id` is also sent to the API as its `metadata.user_id`, so give an opaque id, not a name
    or an address. Nothing else of it is sent to the API.
    `max_tokens`: bounds the answer, in place of the rung's own.
    `deadline_s`: seconds for the whole climb, in place of the policy's. It runs once the SDK is imported and the clients
    are made: the first request of a process takes a second or two longer (`Cascade.prepare` does that ahead).

    Raises RequestError, PolicyError or MissingKey before anything is paid (RequestError also for a keyword that it does
    not have, and says how to do it here); UpstreamRejected, AllRungsFailed, BudgetExceeded or DeadlineExceeded with the
    trail of what was tried and paid. In asyncio use `aask`: this one blocks the loop.
    """
    return _shared.driver(Cascade, policy).ask(prompt, response_model=response_model, **options)


@overload
async def aask(
    prompt: Prompt, *, policy: PolicyLike = None, response_model: None = None, **options: Unpack[AskOptions]
) -> Answer[None]: ...
@overload
async def aask(
    prompt: Prompt, *, policy: PolicyLike = None, response_model: type[_Data] | None, **options: Unpack[AskOptions]
) -> Answer[_Data]: ...
@overload
async def aask(
    prompt: Prompt, *, policy: PolicyLike = None, response_model: object, **options: Unpack[AskOptions]
) -> Answer[Any]: ...
@lists_options
async def aask(
    prompt: Prompt = "", *, policy: PolicyLike = None, response_model: Any = None, **options: Unpack[AskOptions]
) -> Answer[Any]:
    """`ask` for asyncio: the same arguments and errors."""
    return await _shared.driver(AsyncCascade, policy).ask(prompt, response_model=response_model, **options)


def reload() -> None:
    """Have the next `ask` and `aask` read their policy files and the environment anew.

    Requests under way go on as they began. The storm guard and what else is kept in memory begin again, from the ledger where
    there is one. A `Cascade` of your own is not touched: make another. Modules that checks name are not imported again.
    """
    _shared.forget()
