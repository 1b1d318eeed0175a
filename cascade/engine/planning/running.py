"""Runs a plan: which subtask may start is `core.planning.schedule`'s, what it is asked `core.planning`'s; this does the waiting."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from cascade.core.planning.graph import Plan
from cascade.core.planning.result import Result
from cascade.core.trail import Answer
from cascade.engine.blocking import warn_of_blocking
from cascade.engine.planning.execution import Execution, Job
from cascade.engine.planning.opening import open_run
from cascade.engine.planning.options import RunOptions

if TYPE_CHECKING:
    from cascade.engine.drivers import AsyncCascade, Cascade

__all__ = ["arun_plan", "run_plan"]

_Done = tuple[Job, Answer[Any] | None, BaseException | None]


def run_plan(driver: Cascade, plan: Plan | Result | str, options: RunOptions) -> Result:
    """`Cascade.run`."""
    warn_of_blocking()
    driver.prepare()
    opened = open_run(driver._runtime, plan, options)  # pyright: ignore[reportPrivateUsage]
    _drive(driver, opened.execution, opened.concurrency)
    return opened.execution.result()


def _drive(driver: Cascade, run: Execution, concurrency: int) -> None:
    """Each request on a thread of its own. The threads are daemons: who interrupts a second time does not wait for them."""
    done: SimpleQueue[_Done] = SimpleQueue()
    running = 0
    try:
        while True:
            for job in run.start(concurrency):
                context = copy_context()
                threading.Thread(
                    target=context.run, args=(_answer, driver, job, done), name="cascade-run", daemon=True
                ).start()
                running += 1
            if not running:
                return
            come = done.get()
            running -= 1
            run.finish(*come)
    except BaseException:  # nothing more is begun; what is under way is paid for, so its end is kept
        while running:
            come = done.get()
            running -= 1
            run.put_down(*come)
        raise


def _answer(driver: Cascade, job: Job, done: SimpleQueue[_Done]) -> None:
    try:
        done.put((job, driver.respond(job.arguments), None))
    except BaseException as error:  # noqa: BLE001 - raised on the caller's thread
        done.put((job, None, error))


async def arun_plan(driver: AsyncCascade, plan: Plan | Result | str, options: RunOptions) -> Result:
    """`AsyncCascade.run`. Who cancels it cancels the requests that are under way."""
    await driver.prepare()
    opened = open_run(driver._runtime, plan, options)  # pyright: ignore[reportPrivateUsage]
    run, jobs = opened.execution, dict[asyncio.Task[Answer[Any]], Job]()
    try:
        while True:
            for job in run.start(opened.concurrency):
                jobs[asyncio.create_task(driver.respond(job.arguments))] = job
            if not jobs:
                return run.result()
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in jobs if task.done()]:
                run.finish(jobs.pop(task), *_came_of(task))
    except BaseException:
        for task in jobs:
            task.cancel()
        await asyncio.wait(jobs) if jobs else None
        for task, job in jobs.items():
            run.put_down(job, *_came_of(task))
        raise


def _came_of(task: asyncio.Task[Answer[Any]]) -> tuple[Answer[Any] | None, BaseException | None]:
    if task.cancelled():
        return None, asyncio.CancelledError()
    error = task.exception()
    return (None, error) if error is not None else (task.result(), None)
