"""Do what a request's lifecycle asks for: `Performer` on the caller's thread, `AsyncPerformer` on an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cascade.core.messages import Failure, Reply
from cascade.engine.effects import (
    Abandoned,
    Await,
    Effect,
    Finishing,
    NotSent,
    Open,
    RunBlocking,
    RunCancellable,
    Send,
    SendAll,
    WaitFor,
)
from cascade.engine.events import first_of
from cascade.hooks import wait, wait_async
from cascade.providers import AsyncOpenReply, AsyncProviders, OpenReply, Providers

__all__ = ["AsyncPerformer", "Done", "Performer"]

_T = TypeVar("_T")


class Performer:
    """Does effects, one after the other. Thread-safe."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    def run(self, lifecycle: Generator[Effect, Any, _T]) -> _T:
        """Do what the lifecycle yields, until it returns."""
        running = self.doing(lifecycle)
        while True:
            try:
                next(running)
            except StopIteration as done:
                return done.value

    def doing(self, lifecycle: Generator[Effect, Any, _T]) -> Generator[dict[str, Any], None, _T]:
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
                        outcome = yield from self._finish(effect, opened)
                        opened = None
                        effect = lifecycle.send(outcome)
                    else:
                        effect = lifecycle.send(self._do(lifecycle, effect))
            except StopIteration as done:
                return done.value
            except BaseException:
                if opened is not None:
                    _abandon(lifecycle, opened)
                raise
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
        if isinstance(effect, WaitFor):
            return _result_within(effect)
        if isinstance(effect, RunBlocking):
            return effect.function()
        assert isinstance(effect, RunCancellable), "there is no other effect"
        return self._run_cancellable(lifecycle, effect)

    def _open(self, lifecycle: Generator[Effect, Any, Any], effect: Open) -> Reply | Failure | OpenReply:
        try:
            return self._providers.open(effect.prompt, effect.time_out_at, triage=effect.triage)
        except BaseException as error:
            lifecycle.throw(error)
            raise

    def _finish(self, effect: Finishing, opened: OpenReply) -> Generator[dict[str, Any], None, Reply | Failure]:
        if effect.action == "ship":
            opened.extend(effect.time_out_at)
            yield opened.start_event()
        if effect.action == "close":
            opened.close()
        else:
            for event in opened.rest():
                if effect.action == "ship":
                    yield event
        assert opened.outcome is not None, "a reply that was read to its end has an outcome"
        return opened.outcome

    def _call(self, lifecycle: Generator[Effect, Any, Any], effect: Send) -> Reply | Failure:
        try:
            return self._providers.call(effect.prompt, effect.time_out_at)
        except BaseException as error:
            lifecycle.throw(error)  # the hooks are notified, and the reservation is settled, before it is raised here
            raise

    def _call_all(self, lifecycle: Generator[Effect, Any, Any], effect: SendAll) -> tuple[Reply | Failure, ...]:
        """Each call on a thread of its own. The threads are daemons: an interrupted caller does not wait for them."""
        outcomes: list[Future[Reply | Failure]] = [Future() for _ in effect.calls]

        def call(send: Send, outcome: Future[Reply | Failure]) -> None:
            try:
                outcome.set_result(self._providers.call(send.prompt, send.time_out_at))
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


@dataclass(frozen=True, slots=True)
class Done(Generic[_T]):
    """What a lifecycle returned."""

    value: _T


class AsyncPerformer:
    """As `Performer`, for asyncio."""

    def __init__(self, providers: AsyncProviders) -> None:
        self._providers = providers

    async def run(self, lifecycle: Generator[Effect, Any, _T]) -> _T:
        """Do what the lifecycle yields, until it returns."""
        results = [event.value async for event in self.doing(lifecycle) if isinstance(event, Done)]
        return results[0]

    async def doing(self, lifecycle: Generator[Effect, Any, _T]) -> AsyncGenerator[dict[str, Any] | Done[_T]]:
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
                        async for event in _finish(effect, opened):
                            yield event
                        finished, opened = opened, None
                        effect = lifecycle.send(finished.outcome)
                    else:
                        result, cancelled = await self._do(lifecycle, effect)
                        effect = lifecycle.send(result)
                        if cancelled is not None:  # it is raised before the next effect has begun
                            lifecycle.throw(NotSent(*cancelled.args))
            except StopIteration as done:
                ended = Done(done.value)
            except BaseException:
                if opened is not None:
                    _abandon(lifecycle, opened)
                raise
            finally:
                if opened is not None:
                    await opened.stream.close()
        yield ended

    async def _do(
        self, lifecycle: Generator[Effect, Any, Any], effect: Effect
    ) -> tuple[Any, asyncio.CancelledError | None]:
        """The result of an effect that leaves nothing open, and the cancellation that arrived while it could not be interrupted."""
        if isinstance(effect, Send):
            return await self._call(lifecycle, effect), None
        if isinstance(effect, SendAll):
            return await self._call_all(lifecycle, effect), None
        if isinstance(effect, Await):
            await wait_async(effect.waits)
            return None, None
        if isinstance(effect, WaitFor):
            return await _result_within_async(effect), None
        if isinstance(effect, RunBlocking):
            return await _in_thread(effect.function)
        assert isinstance(effect, RunCancellable), "there is no other effect"
        return await _run_cancellable(lifecycle, effect), None

    async def _open(self, lifecycle: Generator[Effect, Any, Any], effect: Open) -> Reply | Failure | AsyncOpenReply:
        try:
            return await self._providers.open(effect.prompt, effect.time_out_at, triage=effect.triage)
        except BaseException as error:
            lifecycle.throw(error)
            raise

    async def _call(self, lifecycle: Generator[Effect, Any, Any], effect: Send) -> Reply | Failure:
        try:
            return await self._providers.call(effect.prompt, effect.time_out_at)
        except BaseException as error:
            lifecycle.throw(error)  # the hooks are notified, and the reservation is settled, before it is raised here
            raise

    async def _call_all(self, lifecycle: Generator[Effect, Any, Any], effect: SendAll) -> tuple[Reply | Failure, ...]:
        try:
            async with asyncio.TaskGroup() as together:
                calls = [
                    together.create_task(self._providers.call(one.prompt, one.time_out_at)) for one in effect.calls
                ]
            return tuple(call.result() for call in calls)
        except BaseExceptionGroup as errors:
            error = errors.exceptions[0]
            lifecycle.throw(error)
            raise error from None
        except BaseException as error:
            lifecycle.throw(error)
            raise


async def _finish(effect: Finishing, opened: AsyncOpenReply) -> AsyncGenerator[dict[str, Any]]:
    if effect.action == "close":
        await opened.close()
        return
    if effect.action == "ship":
        opened.extend(effect.time_out_at)
        yield opened.start_event()
    async for event in opened.rest():
        if effect.action == "ship":
            yield event


def _abandon(lifecycle: Generator[Effect, Any, Any], opened: OpenReply | AsyncOpenReply) -> None:
    """Nobody waits for the open reply any more: what came of it is recorded and settled."""
    with suppress(BaseException):
        lifecycle.throw(Abandoned(opened.abandoned()))


def _result_within(effect: WaitFor) -> Any:
    try:
        return effect.future.result(effect.seconds)
    except TimeoutError:
        return None


async def _result_within_async(effect: WaitFor) -> Any:
    if not effect.future.done():
        # Not `wait_for`: it would cancel the future, for which others wait as well.
        await asyncio.wait([asyncio.wrap_future(effect.future)], timeout=effect.seconds)
    return effect.future.result() if effect.future.done() else None


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
