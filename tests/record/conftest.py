"""A small corpus to record again, an emulator that answers from it, and the recorder as a library and as a process."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import anthropic
import pytest
from msgspec.structs import replace

from cascade import cli
from cascade.core.policy import Policy
from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply, write_corpus
from cascade.corpora.items import RecordedUsage
from cascade.emulator import Emulator
from cascade.emulator.server import SeenRequest
from cascade.recording.calls import make_recording_plan
from cascade.recording.inputs import Inputs, read_inputs
from cascade.recording.progress import Report, Settings
from cascade.recording.recorder import Recorder
from tests.warm import WarmProcess, WarmPython

HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
POLICY = Policy.model_validate(
    {
        "version": 1,
        "name": "quick",
        "ladder": [
            {"rung": "haiku", "model": HAIKU, "threshold": 0.8, "max_tokens": 64, "thinking": "disabled"},
            {"rung": "sonnet", "model": SONNET, "threshold": 0.8, "max_tokens": 64, "effort": "low"},
            {"rung": "opus", "model": OPUS, "max_tokens": 64, "effort": "low"},
        ],
        "retry": {"attempts": 12, "max_wait_s": 0.02},
    }
)
YAML = f"""version: 1
name: quick
ladder:
  - {{rung: haiku, model: {HAIKU}, threshold: 0.8, max_tokens: 64, thinking: disabled}}
  - {{rung: sonnet, model: {SONNET}, threshold: 0.8, max_tokens: 64, effort: low}}
  - {{rung: opus, model: {OPUS}, max_tokens: 64, effort: low}}
retry: {{attempts: 12, max_wait_s: 0.02}}
"""
_CACHED: RecordedUsage = {
    "input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": 500, "cache_creation_input_tokens": 60,
    "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 40},
}  # fmt: skip
_CENTS = {HAIKU: (0.10, 0.50), SONNET: (2, 10), OPUS: (4, 20)}  # list prices: USD per million tokens, in and out


def make_corpus(items: int) -> Corpus:
    """A corpus of `items` different inputs whose figures are all what recording it must give again."""
    chance = random.Random(7)
    ladder = (LadderEntry("haiku", HAIKU), LadderEntry("sonnet", SONNET), LadderEntry("opus", OPUS))
    return Corpus(
        Manifest("small", ladder, grader="exact", synthetic=True), tuple(_item(n, chance) for n in range(items))
    )


def _item(number: int, chance: random.Random) -> Item:
    right = f"answer {number} – ja"
    replies = {rung: _reply(model, right, chance) for rung, model in (("haiku", HAIKU), ("sonnet", SONNET))}
    replies["opus"] = replace(_reply(OPUS, right, chance), confidence=None)
    if number == 1:
        replies["haiku"] = replace(replies["haiku"], answer=None, score=0.0)  # it declines
    if number == 2:
        # 11 * 2 + 7 * 10 + 500 * 0.10 + 20 * 2.50 + 40 * 4 = 352 millionths
        replies["sonnet"] = replace(replies["sonnet"], usage=_CACHED, cost_usd=0.000352)
    text = f"question {number}?"
    asked: Any = text if number != 3 else [
        {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}, {"role": "user", "content": text},
    ]  # fmt: skip
    return Item(
        f"i-{number}", asked, replies, task="t" if number % 2 else None, group=f"g{number // 2}",
        split="tune" if number == 4 else None, at=number / 2, expected=right, extra={"level": number},
    )  # fmt: skip


def _reply(model: str, right: str, chance: random.Random) -> RecordedReply:
    wrong = chance.random() < 0.3
    used_in, used_out = chance.randrange(50, 500), chance.randrange(4, 12)
    tokens: RecordedUsage = {"input_tokens": used_in, "output_tokens": used_out}
    price_in, price_out = _CENTS[model]
    cost = round(used_in * price_in * 1000) + round(used_out * price_out * 1000)
    confidence = chance.choice((0.5, 0.85, 0.9, 1.0))
    return RecordedReply(confidence, f"not {right}" if wrong else right, float(not wrong), tokens, cost / 1e9)


class Killer(Emulator):
    """An emulator that kills a process at the very moment it asks, or is billed, for the `after`-th time."""

    def __init__(self, *corpora: Corpus, **options: Any) -> None:
        super().__init__(corpora, **options)
        self.victim: int | None = None
        self.strike = 9
        self.after, self.at_bill = 0, False
        self.asked: Counter[tuple[str, str]] = Counter()

    def arm(self, victim: int, after: int, *, at_bill: bool) -> None:
        """Kill `victim` after so many more requests, or bills."""
        self.after, self.at_bill, self.victim = after, at_bill, victim

    def note(self, request: SeenRequest) -> None:
        """Count who was asked what."""
        super().note(request)
        content = request.body["messages"][-1]["content"]
        self.asked[request.body["model"], content] += 1
        self._strike(bill=False)

    def bill(self, model: str, usage: Any, *, whole: bool) -> None:
        """Bill, and then strike: the reply is paid and not yet sent."""
        super().bill(model, usage, whole=whole)
        self._strike(bill=True)

    def _strike(self, *, bill: bool) -> None:
        if self.victim is None or bill is not self.at_bill:
            return
        self.after -= 1
        if self.after <= 0:
            victim, self.victim = self.victim, None
            os.kill(victim, self.strike)


@pytest.fixture
def corpus() -> Corpus:
    """Twelve items."""
    return make_corpus(12)


@pytest.fixture
def source(corpus: Corpus, tmp_path: Path) -> Path:
    """The corpus as a file: what is to be recorded again."""
    path = tmp_path / "inputs.jsonl"
    write_corpus(path, corpus.manifest, corpus.items)
    return path


@pytest.fixture
def emulate() -> Iterator[Callable[..., Killer]]:
    """Start emulators; they stop when the test ends."""
    with ExitStack() as stack:
        yield lambda *corpora, **options: stack.enter_context(Killer(*corpora, **options))


Record = Callable[..., Report]


@pytest.fixture
def record(tmp_path: Path, source: Path) -> Record:
    """Record `source` (or `inputs=`) in this process, from an emulator, to corpus.jsonl (or `target=`)."""

    def run(emulator: Emulator, **options: Any) -> Report:
        inputs = options.pop("inputs", None) or read_inputs(source)
        options.setdefault("target", tmp_path / "corpus.jsonl")
        settings = Settings(options.pop("policy", POLICY), **options)

        async def go() -> Report:
            async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="test") as client:
                return await Recorder.open(settings, inputs, client=client, chance=random.Random(1)).run()

        return asyncio.run(go())

    return run


Start = Callable[..., WarmProcess]


@pytest.fixture
def start(warm_python: WarmPython) -> Start:
    """Start `cascade record` as a process of its own, in `home`."""

    def starts(home: Path, emulator: Emulator, *arguments: str) -> WarmProcess:
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "VIRTUAL_ENV") if name in os.environ}
        here = {"ANTHROPIC_BASE_URL": emulator.base_url, "ANTHROPIC_API_KEY": "sk-secret", "PYTHONWARNINGS": "error"}
        command = ["-m", "cascade.cli", "record", *arguments]
        return warm_python.start(command, cwd=home, env={**kept, **here, "HOME": str(home)})

    return starts


class Here:
    """`cascade record` in this process, for the tests that neither kill it nor stop it: its start is most of its time."""

    def __init__(self, home: Path, emulator: Emulator, *arguments: str) -> None:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
            patched.chdir(home)
            patched.setenv("ANTHROPIC_BASE_URL", emulator.base_url)
            patched.setenv("ANTHROPIC_API_KEY", "sk-secret")
            patched.delenv("CASCADE_POLICY", raising=False)
            patched.syspath_prepend(home)
            self.returncode = cli.run_command(["record", *arguments])
        self._said = out.getvalue(), err.getvalue()

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it said, as a process of its own tells it."""
        assert timeout
        return self._said


def journal_of(target: Path) -> list[dict[str, Any]]:
    """The outcomes in a corpus's journal, each a whole line; empty where there is none."""
    return [entry for entry in lines_of(target) if "open" not in entry]


def lines_of(target: Path) -> list[dict[str, Any]]:
    """The whole lines of a corpus's journal, its head left out: outcomes, and the notes of calls that go out."""
    path = target.with_name(f"{target.name}.journal")
    whole = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in whole[: whole.rfind("\n") + 1].splitlines()[1:]]


def head_of(inputs: Inputs, policy: Policy = POLICY) -> dict[str, str]:
    """The head of a recording's journal."""
    return {"inputs": inputs.hash, **make_recording_plan(policy).hashes()}
