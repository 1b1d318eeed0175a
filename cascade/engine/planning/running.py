"""Runs a plan: which subtask may start is `core.planning.schedule`'s, what it is asked `core.planning`'s; this does the waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from cascade.core.planning.controls import ControlDone
from cascade.core.planning.graph import Plan
from cascade.core.planning.result import Result
from cascade.core.trail import Answer
from cascade.engine.blocking import warn_of_blocking
from cascade.engine.planning.execution import Execution, Job
from cascade.engine.planning.making import amake_plan, make_plan
from cascade.engine.planning.opening import OpenedRun, open_run, read_run
from cascade.engine.planning.options import RunOptions
from cascade.engine.planning.sessions import keep_decided, recall_decided
from cascade.engine.planning.standing import keep_control, recall_controls

if TYPE_CHECKING:
    from cascade.engine.drivers import AsyncCascade, Cascade

__all__ = ["arun_plan", "run_plan"]

_Come = tuple[Answer[Any] | None, BaseException | None]


def run_plan(driver: Cascade, plan: Plan | Result | str, options: RunOptions) -> Result:
    """`Cascade.run`."""
    warn_of_blocking("run")
    runtime = driver._runtime  # pyright: ignore[reportPrivateUsage]
    given = read_run(runtime, options)
    driver.prepare()  # before the deadline begins to run
    opened = open_run(runtime, plan, given)
    try:
        controls = _recall(opened)
        if opened.plan is None:
            opened.planned(make_plan(driver, opened.making()).plan)
        run = opened.execution(controls)
        _drive(driver, run, given.concurrency)
        return _kept(opened, run.result())
    finally:
        opened.close()


def _drive(driver: Cascade, run: Execution, concurrency: int) -> None:
    """Each request on a thread of its own. The threads are daemons: who interrupts a second time does not wait for them.

    An interrupt may arrive between any two operations, also with a job in hand that the queue gave: what came is in `come` until it is kept.
    """
    threads, come, done = dict[Job, threading.Thread](), dict[Job, _Come](), SimpleQueue[Job]()
    try:
        while True:
            for job in run.start(concurrency):
                threads[job] = threading.Thread(
                    target=copy_context().run, args=(_answer, driver, job, come, done), name="cascade-run", daemon=True
                )
                threads[job].start()
            if not threads:
                return
            job = done.get()
            control = run.finish(job, *come[job])
            del threads[job]
            if control is not None:
                keep_control(run.terms.runtime, control)
    except BaseException:  # nothing more is begun; what is under way is paid for, so its end is kept
        for job, thread in threads.items():
            if thread.ident is not None:  # it was started
                thread.join()
                run.put_down(job, *come[job])
        raise


def _answer(driver: Cascade, job: Job, come: dict[Job, _Come], done: SimpleQueue[Job]) -> None:
    try:
        come[job] = driver.respond(job.arguments), None
    except BaseException as error:  # noqa: BLE001 - raised on the caller's thread
        come[job] = None, error
    done.put(job)


async def arun_plan(driver: AsyncCascade, plan: Plan | Result | str, options: RunOptions) -> Result:
    """`AsyncCascade.run`. Who cancels it cancels the requests that are under way."""
    runtime = driver._runtime  # pyright: ignore[reportPrivateUsage]
    given = read_run(runtime, options)
    await driver.prepare()
    opened = open_run(runtime, plan, given)
    try:
        controls = await asyncio.to_thread(_recall, opened)
        if opened.plan is None:
            opened.planned((await amake_plan(driver, opened.making())).plan)
        run = opened.execution(controls)
        await _adrive(driver, run, given.concurrency)
        return await asyncio.to_thread(_kept, opened, run.result())
    finally:
        opened.close()


async def _adrive(driver: AsyncCascade, run: Execution, concurrency: int) -> None:
    """Each request in a task of its own."""
    jobs: dict[asyncio.Task[Answer[Any]], Job] = {}
    try:
        while True:
            for job in run.start(concurrency):
                jobs[asyncio.create_task(driver.respond(job.arguments))] = job
            if not jobs:
                return
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in jobs if task.done()]:
                control = run.finish(jobs.pop(task), *_came_of(task))
                if control is not None:
                    await asyncio.to_thread(keep_control, run.terms.runtime, control)
    except BaseException as error:
        for task in () if isinstance(error, Exception) else jobs:  # if nobody waits; else it is paid for, and ends
            task.cancel()
        if jobs:
            await asyncio.wait(jobs)
        for task, job in jobs.items():
            run.put_down(job, *_came_of(task))
        raise


def _recall(opened: OpenedRun) -> Sequence[ControlDone]:
    """What earlier runs left: the reviewer's control items, and what was decided in the session. It may wait for a database."""
    given = opened.given
    opened.decided = recall_decided(opened.runtime, given.session, given.metadata, run=opened.id)
    return recall_controls(opened.runtime)


def _kept(opened: OpenedRun, result: Result) -> Result:
    """What the run decided is kept for its session. It may wait, too."""
    note = keep_decided(opened.runtime, opened.given.session, opened.given.metadata, result)
    return result if note is None else replace(result, notes=(*result.notes, note))


def _came_of(task: asyncio.Task[Answer[Any]]) -> _Come:
    if task.cancelled():
        return None, asyncio.CancelledError()
    error = task.exception()
    return (None, error) if error is not None else (task.result(), None)
