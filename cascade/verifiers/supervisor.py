"""The process between `run_verifier` and the program it runs: bounds the program, and kills all that comes of it.

    caller ── stdin: any byte, or its end, means stop ────────> supervisor ── fork, exec ──────> program
           <── stdout: `started PID`, then how it ended ───────            <── output: counted, dropped ──

It is a script of its own that imports nothing of `cascade`, so that it starts in milliseconds: `python -I -S supervisor.py`
with the arguments that `main` lists. On Linux it is a subreaper (prctl(2)): a descendant whose parent ends becomes its
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

__all__ = ["main"]

_LINUX = sys.platform == "linux"
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_LOOK_S = 1.0  # a caller that died while a fork of it holds our stdin open is noticed within this time
_KILL_FOR_S = 30.0  # what has not died of SIGKILL by then is in the kernel's hands, or another user's
_CHUNK = 1 << 16


def main() -> None:
    """Run `PARENT TIME_OUT_S MOST_BYTES STDIN_FD CODE_FD CODE_PATH PROGRAM ARGUMENTS…`.

    CODE_FD holds what is written to CODE_PATH, in a folder that is made and removed here; -1 for none.
    """
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
    """One run of a program."""

    def __init__(self, command: list[str], stdin: int) -> None:
        self._status: int | None = None
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, _notice)  # not ignored: the kernel would discard the exit status
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._output, output = os.pipe()
        os.set_blocking(self._output, False)
        failed, failure = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _become(command, stdin, output, failure)
        os.close(output)
        os.close(failure)
        _say(f"started {self._pid}")
        self._failure = os.read(failed, 16).decode()  # ends when exec closes it

    def run(self, parent: int, time_out_s: float, most: int) -> str:
        """Wait for its end, or end it. Returns how it ended."""
        said = f"unstarted {self._failure}" if self._failure else self._watch(parent, time_out_s, most)
        self._kill_all()
        return said

    def _watch(self, parent: int, time_out_s: float, most: int) -> str:
        until, printed = time.monotonic() + time_out_s, 0
        poll = select.poll()
        for descriptor in (0, self._output, self._woken):
            poll.register(descriptor, select.POLLIN)
        while self._status is None:
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
        code = os.waitstatus_to_exitcode(self._status)
        return f"exit {code}" if code >= 0 else f"signal {-code}"

    def _reap(self) -> bool:
        """Collect those that ended. Whether there is a child left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._pid:
                self._status = status

    def _kill_all(self) -> None:
        """Kill the program and its descendants until there is no child left.

        A group is killed as a whole, which no fork escapes. Those that make a new session for each child are raced: the
        list of our own children is short and fast to read, all of /proc is read now and then.
        """
        groups, until = {self._pid}, time.monotonic() + _KILL_FOR_S
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        for attempt in range(1_000_000):
            pids = _children() if _LINUX else []
            if _LINUX and (attempt % 16 == 1):
                descendants = _descendants()
                pids = [*pids, *descendants]
                groups |= set(descendants.values())
            for group in groups:
                with suppress(OSError):
                    os.killpg(group, signal.SIGKILL)
            for pid in pids:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            groups = {self._pid} if self._status is None else set[int]()
            if not self._reap() or time.monotonic() > until:
                return
            poll.poll(min(10, attempt))  # until one of them has died
            with suppress(BlockingIOError):
                os.read(self._woken, _CHUNK)


def _become(command: list[str], stdin: int, output: int, failure: int) -> None:
    """In the child: turn into the program. Does not return."""
    try:
        signal.set_wakeup_fd(-1)
        parent = os.getppid()
        os.setsid()
        _prctl(_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(127)
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for changed in ("SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE", "SIGXFSZ", "SIGCHLD"):  # two are Python's doing
            signal.signal(getattr(signal, changed), signal.SIG_DFL)
        os.execvp(command[0], command)
    except OSError as problem:
        os.write(failure, str(problem.errno or 0).encode())
    finally:
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


def _children() -> list[int]:
    """The ids of this process's own children."""
    try:
        with open("/proc/thread-self/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without the file
        return [pid for pid, parent in _parents().items() if parent[0] == os.getpid()]


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


if __name__ == "__main__":
    try:
        main()
    except OSError as problem:
        _say(f"unstarted {problem.errno or errno.EIO}")
    os._exit(0)  # nothing is left to finalize, and that takes its time
