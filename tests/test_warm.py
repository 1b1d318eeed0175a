"""A `python` that has its libraries loaded is the Python it stands for, in all that a command could tell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.warm import WarmPython

SCRIPT = """
import atexit, os, sys, threading, warnings
atexit.register(lambda: print("at exit"))
threading.Thread(target=lambda: print("in a thread")).start()
print(sys.argv, [one for one in sys.path if "python3" not in one and "site-packages" not in one], __name__, os.getcwd())
print(sorted(os.environ.items()), sys.stdin.read(), sys.warnoptions, sys.dont_write_bytecode)
print(sys.modules["__main__"].__dict__ is globals(), any(name.startswith("cascade.cli") for name in sys.modules))
print("on stderr", file=sys.stderr)
try:
    warnings.warn("an error where it is asked for", UserWarning)
except UserWarning as error:
    sys.exit(7)
"""


def ran(python: str, arguments: list[str], folder: Path, **environment: str) -> tuple[int, str, str]:
    """What a process of it comes to."""
    done = subprocess.run(
        [python, *arguments], env={"PATH": os.environ["PATH"], **environment}, cwd=folder, input="said",
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "environment", [{}, {"PYTHONWARNINGS": "error", "PYTHONPATH": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1"}]
)
@pytest.mark.parametrize("kind", ["code", "module", "file"])
def test_it_runs_what_python_runs(
    warm_python: WarmPython, tmp_path: Path, kind: str, environment: dict[str, str]
) -> None:
    """Arguments, path, folder, environment, streams, warnings, threads, atexit and exit code; and no command is loaded."""
    (tmp_path / "within").mkdir()
    (tmp_path / "within" / "script.py").write_text(SCRIPT)
    what = {"code": ["-c", SCRIPT], "module": ["-m", "within.script"], "file": ["within/script.py"]}[kind]
    found = ran(warm_python.python, [*what, "one", "--two"], tmp_path, **environment)
    there = ran(sys.executable, [*what, "one", "--two"], tmp_path, **environment)
    assert found == there
    assert found[0] == (7 if environment else 0)
    assert "True False" in found[1]


def test_the_signal_that_ends_it_is_told(warm_python: WarmPython, tmp_path: Path) -> None:
    """To the process that was started, or to the one that runs."""
    code = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)"
    for number, to_child in ((signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGKILL, True)):
        process = warm_python.start(["-c", code], env={"PATH": os.environ["PATH"]}, cwd=tmp_path)
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.child
        os.kill(process.child if to_child else process.pid, number)
        process.communicate(timeout=60)
        assert process.returncode == -number


def test_what_it_does_not_know_python_runs(warm_python: WarmPython, tmp_path: Path) -> None:
    """Options, variables, and a stream that is closed."""
    assert ran(warm_python.python, ["-V"], tmp_path) == ran(sys.executable, ["-V"], tmp_path)
    code = ["-c", "import sys; print(sys.flags.optimize)"]
    assert ran(warm_python.python, code, tmp_path, PYTHONOPTIMIZE="1")[1] == "1\n"
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "import sys; sys.exit(9 if sys.stdout is None else 8)" >&-', warm_python.python],
        check=False,
    )
    assert done.returncode == 9
