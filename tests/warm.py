"""A `python` that has its libraries loaded: for tests that start many processes, most of whose time would be imports.

    with WarmPython() as warm:
        subprocess.run([warm.python, "-m", "cascade.cli", "ask", "…"], env=…, cwd=…)

`warm.python` is a small program. It hands its arguments, environment, folder and streams to a server that has imported
other people's packages and cascade's own below its command line, and that forks. The child is a process like any other:
it imports the command line, which looks at the terminal and the environment when it is imported, runs it at top level
and ends as an interpreter does (threads, atexit, buffers); its exit code is the program's.

SIGINT and SIGTERM are handed on to the child; it is killed if the program is. What this cannot tell: how long imports
take, and what a missing library does. Tests of those start `sys.executable`. So does the program for options and
variables of Python that it does not know; and on a system without `fork` and `pidfd_open` it is that Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

__all__ = ["WarmProcess", "WarmPython"]

# What the commands import, and what of it is loaded only when it is first needed.
_LIBRARIES = (
    "anthropic", "anthropic.resources.messages", "asyncio", "concurrent.futures.thread", "csv", "genai_prices.data_snapshot",
    "gzip", "h11", "http.client", "http.server", "httpx2", "jinja2", "json_repair", "jsonschema_rs", "msgspec", "numpy.random",
    "psycopg", "pydantic", "re2", "rich.table", "scipy.special", "sqlite3", "structlog", "tenacity", "typer", "yaml", "zstandard",
)  # fmt: skip

_ROOT = Path(__file__).resolve().parents[1]
_NOT_LOADED = ("cascade.cli", "cascade.gateway", "cascade.openai", "cascade.emulator.pytest_plugin", "cascade.__main__")


def _modules() -> list[str]:
    """Cascade's modules that depend on nothing of the process that runs them."""
    files = sorted((_ROOT / "cascade").rglob("*.py"))
    names = [".".join(file.relative_to(_ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return [name for name in names if not name.startswith(_NOT_LOADED)]


_SERVER = r"""
import gc, importlib, marshal, os, runpy, select, signal, socket, sys, types, warnings

ADDRESS, *LIBRARIES = sys.argv[1:]
KEPT = sys.modules["__main__"]

def load():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in LIBRARIES:
            try:
                importlib.import_module(name)
            except ImportError:  # an extra that is not installed
                pass
    gc.collect()
    gc.freeze()

def serve(listening):
    # An order, in the process that is to run it; None once the tests have closed their end.
    running = {}  # the end of a child: the program that waits for it, and its id
    while True:
        ready = select.select([listening, 0, *running, *(program for program, _ in running.values())], [], [])[0]
        if listening in ready:
            program = listening.accept()[0]
            size, streams, _, _ = socket.recv_fds(program, 4, 3)
            order = program.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
            pid = os.fork()
            if not pid:
                for at, stream in enumerate(streams):
                    os.dup2(stream, at)
                for other in (*streams, *running):
                    os.close(other)
                for other in (listening, program, *(program for program, _ in running.values())):
                    other.close()
                return marshal.loads(order)
            for stream in streams:
                os.close(stream)
            running[os.pidfd_open(pid)] = program, pid
            tell(program, pid)
        elif 0 in ready:
            return None
        for end, (program, pid) in [*running.items()]:
            if end in ready:
                tell(program, os.waitpid(pid, 0)[1])
                program.close()
                os.close(end)
                del running[end]
            elif program in ready:  # it was killed
                os.kill(pid, signal.SIGKILL)

def tell(program, number):
    try:
        program.sendall(number.to_bytes(4, "big"))
    except OSError:
        pass

def become(arguments, environment, folder):
    # What an interpreter does before it runs anything; returns what that is.
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.warnoptions[:] = [one for one in environment.get("PYTHONWARNINGS", "").split(",") if one]
    warnings._processoptions(sys.warnoptions)
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    if environment.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)
    what, *rest = arguments
    run = {"-c": run_code, "-m": run_module}.get(what, run_file)
    first = {"-c": "", "-m": folder}.get(what, os.path.dirname(os.path.abspath(what)))
    sys.path[:1] = [first, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[:] = arguments if run is run_file else [what, *rest[1:]]
    importlib.invalidate_caches()
    return run, what if run is run_file else rest[0]

def run_code(code):
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(code, "<string>", "exec"), main.__dict__)

def run_module(name):
    runpy.run_module(name, run_name="__main__", alter_sys=True)

def run_file(path):
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__file__ = os.path.abspath(path)
    with open(path, "rb") as file:
        source = file.read()
    exec(compile(source, main.__file__, "exec"), main.__dict__)

load()
listening = socket.socket(socket.AF_UNIX)
listening.bind(ADDRESS)
listening.listen(64)
sys.stdout.write("ready\n")
sys.stdout.flush()
order = serve(listening)
if order is not None:
    run, what = become(*order)
    run(what)
"""

_PROGRAM = r"""#!{python} -IS
import _signal, _socket, marshal, os, sys
BEFORE, KNOWN = {before!r}, ("PYTHONPATH", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
arguments = [*BEFORE, *sys.argv[1:]]
def tell(child):
    if tells >= 0:
        os.write(tells, child.to_bytes(4, "big"))
        os.close(tells)
def run_itself():
    tell(os.getpid())
    os.execv({python!r}, [{python!r}, *arguments])
tells = int(os.environ.pop("WARM_TELLS", "-1"))
known = all(name in KNOWN for name in os.environ if name.startswith("PYTHON"))
if not known or not arguments or arguments[0][:1] == "-" and (arguments[0] not in ("-c", "-m") or len(arguments) < 2):
    run_itself()
order = marshal.dumps((arguments, dict(os.environ), os.getcwd()))
streams = b"".join(stream.to_bytes(4, sys.byteorder) for stream in (0, 1, 2))
try:
    for stream in (0, 1, 2):
        os.fstat(stream)
except OSError:  # it is closed
    run_itself()
server = _socket.socket(_socket.AF_UNIX)
server.connect({address!r})
server.sendmsg([len(order).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
server.sendall(order)
def hear():
    told = server.recv(4, _socket.MSG_WAITALL)
    if len(told) < 4:
        sys.exit("the server of warm pythons is gone")
    return int.from_bytes(told, "big")
child = hear()
tell(child)
for number in (2, 15):  # SIGINT, SIGTERM
    _signal.signal(number, lambda number, _: os.kill(child, number))
status = hear()
if os.WIFSIGNALED(status):
    if os.WTERMSIG(status) in (2, 15):
        _signal.signal(os.WTERMSIG(status), _signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))
os._exit(os.WEXITSTATUS(status))
"""


class WarmProcess(subprocess.Popen[str]):
    """A program with its streams in pipes. `child`: the process that it stands for."""

    def __init__(self, command: list[str], **options: Any) -> None:
        super().__init__(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        self.child = self.pid


class WarmPython:
    """The server and its programs. `path`: a folder for the front of PATH; `python`: the `python` in it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="warm-"))  # short: a socket's address has its limit
        self.python = str(self.path / "python")
        self._server: subprocess.Popen[bytes] | None = None
        if not hasattr(os, "fork") or not hasattr(os, "pidfd_open"):
            self.path, self.python = Path(sys.executable).parent, sys.executable
            return
        address = str(self.path / "socket")
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, address, *_LIBRARIES, *_modules()],
            cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", ""), "OPENBLAS_NUM_THREADS": "1"}, start_new_session=True,  # not of Ctrl-C's
        )  # fmt: skip
        script = Path(sys.executable).with_name("cascade")
        for name, before in (("python", []), ("cascade", [str(script)])):
            program = self.path / name
            program.write_text(_PROGRAM.format(python=sys.executable, before=before, address=address))
            program.chmod(0o755)
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"ready\n"

    def start(self, arguments: list[str], *, env: dict[str, str], cwd: Path | None = None) -> WarmProcess:
        """A process whose output is read, and whose own id is known: that of what runs, not of the program."""
        if self._server is None:
            return WarmProcess([self.python, *arguments], env=env, cwd=cwd)
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as told:
            with os.fdopen(writing, "wb"):
                here = {**env, "WARM_TELLS": str(writing)}
                process = WarmProcess([self.python, *arguments], env=here, cwd=cwd, pass_fds=(writing,))
            process.child = int.from_bytes(told.read(4), "big")
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.communicate()  # it ends when its input does
            shutil.rmtree(self.path)
