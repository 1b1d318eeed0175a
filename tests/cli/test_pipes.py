"""Whoever reads may stop reading, at once or after a line: no command answers that with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ledger.books import fill
from tests.warm import WarmPython

CUT = 141
"""As a shell sees any command that SIGPIPE ended: what was to be said could not be said to its end."""


@pytest.fixture(scope="module")
def place(support: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a ledger of two thousand requests, a corpus and a policy that is broken: all are only read."""
    place = tmp_path_factory.mktemp("place")
    fill(place / "ledger.db", requests=1_000)
    (place / "corpus.jsonl.gz").write_bytes(support.read_bytes())
    (place / "broken.yaml").write_text("version: 1\nname: on\nlader: []\n")
    return place


Piped = Callable[..., tuple[int, str]]


@pytest.fixture
def piped(place: Path, bare_environment: dict[str, str], warm_python: WarmPython) -> Piped:
    """Run a command whose reader takes `lines` lines of it and closes; its exit code and what it said on stderr."""

    def run(*arguments: str, lines: int, both: bool = False) -> tuple[int, str]:
        reading, writing = os.pipe()
        if not lines:
            os.close(reading)
        with subprocess.Popen(
            [warm_python.python, "-m", "cascade.cli", *arguments],
            env=bare_environment, cwd=place, stdin=subprocess.DEVNULL, stdout=writing,
            stderr=writing if both else subprocess.PIPE, text=True,
        ) as command:  # fmt: skip
            os.close(writing)
            if lines:
                with os.fdopen(reading, "rb", buffering=0) as reader:
                    for _ in range(lines):
                        assert reader.read(1)
            said = "" if both else command.communicate(timeout=60)[1]
            return command.wait(60), said

    return run


SHORT = [
    ("--help",), ("--version",), ("policy", "check"), ("policy", "show"), ("policy", "show", "--json"),
    ("replay", "corpus.jsonl.gz"), ("ledger", "tail", "--ledger", "ledger.db"), ("costs", "--ledger", "ledger.db"),
    ("doctor", "--json"),
]  # fmt: skip
OWN_CODES = {"doctor": 2}
"""Of those that do not end with 0: it has no key."""
LONG = [
    ("ledger", "export", "--ledger", "ledger.db"), ("ledger", "tail", "-n", "9000", "--ledger", "ledger.db"),
    ("ledger", "tail", "-n", "9000", "--json", "--ledger", "ledger.db"),
    ("ledger", "tail", "-n", "9000", "--follow", "--ledger", "ledger.db"), ("policy", "schema"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", SHORT, ids=" ".join)
def test_a_short_output_nobody_reads_keeps_the_commands_own_exit_code(piped: Piped, arguments: tuple[str, ...]) -> None:
    """The reader was gone before it began: what the command came to is its exit code all the same."""
    code, said = piped(*arguments, lines=0)
    assert code in (OWN_CODES.get(arguments[0], 0), CUT)
    assert "Traceback" not in said
    assert "Exception ignored" not in said


@pytest.mark.parametrize("arguments", LONG, ids=" ".join)
@pytest.mark.parametrize("lines", [0, 1])
def test_a_long_output_stops_where_nobody_reads_any_further(
    piped: Piped, arguments: tuple[str, ...], lines: int
) -> None:
    """`| head -1`: silent, and the exit code of a command that a closed pipe ended."""
    code, said = piped(*arguments, lines=lines)
    assert said == ""
    assert code in ({0, CUT} if arguments == ("policy", "schema") else {CUT})


@pytest.mark.parametrize("arguments", [("policy", "check", "broken.yaml"), ("replay", "nowhere.jsonl"), ("--wrong",)])
def test_an_error_nobody_reads_is_still_its_exit_code(piped: Piped, arguments: tuple[str, ...]) -> None:
    """`2>&1 |` to a reader that is gone."""
    assert piped(*arguments, lines=0, both=True) == (2, "")


@pytest.mark.parametrize("stream", [1, 2])
def test_a_command_without_a_standard_stream_does_its_work(
    place: Path, bare_environment: dict[str, str], stream: int
) -> None:
    """`>&-`: as some schedulers start a command."""
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m cascade.cli policy show {stream}>&-', sys.executable],
        env=bare_environment, cwd=place, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == b""


def test_a_disk_that_is_full_is_one_line(
    place: Path, bare_environment: dict[str, str], warm_python: WarmPython
) -> None:
    """`> /dev/full`: what was asked for is not there, and the exit code says so."""
    with Path("/dev/full").open("wb") as full:
        for arguments in (("policy", "show"), ("ledger", "export", "--ledger", "ledger.db")):
            done = subprocess.run(
                [warm_python.python, "-m", "cascade.cli", *arguments],
                env=bare_environment, cwd=place, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60,
            )  # fmt: skip
            assert done.returncode == 1
            assert done.stderr == b"cascade: the result cannot be written: No space left on device\n"
