"""The process between `run_verifier` and the program it runs: bounds the program, and kills all that comes of it.

    caller ── stdin: any byte, or its end, means stop ──> supervisor ── fork ──> shield ── fork, exec ──> program
           <── stdout: `started PID`, then how it ended ─            <────────── output: counted, dropped ───────

It is a module by itself that imports nothing of `cascade`, so that it starts in milliseconds, with `python -I -S`. On Linux it is a subreaper (prctl(2)): a descendant whose parent ends becomes its
child, whatever session it is in, so that it can be found and killed. Elsewhere only the program's process group is.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time
from contextlib import suppress

__all__ = ["start"]

_LINUX = sys.platform == "linux"
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_LOOK_S = 1.0  # a caller that died while a fork of it holds our stdin open is noticed within this time
_KILL_FOR_S = 30.0  # what has not died of SIGKILL by then is in the kernel's hands, or another user's
_CHUNK = 1 << 16


def start() -> None:
    """Run what the arguments say, which are `PARENT TIME_OUT_S MOST_BYTES STDIN_FD CODE_FD CODE_PATH PROGRAM ARGUMENTS…`.

    CODE_FD holds what is written to CODE_PATH, in a folder that is made and removed here; -1 for none. Ends this process.
    """
    try:
        _supervise()
    except OSError as problem:
        _say(f"unstarted {problem.errno or errno.EIO}")
    os._exit(0)  # nothing is left to finalize, and that takes its time


def _supervise() -> None:
    parent, time_out_s, most, stdin, code, path, *command = sys.argv[1:]
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # only the caller ends it
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for descriptor in (int(stdin), int(code)):
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
    _prctl(_SET_CHILD_SUBREAPER, 1)
    try:
        said = _copy(int(code), path) if path else ""
        said = said or _Run(command, int(stdin)).run(int(parent), float(time_out_s), int(most))
    finally:
        if path:
            _remove(os.path.dirname(path))
    _say(said)


class _Run:
    """One run of a program. Its parent is not this process but a shield, which waits for it and tells how it ended.

    The program has the rights to kill or stop its parent, and code under test may: then this process is still there.
    """

    def __init__(self, command: list[str], stdin: int) -> None:
        self._woken, wake = _pipe()
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, _notice)  # not ignored: the kernel would discard the exit status
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._output, output = _pipe()
        self._relayed, relay = _pipe()
        failed, failure = os.pipe()
        self._shield = os.fork()
        if self._shield == 0:
            _be_shield(command, (stdin, output, output), relay, failure)
        for end in (output, relay, failure):
            os.close(end)
        self._failure = os.read(failed, 16).decode()  # ends when the shield has closed it, and exec in the program
        self._heard, self._shielded = "", True

    def run(self, parent: int, time_out_s: float, most: int) -> str:
        """Wait for its end, or end it. Returns how it ended."""
        said = f"unstarted {self._failure}" if self._failure else self._watch(parent, time_out_s, most)
        self._kill_all()
        _take_precedence(taken=False)
        return said

    def _relay(self) -> list[str]:
        """What the shield has told so far: the program's id, its exit code."""
        with suppress(BlockingIOError):
            self._heard += os.read(self._relayed, _CHUNK).decode()
        return self._heard.splitlines()

    def _watch(self, parent: int, time_out_s: float, most: int) -> str:
        until, printed = time.monotonic() + time_out_s, 0
        poll = select.poll()
        for descriptor in (0, self._output, self._woken):
            poll.register(descriptor, select.POLLIN)
        while self._shielded:
            left_s = until - time.monotonic()
            if left_s <= 0:
                return "timeout"
            ready = {descriptor for descriptor, _ in poll.poll(1000 * min(left_s, _LOOK_S))}
            if 0 in ready or os.getppid() != parent:
                return "cancelled"
            if self._output in ready:
                read = len(os.read(self._output, _CHUNK))
                printed += read
                if printed > most:
                    return "flood"
                if not read:
                    poll.unregister(self._output)
            if self._woken in ready:
                os.read(self._woken, _CHUNK)
                self._reap()
        _, *ended = self._relay() or [""]
        code = int(ended[0]) if ended else None
        return "unshielded" if code is None else f"exit {code}" if code >= 0 else f"signal {-code}"

    def _reap(self) -> bool:
        """Collect those that ended. Whether there is a child left."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._shield:
                self._shielded = False

    def _kill_all(self) -> None:
        """Kill the program and its descendants until there is no child left.

        A group is killed as a whole, which no fork escapes. Those that make a new session for each child are raced: lists
        of children are fast to read. All of /proc is read now and then, for the groups and for children of threads.
        """
        groups, until = {int(pid) for pid in self._relay()[:1]}, time.monotonic() + _KILL_FOR_S
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        for attempt in range(1_000_000):
            if self._shielded or attempt == 1:  # not where nothing is left
                _take_precedence(taken=True)
            pids = [self._shield] if self._shielded else list[int]()
            if _LINUX:
                pids += _family()
            if _LINUX and attempt % 16 == 1:
                descendants = _descendants()
                pids += descendants
                groups.update(descendants.values())
            for group in groups - {os.getpgid(0)}:
                with suppress(OSError):
                    os.killpg(group, signal.SIGKILL)
            for pid in reversed(pids):  # the youngest first: the least likely to have moved on
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            groups.clear()
            if not self._reap() or time.monotonic() > until:
                return
            poll.poll(min(10, attempt))  # until one of them has died
            with suppress(BlockingIOError):
                os.read(self._woken, _CHUNK)


def _take_precedence(*, taken: bool) -> None:
    """Run before all that forks faster than it is killed, or no longer. Without the right to it, that race is fair."""
    if _LINUX:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO if taken else os.SCHED_OTHER, os.sched_param(int(taken)))


def _pipe() -> tuple[int, int]:
    """A pipe that reading from does not block."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    return reading, writing


def _be_shield(command: list[str], streams: tuple[int, int, int], relay: int, failure: int) -> None:
    """In the child: start the program, tell its id, wait for it, tell its exit code. Does not return."""
    try:
        signal.set_wakeup_fd(-1)
        parent = os.getppid()
        os.setpgid(0, 0)  # a group of its own: the program may kill its parent's
        _die_with(parent)
        shield, program = os.getpid(), os.fork()
        if program == 0:
            _be_program(command, streams, shield)
        _say(f"started {program}")
        os.write(relay, f"{program}\n".encode())
        os.close(failure)
        for descriptor in (0, 1, *streams):
            with suppress(OSError):
                os.close(descriptor)
        _, status = os.waitpid(program, 0)
        os.write(relay, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    except OSError as problem:
        os.write(failure, str(problem.errno or 0).encode())
    finally:
        os._exit(127)  # never 0: in the program's process that would pass the answer


def _be_program(command: list[str], streams: tuple[int, int, int], shield: int) -> None:
    """In the shield's child: turn into the program. Raises OSError if there is none; does not return."""
    os.setsid()
    _die_with(shield)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    for changed in ("SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE", "SIGXFSZ", "SIGCHLD"):  # two are Python's doing
        signal.signal(getattr(signal, changed), signal.SIG_DFL)
    os.execvp(command[0], command)


def _die_with(parent: int) -> None:
    """Be killed when the parent dies, where the system can."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(127)


def _notice(_number: int, _frame: object) -> None:
    """Does nothing; that there is a handler makes the signal wake the poll."""


def _prctl(option: int, value: int) -> None:
    """prctl(2), where there is one. It is a safeguard, so that failing is no error."""
    if not _LINUX:
        return
    try:
        import ctypes  # noqa: PLC0415 - missing from some builds of Python

        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3)
    except (ImportError, OSError, AttributeError):
        return


def _family() -> list[int]:
    """This process's descendants, parents before children; without those that a further thread of one has started."""
    found, number = [os.getpid()], 0
    while number < len(found):
        pid = found[number]
        number += 1
        with suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            found += [int(child) for child in file.read().split()]
    return found[1:]


def _descendants() -> dict[int, int]:
    """The process group of each descendant."""
    parents, found = _parents(), dict[int, int]()
    wanted = {os.getpid()}
    while wanted:
        below = {pid: group for pid, (parent, group) in parents.items() if parent in wanted}
        found |= below
        wanted = set(below)
    return found


def _parents() -> dict[int, tuple[int, int]]:
    """Of each process, its parent and its group."""
    found: dict[int, tuple[int, int]] = {}
    try:
        pids = os.listdir("/proc")
    except OSError:
        return found
    for pid in pids:
        if pid.isdigit():
            with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
                _, parent, group, *_ = file.read().rpartition(b")")[2].split()
                found[int(pid)] = int(parent), int(group)
    return found


def _copy(source: int, path: str) -> str:
    """Copy a file to `path`, in a new folder that only this user may enter. Returns what to say if it cannot be."""
    try:
        os.mkdir(os.path.dirname(path), 0o700)
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        while piece := os.read(source, _CHUNK):
            while piece:
                piece = piece[os.write(target, piece) :]
        os.close(target)
    except OSError as problem:
        return f"unwritten {problem.errno or errno.EIO}"
    return ""


def _remove(folder: str) -> None:
    """Remove a folder with what the program left in it, even where it took rights away, or put a link or a file there."""
    import shutil  # noqa: PLC0415 - slow to import, and seldom needed

    if os.path.islink(folder) or os.path.isfile(folder):
        with suppress(OSError):
            os.unlink(folder)
        return
    with suppress(OSError):
        os.chmod(folder, 0o700)
    for root, names, _ in os.walk(folder):
        for name in names:
            inner = os.path.join(root, name)
            if not os.path.islink(inner):
                with suppress(OSError):
                    os.chmod(inner, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _say(line: str) -> None:
    with suppress(OSError):  # the caller is gone
        os.write(1, f"{line}\n".encode())
