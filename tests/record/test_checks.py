"""External checks of recorded answers: run once on each, stored beside it, and read back by a replay."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cascade.core.errors import ConfigurationError
from cascade.core.messages import Request
from cascade.core.plans import BoundVerifier
from cascade.core.policy import Policy
from cascade.core.trail import CheckResult
from cascade.corpora import Item, read_corpus
from cascade.recording.calls import make_recording_plan
from cascade.recording.checking import CheckCounts
from cascade.recording.completeness import holds_samples
from cascade.recording.inputs import read_inputs
from cascade.recording.opening import OpenRecording, open_recording
from cascade.recording.progress import Report, Settings
from cascade.recording.recorder import Recorder
from cascade.recording.samples import SampleOptions, with_samples
from cascade.replay.driver import replay_item

from .conftest import POLICY, Killer
from .test_samples import Emulate, corpus, emulate

__all__ = ["corpus", "emulate"]  # fixtures

STARTS_WITH_A = "import sys; text = sys.stdin.read(); sys.exit(2 if text == 'C' else not text.startswith('A'))"
STARTS = BoundVerifier("starts", (sys.executable, "-c", STARTS_WITH_A))
THREE = with_samples(POLICY, SampleOptions({"haiku": 3}, (), judge=True))


class Programs:
    """Runs programs on answers: exit 0 passes, 1 fails, anything else could not say. Counts the answers."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()

    def __call__(self, verifier: BoundVerifier, answer: str, request: Request) -> CheckResult:
        self.ran[f"{request.user_text()} {answer}"] += 1
        began = time.monotonic()
        ended = subprocess.run(verifier.command, input=answer, text=True, check=False)
        passed = {0: True, 1: False}.get(ended.returncode)
        return CheckResult(verifier.name, passed, verifier.blocks, time.monotonic() - began)


def opened(settings: Settings, source: Path, verifiers: tuple[BoundVerifier, ...]) -> OpenRecording:
    """A recording whose policy has these external checks."""
    recording = open_recording(settings, read_inputs(source))
    plan = replace(recording.plan, plan=replace(recording.plan.plan, shared_verifiers=verifiers))
    return replace(recording, plan=plan)


def checked(emulator: Killer, recording: OpenRecording) -> Report:
    """Record it."""

    async def go() -> Report:
        async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="test") as client:
            return await Recorder(recording, client, time.monotonic, random.Random(1), None).run()

    return asyncio.run(go())


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a recording with checks."""
    return lambda **keys: Settings(THREE, tmp_path / "corpus.jsonl", verify=Programs(), **keys)


def items_in(tmp_path: Path) -> tuple[Item, ...]:
    """The recorded items."""
    return read_corpus(tmp_path / "corpus.jsonl").items


def test_every_answered_sample_is_checked_once_and_stored(
    emulate: Emulate, settings: Callable[..., Settings], source: Path, tmp_path: Path
) -> None:
    """Passed, failed and could not say, with its seconds; what is no answer is not checked; the top rung is, too."""
    chosen = settings()
    report = checked(emulate(), opened(chosen, source, (STARTS,)))
    told: Counter[bool | None] = Counter()
    for item in items_in(tmp_path):
        for reply in item.replies.values():
            for sample in reply.every:
                found = sample.check("starts")
                assert (found is None) is (sample.answer is None)
                if found is not None:
                    assert found.passed is (None if sample.answer == "C" else sample.answer.startswith("A"))
                    assert found.seconds > 0
                    told[found.passed] += 1
    assert min(told[True], told[False], told[None]) > 0
    programs: Any = chosen.verify
    assert set(programs.ran.values()) == {1}  # equal answers to one request are checked once
    counts = report.checks["starts"]
    assert sum((counts.passed, counts.failed, counts.unknown)) == programs.ran.total()


def test_a_check_is_not_run_again_where_its_result_is_recorded(
    emulate: Emulate, settings: Callable[..., Settings], source: Path, tmp_path: Path
) -> None:
    """Not on resuming, not on a finished corpus; another command under the same name is run on every answer."""
    emulator = emulate(faults="spend_cap,after=14")
    first, second, third = settings(concurrency=1), settings(), settings(grader="exact")
    assert not checked(emulator, opened(first, source, (STARTS,))).is_final
    emulator.faults = None
    assert checked(emulator, opened(second, source, (STARTS,))).is_final
    ran: list[Any] = [first.verify, second.verify, third.verify]
    assert ran[0].ran
    assert not ran[0].ran & ran[1].ran
    before = items_in(tmp_path)
    checked(emulator, opened(third, source, (STARTS,)))
    assert not ran[2].ran
    assert [item.replies["haiku"].checks for item in items_in(tmp_path)] == [i.replies["haiku"].checks for i in before]
    other, fourth = BoundVerifier("starts", (sys.executable, "-c", "")), settings(grader="normalized")
    report = checked(emulator, opened(fourth, source, (other,)))
    assert report.reused == 4 * 5  # every reply; of the groupings, those of other samples than before are new
    answers: Any = fourth.verify
    assert report.checks["starts"] == CheckCounts(passed=answers.ran.total())
    assert {one.passed for i in items_in(tmp_path) for r in i.replies.values() for s in r.every if (one := s.check("starts"))} == {True}  # fmt: skip


def test_a_finished_corpus_lacks_what_another_check_would_say(
    emulate: Emulate, settings: Callable[..., Settings], source: Path, tmp_path: Path
) -> None:
    """So the recording goes on for it, and is complete for the check that was run."""
    recording = opened(settings(), source, (STARTS,))
    checked(emulate(), recording)
    corpus = read_corpus(tmp_path / "corpus.jsonl")
    assert holds_samples(corpus, recording.plan)
    other = replace(recording.plan.plan, shared_verifiers=(BoundVerifier("starts", ("true",)),))
    assert not holds_samples(corpus, replace(recording.plan, plan=other))
    more = make_recording_plan(with_samples(POLICY, SampleOptions({"haiku": 4}, (), judge=True)))
    assert not holds_samples(corpus, more)


@pytest.mark.parametrize("blocks", [True, False])
def test_a_replay_finds_the_groups_of_the_samples_that_passed(
    emulate: Emulate, settings: Callable[..., Settings], source: Path, tmp_path: Path, *, blocks: bool
) -> None:
    """A sample that fails a check agrees with nothing, so no judge is asked about it, in recording as in replay."""
    verifier = replace(STARTS, blocks=blocks)
    policy = Policy.model_validate(
        THREE.model_dump(by_alias=True, exclude_unset=True) | {"checks": [{"pattern": "^[^b]*$"}]}
    )
    recording = opened(replace(settings(), policy=policy), source, (verifier,))
    checked(emulate(), recording)
    votes = 0
    for item in items_in(tmp_path):
        answer = replay_item(recording.plan.plan, item)
        votes += sum(len(step.samples) for step in answer.steps)
    assert votes > 0


def test_without_anything_to_run_it_a_check_is_refused(emulate: Emulate, source: Path, tmp_path: Path) -> None:
    """It is never left out in silence."""
    recording = opened(Settings(POLICY, tmp_path / "corpus.jsonl"), source, (STARTS,))
    with pytest.raises((ConfigurationError, ExceptionGroup)) as raised:
        checked(emulate(), recording)
    assert "nothing runs the check 'starts'" in repr(raised.value)
