"""What a verifier is given, what its end means, and that it costs the caller nothing else."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from anthropic.types import TextBlock

from cascade.core.messages import Request
from cascade.verifiers import Verification, Verifier, request_values, run_verifier
from cascade.verifiers.runner import VISIBLE
from tests.verifiers.programs import Held, program

REQUEST = {"messages": [{"role": "user", "content": "Grüße \ud800"}], "system": None, "task": "sums"}
SAVE = "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"


def said(verifier: Verifier, answer: str = "4", time_out_s: float = 60.0) -> tuple[str, str]:
    """The result and the detail."""
    one = run_verifier(verifier, answer, REQUEST, time_out_s=time_out_s)
    return one.result, one.detail


@pytest.mark.parametrize(
    ("text", "result", "detail"),
    [
        ("", "passed", ""),
        ("raise SystemExit(0)", "passed", ""),
        ("raise SystemExit(1)", "failed", "exit status 1"),
        ("raise SystemExit(2)", "unknown", "exit status 2"),
        ("raise SystemExit(-1)", "unknown", "exit status 255"),
        ("import os; os.kill(os.getpid(), 15)", "unknown", "killed by SIGTERM"),
        ("import os; os.kill(os.getpid(), 11)", "unknown", "killed by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 40)", "unknown", "killed by signal 40"),
    ],
)
def test_status_0_passes_1_fails_and_any_other_end_says_nothing(text: str, result: str, detail: str) -> None:
    """Nor does a signal."""
    assert said(program(text)) == (result, detail)


def test_the_answer_and_the_request_are_one_json_object_on_stdin(tmp_path: Path) -> None:
    """As they are, whatever characters are in them; no file where none was asked for."""
    answer = 'a "quoted"\nansw\0er \U0001f600'
    assert said(program(SAVE, tmp_path / "stdin"), answer) == ("passed", "")
    read = (tmp_path / "stdin").read_bytes()
    assert b"\n" not in read
    assert json.loads(read) == {"answer": answer, "request": REQUEST}


def test_an_answer_that_is_larger_than_any_pipe_arrives_whole(tmp_path: Path) -> None:
    """Five megabytes."""
    assert said(program(SAVE, tmp_path / "stdin"), "x" * 5_000_000) == ("passed", "")
    assert len(json.loads((tmp_path / "stdin").read_bytes())["answer"]) == 5_000_000


@pytest.mark.parametrize(("code", "result"), [(0, "passed"), (1, "failed")])
def test_a_program_that_does_not_read_its_stdin_is_believed_all_the_same(code: int, result: str) -> None:
    """It breaks no pipe."""
    text = f"import os; os.close(0); raise SystemExit({code})"
    assert said(program(text), "x" * 5_000_000)[0] == result


def test_it_runs_where_the_caller_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a program beside the caller's own needs no path."""
    (tmp_path / "run_tests.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert said(Verifier("tests", (sys.executable, "run_tests.py"))) == ("failed", "exit status 1")


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    """Its words arrive as they are written."""
    words = ["$HOME", "a b", "`id`", "; exit 1", "*", ""]
    text = "import json, sys; open(sys.argv[1], 'w').write(json.dumps(sys.argv[2:]))"
    assert said(program(text, tmp_path / "words", *words)) == ("passed", "")
    assert json.loads((tmp_path / "words").read_text()) == words


def test_a_program_that_cannot_be_started_says_nothing_and_why(tmp_path: Path) -> None:
    """Missing, a folder, without the right to be executed, of no known format; too many words."""
    plain = tmp_path / "plain"
    plain.write_text("no program")
    assert said(Verifier("x", ("no-such-program-anywhere",))) == ("unknown", "program not found")
    assert said(Verifier("x", (str(tmp_path / "none"),))) == ("unknown", "program not found")
    assert said(Verifier("x", (str(tmp_path),))) == ("unknown", "program not executable")
    assert said(Verifier("x", (str(plain),))) == ("unknown", "program not executable")
    plain.chmod(0o700)
    assert said(Verifier("x", (str(plain),))) == ("unknown", "program not executable")
    assert said(Verifier("x", ("true", "x" * 3_000_000))) == ("unknown", "could not be started (E2BIG)")


def test_it_sees_the_variables_of_the_list_and_those_its_check_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key of the caller's, unless its check names it."""
    for name in ("ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "LC_TIME", "LISTED", "NOT_LISTED", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "value")
    text = "import json, os, sys; open(sys.argv[1], 'w').write(json.dumps(dict(os.environ)))"
    assert said(program(text, tmp_path / "seen", env=("LISTED", "ABSENT"))) == ("passed", "")
    seen = json.loads((tmp_path / "seen").read_text())
    assert seen["LISTED"] == seen["LC_TIME"] == "value"
    assert seen["PATH"] == os.environ["PATH"]
    assert {name for name in seen if not name.startswith("LC_")} <= VISIBLE | {"LISTED"}


def test_a_key_is_not_in_its_supervisors_environment_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code under test reads its parent's environment as easily as its own."""
    if sys.platform != "linux":
        pytest.skip("needs /proc")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    text = "import os, sys; open(sys.argv[1], 'wb').write(open(f'/proc/{os.getppid()}/environ', 'rb').read())"
    assert said(program(text, tmp_path / "seen")) == ("passed", "")
    assert b"PATH=" in (tmp_path / "seen").read_bytes()
    assert b"ANTHROPIC" not in (tmp_path / "seen").read_bytes()


@pytest.mark.parametrize("code", [0, 1, 3])
def test_what_it_says_of_a_run_quotes_nothing(code: int) -> None:
    """Neither what the program printed, nor the answer, nor the request."""
    text = f"import sys; data = sys.stdin.read(); print(data); print(data, file=sys.stderr); raise SystemExit({code})"
    one = run_verifier(program(text), "SECRET answer", {"system": "SECRET prompt"}, time_out_s=60.0)
    assert "SECRET" not in repr(one)
    assert len(one.detail) < 60
    assert one.seconds > 0


def test_cancelling_ends_it(held: Held) -> None:
    """Long before its time-out."""
    cancel = threading.Event()
    verifier = program(Held.HOLD + "os.write(held, b'ready'); time.sleep(600)", held.path)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_verifier, verifier, "4", REQUEST, time_out_s=300.0, cancel=cancel)
        held.wait_for(b"ready")
        cancel.set()
        one = running.result()
    assert (one.result, one.detail) == ("unknown", "cancelled")
    assert held.is_free()


def test_one_that_is_cancelled_before_it_began_is_not_started(tmp_path: Path) -> None:
    """Nothing runs."""
    cancel = threading.Event()
    cancel.set()
    one = run_verifier(program(SAVE, tmp_path / "stdin"), "4", REQUEST, time_out_s=60.0, cancel=cancel)
    assert (one.result, one.detail) == ("unknown", "cancelled")
    assert not (tmp_path / "stdin").exists()


def test_many_threads_run_them_at_once_and_each_gets_its_own_result(tmp_path: Path) -> None:
    """The result depends on the answer, so that a mix-up shows. No descriptor is left open."""
    text = "import json, sys; raise SystemExit(json.load(sys.stdin)['answer'] == 'bad')"
    said(program(text))
    before = len(list(Path("/dev/fd").iterdir()))

    def one(number: int) -> Verification:
        return run_verifier(program(text), "bad" if number % 3 == 0 else "good", REQUEST, time_out_s=120.0)

    with ThreadPoolExecutor(8) as pool:
        results = [found.result for found in pool.map(one, range(40))]
    assert results == ["failed" if number % 3 == 0 else "passed" for number in range(40)]
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_the_callers_signals_children_and_place_in_the_process_tree_stay_as_they_were() -> None:
    """A child of the caller's own lives on, and its exit status is the caller's to read."""
    own = subprocess.Popen([sys.executable, "-c", "input(); raise SystemExit(7)"], stdin=subprocess.PIPE)
    numbers = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]
    before = [signal.getsignal(number) for number in numbers]
    assert said(program("import os; os.fork(); os.kill(0, 9)")) == ("unknown", "killed by SIGKILL")  # its whole group
    assert [signal.getsignal(number) for number in numbers] == before
    assert own.poll() is None
    own.communicate(b"\n")
    assert own.returncode == 7
    if sys.platform == "linux":
        subreaper = ctypes.c_int(-1)
        ctypes.CDLL(None).prctl(37, ctypes.byref(subreaper), 0, 0, 0)  # PR_GET_CHILD_SUBREAPER
        assert subreaper.value == 0


def test_a_caller_that_ignores_its_childrens_ends_or_blocks_signals_gets_the_same_results() -> None:
    """Both are inherited by what it starts."""
    script = (
        "import signal\nfrom cascade.verifiers import Verifier, run_verifier\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nsignal.pthread_sigmask(signal.SIG_BLOCK, [17, 15])\n"
        "say = lambda *words: print(run_verifier(Verifier('x', words), '4', {}, time_out_s=60).result)\n"
        "say('true')\nsay('false')\nsay('sh', '-c', 'kill -TERM $$; sleep 1; exit 1')\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["passed", "failed", "unknown"]


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_a_caller_that_has_closed_its_streams_gets_the_same_results(closed: str) -> None:
    """As a daemon may. What it opens next gets their numbers."""
    script = (
        "import json, sys\nfrom cascade.verifiers import Verifier, run_verifier\n"
        "text = \"import json, sys; raise SystemExit(json.load(sys.stdin)['answer'] != '4')\"\n"
        "for answer in ('4', '5'):\n"
        "    verifier = Verifier('x', (sys.executable, '-c', text))\n"
        "    print(run_verifier(verifier, answer, {}, time_out_s=60).result)\n"
    )
    shell = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, script]
    assert subprocess.run(shell, stdout=subprocess.PIPE, text=True, check=True).stdout.split() == ["passed", "failed"]


def test_a_request_is_told_as_the_api_would_read_it(tmp_path: Path) -> None:
    """Also where the caller passes on blocks of the SDK's classes from an answer, and mappings of its own."""
    block = TextBlock(type="text", text="2 + 2?", citations=None)
    turns = (MappingProxyType({"role": "user", "content": [block]}),)
    request = Request(messages=turns, system="Sums only.", metadata={"customer": "c"})
    values = request_values(request, "sums")
    assert run_verifier(program(SAVE, tmp_path / "stdin"), "4", values, time_out_s=60.0).result == "passed"
    told = json.loads((tmp_path / "stdin").read_bytes())["request"]
    text = {"type": "text", "text": "2 + 2?", "citations": None}
    assert told == {"messages": [{"role": "user", "content": [text]}], "system": "Sums only.", "task": "sums"}


def test_a_request_that_is_no_json_says_nothing_and_why() -> None:
    """An object that nothing knows, a structure without end, and one that is too deep."""
    endless: list[Any] = []
    endless.append(endless)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for bad in (object(), endless, deep, b"bytes", {("a", "tuple"): 1}):
        one = run_verifier(program(""), "4", {"messages": bad}, time_out_s=60.0)
        assert (one.result, one.detail) == ("unknown", "the request cannot be written as JSON")
