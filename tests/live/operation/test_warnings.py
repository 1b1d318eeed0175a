"""What the library says to those who configured nothing: never on stdout, and no more often than it helps."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import warnings
from pathlib import Path
from typing import Any

import anthropic
import pytest
import structlog

from cascade import AsyncCascade, BlockingWarning, Cascade, UncertifiedWarning, ask
from cascade.emulator import Emulator
from cascade.logs import log_event
from tests.live.conftest import ladder
from tests.warm import WarmPython

SCRIPT = """
import json, sys
import cascade

with cascade.Cascade(cascade.load_policy(sys.argv[1])) as driver:
    for _ in range(2):
        print(json.dumps({"text": driver.ask("sure", task="refnd").text}))
"""


def run_script(python: str, emulator: Emulator, folder: Path, before: str = "") -> tuple[list[str], str]:
    """A script's lines on stdout, and its stderr, in a process of its own; its ledger cannot be opened."""
    policy = folder / "policy.yaml"
    policy.write_text(ladder(tasks=[{"name": "refund", "floor": "sonnet"}]).model_dump_json(exclude_unset=True))
    (folder / "file").touch()
    done = subprocess.run(
        [python, "-c", before + SCRIPT, str(policy)],
        env={
            **os.environ, "ANTHROPIC_BASE_URL": emulator.base_url, "ANTHROPIC_API_KEY": "test",
            "CASCADE_LEDGER": str(folder / "file" / "ledger.db"),
        },
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.splitlines(), done.stderr


def test_only_the_script_itself_writes_to_stdout(warm_python: WarmPython, emulator: Emulator, tmp_path: Path) -> None:
    """`python script.py | jq` works: the ledger that is down, the task that is unknown and the guess are on stderr."""
    out, err = run_script(warm_python.python, emulator, tmp_path)
    assert [json.loads(line) for line in out] == [{"text": "haiku's"}] * 2
    assert [err.count(said) for said in ("UncertifiedWarning", "task_unknown", "ledger_down")] == [1, 1, 1]
    assert "did_you_mean='refund'" in err


def test_structlog_gets_the_events_as_it_was_configured(
    warm_python: WarmPython, emulator: Emulator, tmp_path: Path
) -> None:
    """The warning is not an event."""
    before = "import structlog\nstructlog.configure(processors=[structlog.processors.JSONRenderer()])\n"
    out, err = run_script(warm_python.python, emulator, tmp_path, before)
    events = {value["event"] for value in map(json.loads, out) if "event" in value}
    assert {"task_unknown", "ledger_down"} <= events
    assert "uncertified" not in events
    assert "task_unknown" not in err


def test_without_structlog_events_are_the_standard_librarys(caplog: pytest.LogCaptureFixture) -> None:
    """The logger "cascade", with the event's level; what a detail holds is no format."""
    caplog.set_level(logging.INFO, logger="cascade")
    structlog.reset_defaults()
    log_event("info", "state_back", state="100%s")
    log_event("error", "mode_unreadable", problem="no")
    said = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [
        ("cascade", "INFO", "state_back state='100%s'"),
        ("cascade", "ERROR", "mode_unreadable problem='no'"),
    ]


@pytest.fixture
def client(emulator: Emulator) -> Any:
    """A client of the emulator."""
    with anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0) as made:
        yield made


def test_a_policy_that_nothing_proves_is_warned_of_once(client: Any, tmp_path: Path) -> None:
    """Once a process, however many drivers; at the caller's own line, which a filter may go by."""
    policy = ladder().model_copy(update={"name": f"guess-{tmp_path.name}"})

    def ask_often() -> None:
        for _ in range(2):
            with Cascade(policy, client=client) as driver:
                driver.ask("sure")
                driver.ask("sure")

    with pytest.warns(UncertifiedWarning, match="cascade calibrate") as warned:
        ask_often()
    assert [warning.filename for warning in warned] == [__file__]


def test_who_makes_the_warning_an_error_gets_it_every_time(client: Any, emulator: Emulator, tmp_path: Path) -> None:
    """Before anything is paid; and not only for the first request, which would hide it from all the others."""
    policy = ladder().model_copy(update={"name": f"error-{tmp_path.name}"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UncertifiedWarning)
        for _ in range(2):
            with pytest.raises(UncertifiedWarning), Cascade(policy, client=client) as driver:
                driver.ask("sure")
    assert emulator.requests == ()


LOOP = """
import asyncio, sys
import cascade

driver = cascade.Cascade(cascade.load_policy(sys.argv[1]))

async def ask():
    driver.ask("sure")
    driver.ask("sure")
    await asyncio.to_thread(driver.ask, "sure")

driver.ask("sure")
asyncio.run(ask())
asyncio.run(ask())
"""


def test_a_sync_ask_in_a_running_loop_is_warned_of_once(
    warm_python: WarmPython, emulator: Emulator, tmp_path: Path
) -> None:
    """It names `aask`. Outside a loop, and in a thread beside one, there is nothing to warn of."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(ladder().model_dump_json(exclude_unset=True))
    environment = {**os.environ, "ANTHROPIC_BASE_URL": emulator.base_url, "ANTHROPIC_API_KEY": "test"}

    def said(before: str, code: str = LOOP) -> str:
        done = subprocess.run(
            [warm_python.python, "-c", before + code, str(policy)], env=environment, capture_output=True, text=True, timeout=60,
            check=True,
        )  # fmt: skip
        return done.stderr

    err = said("")
    assert err.count("<string>:8: BlockingWarning") == 1  # the caller's own line
    assert "cascade.aask" in err
    (tmp_path / "ipykernel.py").touch()
    notebook = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport ipykernel\n"
    assert "BlockingWarning" not in said(notebook)  # its loop waits for every cell
    assert "BlockingWarning" not in said("", LOOP.partition("async def")[0] + 'driver.ask("sure")')


def test_the_async_way_and_the_drop_in_in_a_loop(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one is not warned of; the other is."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test")

    async def asynchronous() -> None:
        async with AsyncCascade(ladder()) as driver:
            await driver.ask("sure")

    async def blocking() -> None:
        ask("sure", policy=ladder())

    with warnings.catch_warnings():
        warnings.simplefilter("error", BlockingWarning)
        asyncio.run(asynchronous())
        with pytest.raises(BlockingWarning):
            asyncio.run(blocking())
