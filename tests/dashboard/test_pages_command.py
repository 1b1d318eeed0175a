"""`cascade dashboard`: what it is started with, what it prints, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.within import run
from tests.dashboard.by_hand import ask
from tests.dashboard.recorded_day import record_day

__all__ = ["run"]


def test_it_shows_a_ledger_until_it_is_told_to_end(tmp_path: Path) -> None:
    """The address is all that stdout gets; SIGINT ends it in order, with a page open."""
    address = str(tmp_path / "ledger.db")
    record_day(address, requests=100, grade=0)
    command = [
        sys.executable,
        "-m",
        "cascade.cli",
        "dashboard",
        "--ledger",
        address,
        "--port",
        "0",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        port = int(said["base_url"].rpartition(":")[2])
        page = ask(port, "GET", "/")
        assert (page.status, address in page.text, "Overview" in page.text) == (200, True, True)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert (rest, process.returncode) == ("", 0), errors
    assert "for this machine alone" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "0.0.0.0"), "loopback alone"), (("--since", "soon"), "--since"), (("--policy", "nothing-here"), "nothing-here"),
        (("--ledger", "mysql://x"), "mysql:// is not supported"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_at_once(run: Run, options: tuple[str, ...], said: str) -> None:
    """In one line that says what to do."""
    done = run("dashboard", "--port", "0", *options)
    assert done.code == 2
    assert said in done.err
    assert done.out == ""


def test_a_ledger_that_is_not_there_yet_is_a_page_that_says_what_to_do(tmp_path: Path) -> None:
    """Nothing is made at its address."""
    from cascade.dashboard.figures import LedgerSource  # noqa: PLC0415
    from tests.dashboard.by_hand import Pages  # noqa: PLC0415

    address = tmp_path / "none.db"
    with Pages(LedgerSource(str(address), tuple)) as pages:
        assert "No requests yet" in pages.ask("GET", "/").text
        assert pages.ask("GET", "/dashboard/model?name=x").status == 200
    assert not address.exists()
