"""Processes that fork, end or are killed: what each of them was told is in the ledger once, or was never waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from .scenes import read

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import os, sys
from cascade.core.policy.operations import Ledger
from cascade.ledger.opening import open_ledger
from cascade.ledger.hook import LedgerHook
from tests.ledger.scenes import ask
settings = Ledger(durability=sys.argv[2])
writer = open_ledger(sys.argv[1], settings)
hook = LedgerHook(writer, settings)
"""


def start(code: str, path: Path, durability: str = "batched") -> subprocess.Popen[str]:
    """A Python of its own that runs this code."""
    command = [sys.executable, "-c", HEAD + code, str(path), durability]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(code: str, path: Path, durability: str = "batched") -> str:
    """Run it to its end; nothing on stderr. What it printed."""
    with start(code, path, durability) as process:
        printed, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    return printed


def asked(path: Path) -> Counter[str]:
    """How often each request is in the ledger with its outcome; the ledger is sound."""
    return Counter(entry.request for entry in read(path)[0] if entry.kind == "outcome")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is going to be."""
    return tmp_path / "ledger.db"


def test_what_waits_at_exit_is_written(path: Path) -> None:
    """However the process ends by itself: at the end of its program, by an exception, or by sys.exit in a worker's wake."""
    code = """
from concurrent.futures import ThreadPoolExecutor
import atexit
atexit.register(lambda: ask(hook, "late"))
pool = ThreadPoolExecutor(2)
for number in range(20):
    pool.submit(ask, hook, f"r{number}")
sys.exit(0)
"""
    run(code, path)
    assert asked(path) == Counter({"late": 1, **{f"r{number}": 1 for number in range(20)}})


def test_a_ledger_that_is_down_does_not_keep_a_process_alive(tmp_path: Path) -> None:
    """It ends by itself, and tells what is lost."""
    tmp_path.joinpath("ledger.db").mkdir()
    with start('ask(hook, "a")\nprint("done", flush=True)', tmp_path / "ledger.db") as process:
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "ledger_dropped" in printed + errors
    assert "ledger_down" in printed + errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_writes_as_a_writer_of_its_own_and_nothing_twice(path: Path) -> None:
    """Rows that wait at the fork are the parent's; both go on, also in children of `multiprocessing` that end without atexit."""
    code = """
import warnings
warnings.simplefilter("ignore")
import multiprocessing
def work(name):
    ask(hook, name)
ask(hook, "written before")
writer.flush()
ask(hook, "waits at the fork")
for number in range(3):
    child = os.fork()
    if not child:
        ask(hook, f"child {number}")
        sys.exit(0)
    ask(hook, f"parent {number}")
    os.waitpid(child, 0)
workers = [multiprocessing.get_context("fork").Process(target=work, args=(f"worker {number}",)) for number in range(2)]
for worker in workers: worker.start()
for worker in workers: worker.join()
print(writer.name)
"""
    names = run(code, path)
    wanted = ["written before", "waits at the fork", *(f"{who} {n}" for n in range(3) for who in ("parent", "child"))]
    assert asked(path) == Counter([*wanted, "worker 0", "worker 1"])
    entries = read(path)[0]
    writers = {entry.writer for entry in entries}
    assert len(writers) == 6
    (parent,) = {entry.writer for entry in entries if entry.request == "written before"}
    assert parent == names.strip()
    assert {entry.request for entry in entries if entry.writer == parent} == {
        one for one in wanted if not one.startswith("child")
    }


def test_a_kill_loses_nothing_that_was_waited_for(path: Path) -> None:
    """`commit`: each answer that was given is there once; whatever else is there has its call on record."""
    code = """
import threading
from cascade.hooks import wait
from itertools import count
def work(name):
    for number in count():
        wait(ask(hook, f"{name}-{number}"))
        sys.stdout.write(f"{name}-{number}\\n")
        sys.stdout.flush()
for name in "abcd":
    threading.Thread(target=work, args=(name,)).start()
"""
    with start(code, path, "commit") as process:
        assert process.stdout is not None
        answered = [process.stdout.readline().strip() for _ in range(25)]
        process.send_signal(signal.SIGKILL)
        answered += [line.strip() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        process.wait(60)
    assert len(answered) >= 25
    there = asked(path)
    assert {name: there[name] for name in answered} == dict.fromkeys(answered, 1)
    kinds = Counter(entry.kind for entry in read(path)[0])
    assert 0 <= kinds["open"] - kinds["step"] <= 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no such limits on this system")
def test_a_disk_without_room_is_no_end_of_it(path: Path) -> None:
    """The kernel's own bound on what a process may write to a file; once it is lifted all that waited is written."""
    code = """
import logging, resource, signal
logging.disable()  # that it cannot write is not what is looked at
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
for number in range(600):
    ask(hook, f"r{number}")
print(writer.flush(30), writer.waiting > 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(writer.flush(30), writer.waiting, writer.dropped)
"""
    assert run(code, path).splitlines() == ["False True", "True 0 0"]
    assert len(asked(path)) == 600
