"""README and documentation are true to the letter: code runs, policies load, commands print what is shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply
from cascade.emulator import Emulator
from cascade.policy.binding import bind_policy
from cascade.policy.loading import parse_policy
from cascade.policy.shipped import find_corpus
from tests.warm import WarmPython

from .pages import PAGES, ROOT, Block, blocks_of, name_of

LADDER = """
version: 1
name: example
ladder:
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 1024, thinking: disabled}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 4096, effort: low}
  - {rung: opus, model: claude-opus-5-5, max_tokens: 8192}
"""
ANSWERS = {
    "How long is a gift voucher valid?": "Three years.",
    "The lamp came in pieces, I want my money back.": {"product": "lamp", "wants_refund": True},
    "Dear shop, on 3 May I ordered a lamp from you. It has not come yet, and nobody answers my letters. Please help.": "A lamp ordered on 3 May has not come; letters stay unanswered.",
    "Order A-17: one lamp, two bulbs.": {"number": "A-17", "items": ["lamp", "bulb"]},
    "Our reading lamp has a dimmer, a clamp and a long cable.": "A reading lamp to dim and to clamp",
    "Where is my lamp? This is the third time I ask!": "complaint",
    "The lamp has been sent today.": "Die Lampe wurde heute verschickt.",
}
TIMEOUT_S = 300
# One example names a task that its policy does not know; and of a guessed threshold everybody is warned, once.
WARNED = re.compile(
    r"task_unknown policy='default' task='refund'\n|<string>:\d+: UncertifiedWarning: policy \S+: .*\n(?:  .*\n)?"
)


def of(language: str) -> list[object]:
    """The runnable blocks of a language on all pages, each a test's parameter."""
    return [
        pytest.param(block, id=f"{name_of(page)}:{number}")
        for page in PAGES
        for number, block in enumerate(block for block in blocks_of(page) if block.language == language)
        if block.runs and block.title is None
    ]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The Messages API as `cascade emulate --corpus history --any` has it, which also answers what the examples ask."""
    models = ("haiku", "claude-haiku-5-5"), ("sonnet", "claude-sonnet-5-5"), ("opus", "claude-opus-5-5")
    items = tuple(
        Item(f"docs-{number}", asked, {"haiku": RecordedReply(0.95, answer, 1.0)})
        for number, (asked, answer) in enumerate(ANSWERS.items())
    )
    asked = Corpus(Manifest("docs", tuple(LadderEntry(*pair) for pair in models)), items)
    with Emulator([asked, find_corpus("history")], canned=True) as emulator:
        yield emulator.base_url


Reader = Callable[[list[str]], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def reader(tmp_path: Path, endpoint: str, warm_python: WarmPython) -> Reader:
    """Runs a command with what a reader has: this Python first on the path, an endpoint, a key, a home of their own."""
    path = os.pathsep.join((str(warm_python.path), str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    environment = {
        "PATH": path, "HOME": str(tmp_path), "ANTHROPIC_BASE_URL": endpoint, "ANTHROPIC_API_KEY": "none",
        "COLUMNS": "110", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    return lambda command: subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )


@pytest.mark.parametrize("block", of("python"))
def test_its_python_runs(block: Block, tmp_path: Path, reader: Reader) -> None:
    """A script runs with nothing set but a key and an endpoint, and prints to stdout only; a test passes."""
    if "def test_" in block.text:
        (tmp_path / "test_example.py").write_text(block.text)
        done = reader(["python", "-m", "pytest", "-q", "-p", "no:cacheprovider"])
    else:
        done = reader(["python", "-c", block.text])
    said = WARNED.sub("", done.stderr)
    assert (done.returncode, said) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("block", of("yaml"))
def test_its_policies_load(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole policy loads as it stands, a piece of one below a ladder."""
    (tmp_path / "mine.py").write_text("def without_names(text): return text\ndef check(text): return True")
    monkeypatch.syspath_prepend(tmp_path)
    whole = block.text if "ladder:" in block.text else f"{LADDER}\n{block.text}"
    bind_policy(parse_policy(whole))


@pytest.mark.parametrize("page", [pytest.param(page, id=name_of(page)) for page in PAGES])
def test_its_commands_print_what_is_shown(page: Path, tmp_path: Path, reader: Reader) -> None:
    """All commands of a page run in order in one folder, and print each line that the page shows."""
    printed = ""
    for block in blocks_of(page):
        if not block.runs:
            printed = "" if block.language == "console" else printed  # what it would print is not there to compare
            continue
        if block.title is not None:
            (tmp_path / block.title).write_text(block.text)
        elif block.language == "console":
            printed = "".join(run(command, reader) for command in commands_of(block.text))
        elif block.language == "text" and printed:
            lines = {" ".join(line.split()) for line in printed.splitlines()}
            missing = [line for line in block.text.splitlines() if line.strip() not in ("…", "")]
            missing = [line for line in missing if " ".join(line.split()) not in lines]
            assert missing == [], printed


def commands_of(text: str) -> Iterator[str]:
    """The commands of a console block: `$ …`, with a comment behind it, perhaps on several lines."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            yield re.sub(r"\s{2,}#.*$", "", line[2:])


def run(command: str, reader: Reader) -> str:
    """Run one command as a shell would; what it printed, on both."""
    done = reader(["bash", "-c", command])
    assert done.returncode in {0, 3}, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def test_readme_is_short() -> None:
    """The front door is at most 160 lines."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


def test_nothing_waits_to_be_filled_in() -> None:
    """No placeholder is left, and every file that a page names is there."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"\b[A-Z]+_BLOCK\b|\bTODO\b|\bTBD\b", text) == [], page
        for name in re.findall(r"`((?:benchmarks|tests|cascade|policies)/[\w/.-]*)`", text):
            assert (ROOT / name).exists(), (page, name)


def test_the_readme_shows_what_the_demo_prints(printed_demo: subprocess.CompletedProcess[str]) -> None:
    """Every line shown of `make demo` is printed by it."""
    shown = next(
        block.text for block in blocks_of(ROOT / "README.md") if block.language == "text" and "synthetic" in block.text
    )
    lines = {" ".join(line.split()) for line in printed_demo.stdout.splitlines()}
    assert [line for line in shown.splitlines() if line.strip("… ") and " ".join(line.split()) not in lines] == []


@pytest.mark.parametrize("name", ["report", "run"])
def test_the_pictures_of_pages_are_light(name: str) -> None:
    """A PNG 1,200 pixels wide, light enough for a page."""
    picture = (ROOT / "docs" / "assets" / f"{name}.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(picture[16:20]) == 1_200
    assert len(picture) < 200_000
