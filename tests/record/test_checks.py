"""External checks of recorded answers: run once on each, stored beside it, and read back by a replay."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cascade.core.policy import Policy
from cascade.corpora import Item, read_corpus
from cascade.policy.binding import bind_policy
from cascade.recording.calls import make_recording_plan
from cascade.recording.completeness import holds_samples
from cascade.recording.inputs import read_inputs
from cascade.recording.opening import is_complete
from cascade.recording.progress import Settings
from cascade.recording.samples import SampleOptions, with_samples
from cascade.replay.driver import replay_item

from .conftest import POLICY, Record
from .test_samples import Emulate, corpus, emulate

__all__ = ["corpus", "emulate"]  # fixtures

PROGRAM = """import json, sys
given = json.load(sys.stdin)
with open(sys.argv[1], "a") as log:
    log.write(json.dumps([given["request"]["messages"][-1]["content"], given["answer"]]) + "\\n")
sys.exit(2 if given["answer"] == "C" else not given["answer"].startswith(sys.argv[2]))
"""


class Program:
    """A program that passes answers by their first letter, and cannot judge C. It logs each answer that it is given."""

    def __init__(self, home: Path) -> None:
        self.path, self.log = home / "check.py", home / "log"
        self.path.write_text(PROGRAM)
        self.log.touch()

    def policy(self, letter: str = "A", samples: int = 3, **check: Any) -> Policy:
        """The policy with this program as its check, and samples that a judge groups."""
        command = [sys.executable, str(self.path), str(self.log), letter]
        raw = POLICY.model_dump(by_alias=True, exclude_unset=True)
        raw["checks"] = [{"command": command, **check}, {"pattern": "^[^b]*$"}]
        return with_samples(Policy.model_validate(raw), SampleOptions({"haiku": samples}, (), judge=True))

    def ran(self) -> Counter[str]:
        """How often it was given each answer to each question; then the log is empty."""
        found = Counter(self.log.read_text().splitlines())
        self.log.write_text("")
        return found


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """The program."""
    return Program(tmp_path)


def items_in(tmp_path: Path) -> tuple[Item, ...]:
    """The recorded items."""
    return read_corpus(tmp_path / "corpus.jsonl").items


def name_of(policy: Policy) -> str:
    """The check's name."""
    return bind_policy(policy).shared_verifiers[0].name


def test_every_answered_sample_is_checked_once_and_stored(
    record: Record, emulate: Emulate, program: Program, tmp_path: Path
) -> None:
    """Passed, failed and could not say, with its seconds; what is no answer is not checked; the top rung is, too."""
    policy = program.policy(samples=4)
    report = record(emulate(), policy=policy)
    told: Counter[bool | None] = Counter()
    for item in items_in(tmp_path):
        assert item.replies["opus"].checks
        for reply in item.replies.values():
            for sample in reply.every:
                found = sample.check(name_of(policy))
                assert (found is None) is (sample.answer is None)
                if found is not None:
                    assert found.passed is (None if sample.answer == "C" else sample.answer.startswith("A"))
                    assert found.seconds > 0
                    told[found.passed] += 1
    assert min(told[True], told[False], told[None]) > 0
    ran = program.ran()
    assert set(ran.values()) == {1}  # equal answers to one request are checked once
    counts = report.checks[name_of(policy)]
    assert counts.passed + counts.failed + counts.unknown == ran.total()


def test_a_check_is_not_run_again_where_its_result_is_recorded(
    record: Record, emulate: Emulate, program: Program, tmp_path: Path
) -> None:
    """Not on resuming, not on a finished corpus; another command is run on every answer, and no reply is asked again."""
    emulator, policy = emulate(faults="spend_cap,after=14"), program.policy()
    assert not record(emulator, policy=policy, concurrency=1).is_final
    emulator.faults = None
    first = program.ran()
    assert first
    assert record(emulator, policy=policy).is_final
    second = program.ran()
    assert not first & second
    before = items_in(tmp_path)
    record(emulator, policy=policy, grader="exact")
    assert not program.ran()
    assert [item.replies["haiku"].checks for item in items_in(tmp_path)] == [i.replies["haiku"].checks for i in before]
    report = record(emulator, policy=program.policy("B"))
    assert report.reused == 4 * 5  # of the groupings, those of other samples than before are new
    third = program.ran()
    assert third == first + second
    counts = report.checks[name_of(policy)]
    assert counts.passed + counts.failed + counts.unknown == third.total()


def test_a_finished_corpus_lacks_what_another_check_would_say(
    record: Record, emulate: Emulate, program: Program, tmp_path: Path, source: Path
) -> None:
    """So the recording goes on for it, and is complete for the check that was run."""
    policy, target, inputs = program.policy(), tmp_path / "corpus.jsonl", read_inputs(source)
    record(emulate(), policy=policy)
    assert is_complete(Settings(policy, target), inputs)
    assert holds_samples(read_corpus(target), make_recording_plan(policy))
    assert not is_complete(Settings(program.policy("B"), target), inputs)
    assert not is_complete(Settings(program.policy(samples=4), target), inputs)


@pytest.mark.parametrize("on_error", ["climb", "pass"])
def test_a_replay_finds_the_groups_of_the_samples_that_passed(
    record: Record, emulate: Emulate, program: Program, tmp_path: Path, on_error: str
) -> None:
    """A sample that fails a check agrees with nothing, so no judge is asked about it, in recording as in replay."""
    policy = program.policy(samples=5, on_error=on_error)
    record(emulate(), policy=policy)
    judged = 0
    for agree in range(2, 6):
        raw = policy.model_dump(by_alias=True, exclude_unset=True)
        raw["ladder"][0]["samples"]["agree"] = agree
        plan = bind_policy(Policy.model_validate(raw))
        for item in items_in(tmp_path):
            answer = replay_item(plan, item)
            judged += sum(sample.is_judge for step in answer.steps for sample in step.samples)
    assert judged > 0
