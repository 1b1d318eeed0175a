"""Killed at any moment, a recording goes on: nothing paid is lost, nothing is asked twice, the corpus is the same."""

from __future__ import annotations

import json
import os
import random
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from cascade.core.errors import CorpusError
from cascade.core.policy import Policy
from cascade.corpora import Corpus, read_corpus, write_corpus
from cascade.emulator.server import SeenRequest
from cascade.recording.inputs import read_inputs
from cascade.recording.journal import Journal

from .conftest import OPUS, POLICY, YAML, Here, Killer, Record, Start, head_of, journal_of, lines_of, make_corpus

Emulate = Callable[..., Killer]
CONCURRENCY = 3


def test_killed_again_and_again_it_pays_each_call_once(start: Start, emulate: Emulate, tmp_path: Path) -> None:
    """Five times kill -9 while it asks or is billed: the corpus is that of an undisturbed run, byte for byte.

    What is in the journal is never asked again; so a call is paid twice only where it was in flight at a kill.
    """
    chance = random.Random(11)
    corpus = make_corpus(20)
    write_corpus(tmp_path / "inputs.jsonl", corpus.manifest, corpus.items)
    (tmp_path / "policy.yaml").write_text(YAML, encoding="utf-8")
    command = ["inputs.jsonl", "--policy", "policy.yaml", "--concurrency", str(CONCURRENCY), "-o"]
    emulator = emulate(corpus, token_latency_s=0.002, faults="overloaded=0.1,reset=0.1,server_error=0.1,rate_limit=0.1,retry_after=0.01")  # fmt: skip
    target = tmp_path / "corpus.jsonl"
    texts = {item.id: f"question {number}?" for number, item in enumerate(corpus.items)}
    models = {"haiku": "claude-haiku-5-5", "sonnet": "claude-sonnet-5-5", "opus": OPUS}
    for kill in range(3):
        known = {(models[entry["ask"]], texts[entry["item"]]) for entry in journal_of(target)}
        before = {call: emulator.asked[call] for call in known}
        process = start(tmp_path, emulator, *command, "corpus.jsonl")
        emulator.arm(process.child, chance.randrange(1, 14), at_bill=kill % 2 == 1)
        process.communicate(timeout=60)
        assert process.returncode == -9
        assert {call: emulator.asked[call] for call in known} == before
        assert len(known) <= len(journal_of(target))
        lost = emulator.billed.replies - len(journal_of(target))
        assert lost <= CONCURRENCY * (kill + 1)
        if target.exists():  # whatever the moment, it can be read, and what it holds is right
            held = {item.id: item for item in corpus.items}
            assert all(item == held[item.id] for item in read_corpus(target).items)
    process = start(tmp_path, emulator, *command, "corpus.jsonl")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert 60 <= emulator.billed.replies <= 60 + 5 * CONCURRENCY
    calm = emulate(corpus)
    process = Here(tmp_path, calm, *command, "calm.jsonl", "--name", "small")
    process.communicate(timeout=60)
    assert calm.billed.replies == 60
    assert target.read_bytes() == (tmp_path / "calm.jsonl").read_bytes()
    assert read_corpus(target).items == corpus.items
    assert not list(tmp_path.glob("*.journal"))
    assert not list(tmp_path.glob(".corpus*"))


def test_a_torn_last_line_is_dropped_and_asked_again(
    corpus: Corpus, record: Record, emulate: Emulate, source: Path, tmp_path: Path
) -> None:
    """Only its call is made again; every whole line before it counts. What it may have cost is not forgotten."""
    emulator = emulate(corpus, faults=f"spend_cap,after=8,model={OPUS}")
    record(emulator, concurrency=1)
    journal = tmp_path / "corpus.jsonl.journal"
    paid = [line for line in journal_of(tmp_path / "corpus.jsonl") if "failure" not in line]
    lines = journal.read_bytes().splitlines(keepends=True)
    whole = b"".join(lines[: max(number for number, line in enumerate(lines, 1) if b'"verdict"' in line)])
    for cut in (1, 2, 40):
        journal.write_bytes(whole[:-cut])
        emulator.faults = None
        with Journal.open(journal, head_of(read_inputs(source))) as opened:
            assert len(opened.replies) == len(paid) - 1
            assert [call["item"] for call in opened.unanswered.values()] == [paid[-1]["item"]]
    report = record(emulator)
    assert (report.reused, report.calls, report.unanswered) == (len(paid) - 1, 36 - len(paid) + 1, 1)
    assert read_corpus(tmp_path / "corpus.jsonl").items == corpus.items


def _begun(record: Record, emulate: Emulate, corpus: Corpus) -> Killer:
    emulator = emulate(corpus, faults="spend_cap,after=10")
    record(emulator, concurrency=1)
    emulator.faults = None
    return emulator


def _with_ladder(index: int, **values: object) -> Policy:
    raw = POLICY.model_dump(by_alias=True, exclude_unset=True)
    raw["ladder"] = [one | (values if at == index else {}) for at, one in enumerate(raw["ladder"])]
    return Policy.model_validate(raw)


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (_with_ladder(0, max_tokens=65), "the policy's ladder or triage changed"),
        (_with_ladder(1, effort="high"), "the policy's ladder or triage changed"),
        (_with_ladder(0, rung="first"), "the policy's ladder or triage changed"),
        (POLICY.model_copy(update={"triage": POLICY.triage.model_copy(update={"order": "answer_first"})}), "triage changed"),
    ],
)  # fmt: skip
def test_another_ladder_is_not_mixed_in(
    corpus: Corpus, record: Record, emulate: Emulate, policy: Policy, why: str
) -> None:
    """What shapes the replies must be as it was: refused in one line, before a call, and the journal stays."""
    emulator = _begun(record, emulate, corpus)
    asked = len(emulator.requests)
    with pytest.raises(CorpusError, match=why):
        record(emulator, policy=policy)
    assert len(emulator.requests) == asked
    assert record(emulator).is_final


def test_other_inputs_rungs_or_another_baseline_are_not_mixed_in(
    corpus: Corpus, record: Record, emulate: Emulate, source: Path
) -> None:
    """Each of them is named."""
    emulator = _begun(record, emulate, corpus)
    inputs = read_inputs(source)
    other = replace(inputs, items=(structs.replace(inputs.items[0], input="changed"), *inputs.items[1:]))
    with pytest.raises(CorpusError, match="the inputs changed since"):
        record(emulator, inputs=other)
    with pytest.raises(CorpusError, match="the inputs changed since"):
        record(emulator, inputs=replace(inputs, items=inputs.items[:-1]))
    with pytest.raises(CorpusError, match="ladder or triage changed since"):
        record(emulator, rungs=("haiku",))
    with pytest.raises(CorpusError, match="the baseline changed since"):
        record(emulator, baseline="sonnet")


def test_what_does_not_shape_a_reply_may_change(corpus: Corpus, record: Record, emulate: Emulate) -> None:
    """Thresholds are what a corpus is there to choose; a time-out, a price and the grader are no reason to pay again."""
    emulator = _begun(record, emulate, corpus)
    report = record(emulator, policy=_with_ladder(0, threshold=0.3, timeout_s=9.0), grader="normalized")
    assert report.is_final
    assert emulator.billed.replies == 36


def test_two_recorders_never_share_a_journal(source: Path, tmp_path: Path) -> None:
    """The second is turned away."""
    path, head = tmp_path / "corpus.jsonl.journal", head_of(read_inputs(source))
    with Journal.open(path, head), pytest.raises(CorpusError, match="another `cascade record`"):
        Journal.open(path, head)
    with Journal.open(path, head) as again:
        assert not again.replies


class Witness(Killer):
    """Looks into a journal at the very moment that a call comes in."""

    journal: Path | None = None
    noted: list[bool] = []  # noqa: RUF012 - one of these in a test

    def note(self, request: SeenRequest) -> None:
        """Whether a call without an outcome stands in the journal for this one."""
        assert self.journal is not None
        lines = lines_of(self.journal)
        answered = {line["call"] for line in lines if "call" in line}
        asked = [line["ask"] for line in lines if "open" in line and line["open"] not in answered]
        self.noted.append(any(rung in request.body["model"] for rung in asked))
        super().note(request)


def test_every_call_is_noted_before_it_goes_out_at_one_fsync_a_call(
    corpus: Corpus, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the endpoint hears of a call its note is in the journal; a note's fsync covers the reply before it."""
    synced: list[bool] = []
    fsync = os.fsync
    journal = tmp_path / "corpus.jsonl.journal"

    def counted(descriptor: int) -> None:
        synced.append(journal.exists() and os.path.samestat(os.fstat(descriptor), journal.stat()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    with Witness(corpus) as emulator:
        emulator.journal, emulator.noted = tmp_path / "corpus.jsonl", []
        assert record(emulator, concurrency=1).is_final
    assert emulator.noted == [True] * 36
    assert sum(synced) == 1 + 36 + 12  # its head, one a call, and one an item: its last reply waits for no call


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"journal": "cascade record", "version": 1}\n', "not a journal of this version"),
        ('{"corpus": "x", "version": 1}\n', "not a journal of this version"),
        ("not JSON\n", "journal:1: is damaged"),
        ("[]\n", "journal:1: is damaged"),
    ],
)
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, text: str, why: str) -> None:
    """It is refused in one line and not touched."""
    path = tmp_path / "corpus.jsonl.journal"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match=why):
        Journal.open(path, {"inputs": "a"})
    assert path.read_text(encoding="utf-8") == text


def test_a_damaged_line_in_the_middle_is_named(source: Path, tmp_path: Path) -> None:
    """It is nothing a kill does: somebody has to look."""
    path, head = tmp_path / "corpus.jsonl.journal", head_of(read_inputs(source))
    with Journal.open(path, head) as journal:
        journal.append({"item": "i-0", "ask": "haiku", "cost": 1})
    path.write_bytes(path.read_bytes() + b'{"item": "i-1", "as\n{"item": "i-2"}\n')
    with pytest.raises(CorpusError, match=r"journal:3: is damaged"):
        Journal.open(path, head)


def test_the_journal_holds_no_input_and_nobody_else_may_read_it(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """Answers it must hold; the inputs are in their own file."""
    _begun(record, emulate, corpus)
    journal = tmp_path / "corpus.jsonl.journal"
    assert "question" not in journal.read_text(encoding="utf-8")
    assert journal.stat().st_mode & 0o077 == 0
    assert set(json.loads(journal.read_text(encoding="utf-8").splitlines()[0])) == {
        "journal",
        "version",
        "inputs",
        "ladder",
        "baseline",
    }


def test_a_journal_that_cannot_be_written_ends_it_before_a_call_is_paid(
    source: Path, tmp_path: Path, record: Record, emulate: Emulate, corpus: Corpus
) -> None:
    """A folder that is not there, a disk that is full: one line with what to do, and no number for a call."""
    emulator = emulate(corpus)
    with pytest.raises(CorpusError, match=r"nowhere/c\.jsonl\.journal: cannot be written: .* \(check the path"):
        record(emulator, target=tmp_path / "nowhere" / "c.jsonl")
    assert not emulator.requests
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no device here that is always full")
    with Journal(tmp_path / "c.jsonl.journal", os.open(full, os.O_RDWR)) as journal:
        with pytest.raises(CorpusError, match=r"c\.jsonl\.journal: cannot be written: .* \(make room"):
            journal.open_call("i-0", "haiku", 100)
        assert not journal.unanswered


def test_a_draft_that_a_kill_left_is_cleared_away(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """Killed in the middle of writing the corpus, half a file lies beside it: not for long, and nobody else's goes."""
    _begun(record, emulate, corpus)
    (tmp_path / ".corpus.jsonl.4711").write_text("half a cor")
    (tmp_path / ".other.jsonl.4711").write_text("somebody else's")
    assert record(emulate(corpus)).is_final
    assert [path.name for path in tmp_path.glob(".*")] == [".other.jsonl.4711"]


def test_a_line_that_found_no_room_leaves_no_part_of_itself(tmp_path: Path) -> None:
    """What is written once there is room again is read as a line of its own; a limit of a file's size stands for the disk's."""
    path, head = tmp_path / "c.jsonl.journal", {"inputs": "a", "ladder": "b", "baseline": "c"}
    with Journal.open(path, head) as journal:
        room = path.stat().st_size + 10
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            with pytest.raises(CorpusError, match=r"cannot be written: File too large \(make room"):
                journal.open_call("i-1", "haiku", 500)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        journal.open_call("i-2", "haiku", 600)
    with Journal.open(path, head) as journal:
        assert [one["item"] for one in journal.unanswered.values()] == ["i-2"]
