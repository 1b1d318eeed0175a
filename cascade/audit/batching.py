"""The audit's calls through the Message Batches API, at half the price: many samples are graded together.

    leased, one after the other ─> each waits at its first call ─> all calls are sent as batches ─> each goes on to its next call

A sample that needs no call waits until those before it are graded (`AuditWorker` says why). A lease must outlast a batch, so it runs for
longer than a day, and holds the bound of the call against the cap meanwhile. Control items are asked live, at list prices: they are few,
and the judge's first word on a sample waits for them.

A call is put on the ledger once its outcome is known, with an id that follows from what is asked. The batches' own store holds what is
under way, so that a killed run that is started again takes its leases up, collects what is paid for, and pays nothing twice. The
folder is deleted once nothing is under way: it holds answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cascade.audit.calling import AuditCall, AuditCaller, Called, called_of
from cascade.batch import BatchCall, BatchLimits, BatchSender
from cascade.batch.calls import encode_json
from cascade.batch.naming import run_of
from cascade.batch.recording import recorded
from cascade.budgets.gate import bound_of
from cascade.claude.batches import request_of
from cascade.core.errors import BatchError, ConfigurationError
from cascade.core.messages import Failure, Reply, Request
from cascade.core.modes import NO_SLOT
from cascade.core.policy import Policy
from cascade.core.triage import Prompt
from cascade.home import home
from cascade.hooks import Begun
from cascade.ledger.stores import Reader
from cascade.providers import Providers

__all__ = ["LEASE_S", "MOST_TOGETHER", "BatchAuditCaller", "NotSent", "UnderWay", "batches_folder"]

LEASE_S = 26 * 3600.0
"""How long a lease runs: a batch takes a day at most, and reading it and its records some time."""

MOST_TOGETHER = 5_000
"""Samples that are graded together: their texts are in memory."""

_SETTLE_S = 60.0
_KEPT_S = 31 * 86_400.0  # an endpoint keeps a batch's results for less


class UnderWay(Exception):
    """A call's outcome is not known yet, and it may be paid for: its sample's lease is kept. `failure` None: it was interrupted."""

    def __init__(self, message: str, failure: Failure | None = None) -> None:
        self.message, self.failure = message, failure
        super().__init__(message)


class NotSent(Exception):
    """No call can be sent at all, for this reason."""

    def __init__(self, problem: ConfigurationError) -> None:
        self.problem = problem
        super().__init__(str(problem))


class _Interrupted(Exception):
    """The user stopped the run while batches were under way."""


def batches_folder(policy: Policy, ledger: str | None) -> Path:
    """Where an audit's batches are known: one folder for each policy and ledger."""
    name = hashlib.sha256(f"{policy.name}|{ledger or ''}".encode()).hexdigest()[:16]
    return home() / "audit-batches" / name


class BatchAuditCaller(AuditCaller):
    """Makes the calls of many samples together. For one event loop.

    `live`: makes those that others wait for, and those that batches cannot reach. `read` opens the ledger.
    """

    def __init__(
        self, *given: Any, live: AuditCaller, models: Providers, folder: Path, read: Callable[[], Reader], poll_s: float,
        **more: Any,
    ) -> None:  # fmt: skip
        super().__init__(*given, **more)
        self._live, self._models, self._read, self._folder = live, models, read, folder
        self._interrupt = threading.Event()
        self.run = run_of(folder, "audit")
        limits = BatchLimits(poll_s=poll_s, settle_s=_SETTLE_S if poll_s >= 1.0 else 2 * poll_s)
        self._sender = BatchSender(folder, self.run, models.client_of, limits, wait=self._sleep)
        self._calls: dict[str, tuple[AuditCall, asyncio.Future[tuple[Reply | Failure, bool]]]] = {}
        self._turns: list[asyncio.Future[None]] = []
        self._changed = asyncio.Event()
        self._alive = 0

    # what a sample asks for

    def id_of(self, name: str, prompt: Prompt, *, is_control: bool = False) -> str:
        """As `AuditCaller.id_of`; of a batch's call the same after a restart, but for one that failed, which is made again."""
        if is_control or prompt.rung.provider != "anthropic":
            return self._live.id_of(name, prompt)
        asked = encode_json([self.run, request_of("", prompt)["params"]])
        for nth in range(1_000_000):
            digest = hashlib.sha256(b"%d %s" % (nth, asked)).hexdigest()[:8]
            known = self._sender.store.outcome(f"{name}_{digest}")
            if known is None or known[0] != "failure":
                return f"{name}_{digest}"
        raise AssertionError("no call fails so often")

    def bound(self, index: int, prompt: Prompt, *, is_control: bool = False) -> int:
        """As `AuditCaller.bound`. A batch's call is made once, however often it is sent: one that is not answered is not billed."""
        if is_control or prompt.rung.provider != "anthropic":
            return self._live.bound(index, prompt)
        return bound_of(self.plan.rates[index], prompt, 1)

    async def call(self, call: AuditCall) -> Called:
        """Make one call, with the others. Raises UnderWay, NotSent, LedgerDown; MissingKey without credentials."""
        if call.is_control or call.prompt.rung.provider != "anthropic":
            return await self._live.call(call)
        if self._interrupt.is_set():
            raise UnderWay("interrupted")
        waiting: asyncio.Future[tuple[Reply | Failure, bool]] = asyncio.get_running_loop().create_future()
        self._calls[call.id] = call, waiting
        self._changed.set()
        outcome, is_recorded = await waiting
        ended = self._ended(call, outcome, 0.0)
        if not is_recorded:
            request = Request(call.prompt.messages, call.prompt.system, task=call.task, id=call.id)
            begun = Begun(self.plan, request, call.task, "audit", self._wall(), NO_SLOT, call.of, prompts=call.prompts)
            self._hook.begin(begun).ended(ended)
            await self._write()
        return called_of(outcome, ended.steps[0], self.bound(call.index, call.prompt))

    async def in_turn(self) -> None:
        """Wait until all samples that were leased before are graded."""
        if self._calls:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._turns.append(waiting)
            self._changed.set()
            await waiting

    # what the worker does

    def watch(self, task: asyncio.Task[Any]) -> None:
        """Count a task that grades a sample."""

        def over(_: object) -> None:
            self._alive -= 1
            self._changed.set()

        self._alive += 1
        task.add_done_callback(over)

    async def settled(self) -> None:
        """Wait until every task waits for a call or its turn, or is over."""
        while len(self._calls) + len(self._turns) < self._alive:
            self._changed.clear()
            await self._changed.wait()

    async def drive(self) -> None:
        """Send the calls that tasks wait for, again and again, until all tasks are over."""
        while self._alive:
            await self.settled()
            if self._calls:
                await self._send()
            else:
                turns, self._turns = self._turns, []
                for waiting in turns:
                    waiting.set_result(None)
            await asyncio.sleep(0)

    def interrupt(self) -> None:
        """Wait for no batch: they go on at the endpoint, and the next run collects them."""
        self._interrupt.set()

    def close(self, *, is_done: bool) -> None:
        """Close the store and the clients. `is_done`: every sample is finished or given back, so what the store holds is deleted."""
        is_over = is_done and not (self._sender.is_under_way or self._sender.store.count_open())
        self._sender.close()
        self._models.close()
        if is_over:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _send(self) -> None:
        calls, self._calls = self._calls, {}
        outcomes: dict[str, Reply | Failure] = {}
        on_ledger: set[str] = set()
        problem: Exception = UnderWay("the batches have ended without it")
        try:
            await asyncio.to_thread(self._collect, calls, outcomes, on_ledger)
        except _Interrupted:
            problem = UnderWay("interrupted")
        except BatchError as error:
            problem = UnderWay(str(error), error.failure)
        except ConfigurationError as error:
            problem = NotSent(error)
        except asyncio.CancelledError:
            self.interrupt()  # the thread that waits ends by this
            raise
        for name, (_, waiting) in calls.items():
            if waiting.done():
                continue
            if name in outcomes:
                waiting.set_result((outcomes[name], name in on_ledger))
            else:
                waiting.set_exception(problem)

    def _collect(
        self, calls: dict[str, tuple[AuditCall, Any]], outcomes: dict[str, Reply | Failure], on_ledger: set[str]
    ) -> None:
        """Make the calls. Those that an earlier run has made may be on the ledger already."""
        known = [name for name in calls if self._sender.store.outcome(name) is not None]
        if known:
            on_ledger |= recorded(self._read, known, self._wall() - _KEPT_S)
        outcomes.update(self._sender.send(BatchCall(name, call.prompt) for name, (call, _) in calls.items()))

    def _sleep(self, seconds: float) -> None:
        if self._interrupt.wait(seconds):
            raise _Interrupted
