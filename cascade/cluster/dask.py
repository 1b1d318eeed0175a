"""A Dask cluster: processes of this machine, or any scheduler that is given. The only importer of Dask.

A task that a worker had when it died is run again by another one; after some such deaths it is given up, for it may be what kills
them. A result that is lost with its worker is made again, and told once. Tasks are handed out a few at a time, so that a million of them
are not all in the scheduler's memory.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import secrets
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from cascade.cluster.tasks import Done, Task, TaskFailed
from cascade.cluster.worker import check_versions, note_stop, perform, process, versions
from cascade.core.errors import ConfigurationError, MissingExtra

__all__ = ["DaskCluster", "open_cluster"]

_CONNECT_S = 5.0
_WORKERS_S = 10.0
_STOP_S = 1.0  # between two messages to stop: a worker that is started meanwhile has not had the first one
_DEATHS = 3  # of a task's workers, after which it is not given to another one
_FORKED = "forkserver"  # not on every system
_SILENT = logging.CRITICAL + 1


def open_cluster(scheduler: str | None, workers: int, *, modules: Sequence[str] = ()) -> DaskCluster:
    """A cluster of Dask: of `workers` processes of this machine, or the one whose `scheduler` is at tcp://host:port.

    With a scheduler, `workers` is how many tasks run at a time at most. `modules`: what the tasks import; local processes begin with it.
    Raises MissingExtra without Dask, ConfigurationError for a scheduler that cannot be reached or has no worker.
    """
    try:
        import_module("distributed")  # it sets up its logs
    except ModuleNotFoundError:
        raise MissingExtra("a cluster of workers", "dask") from None
    return DaskCluster(scheduler, workers, modules)


class DaskCluster:
    """A client of a scheduler; without an address also its local processes, which end with it."""

    def __init__(self, scheduler: str | None, workers: int, modules: Sequence[str] = ()) -> None:
        self._address, self._workers = scheduler, workers
        self._run = secrets.token_hex(8)
        self._stopped, self._closing = threading.Event(), threading.Event()
        self._logs = [(one, one.level) for one in logging.getLogger("distributed").handlers]
        for handler, _ in self._logs:  # what happens to a worker is told by what comes of its task
            handler.setLevel(_SILENT)
        self.folder: Path | None = None  # of local processes, for as long as they run
        self._local: Any = None
        self._client: Any = None
        self._before = ExitStack()  # puts back what Dask was told
        try:
            self._client = self._start(modules) if scheduler is None else _connect(scheduler)
        except BaseException:
            self.close()
            raise

    def _start(self, modules: Sequence[str]) -> Any:
        from distributed import Client, LocalCluster  # noqa: PLC0415 - an extra

        if _FORKED in multiprocessing.get_all_start_methods():
            self._before.enter_context(_forked(modules))
        self.folder = Path(tempfile.mkdtemp(prefix="cascade-workers-"))
        local: Any = LocalCluster
        self._local = local(
            n_workers=self._workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None,
            silence_logs=_SILENT, memory_limit=0, local_directory=str(self.folder), preload=["cascade.cluster.worker"],
            env=dict(os.environ),  # as it is now: a process that they are forked from may have begun under another
            scheduler_kwargs={"allowed_failures": _DEATHS, "dashboard_address": "127.0.0.1:0"},
        )  # fmt: skip
        return Client(self._local, set_as_default=False)

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return self._client.scheduler.address

    @property
    def processes(self) -> tuple[int, ...]:
        """The ids of the workers' processes."""
        return tuple(self._client.run(process).values())

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Results as they come. Tasks are taken from `tasks` as there is room for them."""
        import distributed  # noqa: PLC0415 - an extra

        client, waiting, running = self._client, iter(tasks), dict[Any, Task]()
        completed: Any = distributed.as_completed(loop=client.loop)
        wanted = versions()

        def submit(count: int) -> None:
            for task in islice(waiting, count):
                key, pickled = f"{task.name}-{secrets.token_hex(8)}", pickle.dumps((task.function, task.arguments))
                future = client.submit(perform, self._run, wanted, pickled, key=key, pure=False)
                running[future] = task
                completed.add(future)

        try:
            # One in hand for each local worker, so that it need not wait for the next.
            submit(self._workers * (2 if self._local is not None else 1))
            while running:
                future = next(completed)
                task = running.pop(future)
                is_begun, result = self._result(future, task)
                future.release()
                if is_begun:
                    yield Done(task.name, result)
                if not self._stopped.is_set():
                    submit(1)
        finally:
            for future in running:
                with suppress(Exception):  # the scheduler may be gone: nothing is left to be canceled then
                    future.cancel()

    def _result(self, future: Any, task: Task) -> tuple[bool, Any]:
        from distributed import KilledWorker  # noqa: PLC0415 - an extra

        where = f"at {self._address}" if self._address else "of this machine"
        try:
            return future.result()
        except KilledWorker as killed:
            hint = "look at what ended them, and at their memory; then run it again"
            raise TaskFailed(
                f"{task.name}: {killed.allowed_failures + 1} workers died with this task ({hint})"
            ) from None
        except CancelledError:
            raise TaskFailed(f"{task.name}: the scheduler {where} has ended (run it again)") from None
        except ModuleNotFoundError as missing:
            raise _lacks(self._address or "of this machine", missing) from None

    def stop(self) -> None:
        """As `Cluster.stop`. A thread tells the workers, again and again until the cluster is closed."""
        if not self._stopped.is_set():
            self._stopped.set()
            threading.Thread(target=self._tell_stop, name="cascade-stop", daemon=True).start()

    def _tell_stop(self) -> None:
        while (client := self._client) is not None:
            with suppress(Exception):  # a worker has died meanwhile; the next message reaches those that are there
                client.run(note_stop, self._run, on_error="ignore")
            if self._closing.wait(_STOP_S):
                return

    def close(self) -> None:
        """End the client, and the local processes; a task that still runs is ended too, but not at a `scheduler`'s."""
        self._closing.set()
        client, local = self._client, self._local
        self._client = self._local = None
        for one in (client, local):
            if one is not None:
                with suppress(Exception):  # it ends all the same
                    one.close()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        for handler, level in self._logs:
            handler.setLevel(level)
        self._before.close()


def _forked(modules: Sequence[str]) -> Any:
    """Within it, workers are forked from a process that has imported `modules`: each import takes the processor's time only once.

    That process is one for all clusters of this process, and has what the first of them named.
    """
    told: Any = import_module("dask.config").set(  # distributed brings it
        {"distributed.worker.multiprocessing-method": _FORKED}
    )
    context: Any = import_module("distributed.utils").get_mp_context()  # which names what it imports itself
    context.set_forkserver_preload(["distributed", "cascade.cluster.worker", *modules])
    return told


def _connect(address: str) -> Any:
    from distributed import Client  # noqa: PLC0415 - an extra

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions: `perform` says it of those that matter
            client: Any = Client(address, set_as_default=False, timeout=_CONNECT_S)
    except (OSError, ValueError, TimeoutError) as problem:
        reason = " ".join(str(problem).split())[:200] or type(problem).__name__
        hint = "start one with `dask scheduler`, or leave --scheduler out: then processes of this machine are started"
        raise ConfigurationError(f"--scheduler {address}: cannot be reached: {reason} ({hint})") from None
    try:
        client.wait_for_workers(1, timeout=_WORKERS_S)
    except TimeoutError:
        client.close()
        hint = f"start some: `dask worker {address} --nthreads 1`, where this version of cascade is installed"
        raise ConfigurationError(f"--scheduler {address}: it has no worker ({hint})") from None
    try:
        for there in (client.run_on_scheduler(versions), *client.run(versions).values()):
            check_versions(there, versions())
    except BaseException as problem:
        client.close()
        if isinstance(problem, ModuleNotFoundError):
            raise _lacks(address, problem) from None
        raise
    return client


def _lacks(where: str, missing: ModuleNotFoundError) -> ConfigurationError:
    hint = "install for its scheduler and on its workers what is installed here"
    return ConfigurationError(f"the cluster {where} has no module {missing.name} ({hint})")
