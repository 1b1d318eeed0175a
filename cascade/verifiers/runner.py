"""Run a verifier on an answer: in a process of its own, under a supervisor that leaves nothing of it running.

A verifier runs as the caller's user and in the caller's working directory. It is bounded and cleaned up after, but it is no
sandbox: it can read what the user can.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal, Self, cast

from cascade.core.messages import Request
from cascade.core.verification import Verification, Verifier
from cascade.verifiers.code_blocks import first_code_block

__all__ = ["MOST_BYTES", "VISIBLE", "request_values", "run_verifier"]

VISIBLE = frozenset({
    "PATH", "HOME", "LANG", "LANGUAGE", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH",
    "PYTHONHOME", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONDONTWRITEBYTECODE",
})  # fmt: skip
"""The environment variables that every verifier sees, where they are set; beside them LC_… and those its check names."""

MOST_BYTES = 1_000_000
"""What a verifier may print, on stdout and stderr together. It is dropped as it comes."""

_FOLDER = str(Path(__file__).parent)
_SUPERVISOR = "import sys; sys.path.append(sys.argv.pop(1)); import supervisor; supervisor.start()"
"""Imported and not run as a script, which Python would compile anew each time."""

_LOOK_S = 0.02  # how often `cancel` is looked at: an Event cannot be waited for together with a pipe
_GRACE_S = 2.0  # for the supervisor's start and its clean-up, beyond the program's time
_PATIENCE_S = 5.0  # for one that does not keep to that; then the caller goes on, and it goes on killing by itself
_UNSTARTED = {
    errno.ENOENT: "program not found",
    errno.EACCES: "program not executable",
    errno.ENOEXEC: "program not executable",
}
_ENDED = {
    "cancelled": "cancelled",
    "flood": f"printed more than {MOST_BYTES:,} bytes",
    "left": "could not be killed",
}
_Said = tuple[Literal["passed", "failed", "unknown"], str]


def request_values(request: Request, task: str) -> dict[str, Any]:
    """What a verifier is told of a request: `messages` and `system` in the Messages API's shapes, and the task it was given."""
    return {"messages": request.messages, "system": request.system, "task": task}


def run_verifier(
    command: Verifier,
    answer: str,
    request: Mapping[str, Any],
    *,
    time_out_s: float,
    cancel: threading.Event | None = None,
) -> Verification:
    """What the program says of the answer: exit status 0 passes it, 1 fails it, all else is `unknown`.

    On its stdin it reads one JSON object: `{"answer": …, "request": …}`, with `"file"` where `extract` is `code`: the path
    of a file that holds the answer's first fenced code block, which is also its last argument. An answer without one fails.
    The file is in a folder of its own that is removed afterwards.

    `unknown`: another status, a signal, no end within `time_out_s`, `cancel` set, more than `MOST_BYTES` printed, a program
    that cannot be started. Whatever happens, also if the caller is killed, the program and its descendants are killed; on
    Linux those too that left its process group. May be called from several threads. Blocks for `time_out_s` and the few
    seconds that killing may take at most. Raises nothing. Blocks of the SDK's classes are written as their JSON.
    """
    begun = time.monotonic()
    result, detail = _verify(command, answer, request, time_out_s, cancel)
    return Verification(result, detail, time.monotonic() - begun)


def _verify(
    command: Verifier, answer: str, request: Mapping[str, Any], time_out_s: float, cancel: threading.Event | None
) -> _Said:
    payload: dict[str, Any] = {"answer": answer, "request": dict(request)}
    words, code = list(command.command), None
    if not sys.executable or os.name != "posix":
        return "unknown", "not available on this system"
    if command.extract == "code" and (code := first_code_block(answer)) is None:
        return "failed", "no code block"
    if cancel is not None and cancel.is_set():
        return "unknown", "cancelled"
    visible = VISIBLE.union(command.env)
    environment = {name: value for name, value in os.environ.items() if name in visible or name.startswith("LC_")}
    source, path = -1, ""
    with ExitStack() as stack:
        try:
            if code is not None:
                path = str(Path(tempfile.gettempdir(), f"cascade-{secrets.token_hex(16)}", code.file_name))
                source = _file(stack, code.code.encode(errors="replace"))
                payload["file"] = path
                words.append(path)
            stdin = _file(stack, json.dumps(payload, default=_plain).encode())
            limits = [str(os.getpid()), str(time_out_s), str(MOST_BYTES)]
            process = subprocess.Popen(  # noqa: S603 - the policy's program, without a shell
                [sys.executable, "-I", "-S", "-c", _SUPERVISOR, _FOLDER, *limits, str(stdin), str(source), path, *words],
                env=environment, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                pass_fds=[one for one in (stdin, source) if one >= 0], start_new_session=True,
            )  # fmt: skip
        except OSError as problem:
            return "unknown", _unstarted(problem.errno or 0)
        except (TypeError, ValueError, RecursionError):
            return "unknown", "the request cannot be written as JSON"
        supervised = stack.enter_context(_Supervised(process, path))
        return _words(supervised.wait(time_out_s, cancel), time_out_s)


def _plain(value: object) -> object:
    """A value of the request that `json` does not know, in terms that it does."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    dump = getattr(value, "model_dump", None)  # a block of one of the SDK's classes
    if callable(dump):
        return dump(mode="json")
    raise TypeError


def _file(stack: ExitStack, content: bytes) -> int:
    """A file without a name that holds the content: in memory where the system can, else in the temporary folder."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("cascade")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    stack.callback(os.close, descriptor)
    while descriptor <= 2:  # the caller has closed a stream; the supervisor has its own there
        descriptor = os.dup(descriptor)
        stack.callback(os.close, descriptor)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class _Supervised:
    """A supervisor that runs. Leaving the context ends it, and all that it started."""

    def __init__(self, process: subprocess.Popen[bytes], path: str) -> None:
        self._process, self._path = process, path
        self._heard = b""
        self._ended = self._waited = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._ended and not self._waited:  # interrupted
            self._end()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        if not self._ended:  # it still tries to kill something; its end is awaited elsewhere
            threading.Thread(target=self._process.wait, name="cascade-verifier", daemon=True).start()
            return
        self._process.wait()
        if not self._said():  # it was killed, so its work is left to us
            self._clean_up()

    def wait(self, time_out_s: float, cancel: threading.Event | None) -> str:
        """How the program ended, in the supervisor's words; empty if that was killed before it could say."""
        self._listen(time.monotonic() + time_out_s + _GRACE_S, cancel)
        if not self._ended:
            self._end()
        self._waited = True
        said = self._said() if self._ended else "left"
        is_late = said == "cancelled" and (cancel is None or not cancel.is_set())  # the supervisor was slow, or stopped
        return "timeout" if is_late else said

    def _said(self) -> str:
        lines = self._heard.decode().splitlines()
        return "" if not lines or lines[-1].startswith("started") else lines[-1]

    def _end(self) -> None:
        """Make the supervisor end the program, and wait for that."""
        self._stop()
        with suppress(OSError):
            self._process.send_signal(signal.SIGCONT)  # the program may have stopped it
        self._listen(time.monotonic() + _PATIENCE_S, None)

    def _listen(self, until: float, cancel: threading.Event | None) -> None:
        """Read until the supervisor ends, or a moment."""
        assert self._process.stdout is not None
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        while not self._ended:
            left_s = until - time.monotonic()
            if left_s <= 0:
                return
            if cancel is not None and cancel.is_set():
                self._stop()
                cancel, until = None, time.monotonic() + _PATIENCE_S
            if poll.poll(1000 * min(left_s, left_s if cancel is None else _LOOK_S)):
                read = self._process.stdout.read(4096)
                self._heard += read or b""
                self._ended = not read

    def _stop(self) -> None:
        """Make the supervisor end the program."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended already
            self._process.stdin.write(b".")  # closing is not enough where a fork of this process holds the pipe as well

    def _clean_up(self) -> None:
        started, _, pid = self._heard.decode().partition(" ")
        if started == "started" and pid.endswith("\n"):
            with suppress(OSError):
                os.killpg(int(pid), signal.SIGKILL)
        if self._path:
            shutil.rmtree(Path(self._path).parent, ignore_errors=True)


def _words(line: str, time_out_s: float) -> _Said:
    """A supervisor's last line as a result."""
    kind, _, number = line.partition(" ")
    match kind, number:
        case "exit", "0":
            return "passed", ""
        case "exit", "1":
            return "failed", "exit status 1"
        case "exit", _:
            return "unknown", f"exit status {number}"
        case "signal", _:
            return "unknown", f"killed by {_signal_name(int(number))}"
        case "timeout", _:
            return "unknown", f"not finished within {time_out_s:g} s"
        case "unstarted", _:
            return "unknown", _unstarted(int(number))
        case "unwritten", _:
            return "unknown", f"no file for the answer's code ({_code(int(number))})"
        case _:
            return "unknown", _ENDED.get(kind, "its supervisor was killed")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _unstarted(number: int) -> str:
    return _UNSTARTED.get(number) or f"could not be started ({_code(number)})"


def _code(number: int) -> str:
    return errno.errorcode.get(number, f"error {number}")
