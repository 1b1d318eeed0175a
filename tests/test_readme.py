"""The README is true to the letter: its code runs, its policy loads, its output is what the commands print."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply
from cascade.emulator import Emulator
from cascade.policy.loading import parse_policy
from cascade.policy.plans import make_plan

# One example names a task that its policy does not know. Of a guess it is warned at most once, and from Python 3.13 on with the line that it is about.
WARNED = re.compile(
    r"(task_unknown policy='default' task='refund'\n)?(<string>:\d+: UncertifiedWarning: policy (default|support): .*\n(  .*\n)?)?"
)
_README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", _README, re.DOTALL)


def corpus() -> Corpus:
    """What the README's examples ask, answered."""
    answers = {
        "How long is a gift voucher valid?": "Three years.",
        "The lamp came in pieces, I want my money back.": {"product": "lamp", "wants_refund": True},
    }
    items = tuple(
        Item(f"readme-{number}", asked, {"haiku": RecordedReply(0.95, answer, 1.0)})
        for number, (asked, answer) in enumerate(answers.items())
    )
    models = ("haiku", "claude-haiku-5-5"), ("sonnet", "claude-sonnet-5-5"), ("opus", "claude-opus-5-5")
    return Corpus(Manifest("readme", tuple(LadderEntry(rung, model) for rung, model in models)), items)


@pytest.mark.parametrize("code", [code for code in blocks("python") if "def test_" not in code])
def test_its_code_runs(code: str, tmp_path: Path) -> None:
    """Each example runs as it stands, with nothing set but a key and an endpoint."""
    with Emulator(corpus()) as emulator:
        environment = {"ANTHROPIC_BASE_URL": emulator.base_url, "ANTHROPIC_API_KEY": "none", "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
    assert WARNED.fullmatch(done.stderr), done.stderr
    assert done.stdout


def test_its_fixture_works(tmp_path: Path) -> None:
    """The pytest example, with the corpus shown above it, in a folder of its own."""
    (tmp_path / "test_desk.py").write_text(next(code for code in blocks("python") if "def test_" in code))
    (tmp_path / "mine.jsonl").write_text(next(iter(blocks("json"))))
    environment = {**os.environ, "CASCADE_POLICY": "default"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout


def test_its_policies_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy in the README is one, and so is each piece of one, put below its ladder."""
    (tmp_path / "mine.py").write_text("def without_names(text): return text")
    monkeypatch.syspath_prepend(tmp_path)
    whole, *pieces = blocks("yaml")
    make_plan(parse_policy(whole))
    assert len(pieces) >= 3
    for piece in pieces:
        make_plan(parse_policy(f"{whole}\n{piece}"))


def test_its_demo_is_what_the_demo_prints() -> None:
    """Every line shown under `make demo` is printed by it."""
    shown = next(block for block in blocks("text") if "synthetic" in block)
    command = [sys.executable, "-m", "cascade.cli", "demo"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = {line.rstrip() for line in printed.splitlines()}
    missing = [line for line in shown.splitlines() if line.rstrip() not in lines]
    assert missing == []


def test_its_picture_is_there() -> None:
    """A PNG 1,200 pixels wide, light enough for a page."""
    (name,) = re.findall(r"^!\[[^\]]+\]\(([\w/.]+)\)$", _README, re.MULTILINE)
    picture = (Path(__file__).parent.parent / name).read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(picture[16:20]) == 1_200
    assert len(picture) < 200_000


def test_nothing_in_it_waits_to_be_filled_in() -> None:
    """No placeholder is left."""
    assert re.findall(r"\b[A-Z]+_BLOCK\b|\bTODO\b|\bTBD\b", _README) == []


def test_its_files_are_there() -> None:
    """What it points to exists."""
    root = Path(__file__).parent.parent
    for name in re.findall(r"`((?:benchmarks|tests|cascade|policies)/[\w/.-]*)`", _README):
        assert (root / name).exists(), name
    json.loads((root / "policies/policy.schema.json").read_text(encoding="utf-8"))
