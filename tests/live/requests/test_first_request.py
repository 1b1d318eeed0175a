"""The first request of a process: what it takes longer is not taken from its deadline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.emulator import Emulator
from tests.live.conftest import ladder

# The clock is first looked at, in an `ask`, where the deadline begins to run.
COLD = """
import asyncio, sys, time
from cascade import AsyncCascade, Cascade, load_policy

def sdk():
    return {name for name in sys.modules if name.partition(".")[0] in ("anthropic", "httpx2", "httpcore2", "pydantic")}

class Clock:
    begins = None
    def __call__(self):
        self.begins = sdk() if self.begins is None else self.begins
        return time.monotonic()

clock, way, prepared = Clock(), sys.argv[2], sys.argv[3] == "prepared"
driver = (AsyncCascade if way == "async" else Cascade)(load_policy(sys.argv[1]), ledger="off", clock=clock)

async def ask_async():
    if prepared:
        await driver.prepare()
    before, clock.begins = sdk(), None
    return before, await driver.ask("hard", max_tokens=int(sys.argv[4]))

def ask():
    if prepared:
        driver.prepare()
    before, clock.begins = sdk(), None
    return before, driver.ask("hard", max_tokens=int(sys.argv[4]))

before, answer = asyncio.run(ask_async()) if way == "async" else ask()
print(answer)
print("before the deadline:", len(clock.begins - before) > 100)
print("while it ran:", *sorted(sdk() - clock.begins))
"""


@pytest.mark.parametrize("prepared", [False, True], ids=["unprepared", "prepared"])
@pytest.mark.parametrize(("way", "max_tokens"), [("sync", 500), ("async", 30_000)])
def test_the_sdk_is_imported_before_the_deadline_begins(
    emulator: Emulator, tmp_path: Path, way: str, max_tokens: int, prepared: bool
) -> None:
    """By the first request, or by `prepare` before it; never while the deadline runs."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(ladder().model_dump_json(exclude_unset=True))
    here = {"ANTHROPIC_BASE_URL": emulator.base_url, "ANTHROPIC_API_KEY": "test"}
    done = subprocess.run(
        [sys.executable, "-c", COLD, str(policy), way, "prepared" if prepared else "", str(max_tokens)],
        env={**os.environ, **here}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-3:] == [
        "opus's", f"before the deadline: {not prepared}", "while it ran:",
    ]  # fmt: skip
