"""`Cascade.batch`: a list of inputs through the Message Batches API, as one run that can be resumed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypedDict, TypeVar, cast

from cascade.batch.calls import BatchLimits
from cascade.batch.climbing import CallerChecks
from cascade.batch.driver import Driver, Means, Progress
from cascade.batch.items import Counts, ItemStore
from cascade.batch.recording import Books
from cascade.batch.runs import InputsDigest, Run, RunSettings, find_run, has_run, is_begun, make_run, new_run_id
from cascade.core.bound_policy import BoundPolicy
from cascade.core.budgets import usd_text
from cascade.core.errors import CascadeError, ConfigurationError, RequestError
from cascade.core.messages import Block, Request
from cascade.core.trail import Answer
from cascade.engine.arguments import AskArguments, AskOptions, Prompt, read_limit
from cascade.engine.response_types import response_type
from cascade.engine.runtime import Runtime
from cascade.policy.binding import bind_baseline, bind_policy, called_rungs
from cascade.policy.checks import CallerCheck, bind_callables
from cascade.policy.ratchet import ratcheted
from cascade.providers import Providers

__all__ = ["AsyncBatchRun", "BatchInput", "BatchItem", "BatchOptions", "BatchRun", "open_batch"]

_Data = TypeVar("_Data")
_NO_ID = ""  # the run gives each request one that follows from its place
_PAGE = 100
_FLUSH_S = 60.0  # how long a run waits for a slow ledger, page by page


class BatchItem(TypedDict, total=False):
    """One input with options of its own, as `ask` has them. `input`: a string or a list of messages. `id`: a name for it."""

    id: str
    input: Prompt
    system: str | Sequence[Block] | None
    task: str | None
    flags: Sequence[str] | None
    metadata: Mapping[str, str] | None
    max_tokens: int | None


BatchInput = Prompt | BatchItem
"""One input of a batch: a string, a list of messages, or a mapping with options of its own."""

_KEYS = frozenset(BatchItem.__annotations__)


class BatchOptions(TypedDict, total=False):
    """The keyword arguments of every `batch`; `Cascade.batch` documents them. None: not given."""

    run: str | None
    max_usd: float | None
    checks: Sequence[CallerCheck] | None
    limits: BatchLimits | None
    wait: Callable[[float], None] | None
    on_progress: Callable[[Progress], None] | None


_OPTIONS = frozenset(BatchOptions.__annotations__)


@dataclass(frozen=True, slots=True)
class BatchRun(Generic[_Data]):
    """A run of inputs through the Message Batches API. `id` names it: `cascade.batch(run=id)` takes it up again.

    Iterating over it drives it to its end and yields what came of each input, in their order: an Answer, or the error that
    `ask` would have raised. Nothing is lost or paid twice if the process is killed meanwhile.
    """

    id: str
    _run: Run
    _means: Callable[[RunSettings], Means]

    def send(self) -> BatchRun[_Data]:
        """Send what can be sent now, and return: the batches go on without this process. Raises BatchError, ConfigurationError."""
        with self.driver() as driver:
            driver.begin()
        return self

    def look(self) -> BatchRun[_Data]:
        """Read the batches that have ended, send what follows from them, and return. Raises BatchError, ConfigurationError."""
        with self.driver() as driver:
            _look(driver)
        return self

    def run(self) -> list[Answer[_Data] | CascadeError]:
        """Wait for all rounds, and return what came of each input, in their order. Raises BatchError, ConfigurationError."""
        return list(self)

    def drive(self) -> None:
        """Wait for all rounds."""
        with self.driver() as driver:
            _drive(driver)

    @property
    def counts(self) -> Counts:
        """How far it is, by what is stored on this machine."""
        store = ItemStore(self._run.folder, read_only=True)
        try:
            return store.counts()
        finally:
            store.close()

    def __iter__(self) -> Iterator[Answer[_Data] | CascadeError]:
        return self.answers()

    def answers(self, stop: threading.Event | None = None) -> Generator[Answer[_Data] | CascadeError]:
        """As iteration. `stop`: once it is set, the run is no longer waited for, and _Stopped is raised."""
        with self.driver(stop) as driver:
            _drive(driver)
            for item in driver.store.all():
                ended = driver.ended(item)
                if ended is None:
                    raise ConfigurationError(
                        f"batch run {self.id}: item {item.id!r} does not end as it did (give the same response_model and checks)"
                    )
                if ended.answer is not None:
                    yield ended.answer
                elif ended.error is not None:
                    yield ended.error

    def driver(self, stop: threading.Event | None = None) -> Driver:
        """What drives it. `stop`: as in `answers`."""
        store = ItemStore(self._run.folder)
        try:
            settings = self._run.settings(store)
        finally:
            store.close()
        means = self._means(settings)
        return Driver(self._run, means if stop is None else replace(means, wait=_until(stop, means.wait)))


@dataclass(frozen=True, slots=True)
class AsyncBatchRun(Generic[_Data]):
    """As `BatchRun`, for asyncio. The run is driven in a thread, with a sync client; canceled, it is no longer waited for."""

    whole: BatchRun[_Data]

    @property
    def id(self) -> str:
        """As `BatchRun.id`."""
        return self.whole.id

    @property
    def counts(self) -> Counts:
        """As `BatchRun.counts`."""
        return self.whole.counts

    async def send(self) -> AsyncBatchRun[_Data]:
        """As `BatchRun.send`."""
        await self._drive(Driver.begin)
        return self

    async def look(self) -> AsyncBatchRun[_Data]:
        """As `BatchRun.look`."""
        await self._drive(_look)
        return self

    async def run(self) -> list[Answer[_Data] | CascadeError]:
        """As `BatchRun.run`."""
        return await _in_thread(lambda stop: list(self.whole.answers(stop)))

    async def __aiter__(self) -> AsyncGenerator[Answer[_Data] | CascadeError]:
        await self._drive(_drive)
        answers = self.whole.answers()
        try:
            while page := await asyncio.to_thread(_take, answers):
                for one in page:
                    yield one
        finally:
            with suppress(ValueError):  # canceled while a page is read: the thread has it, and then nobody
                answers.close()

    async def _drive(self, drive: Callable[[Driver], object]) -> None:
        def driving(stop: threading.Event) -> None:
            with self.whole.driver(stop) as driver:
                drive(driver)

        await _in_thread(driving)


class _Stopped(Exception):
    """Whoever waited for the run was canceled."""


async def _in_thread(function: Callable[[threading.Event], _Data]) -> _Data:
    """Run it in a thread. If this is canceled, the thread ends too, at its next wait: the loop waits for it before it closes."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(function, stop)
    except asyncio.CancelledError:
        stop.set()
        raise


def _until(stop: threading.Event, wait: Callable[[float], None]) -> Callable[[float], None]:
    def waits(seconds: float) -> None:
        if wait is time.sleep:
            stop.wait(seconds)
        else:
            wait(seconds)
        if stop.is_set():
            raise _Stopped

    return waits


def _look(driver: Driver) -> None:
    driver.begin()
    driver.go_on(wait=False)


def _drive(driver: Driver) -> None:
    driver.begin()
    driver.go_on()


def _take(answers: Iterator[Any]) -> list[Any]:
    return [answer for _, answer in zip(range(_PAGE), answers, strict=False)]


def open_batch(
    runtime: Runtime,
    providers: Providers,
    inputs: Iterable[BatchInput] | None,
    response_model: Any,
    options: BatchOptions,
) -> BatchRun[Any]:
    """Begin a run, or take one up again. Nothing is sent yet.

    Raises RequestError for an input that cannot be asked, ConfigurationError for an unknown or unusable run, and for other inputs
    another policy or another limit than the run has. Raises MissingKey or MissingExtra before a new run is stored.
    """
    for name in options:
        if name not in _OPTIONS:
            raise RequestError(f"batch: unknown argument {name!r} (one of {', '.join(sorted(_OPTIONS))})")
    name, limit = options.get("run"), read_limit(options.get("max_usd"))
    if name is not None and (is_begun(name) if inputs is not None else has_run(name)):
        run = find_run(name)
        _require_same(run, runtime, None if inputs is None else _requests(inputs, response_model), limit)
    elif inputs is None:
        raise ConfigurationError("batch: give the inputs, or the run to take up again: batch(run=…)")
    else:
        settings = RunSettings(runtime.policy, runtime.mode(), runtime.ratchet_step(), limit)
        _prepare(providers, settings, runtime.baseline)
        run = make_run(name or new_run_id(), settings, _known_tasks(runtime, _requests(inputs, response_model)))
    accept = response_type(response_model).read if response_model is not None else None
    caller = CallerChecks(bind_callables(options.get("checks") or ()), accept)

    def means(settings: RunSettings) -> Means:
        return _means(runtime, providers, settings, caller, options)

    return BatchRun(run.id, run, means)


def _means(
    runtime: Runtime, providers: Providers, settings: RunSettings, caller: CallerChecks, options: BatchOptions
) -> Means:
    whole = bind_policy(settings.policy, batch=True)
    plan, baseline = ratcheted(whole, settings.ratchet), bind_baseline(whole)
    now, deadline_s = runtime.options.clock, settings.policy.deadline_s
    means = Means(
        plan, baseline, runtime.gate, _books(runtime, baseline), providers.client_of,
        lambda prompt: providers.call(prompt, now() + deadline_s), caller, partial(_prepare, providers, settings, baseline),
        options.get("limits") or BatchLimits(),
        clock=runtime.options.wall, on_progress=options.get("on_progress"),
    )  # fmt: skip
    wait = options.get("wait")
    return means if wait is None else replace(means, wait=wait)


def _prepare(providers: Providers, settings: RunSettings, baseline: BoundPolicy) -> None:
    """Make the clients of the rungs that may be called, those of other vendors among them: a run that began may not end without one."""
    climbed = called_rungs(settings.policy) if settings.mode == "enforce" else ()
    providers.prepare((*baseline.policy.ladder, *climbed))


def _books(runtime: Runtime, baseline: BoundPolicy) -> Books:
    ledger = runtime.ledger()
    flush, read = (_nothing, None) if ledger is None else (partial(ledger[0], _FLUSH_S), ledger[1])
    return Books(runtime.hooks, baseline.rates[0], flush, runtime.log_hook_failure, runtime.options.wall, read)


def _nothing() -> None:
    """There is no ledger to write."""


def _requests(inputs: Iterable[BatchInput], response_model: Any) -> Iterator[tuple[str | None, Request]]:
    """Names and requests. Raises RequestError that says which input is invalid."""
    given: Any = inputs
    if isinstance(given, (str, bytes, Mapping)):
        raise RequestError("batch: give a list of inputs, e.g. batch(['…', '…'])")
    for number, one in enumerate(inputs, 1):
        try:
            yield _request(one, response_model)
        except RequestError as problem:
            raise RequestError(f"input {number}: {problem}") from None


def _known_tasks(
    runtime: Runtime, requests: Iterable[tuple[str | None, Request]]
) -> Iterator[tuple[str | None, Request]]:
    """The same; a task that the policy does not define is logged once, as live: a typo may lose a floor."""
    for name, request in requests:
        runtime.warn_unknown_task(request.task)
        yield name, request


def _request(one: BatchInput, response_model: Any) -> tuple[str | None, Request]:
    if not isinstance(one, Mapping):
        return None, AskArguments(one, response_model, {}).request(_NO_ID)
    fields: dict[str, Any] = dict(one)
    if unknown := sorted(fields.keys() - _KEYS):
        raise RequestError(f"{unknown[0]!r} is not known here (an input has {', '.join(sorted(_KEYS))})")
    if "input" not in fields:
        raise RequestError("it has no `input`")
    name = fields.pop("id", None)
    if name is not None and not isinstance(name, str):
        raise RequestError("id: must be a string")
    prompt = cast("Prompt", fields.pop("input"))
    return name, AskArguments(prompt, response_model, cast("AskOptions", fields)).request(_NO_ID)


def _require_same(
    run: Run, runtime: Runtime, given: Iterable[tuple[str | None, Request]] | None, limit: int | None
) -> None:
    """Raises ConfigurationError if the run was begun with another policy, other inputs or another limit."""
    store = ItemStore(run.folder, read_only=True)
    try:
        settings, inputs = run.settings(store), store.meta("inputs")
    finally:
        store.close()
    if settings.policy.hash != runtime.policy.hash:
        raise ConfigurationError(
            f"batch run {run.id}: it was begun with another policy, or another version of {settings.policy.name!r}"
            " (its own is stored with it: `cascade batch resume` uses that one)"
        )
    if limit is not None and limit != settings.limit:
        begun = "without a limit" if settings.limit is None else f"with the limit {usd_text(settings.limit)}"
        raise ConfigurationError(
            f"batch run {run.id}: max_usd: it was begun {begun}, which cannot be changed (leave it out to go on;"
            " submit what was refused as a run of another name)"
        )
    if given is None:
        return
    digest = InputsDigest(run.id)
    for number, (name, request) in enumerate(given):
        digest.add(number, name, request)
    if digest.value != inputs:
        raise ConfigurationError(f"batch run {run.id}: it was begun with other inputs (choose another name)")
