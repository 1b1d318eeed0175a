"""What runs in a worker's process: a task, and what it is told meanwhile. Dask calls `dask_setup` where a local worker starts."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

from cascade.cluster.tasks import asked_by
from cascade.core.errors import ConfigurationError

__all__ = ["check_versions", "dask_setup", "note_stop", "perform", "process", "versions"]

_stopped: set[str] = set()


def versions() -> tuple[str, str]:
    """Cascade's and Python's: a value that one of them wrote need not be what another reads."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow, and rarely needed

    try:
        ours = version("cascade-ladder")
    except PackageNotFoundError:  # a checkout that was never installed
        ours = "unknown"
    return ours, f"{sys.version_info.major}.{sys.version_info.minor}"


def check_versions(there: tuple[str, str], here: tuple[str, str]) -> None:
    """Raise ConfigurationError if what a worker or a scheduler has is not what this process has."""
    if there != here:
        raise ConfigurationError(
            f"the cluster has cascade {there[0]} with Python {there[1]}, and this process cascade {here[0]} with Python"
            f" {here[1]} (install the same everywhere)"
        )


def perform(
    token: str, wanted: tuple[str, str], pickled: bytes, *, here: tuple[str, str] | None = None
) -> tuple[bool, Any]:
    """Whether the task was begun, and its result. Not begun: the run that has this `token` was stopped.

    `here`: the versions of this process. `pickled`: the function and its arguments. Dask's worker would end over what it cannot read, and be started again without end.
    Raises ConfigurationError if the versions are not the `wanted` ones, and what the task raises.
    """
    check_versions(here or versions(), wanted)
    if token in _stopped:
        return False, None
    function, arguments = pickle.loads(pickled)  # noqa: S301 - who may send tasks may run what they like
    with asked_by(lambda: token in _stopped):
        return True, function(*arguments)


def note_stop(token: str) -> None:
    """Tell the tasks of the run that has this `token` to come to an end."""
    _stopped.add(token)


def process() -> int:
    """The id of the worker's process."""
    return os.getpid()


def dask_setup(worker: object) -> None:  # noqa: ARG001 - Dask's own signature
    """Begin a local worker: Ctrl-C, which a terminal sends to all processes, is for the one that started it, and so are its logs."""
    if threading.current_thread() is threading.main_thread():
        with suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL + 1)
