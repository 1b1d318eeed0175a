"""The two live drivers, `Cascade` and `AsyncCascade`: they run a request's lifecycle, and do its I/O."""

from __future__ import annotations

import asyncio
import copy
import random
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, overload

from cascade.core.errors import CascadeError, ConfigurationError
from cascade.core.messages import Request
from cascade.core.policy import Policy
from cascade.core.trail import Answer, Arm
from cascade.engine.arguments import Arguments, AskArguments, AskOptions, Prompt, lists_options
from cascade.engine.blocking import warn_of_blocking
from cascade.engine.cached import endpoint_of, with_cache
from cascade.engine.events import AsyncMessageEvents, MessageEvents, answer_events
from cascade.engine.lifecycle import run_request
from cascade.engine.messages import AsyncMessages, Messages
from cascade.engine.observing import ShadowSlots, run_shadow, shadow_context
from cascade.engine.performers import AsyncPerformer, Done, Performer
from cascade.engine.runtime import RequestContext, Runtime, RuntimeOptions
from cascade.forks import renew_in_children
from cascade.hooks import Hook
from cascade.providers import AsyncProviders, Providers

if TYPE_CHECKING:
    from cascade.core.planning.graph import Plan
    from cascade.core.planning.result import Result
    from cascade.engine.batching import AsyncBatchRun, BatchInput, BatchOptions, BatchRun
    from cascade.engine.planning import PlanOptions, RunOptions

__all__ = ["AsyncCascade", "Cascade"]

_Data = TypeVar("_Data")
_Calling = TypeVar("_Calling", Providers, AsyncProviders)


class _Driver(Generic[_Calling]):
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

    def on(self, client: Any) -> Self:
        """The same policy, ledger and state on another client of the SDK. To close one of them is to close the ledger."""
        other = copy.copy(self)
        other._providers, other._has_client, other._endpoint = self._providers.on(client), True, endpoint_of(client)
        vars(other).pop("messages", None)
        other.renew_lock()
        renew_in_children(other)
        return other


class Cascade(_Driver[Providers]):
    """A policy at work: `ask` answers a request with the cheapest rung that can be trusted with it.

    `policy`: a Policy, a path, or a shipped policy's name. `client`: any sync client of the SDK; by default one is made from the
    environment (`ANTHROPIC_API_KEY`) at the first request. `ledger`: a path, `postgresql://…` or "off" (default: `CASCADE_LEDGER`,
    else a file under `CASCADE_HOME`). `state`: `redis://…`, which many processes share (default: `CASCADE_STATE`, else memory).
    `cache`: where a policy with `cache` stores its answers, a path or `redis://…` (default: `CASCADE_CACHE`, else a file under
    `CASCADE_HOME`). `hooks`: notified of each request. `clock` gives seconds from any origin, `wall` Unix seconds. Safe to share
    between threads; also a context manager. Raises PolicyError if the policy cannot be used, MissingExtra if a package is missing.
    The policy's file is read when the driver is made, the environment (key, `ANTHROPIC_BASE_URL`) when a client is made: later
    changes of either need a new driver.
    """

    _providers_type = Providers

    @cached_property
    def messages(self) -> Messages:
        """The SDK's `client.messages`, climbing: its parameters, its types."""
        return Messages(self, self._providers)

    def renew_lock(self) -> None:
        """For `forks`: the threads that run shadow requests stay with the parent."""
        self._lock = threading.Lock()
        self._background: ThreadPoolExecutor | None = None

    def prepare(self) -> None:
        """Make the clients now. Raises MissingKey if there is no key.

        Otherwise the first request does it, before its deadline begins to run: importing the SDK takes a second or two.
        """
        self._providers.prepare(self._runtime.ladder_of("cascade"))

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
        warn_of_blocking()
        return self.respond(AskArguments(prompt, response_model, options).read())

    def respond(self, arguments: Arguments) -> Answer[Any]:
        """Answer one request of the Messages API that has been read already. Errors are those of `ask`."""
        context = self._begin(arguments)
        return self._answered(context, Performer(self._providers).run(run_request(self._runtime, context)))

    def events(self, arguments: Arguments) -> MessageEvents:
        """Answer one request as the events of a stream of the Messages API.

        An answer that is decided at its first tokens comes as it is written. Errors are those of `ask`, raised while it is
        read.
        """
        context = self._begin(arguments)
        return MessageEvents(context.request.id, self._events(context))

    def _begin(self, arguments: Arguments) -> RequestContext:
        request, arm = self._runtime.read(arguments)
        self._providers.prepare(self._runtime.ladder_of(arm))
        return self._start(arguments, request, arm)

    def _answered(self, context: RequestContext, answer: Answer[Any]) -> Answer[Any]:
        if self._runtime.is_sampled(context) and self._shadow_slots.acquire():
            self._start_shadow(context, answer)
        return answer

    def _events(self, context: RequestContext) -> Generator[dict[str, Any], None, Answer[Any]]:
        begun = False
        running = Performer(self._providers).doing(run_request(self._runtime, context))
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
            self._providers.prepare(self._runtime.ladder_of("cascade"))
            Performer(self._providers).run(run_shadow(self._runtime, shadow_context(self._runtime, context), answer))
        except CascadeError as error:  # nobody waits for it: logged, not raised
            self._runtime.log_shadow_failure(error)
        finally:
            self._shadow_slots.release()

    @overload
    def batch(
        self,
        inputs: Iterable[BatchInput] | None = None,
        *,
        response_model: None = None,
        **options: Unpack[BatchOptions],
    ) -> BatchRun[None]: ...
    @overload
    def batch(
        self,
        inputs: Iterable[BatchInput] | None = None,
        *,
        response_model: type[_Data],
        **options: Unpack[BatchOptions],
    ) -> BatchRun[_Data]: ...
    @overload
    def batch(
        self, inputs: Iterable[BatchInput] | None = None, *, response_model: object, **options: Unpack[BatchOptions]
    ) -> BatchRun[Any]: ...
    def batch(
        self, inputs: Iterable[BatchInput] | None = None, *, response_model: Any = None, **options: Unpack[BatchOptions]
    ) -> BatchRun[Any]:
        """Answer many inputs through the Message Batches API, at half the price and within a day or so. Nothing is sent yet.

        `response_model` and `checks` hold for all. `run`: a name for it; if there is a run of this name, it is taken up again,
        with these inputs or without any. `max_usd`: what the whole run may spend. `limits`: how calls are put into batches.
        `wait` is called with the seconds between two looks at the batches, `on_progress` with how far it is. Raises RequestError
        for an input that cannot be asked, ConfigurationError for a run that cannot be taken up with these arguments.
        """
        from cascade.engine.batching import open_batch  # noqa: PLC0415 - few programs use it

        return open_batch(self._runtime, self._providers, inputs, response_model, options)

    def plan(self, goal: str, **options: Unpack[PlanOptions]) -> Plan:
        """Plan a goal. The arguments and errors are those of `cascade.plan`, without `policy`."""
        from cascade.engine.planning import plan_goal  # noqa: PLC0415 - few programs use it

        return plan_goal(self, goal, options).plan

    def run(self, plan: Plan | Result | str, **options: Unpack[RunOptions]) -> Result:
        """Run a plan, or plan a goal and run that. The arguments and errors are those of `cascade.run`, without `policy`."""
        from cascade.engine.planning import run_plan  # noqa: PLC0415 - few programs use it

        return run_plan(self, plan, options)

    def report_outcome(self, request_id: str, right: bool | float, *, note: str | None = None) -> None:
        """Report whether an answer was right. The arguments and errors are those of `cascade.report_outcome`.

        `note` is kept if the policy's ledger keeps content.
        """
        self._runtime.report_outcome(request_id, right, note)

    def close(self) -> None:
        """Close the clients made here, and write the ledger. A client that was passed in stays open."""
        with self._lock:
            background, self._background = self._background, None
        if background is not None:
            background.shutdown()
        self._shadow_slots.report()
        self._providers.close()
        self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncCascade(_Driver[AsyncProviders]):
    """`Cascade` for asyncio: the same arguments, the same rule, awaited.

    It makes a client for each event loop. A `client` that was passed in serves one loop: in another one (a second
    `asyncio.run`) it raises ConfigurationError before anything is sent. `checks` are plain functions and run on the loop.
    """

    _providers_type = AsyncProviders

    @cached_property
    def messages(self) -> AsyncMessages:
        """The SDK's `client.messages`, climbing: its parameters, its types."""
        return AsyncMessages(self, self._providers)

    def renew_lock(self) -> None:
        """For `forks`: the tasks that run shadow requests stay with the parent."""
        self._background: set[asyncio.Task[None]] = set()

    async def prepare(self) -> None:
        """As `Cascade.prepare`, for the running loop."""
        await self._providers.prepare(self._runtime.ladder_of("cascade"))

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
        return await self.respond(AskArguments(prompt, response_model, options).read())

    async def respond(self, arguments: Arguments) -> Answer[Any]:
        """As `Cascade.respond`."""
        context = await self._begin(arguments)
        return self._answered(context, await AsyncPerformer(self._providers).run(run_request(self._runtime, context)))

    def events(self, arguments: Arguments) -> AsyncMessageEvents:
        """As `Cascade.events`. RequestError for invalid arguments is raised at once."""
        request, arm = self._runtime.read(arguments)
        return AsyncMessageEvents(request.id, self._events(arguments, request, arm))

    async def _begin(self, arguments: Arguments) -> RequestContext:
        request, arm = self._runtime.read(arguments)
        await self._providers.prepare(self._runtime.ladder_of(arm))
        return self._start(arguments, request, arm)

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
        await self._providers.prepare(self._runtime.ladder_of(arm))
        context, begun = self._start(arguments, request, arm), False
        async with aclosing(AsyncPerformer(self._providers).doing(run_request(self._runtime, context))) as running:
            async for event in running:
                if isinstance(event, Done):
                    answer = self._answered(context, event.value)
                    for one in answer_events(answer, begun=begun):
                        yield one
                    yield answer
                else:
                    begun = True
                    yield event

    async def _shadow(self, context: RequestContext, answer: Answer) -> None:
        try:
            await self._providers.prepare(self._runtime.ladder_of("cascade"))
            await AsyncPerformer(self._providers).run(
                run_shadow(self._runtime, shadow_context(self._runtime, context), answer)
            )
        except CascadeError as error:  # nobody waits for it: logged, not raised
            self._runtime.log_shadow_failure(error)
        except asyncio.CancelledError as error:  # the loop ended first
            self._runtime.log_shadow_failure(error)
            raise
        finally:
            self._shadow_slots.release()

    @overload
    def batch(
        self,
        inputs: Iterable[BatchInput] | None = None,
        *,
        response_model: None = None,
        **options: Unpack[BatchOptions],
    ) -> AsyncBatchRun[None]: ...
    @overload
    def batch(
        self,
        inputs: Iterable[BatchInput] | None = None,
        *,
        response_model: type[_Data],
        **options: Unpack[BatchOptions],
    ) -> AsyncBatchRun[_Data]: ...
    @overload
    def batch(
        self, inputs: Iterable[BatchInput] | None = None, *, response_model: object, **options: Unpack[BatchOptions]
    ) -> AsyncBatchRun[Any]: ...
    def batch(
        self, inputs: Iterable[BatchInput] | None = None, *, response_model: Any = None, **options: Unpack[BatchOptions]
    ) -> AsyncBatchRun[Any]:
        """As `Cascade.batch`. It makes a sync client of its own: raises ConfigurationError if a `client` was passed in."""
        from cascade.engine.batching import AsyncBatchRun, open_batch  # noqa: PLC0415 - few programs use it

        if self._has_client:
            raise ConfigurationError(
                "batch: it needs a sync client (leave client= out, or use Cascade(client=…).batch)"
            )
        providers = Providers(self.policy.retry, clock=time.monotonic, chance=random.Random())  # noqa: S311 - jitter, not a secret
        return AsyncBatchRun(open_batch(self._runtime, providers, inputs, response_model, options))

    async def plan(self, goal: str, **options: Unpack[PlanOptions]) -> Plan:
        """As `Cascade.plan`."""
        from cascade.engine.planning import aplan_goal  # noqa: PLC0415 - few programs use it

        return (await aplan_goal(self, goal, options)).plan

    async def run(self, plan: Plan | Result | str, **options: Unpack[RunOptions]) -> Result:
        """As `Cascade.run`."""
        from cascade.engine.planning import arun_plan  # noqa: PLC0415 - few programs use it

        return await arun_plan(self, plan, options)

    async def report_outcome(self, request_id: str, right: bool | float, *, note: str | None = None) -> None:
        """As `Cascade.report_outcome`."""
        await asyncio.to_thread(self._runtime.report_outcome, request_id, right, note)

    async def aclose(self) -> None:
        """Wait for the running loop's shadow requests, close the clients made here for it, and write the ledger.

        A client that was passed in stays open.
        """
        loop = asyncio.get_running_loop()
        mine = [task for task in self._background if task.get_loop() is loop]
        await asyncio.gather(*mine, return_exceptions=True)
        self._shadow_slots.report()
        await self._providers.aclose()
        await asyncio.to_thread(self._runtime.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
