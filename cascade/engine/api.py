"""The drop-in functions: `ask` and `aask`, on drivers that outlive the single call."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cascade.core.messages import Block
from cascade.core.policy import Policy
from cascade.core.trail import Answer
from cascade.engine.arguments import Prompt, default_policy
from cascade.engine.drivers import AsyncCascade, Cascade
from cascade.forks import renew_in_children
from cascade.policy.checks import CallerCheck

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["aask", "ask", "reload"]

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

    def driver(self, kind: type[_Driver], policy: Policy | str | Path | None) -> _Driver:
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


def ask(  # noqa: PLR0913 - the public contract
    prompt: Prompt,
    *,
    system: str | Sequence[Block] | None = None,
    task: str | None = None,
    policy: Policy | str | Path | None = None,
    response_model: type[BaseModel] | None = None,
    checks: Sequence[CallerCheck] = (),
    flags: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    max_tokens: int | None = None,
    deadline_s: float | None = None,
) -> Answer:
    """Answer one request with the cheapest model that can be trusted with it.

    `prompt`: a text or a list of messages. `system`: your system prompt; it stays first and unchanged. `task`: the
    class of input, where you know it. `policy`: a Policy, a path, or a shipped name (default: `CASCADE_POLICY`, else
    "default"); loaded once a process, as the environment's key and `ANTHROPIC_BASE_URL` are: `cascade.reload()` reads them anew. `response_model`: a pydantic class; the answer's `data` is an instance of it.
    `checks`: functions of the answer's text that return True where it passes, beside the policy's. `flags`: names for
    the policy's signals. `metadata`: names for your books; it stays on the answer. `max_tokens`: bounds the answer, in
    place of the rung's own. `deadline_s`: for the whole climb, in place of the policy's. It runs once the SDK is imported and
    the clients are made, which takes the first request of a process a second or two longer (`Cascade.prepare` does it ahead).

    Raises RequestError, PolicyError or MissingKey before anything is paid; UpstreamRejected, AllRungsFailed or
    DeadlineExceeded with the trail of what was tried and paid.
    """
    return _shared.driver(Cascade, policy).ask(
        prompt,
        system=system,
        task=task,
        response_model=response_model,
        checks=checks,
        flags=flags,
        metadata=metadata,
        max_tokens=max_tokens,
        deadline_s=deadline_s,
    )


async def aask(  # noqa: PLR0913 - the public contract
    prompt: Prompt,
    *,
    system: str | Sequence[Block] | None = None,
    task: str | None = None,
    policy: Policy | str | Path | None = None,
    response_model: type[BaseModel] | None = None,
    checks: Sequence[CallerCheck] = (),
    flags: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    max_tokens: int | None = None,
    deadline_s: float | None = None,
) -> Answer:
    """`ask` for asyncio."""
    return await _shared.driver(AsyncCascade, policy).ask(
        prompt,
        system=system,
        task=task,
        response_model=response_model,
        checks=checks,
        flags=flags,
        metadata=metadata,
        max_tokens=max_tokens,
        deadline_s=deadline_s,
    )


def reload() -> None:
    """Have the next `ask` and `aask` read their policy files and the environment anew.

    Requests under way go on as they began. The storm guard and what else is kept in memory begin again, from the ledger where
    there is one. A `Cascade` of your own is not touched: make another. Modules that checks name are not imported again.
    """
    _shared.forget()
