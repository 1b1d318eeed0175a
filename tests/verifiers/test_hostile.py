"""Whatever a verifier does, and whatever is done to its caller: a typed result in time, and nothing left running."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cascade.verifiers import run_verifier
from tests.verifiers.programs import Held, program

REQUEST = {"messages": [], "system": None, "task": None}
SHORT_S = 0.5
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
DAEMON = """
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(held, b'ready')
            time.sleep(600)
        os._exit(0)
"""
SUPERVISOR = """
shield = os.getppid()
supervisor = int(open(f'/proc/{shield}/stat').read().rpartition(')')[2].split()[1])
"""
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux finds what left the process group")


def outcome(text: str, held: Held, time_out_s: float = 60.0) -> tuple[str, str]:
    """What is said of a program whose processes hold the pipe, and are all dead by then."""
    one = run_verifier(program(Held.HOLD + text, held.path), "4", REQUEST, time_out_s=time_out_s)
    assert held.is_free()
    return one.result, one.detail


def test_one_that_hangs_is_killed_at_its_time_out(held: Held) -> None:
    """Also one that ignores what it is asked."""
    assert outcome(DEAF + "time.sleep(600)", held, SHORT_S) == ("unknown", "not finished within 0.5 s")


def test_fifty_processes_that_fork_and_ignore_signals_all_die_with_it(held: Held) -> None:
    """All in the program's own process group."""
    text = DEAF + "for number in range(50):\n    if os.fork() == 0: time.sleep(600)\ntime.sleep(600)"
    assert outcome(text, held, SHORT_S)[0] == "unknown"


@LINUX
def test_fifty_processes_in_sessions_of_their_own_die_too(held: Held) -> None:
    """No signal to a group reaches them."""
    text = (
        DEAF + "for number in range(50):\n    if os.fork() == 0:\n        os.setsid(); time.sleep(600)\ntime.sleep(600)"
    )
    assert outcome(text, held, SHORT_S)[0] == "unknown"


@LINUX
@pytest.mark.parametrize(("end", "result"), [("0", "passed"), ("1", "failed"), ("2", "unknown")])
def test_a_daemon_does_not_outlive_a_verifier_that_has_ended_well(held: Held, end: str, result: str) -> None:
    """Forked twice, with a session of its own: its parent is gone by the time it is looked for."""
    text = DEAF + DAEMON + f"daemon(); daemon(); daemon()\nraise SystemExit({end})"
    assert outcome(text, held)[0] == result


@LINUX
def test_one_that_keeps_forking_and_moving_on_is_caught(held: Held) -> None:
    """Each process makes a session, forks and exits, so that no list of processes is up to date. Four of them run at once."""
    text = DEAF + (
        "for number in range(2): os.fork()\n"
        "end = time.monotonic() + 60\n"
        "while time.monotonic() < end:\n"
        "    if os.fork(): os._exit(0)\n"
        "    os.setsid()\n"
    )
    assert outcome(text, held)[0] == "passed"  # the first process has gone on at once
    assert (
        outcome("if os.fork() == 0:\n    " + text.replace("\n", "\n    ") + "\ntime.sleep(600)", held, SHORT_S)[0]
        == "unknown"
    )


@pytest.mark.parametrize("stream", [1, 2])
def test_a_gigabyte_of_output_ends_it_and_is_kept_nowhere(held: Held, temporary: Path, stream: int) -> None:
    """Neither in memory nor on disk."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = f"piece = b'x' * 1_000_000\nfor number in range(1000): os.write({stream}, piece)"
    assert outcome(text, held) == ("unknown", "printed more than 1,000,000 bytes")
    assert not list(temporary.iterdir())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB on Linux


def test_as_much_output_as_is_allowed_does_not_change_the_result(held: Held) -> None:
    """On both streams together."""
    assert outcome("os.write(1, b'x' * 499_000); os.write(2, b'x' * 499_000)", held) == ("passed", "")


def test_one_that_closes_all_its_streams_is_still_waited_for(held: Held) -> None:
    """The end of its output is not its end."""
    text = "os.close(0); os.close(1); os.close(2); time.sleep(600)"
    assert outcome(text, held, SHORT_S) == ("unknown", "not finished within 0.5 s")


@LINUX
@pytest.mark.parametrize("kill", ["os.kill(os.getppid(), 9)", "os.killpg(os.getpgid(os.getppid()), 9)"])
def test_one_that_kills_its_parent_leaves_nothing_either(held: Held, kill: str) -> None:
    """Daemons with sessions of their own included: it is not its parent that finds them."""
    text = DEAF + DAEMON + f"daemon(); daemon()\n{kill}; time.sleep(600)"
    assert outcome(text, held) == ("unknown", "its supervisor was killed")


@LINUX
def test_one_that_kills_all_above_it_but_the_caller_dies_with_them(held: Held) -> None:
    """So do those in its process group; the limit of what can be promised of a program with the caller's rights."""
    text = (
        "if os.fork() == 0: time.sleep(600)\n"
        + SUPERVISOR
        + "os.kill(supervisor, 9); os.kill(shield, 9); time.sleep(600)"
    )
    one = run_verifier(program(Held.HOLD + text, held.path), "4", REQUEST, time_out_s=60.0)
    assert (one.result, one.detail) == ("unknown", "its supervisor was killed")
    held.await_end()  # they have been killed, which is not yet the end of them


def test_one_that_stops_its_parent_is_ended_at_its_time_out(held: Held) -> None:
    """It is not its parent that watches the clock."""
    text = "os.kill(os.getppid(), signal.SIGSTOP); time.sleep(600)"
    assert outcome(text, held, SHORT_S) == ("unknown", "not finished within 0.5 s")


@LINUX
def test_one_that_stops_its_supervisor_is_ended_all_the_same(held: Held) -> None:
    """The caller notices, and wakes it."""
    text = SUPERVISOR + "os.kill(supervisor, signal.SIGSTOP); time.sleep(600)"
    assert outcome(text, held, SHORT_S) == ("unknown", "not finished within 0.5 s")


@LINUX
def test_signals_to_the_supervisor_do_not_keep_it_from_its_work(held: Held) -> None:
    """SIGHUP, SIGINT, SIGPIPE and SIGTERM."""
    text = SUPERVISOR + (
        "for number in (1, 2, 13, 15): os.kill(shield, number); os.kill(supervisor, number)\ntime.sleep(600)"
    )
    assert outcome(text, held, SHORT_S) == ("unknown", "not finished within 0.5 s")


CALLER = """
import sys
from cascade.verifiers import Verifier, run_verifier
command, extract = sys.argv[2:], sys.argv[1] or None
run_verifier(Verifier('x', tuple(command), extract=extract), '```python\\npass\\n```', {}, time_out_s=600.0)
"""


@LINUX
@pytest.mark.parametrize("extract", ["", "code"])
def test_a_caller_that_is_killed_leaves_no_process_and_no_file(held: Held, tmp_path: Path, extract: str) -> None:
    """With SIGKILL, so that nothing of the caller's own runs. The end of the pipe is the death of the last process."""
    text = Held.HOLD + DEAF + DAEMON + "daemon(); time.sleep(600)"
    command = program(text, held.path).command
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, extract, *command], env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    held.wait_for(b"ready")
    assert len(list(tmp_path.glob("cascade-*/answer.py"))) == (1 if extract else 0)
    supervisors = children_of(caller.pid)
    assert len(supervisors) == 1
    watched = os.pidfd_open(supervisors[0])
    caller.kill()
    caller.wait()
    held.await_end()
    await_end(watched)
    assert not list(tmp_path.glob("cascade-*"))


@LINUX
def test_a_fork_of_the_caller_that_lives_on_does_not_keep_its_verifier_alive(held: Held) -> None:
    """It holds a copy of every pipe, so that the caller's death does not close them."""
    text = Held.HOLD + "os.write(held, b'ready'); time.sleep(600)"
    command = program(text, held.path).command
    forking = (
        "import os, sys, threading, time\n"
        "from cascade.verifiers import Verifier, run_verifier\n"
        "verifier = Verifier('x', tuple(sys.argv[1:]))\n"
        "running = threading.Thread(target=run_verifier, args=(verifier, '4', {}), kwargs={'time_out_s': 600.0})\n"
        "running.start()\n"
        "input()\n"
        "if os.fork() == 0:\n"
        "    os.write(1, b'forked\\n'); time.sleep(600); os._exit(0)\n"
        "running.join()\n"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", forking, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert caller.stdin is not None
    assert caller.stdout is not None
    try:
        held.wait_for(b"ready")
        caller.stdin.write(b"\n")
        caller.stdin.flush()
        assert caller.stdout.readline() == b"forked\n"
        caller.kill()
        caller.wait()
        held.await_end()
    finally:
        os.killpg(caller.pid, signal.SIGKILL)  # the fork
        caller.stdin.close()
        caller.stdout.close()


def test_an_interrupt_in_the_caller_ends_it_and_goes_on(held: Held) -> None:
    """Ctrl-C reaches the caller alone, which lets nothing run on."""
    script = (
        "import sys\nfrom cascade.verifiers import Verifier, run_verifier\n"
        "try: run_verifier(Verifier('x', tuple(sys.argv[1:])), '4', {}, time_out_s=600.0)\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    command = program(Held.HOLD + DEAF + "os.write(held, b'ready'); time.sleep(600)", held.path).command
    caller = subprocess.Popen([sys.executable, "-c", script, *command], stdout=subprocess.PIPE)
    held.wait_for(b"ready")
    caller.send_signal(signal.SIGINT)
    assert caller.communicate()[0] == b"interrupted\n"
    assert held.is_free()


def test_many_that_hang_are_all_ended(tmp_path: Path) -> None:
    """Side by side, each with a pipe of its own."""
    folders = [tmp_path / str(number) for number in range(8)]
    for folder in folders:
        folder.mkdir()
    pipes = [Held(folder) for folder in folders]
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda one: outcome(DEAF + "time.sleep(600)", one, SHORT_S), pipes))
    assert {result for result, _ in said} == {"unknown"}
    for one in pipes:
        one.close()


def test_cancelling_a_fork_bomb_ends_it(held: Held) -> None:
    """Twenty daemons are gone when the result is there."""
    cancel = threading.Event()
    text = DEAF + DAEMON + "for number in range(20): daemon()\nos.write(held, b'all')\ntime.sleep(600)"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            run_verifier, program(Held.HOLD + text, held.path), "4", REQUEST, time_out_s=300.0, cancel=cancel
        )
        held.wait_for(b"all")
        cancel.set()
        assert running.result().detail == "cancelled"
    assert held.is_free()


def test_a_system_out_of_descriptors_is_said_and_not_raised() -> None:
    """As is any limit that a start runs into."""
    script = (
        "import resource\nfrom cascade.verifiers import Verifier, run_verifier\n"
        "import os\nhard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/dev/fd')), hard))\n"
        "print(run_verifier(Verifier('x', ('true',)), '4', {}, time_out_s=60.0).detail)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "could not be started (EMFILE)\n"


def children_of(pid: int) -> list[int]:
    """The processes that it started."""
    return [
        int(child)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]


def await_end(watched: int) -> None:
    """Wait for the end of the process behind a pidfd, and close it."""
    waiting = select.poll()
    waiting.register(watched, select.POLLIN)
    assert waiting.poll(60_000)
    os.close(watched)
