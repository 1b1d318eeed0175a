"""The audit by several workers: each sample graded once, whatever becomes of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.workers_killed import run_audit
from cascade.audit.owners import dead_owners, new_owner
from cascade.audit.run import AuditRun, AuditSettings, Stop, StopKind
from cascade.audit.workers import SpreadAudit, check_spread
from cascade.cluster import Done, Task
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy

from .auditing import policy


def test_killed_workers_lose_no_sample_and_grade_none_twice(tmp_path: Path) -> None:
    """A Dask worker is killed with -9, and another takes over: the quick form of the benchmark."""
    pytest.importorskip("distributed")
    result = run_audit(str(tmp_path / "ledger.db"), tmp_path, samples=12, kills=1, seed=1, workers=1)
    assert result.faults == ()
    assert result.killed == 1


@dataclass
class Ended:
    """A cluster whose tasks end as told."""

    runs: list[AuditRun]
    stopped: bool = False

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """One of the ends for each task."""
        for task, ended in zip(tasks, self.runs, strict=True):
            yield Done(task.name, ended)

    def stop(self) -> None:
        """Remember it."""
        self.stopped = True

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize(
    ("kinds", "by"),
    [(("daily_usd", None), None), (("daily_usd", "daily_usd"), "daily_usd"), (("outage", None), "outage")],
)
def test_one_worker_without_room_stops_no_other(
    tmp_path: Path, kinds: tuple[StopKind | None, ...], by: str | None
) -> None:
    """What the others have reserved of the day's money comes free: only the last one tells that it is spent."""
    runs = [
        AuditRun(1, {}, 0, {}, 0, 5, {}, {}, 0.0, None if kind is None else Stop(kind, "why")) for kind in kinds
    ]  # fmt: skip
    cluster = Ended(runs)
    found = SpreadAudit(AuditSettings(policy(), str(tmp_path / "ledger.db")), 2, cluster).run()
    assert (found.graded, found.spent) == (2, 10)
    assert (None if found.stop is None else found.stop.kind) == by
    assert cluster.stopped is (by is not None)


def test_a_lease_is_free_only_if_its_process_has_surely_ended() -> None:
    """Not one of a process that runs, of another machine, or of a worker that does not tell."""
    ours = new_owner()
    if ":" not in ours:
        pytest.skip("this system does not tell its processes apart")
    assert new_owner() != ours
    place, process, _ = ours.split(":")
    assert process == str(os.getpid())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    unburied = f"{place}:{ended.pid}:x"
    others = (ours, f"elsewhere:{ended.pid}:x", "0123456789abcdef", f"{place}:1:x", f"{place}:not-a-number:x", "")
    assert dead_owners((*others, unburied)) == (unburied,)
    ended.wait()
    assert dead_owners((*others, unburied)) == (unburied,)


@pytest.mark.parametrize(
    ("options", "workers", "scheduler", "why"),
    [
        ({"cap": 1}, 2, None, "--max-usd: several workers share no count of one run; set audit.daily_usd"),
        ({"watches": True}, 2, None, "--watch: it is one process"),
        ({"batch": True}, 1, "tcp://127.0.0.1:9", "--batch: it is one process"),
        ({}, 1, "tcp://127.0.0.1:9", "--scheduler: the ledger is a file of this machine"),
    ],
)
def test_what_workers_cannot_do_is_refused(
    tmp_path: Path, options: dict[str, object], workers: int, scheduler: str | None, why: str
) -> None:
    """In one line, with what to do; one process may do all of it."""
    settings = AuditSettings(policy(), str(tmp_path / "ledger.db"), **options)  # type: ignore[arg-type]
    assert isinstance(settings.policy, Policy)
    with pytest.raises(ConfigurationError, match=f"^{why}"):
        check_spread(settings, workers, scheduler)
    check_spread(settings, 1, None)
