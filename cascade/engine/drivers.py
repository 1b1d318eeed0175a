"""The two live drivers. All they add to a journey is how it waits: a call, a record that must be durable, a decision."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from cascade.claude import AsyncClaude, Claude
from cascade.core.errors import BlockingWarning, CascadeError
from cascade.core.messages import Failure, Reply
from cascade.core.policy import Policy
from cascade.core.trail import Answer
from cascade.engine.arguments import AskArguments, AskOptions, Prompt, lists_options
from cascade.engine.lifecycle import Await, Effect, NotSent, Send, journey
from cascade.engine.observing import ShadowSlots, shadow, shadow_context
from cascade.engine.runtime import RequestContext, Runtime, RuntimeOptions
from cascade.forks import renew_in_children
from cascade.hooks import Hook, wait, wait_async
from cascade.logs import warn_caller

__all__ = ["AsyncCascade", "Cascade"]

_T = TypeVar("_T")
_Data = TypeVar("_Data")

_warned_of_blocking = threading.Event()


class Cascade:
    """A policy at work: `ask` answers a request with the cheapest rung that can be trusted with it.

    `policy`: a Policy, a path, or a shipped policy's name. `client`: any sync client of the SDK; without one, one is
    made from the environment (`ANTHROPIC_API_KEY`) at the first request. `ledger`: a path, `postgresql://…` or "off"
    (default: `CASCADE_LEDGER`, else a file under `CASCADE_HOME`). `state`: `redis://…`, which many processes share
    (default: `CASCADE_STATE`, else memory). `hooks`: who else is told of each request. `clock` gives seconds from any
    origin, `wall` Unix seconds. Safe to share between threads; also a context manager. Raises PolicyError where the
    policy cannot be used, MissingExtra where a package that it needs is not installed.

    The policy's file is read when the driver is made, the environment (key, `ANTHROPIC_BASE_URL`) when a client is: later
    changes of either need a new driver.
    """

    def __init__(  # noqa: PLR0913 - the public contract
        self,
        policy: Policy | str | Path | None = None,
        *,
        client: Any = None,
        ledger: str | Path | None = None,
        state: str | None = None,
        hooks: Sequence[Hook] = (),
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: random.Random | None = None,
    ) -> None:
        chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._runtime = Runtime(policy, RuntimeOptions(ledger, state, tuple(hooks), clock, wall, chance))
        self.policy = self._runtime.policy
        self._claude = Claude(self.policy.retry, client, clock=clock, chance=chance)
        self._shadow_slots = ShadowSlots(self.policy.observe.concurrency)
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`: the threads that observe stay with the parent."""
        self._lock = threading.Lock()
        self._background: ThreadPoolExecutor | None = None

    def prepare(self) -> None:
        """Make the clients now; MissingKey where there is no key.

        Else the first request does it: it imports the SDK, which takes a second or two, before its deadline begins to run.
        """
        self._claude.prepare(self._runtime.ladder_of("cascade"))

    @overload
    def ask(self, prompt: Prompt, *, response_model: None = None, **options: Unpack[AskOptions]) -> Answer[None]: ...
    @overload
    def ask(
        self, prompt: Prompt, *, response_model: type[_Data] | None, **options: Unpack[AskOptions]
    ) -> Answer[_Data]: ...
    @overload
    def ask(self, prompt: Prompt, *, response_model: object, **options: Unpack[AskOptions]) -> Answer[Any]: ...
    @lists_options
    def ask(self, prompt: Prompt = "", *, response_model: Any = None, **options: Unpack[AskOptions]) -> Answer[Any]:
        """Answer one request; the arguments and errors of `cascade.ask`, `policy` aside."""
        _warn_of_blocking()
        asked = AskArguments(prompt, response_model, options)
        request, arm = self._runtime.read(asked)
        self._claude.prepare(self._runtime.ladder_of(arm))
        context = self._runtime.start(asked, request, arm)
        answer = self._run(journey(self._runtime, context))
        if self._runtime.is_sampled(context) and self._shadow_slots.take():
            self._beside(context, answer)
        return answer

    def _run(self, way: Generator[Effect, Any, _T]) -> _T:
        with closing(way):
            try:
                wanted = next(way)
                while True:
                    if isinstance(wanted, Send):
                        wanted = way.send(self._call(way, wanted))
                    elif isinstance(wanted, Await):
                        wanted = way.send(wait(wanted.waits))
                    else:
                        wanted = way.send(wanted.decide())
            except StopIteration as done:
                return done.value

    def _call(self, way: Generator[Effect, Any, Any], wanted: Send) -> Reply | Failure:
        try:
            return self._claude.call(wanted.prompt, wanted.time_out_at)
        except BaseException as error:
            way.throw(error)  # it is told, and what was reserved is settled, before it goes on
            raise

    def _beside(self, context: RequestContext, answer: Answer) -> None:
        """Put the request to the ladder too, when the caller has its answer."""
        try:
            with self._lock:
                if self._background is None:
                    self._background = ThreadPoolExecutor(self.policy.observe.concurrency, "cascade-observe")
                self._background.submit(self._shadow, context, answer)
        except RuntimeError:  # the driver is closed, or the interpreter ends: the answer stands all the same
            self._shadow_slots.pass_over()

    def _shadow(self, context: RequestContext, answer: Answer) -> None:
        try:
            self._claude.prepare(self.policy.ladder)
            self._run(shadow(self._runtime, shadow_context(self._runtime, context), answer))
        except CascadeError as error:  # nobody waits for it: told, not raised
            self._runtime.tell_of_shadow(error)
        finally:
            self._shadow_slots.give_back()

    def close(self) -> None:
        """Close the connections made here, and have the ledger written. A client that was given stays open."""
        with self._lock:
            background, self._background = self._background, None
        if background is not None:
            background.shutdown()
        self._shadow_slots.report()
        self._claude.close()
        self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncCascade:
    """`Cascade` for asyncio: the same arguments, the same rule, awaited.

    It makes itself a client for each event loop. A `client` that was given serves one loop: in another one (a second
    `asyncio.run`) it raises ConfigurationError before anything is sent. `checks` are plain functions and run on the loop.
    """

    def __init__(  # noqa: PLR0913 - the public contract
        self,
        policy: Policy | str | Path | None = None,
        *,
        client: Any = None,
        ledger: str | Path | None = None,
        state: str | None = None,
        hooks: Sequence[Hook] = (),
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: random.Random | None = None,
    ) -> None:
        chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._runtime = Runtime(policy, RuntimeOptions(ledger, state, tuple(hooks), clock, wall, chance))
        self.policy = self._runtime.policy
        self._claude = AsyncClaude(self.policy.retry, client, clock=clock, chance=chance)
        self._shadow_slots = ShadowSlots(self.policy.observe.concurrency)
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`: the tasks that observe stay with the parent."""
        self._background: set[asyncio.Task[None]] = set()

    async def prepare(self) -> None:
        """As `Cascade.prepare`, for the running loop."""
        await self._claude.prepare(self._runtime.ladder_of("cascade"))

    @overload
    async def ask(
        self, prompt: Prompt, *, response_model: None = None, **options: Unpack[AskOptions]
    ) -> Answer[None]: ...
    @overload
    async def ask(
        self, prompt: Prompt, *, response_model: type[_Data] | None, **options: Unpack[AskOptions]
    ) -> Answer[_Data]: ...
    @overload
    async def ask(self, prompt: Prompt, *, response_model: object, **options: Unpack[AskOptions]) -> Answer[Any]: ...
    @lists_options
    async def ask(
        self, prompt: Prompt = "", *, response_model: Any = None, **options: Unpack[AskOptions]
    ) -> Answer[Any]:
        """Answer one request; the arguments and errors of `cascade.ask`, `policy` aside."""
        asked = AskArguments(prompt, response_model, options)
        request, arm = self._runtime.read(asked)
        await self._claude.prepare(self._runtime.ladder_of(arm))
        context = self._runtime.start(asked, request, arm)
        answer = await self._run(journey(self._runtime, context))
        if self._runtime.is_sampled(context) and self._shadow_slots.take():
            running = asyncio.create_task(self._shadow(context, answer))
            self._background.add(running)  # the loop itself holds a task only weakly
            running.add_done_callback(self._background.discard)
        return answer

    async def _run(self, way: Generator[Effect, Any, _T]) -> _T:
        with closing(way):
            try:
                wanted = next(way)
                while True:
                    if isinstance(wanted, Send):
                        wanted = way.send(await self._call(way, wanted))
                    elif isinstance(wanted, Await):
                        wanted = way.send(await wait_async(wanted.waits))
                    else:
                        decided, cut_off = await _decided(wanted.decide)
                        wanted = way.send(decided)
                        if cut_off is not None:
                            way.throw(NotSent(*cut_off.args))
            except StopIteration as done:
                return done.value

    async def _call(self, way: Generator[Effect, Any, Any], wanted: Send) -> Reply | Failure:
        try:
            return await self._claude.call(wanted.prompt, wanted.time_out_at)
        except BaseException as error:
            way.throw(error)  # it is told, and what was reserved is settled, before it goes on
            raise

    async def _shadow(self, context: RequestContext, answer: Answer) -> None:
        try:
            await self._claude.prepare(self.policy.ladder)
            await self._run(shadow(self._runtime, shadow_context(self._runtime, context), answer))
        except CascadeError as error:  # nobody waits for it: told, not raised
            self._runtime.tell_of_shadow(error)
        except asyncio.CancelledError as error:  # its loop ends before it does
            self._runtime.tell_of_shadow(error)
            raise
        finally:
            self._shadow_slots.give_back()

    async def aclose(self) -> None:
        """Close the connections made here for the running loop, and have the ledger written.

        A client that was given stays open. What is still observed beside the answers is waited for.
        """
        loop = asyncio.get_running_loop()
        mine = [task for task in self._background if task.get_loop() is loop]
        await asyncio.gather(*mine, return_exceptions=True)
        self._shadow_slots.report()
        await self._claude.aclose()
        await asyncio.to_thread(self._runtime.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _decided(decide: Callable[[], Any]) -> tuple[Any, asyncio.CancelledError | None]:
    """What a decision comes to, and whether the caller was cancelled meanwhile.

    It is waited for all the same: what it reserves or counts must not be lost, and it does not take long.
    """
    running = asyncio.get_running_loop().run_in_executor(None, decide)
    cut_off: asyncio.CancelledError | None = None
    while True:
        try:
            return await asyncio.shield(running), cut_off
        except asyncio.CancelledError as cancelled:
            if running.cancelled():
                raise
            cut_off = cancelled


def _warn_of_blocking() -> None:
    """Say once a process that a loop waits for this call. A notebook's own does so for every cell: nothing is said of it."""
    if _warned_of_blocking.is_set() or "ipykernel" in sys.modules:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    hint = "use `await cascade.aask(…)` or AsyncCascade here, or `await asyncio.to_thread(…)`"
    warn_caller(
        f"ask() was called in a running event loop, which stands still until it is answered: {hint}", BlockingWarning
    )
    _warned_of_blocking.set()
