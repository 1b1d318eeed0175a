"""The two live drivers, `Cascade` and `AsyncCascade`: they run a request's lifecycle, and do its I/O."""

from __future__ import annotations

import asyncio
import copy
import random
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, overload

from cascade.claude import AsyncClaude, AsyncOpenReply, Claude, OpenReply
from cascade.core.errors import BlockingWarning, CascadeError
from cascade.core.messages import Failure, Reply, Request
from cascade.core.policy import Policy
from cascade.core.trail import Answer, Arm
from cascade.engine.arguments import Arguments, AskArguments, AskOptions, Prompt, lists_options
from cascade.engine.events import AsyncMessageEvents, MessageEvents, answer_events, first_of
from cascade.engine.lifecycle import (
    Await,
    Effect,
    Finishing,
    NotSent,
    Open,
    RunBlocking,
    RunCancellable,
    Send,
    SendAll,
    run_request,
)
from cascade.engine.messages import AsyncMessages, Messages
from cascade.engine.observing import ShadowSlots, run_shadow, shadow_context
from cascade.engine.runtime import RequestContext, Runtime, RuntimeOptions
from cascade.forks import renew_in_children
from cascade.hooks import Hook, wait, wait_async
from cascade.logs import warn_caller

__all__ = ["AsyncCascade", "Cascade"]

_T = TypeVar("_T")
_Data = TypeVar("_Data")
_Claude = TypeVar("_Claude", Claude, AsyncClaude)

_warned_of_blocking = threading.Event()


class _Driver(Generic[_Claude]):
    """What both drivers hold."""

    _claude_type: type[_Claude]

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
        self._claude = self._claude_type(self.policy.retry, client, clock=clock, chance=chance)
        self._shadow_slots = ShadowSlots(self.policy.observe.concurrency)
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        raise NotImplementedError

    def on(self, client: Any) -> Self:
        """The same policy, ledger and state on another client of the SDK. To close one of them is to close the ledger."""
        other = copy.copy(self)
        other._claude = self._claude.on(client)
        vars(other).pop("messages", None)
        other.renew_lock()
        renew_in_children(other)
        return other


class Cascade(_Driver[Claude]):
    """A policy at work: `ask` answers a request with the cheapest rung that can be trusted with it.

    `policy`: a Policy, a path, or a shipped policy's name. `client`: any sync client of the SDK; by default one is made
    from the environment (`ANTHROPIC_API_KEY`) at the first request. `ledger`: a path, `postgresql://…` or "off"
    (default: `CASCADE_LEDGER`, else a file under `CASCADE_HOME`). `state`: `redis://…`, which many processes share
    (default: `CASCADE_STATE`, else memory). `hooks`: notified of each request. `clock` gives seconds from any origin,
    `wall` Unix seconds. Safe to share between threads; also a context manager. Raises PolicyError if the policy cannot
    be used, MissingExtra if a package that it needs is not installed.

    The policy's file is read when the driver is made, the environment (key, `ANTHROPIC_BASE_URL`) when a client is made:
    later changes of either need a new driver.
    """

    _claude_type = Claude

    @cached_property
    def messages(self) -> Messages:
        """The SDK's `client.messages`, climbing: its parameters, its types."""
        return Messages(self, self._claude)

    def renew_lock(self) -> None:
        """For `forks`: the threads that run shadow requests stay with the parent."""
        self._lock = threading.Lock()
        self._background: ThreadPoolExecutor | None = None

    def prepare(self) -> None:
        """Make the clients now. Raises MissingKey if there is no key.

        Otherwise the first request does it, before its deadline begins to run: importing the SDK takes a second or two.
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
        """Answer one request. The arguments and errors are those of `cascade.ask`, without `policy`."""
        _warn_of_blocking()
        return self.respond(AskArguments(prompt, response_model, options))

    def respond(self, arguments: Arguments) -> Answer[Any]:
        """Answer one request of the Messages API that has been read already. Errors are those of `ask`."""
        context = self._begin(arguments)
        return self._answered(context, self._run(run_request(self._runtime, context)))

    def events(self, arguments: Arguments) -> MessageEvents:
        """Answer one request as the events of a stream of the Messages API.

        An answer that is decided at its first tokens comes as it is written. Errors are those of `ask`, raised while it is
        read.
        """
        context = self._begin(arguments)
        return MessageEvents(context.request.id, self._events(context))

    def _begin(self, arguments: Arguments) -> RequestContext:
        request, arm = self._runtime.read(arguments)
        self._claude.prepare(self._runtime.ladder_of(arm))
        return self._runtime.start(arguments, request, arm)

    def _answered(self, context: RequestContext, answer: Answer[Any]) -> Answer[Any]:
        if self._runtime.is_sampled(context) and self._shadow_slots.acquire():
            self._start_shadow(context, answer)
        return answer

    def _events(self, context: RequestContext) -> Generator[dict[str, Any], None, Answer[Any]]:
        begun = False
        running = self._doing(run_request(self._runtime, context))
        with closing(running):
            while True:
                try:
                    event = next(running)
                except StopIteration as done:
                    answer: Answer[Any] = done.value
                    break
                begun = True
                yield event
        self._answered(context, answer)
        yield from answer_events(answer, begun=begun)
        return answer

    def _run(self, lifecycle: Generator[Effect, Any, _T]) -> _T:
        """Do what the lifecycle yields, until it returns."""
        running = self._doing(lifecycle)
        while True:
            try:
                next(running)
            except StopIteration as done:
                return done.value

    def _doing(self, lifecycle: Generator[Effect, Any, _T]) -> Generator[dict[str, Any], None, _T]:
        """Do what the lifecycle yields, until it returns. Yields the events of a reply that is given out as it comes."""
        opened: OpenReply | None = None
        with closing(lifecycle):
            try:
                effect = next(lifecycle)
                while True:
                    if isinstance(effect, Open):
                        outcome = self._open(lifecycle, effect)
                        opened = outcome if isinstance(outcome, OpenReply) else None
                        effect = lifecycle.send(first_of(outcome))
                    elif isinstance(effect, Finishing):
                        assert opened is not None, "only an open reply is finished"
                        outcome = yield from self._finish(lifecycle, effect, opened)
                        opened = None
                        effect = lifecycle.send(outcome)
                    else:
                        effect = lifecycle.send(self._do(lifecycle, effect))
            except StopIteration as done:
                return done.value
            finally:
                if opened is not None:
                    opened.stream.close()

    def _do(self, lifecycle: Generator[Effect, Any, Any], effect: Effect) -> Any:
        """The result of an effect that leaves nothing open."""
        if isinstance(effect, Send):
            return self._call(lifecycle, effect)
        if isinstance(effect, SendAll):
            return self._call_all(lifecycle, effect)
        if isinstance(effect, Await):
            return wait(effect.waits)
        if isinstance(effect, RunBlocking):
            return effect.function()
        assert isinstance(effect, RunCancellable), "there is no other effect"
        return self._run_cancellable(lifecycle, effect)

    def _open(self, lifecycle: Generator[Effect, Any, Any], effect: Open) -> Reply | Failure | OpenReply:
        try:
            return self._claude.open(effect.prompt, effect.time_out_at, triage=effect.triage)
        except BaseException as error:
            lifecycle.throw(error)
            raise

    def _finish(
        self, lifecycle: Generator[Effect, Any, Any], effect: Finishing, opened: OpenReply
    ) -> Generator[dict[str, Any], None, Reply | Failure]:
        if effect.action == "close":
            return opened.close()
        try:
            if effect.action == "ship":
                yield opened.start_event()
            for event in opened.rest():
                if effect.action == "ship":
                    yield event
        except GeneratorExit:
            raise
        except BaseException as error:
            lifecycle.throw(error)
            raise
        assert opened.outcome is not None, "a reply that was read to its end has an outcome"
        return opened.outcome

    def _call(self, lifecycle: Generator[Effect, Any, Any], effect: Send) -> Reply | Failure:
        try:
            return self._claude.call(effect.prompt, effect.time_out_at)
        except BaseException as error:
            lifecycle.throw(error)  # the hooks are notified, and the reservation is settled, before it is raised here
            raise

    def _call_all(self, lifecycle: Generator[Effect, Any, Any], effect: SendAll) -> tuple[Reply | Failure, ...]:
        """Each call on a thread of its own. The threads are daemons: an interrupted caller does not wait for them."""
        outcomes: list[Future[Reply | Failure]] = [Future() for _ in effect.calls]

        def call(send: Send, outcome: Future[Reply | Failure]) -> None:
            try:
                outcome.set_result(self._claude.call(send.prompt, send.time_out_at))
            except BaseException as error:  # noqa: BLE001 - raised on the caller's thread
                outcome.set_exception(error)

        try:
            for pair in zip(effect.calls, outcomes, strict=True):
                threading.Thread(target=call, args=pair, name="cascade-sample", daemon=True).start()
            return tuple(outcome.result() for outcome in outcomes)
        except BaseException as error:
            lifecycle.throw(error)
            raise

    def _run_cancellable(self, lifecycle: Generator[Effect, Any, Any], effect: RunCancellable) -> Any:
        try:
            return effect.function(threading.Event())
        except BaseException as error:
            lifecycle.throw(error)
            raise

    def _start_shadow(self, context: RequestContext, answer: Answer) -> None:
        """Run the shadow request in a background thread; the caller has its answer."""
        try:
            with self._lock:
                if self._background is None:
                    self._background = ThreadPoolExecutor(self.policy.observe.concurrency, "cascade-observe")
                self._background.submit(self._shadow, context, answer)
        except RuntimeError:  # the driver is closed, or the interpreter is ending
            self._shadow_slots.abandon()

    def _shadow(self, context: RequestContext, answer: Answer) -> None:
        try:
            self._claude.prepare(self._runtime.ladder_of("cascade"))
            self._run(run_shadow(self._runtime, shadow_context(self._runtime, context), answer))
        except CascadeError as error:  # nobody waits for it: logged, not raised
            self._runtime.log_shadow_failure(error)
        finally:
            self._shadow_slots.release()

    def close(self) -> None:
        """Close the clients made here, and write the ledger. A client that was passed in stays open."""
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


class AsyncCascade(_Driver[AsyncClaude]):
    """`Cascade` for asyncio: the same arguments, the same rule, awaited.

    It makes a client for each event loop. A `client` that was passed in serves one loop: in another one (a second
    `asyncio.run`) it raises ConfigurationError before anything is sent. `checks` are plain functions and run on the loop.
    """

    _claude_type = AsyncClaude

    @cached_property
    def messages(self) -> AsyncMessages:
        """The SDK's `client.messages`, climbing: its parameters, its types."""
        return AsyncMessages(self, self._claude)

    def renew_lock(self) -> None:
        """For `forks`: the tasks that run shadow requests stay with the parent."""
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
        """Answer one request. The arguments and errors are those of `cascade.ask`, without `policy`."""
        return await self.respond(AskArguments(prompt, response_model, options))

    async def respond(self, arguments: Arguments) -> Answer[Any]:
        """As `Cascade.respond`."""
        context = await self._begin(arguments)
        return self._answered(context, await self._run(run_request(self._runtime, context)))

    def events(self, arguments: Arguments) -> AsyncMessageEvents:
        """As `Cascade.events`. RequestError for invalid arguments is raised at once."""
        request, arm = self._runtime.read(arguments)
        return AsyncMessageEvents(request.id, self._events(arguments, request, arm))

    async def _begin(self, arguments: Arguments) -> RequestContext:
        request, arm = self._runtime.read(arguments)
        await self._claude.prepare(self._runtime.ladder_of(arm))
        return self._runtime.start(arguments, request, arm)

    def _answered(self, context: RequestContext, answer: Answer[Any]) -> Answer[Any]:
        if self._runtime.is_sampled(context) and self._shadow_slots.acquire():
            running = asyncio.create_task(self._shadow(context, answer))
            self._background.add(running)  # the loop itself holds a task only weakly
            running.add_done_callback(self._background.discard)
        return answer

    async def _events(
        self, arguments: Arguments, request: Request, arm: Arm
    ) -> AsyncGenerator[dict[str, Any] | Answer[Any]]:
        """The events, and at last the answer."""
        await self._claude.prepare(self._runtime.ladder_of(arm))
        context, begun = self._runtime.start(arguments, request, arm), False
        async with aclosing(self._doing(run_request(self._runtime, context))) as running:
            async for event in running:
                if isinstance(event, _Done):
                    answer = self._answered(context, event.value)
                    for one in answer_events(answer, begun=begun):
                        yield one
                    yield answer
                else:
                    begun = True
                    yield event

    async def _run(self, lifecycle: Generator[Effect, Any, _T]) -> _T:
        """Do what the lifecycle yields, until it returns."""
        results = [event.value async for event in self._doing(lifecycle) if isinstance(event, _Done)]
        return results[0]

    async def _doing(self, lifecycle: Generator[Effect, Any, _T]) -> AsyncGenerator[dict[str, Any] | _Done[_T]]:
        """As the sync driver's. The last one holds what the lifecycle returned."""
        opened: AsyncOpenReply | None = None
        with closing(lifecycle):
            try:
                effect = next(lifecycle)
                while True:
                    if isinstance(effect, Open):
                        outcome = await self._open(lifecycle, effect)
                        opened = outcome if isinstance(outcome, AsyncOpenReply) else None
                        effect = lifecycle.send(first_of(outcome))
                    elif isinstance(effect, Finishing):
                        assert opened is not None, "only an open reply is finished"
                        async for event in _finish(lifecycle, effect, opened):
                            yield event
                        finished, opened = opened, None
                        effect = lifecycle.send(finished.outcome)
                    elif isinstance(effect, RunBlocking):
                        result, cancelled = await _in_thread(effect.function)
                        effect = lifecycle.send(result)
                        if cancelled is not None:
                            lifecycle.throw(NotSent(*cancelled.args))
                    else:
                        effect = lifecycle.send(await self._do(lifecycle, effect))
            except StopIteration as done:
                yield _Done(done.value)
            finally:
                if opened is not None:
                    await opened.abandon()

    async def _do(self, lifecycle: Generator[Effect, Any, Any], effect: Effect) -> Any:
        """The result of an effect that leaves nothing open."""
        if isinstance(effect, Send):
            return await self._call(lifecycle, effect)
        if isinstance(effect, SendAll):
            return await self._call_all(lifecycle, effect)
        if isinstance(effect, Await):
            return await wait_async(effect.waits)
        assert isinstance(effect, RunCancellable), "there is no other effect"
        return await _run_cancellable(lifecycle, effect)

    async def _open(self, lifecycle: Generator[Effect, Any, Any], effect: Open) -> Reply | Failure | AsyncOpenReply:
        try:
            return await self._claude.open(effect.prompt, effect.time_out_at, triage=effect.triage)
        except BaseException as error:
            lifecycle.throw(error)
            raise

    async def _call(self, lifecycle: Generator[Effect, Any, Any], effect: Send) -> Reply | Failure:
        try:
            return await self._claude.call(effect.prompt, effect.time_out_at)
        except BaseException as error:
            lifecycle.throw(error)  # the hooks are notified, and the reservation is settled, before it is raised here
            raise

    async def _call_all(self, lifecycle: Generator[Effect, Any, Any], effect: SendAll) -> tuple[Reply | Failure, ...]:
        try:
            async with asyncio.TaskGroup() as together:
                calls = [together.create_task(self._claude.call(one.prompt, one.time_out_at)) for one in effect.calls]
            return tuple(call.result() for call in calls)
        except BaseExceptionGroup as errors:
            error = errors.exceptions[0]
            lifecycle.throw(error)
            raise error from None
        except BaseException as error:
            lifecycle.throw(error)
            raise

    async def _shadow(self, context: RequestContext, answer: Answer) -> None:
        try:
            await self._claude.prepare(self._runtime.ladder_of("cascade"))
            await self._run(run_shadow(self._runtime, shadow_context(self._runtime, context), answer))
        except CascadeError as error:  # nobody waits for it: logged, not raised
            self._runtime.log_shadow_failure(error)
        except asyncio.CancelledError as error:  # the loop ended first
            self._runtime.log_shadow_failure(error)
            raise
        finally:
            self._shadow_slots.release()

    async def aclose(self) -> None:
        """Wait for the running loop's shadow requests, close the clients made here for it, and write the ledger.

        A client that was passed in stays open.
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


async def _finish(
    lifecycle: Generator[Effect, Any, Any], effect: Finishing, opened: AsyncOpenReply
) -> AsyncGenerator[dict[str, Any]]:
    if effect.action == "close":
        await opened.close()
        return
    try:
        if effect.action == "ship":
            yield opened.start_event()
        async for event in opened.rest():
            if effect.action == "ship":
                yield event
    except GeneratorExit:
        raise
    except BaseException as error:
        lifecycle.throw(error)
        raise


@dataclass(frozen=True, slots=True)
class _Done(Generic[_T]):
    """What a lifecycle returned."""

    value: _T


async def _run_cancellable(lifecycle: Generator[Effect, Any, Any], effect: RunCancellable) -> Any:
    """Run it in a thread. A cancellation ends it early, and is raised once it has ended."""
    event = threading.Event()
    running = asyncio.get_running_loop().run_in_executor(None, effect.function, event)
    try:
        return await asyncio.shield(running)
    except BaseException as error:
        event.set()
        await asyncio.wait([running])
        lifecycle.throw(error)
        raise


async def _in_thread(function: Callable[[], Any]) -> tuple[Any, asyncio.CancelledError | None]:
    """The function's result, and the cancellation that arrived meanwhile.

    A cancellation does not interrupt it: what it reserves or counts must not be lost, and it does not take long.
    """
    running = asyncio.get_running_loop().run_in_executor(None, function)
    cancelled: asyncio.CancelledError | None = None
    while True:
        try:
            return await asyncio.shield(running), cancelled
        except asyncio.CancelledError as error:
            if running.cancelled():
                raise
            cancelled = error


def _warn_of_blocking() -> None:
    """Warn, once per process, that this call blocks an event loop. A notebook runs one for every cell, so not there."""
    if _warned_of_blocking.is_set() or "ipykernel" in sys.modules:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    hint = "use `await cascade.aask(…)` or AsyncCascade here, or `await asyncio.to_thread(…)`"
    warn_caller(f"ask() was called in a running event loop and blocks it until it returns: {hint}", BlockingWarning)
    _warned_of_blocking.set()
