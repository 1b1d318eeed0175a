"""The metrics of a gateway with several workers, as one scrape of any of them shows them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.telemetry.declared import METRICS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["AllWorkers"]

_READ_NOW = [one.name for one in METRICS if one.kind == "gauge" and one.multiprocess == "mostrecent"]


class AllWorkers:
    """A collector: counters, and the gauges that are added up, are those of all workers, from their files in `folder`.

    The gauges that the scraped worker has just read from the state and the ledger are its own: what another worker saw before may be over,
    and so may be what one saw that has ended since. `registry`: of the scraped worker.
    """

    def __init__(self, folder: str, registry: CollectorRegistry) -> None:
        self._folder, self._registry = folder, registry

    def collect(self) -> Iterator[Any]:
        """All metrics."""
        multiprocess: Any = import_module("prometheus_client.multiprocess")  # an extra, and without types
        self._forget_the_dead(multiprocess)
        every = multiprocess.MultiProcessCollector(None, self._folder)
        yield from (one for one in every.collect() if one.name not in _READ_NOW)
        yield from self._registry.restricted_registry(_READ_NOW).collect()

    def _forget_the_dead(self, multiprocess: Any) -> None:
        """Of a worker that was killed, nothing runs and nothing waits. What it has counted stays."""
        for path in Path(self._folder).glob("gauge_live*_*.db"):
            pid = path.stem.rpartition("_")[2]
            if pid.isdecimal() and not _is_alive(int(pid)):
                with suppress(FileNotFoundError):  # another worker did it meanwhile
                    multiprocess.mark_process_dead(int(pid), self._folder)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's, on a system where that is refused
        return True
    return True
