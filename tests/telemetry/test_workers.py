"""What a scrape of one worker shows of all: what was counted is added up, what is now is what the scraped worker reads, the dead are forgotten."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_WORKERS = """
import os, signal
from prometheus_client import CollectorRegistry, generate_latest
from cascade.telemetry import Prometheus
from cascade.telemetry.workers import AllWorkers

registry = CollectorRegistry()
metrics = Prometheus(registry)
told, tell = os.pipe()
other = os.fork()
if not other:
    metrics.set("storm", {("p", "t", "r"): 1.0})
    metrics.set("running", {(): 3.0})
    metrics.add("ledger_dropped", 2)
    os.write(tell, b"x")
    signal.pause()
os.read(told, 1)
metrics.set("storm", {})
metrics.set("ledger_up", {(): 1.0})
metrics.set("running", {(): 1.0})
metrics.add("ledger_dropped", 1)
for ends in (False, True):
    if ends:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
    scraped = CollectorRegistry()
    scraped.register(AllWorkers(os.environ["PROMETHEUS_MULTIPROC_DIR"], registry))
    for line in generate_latest(scraped).decode().splitlines():
        if line.startswith(("cascade_storm", "cascade_req", "cascade_ledger")):
            print(ends, line)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_storm_that_another_worker_saw_and_requests_of_one_that_was_killed_do_not_stay(tmp_path: Path) -> None:
    """Both would wake somebody for ever. What the killed one has counted stays."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _WORKERS], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    counted = ["cascade_ledger_dropped_entries_total 3.0"]
    now = ["cascade_ledger_up 1.0"]
    alive, dead = ["cascade_requests_running 4.0"], ["cascade_requests_running 1.0"]
    expected = [f"False {line}" for line in (*counted, *alive, *now)] + [f"True {line}" for line in (*counted, *dead, *now)]  # fmt: skip
    assert sorted(done.stdout.splitlines()) == sorted(expected)
