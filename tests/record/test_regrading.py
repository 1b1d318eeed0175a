"""Grading afterwards: replies that were paid are graded, or graded by another, without a call for one of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cascade.core.errors import ConfigurationError
from cascade.corpora import Corpus, read_corpus, write_corpus
from cascade.policy.binding import bind_policy
from cascade.recording.inputs import read_inputs
from cascade.recording.journal import Journal, journal_path
from cascade.recording.opening import is_complete
from cascade.recording.progress import Settings
from cascade.recording.regrading import entries_from_corpus

from .conftest import POLICY, YAML, Here, Killer, Record, Start, head_of
from .test_judging import COST, bare, fair, verdicts

Emulate = Callable[..., Killer]
NOT_GRADED = "cascade: no grader, so scores will be null; the same command with --grader grades them later without further calls\n"


@pytest.fixture
def corpus(corpus: Corpus) -> Corpus:
    """Six items, of which one was declined by its first rung, and one was cached."""
    return replace(corpus, items=corpus.items[:6])


@pytest.fixture
def home(corpus: Corpus, tmp_path: Path) -> Path:
    """A folder with inputs of which nobody says who grades them, and the policy."""
    items = [{"id": i.id, "input": i.input, "expected": i.expected, **(i.extra or {})} for i in corpus.items]
    (tmp_path / "bare.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items), encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(YAML, encoding="utf-8")
    return tmp_path


COMMAND = ("bare.jsonl", "-o", "c.jsonl", "-p", "policy.yaml")


def scores(path: Path) -> list[float | None]:
    """Every reply's, in order."""
    return [reply.score for item in read_corpus(path).items for reply in item.replies.values()]


def test_without_a_grader_it_is_told_before_a_call_is_paid_and_graded_later_for_nothing(
    corpus: Corpus, emulate: Emulate, home: Path
) -> None:
    """First null scores and a warning; then the same command with --grader: no call, all scores, no key needed."""
    emulator = emulate(corpus)
    out, err = Here(home, emulator, *COMMAND).communicate(timeout=60)
    assert err == NOT_GRADED
    assert out.endswith("USD in all; not graded\n")
    assert "--grader" not in out
    assert set(scores(home / "c.jsonl")) == {None, 0.0}
    process = Here(home, emulator, *COMMAND, "--grader", "exact")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("6 of 6 items of c.jsonl graded anew with exact; 0 calls in this run, 18 replies taken from")
    made = read_corpus(home / "c.jsonl")
    assert [item.replies for item in made.items] == [item.replies for item in corpus.items]
    assert made.manifest.grader == "exact"
    assert emulator.billed.replies == 18
    assert not list(home.glob("*.journal"))
    out, _ = Here(home, emulator, *COMMAND, "--grader", "exact").communicate(timeout=60)
    assert "no call was made" in out


def test_the_warning_comes_before_the_first_call(corpus: Corpus, emulate: Emulate, home: Path) -> None:
    """Where the very first call is refused, it was said already."""
    process = Here(home, emulate(corpus, faults="spend_cap"), *COMMAND, "--concurrency", "1")
    out, err = process.communicate(timeout=60)
    assert err.startswith(NOT_GRADED)
    assert out.startswith("0 of 6 items recorded, c.jsonl is not written yet; 1 calls")


def test_an_unknown_grader_is_refused_on_a_finished_recording_too(corpus: Corpus, emulate: Emulate, home: Path) -> None:
    """Exit 2 in one line, and the corpus is as it was."""
    emulator = emulate(corpus)
    Here(home, emulator, *COMMAND, "--grader", "exact").communicate(timeout=60)
    before = (home / "c.jsonl").read_bytes()
    for grader, why in (("bogus", "none called 'bogus'"), ("judge:fable", "fable")):
        process = Here(home, emulator, *COMMAND, "--grader", grader)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (2, "")
        assert why in err
        assert len(err.splitlines()) == 1
    assert (home / "c.jsonl").read_bytes() == before
    assert not list(home.glob("*.journal"))


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("fault", ["", "refusal,model=claude-haiku-5-5", "prose,model=claude-sonnet-5-5"])
def test_graded_anew_it_is_what_it_would_have_been_at_once(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path, suffix: str, fault: str
) -> None:
    """Byte for byte, whatever came back, and with a baseline of its own; in any form of a corpus."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    inputs, options = bare(corpus), {"baseline": "sonnet", "concurrency": 1}
    at_once, later = tmp_path / f"corpus{suffix}", tmp_path / "later" / f"corpus{suffix}"
    later.parent.mkdir()
    record(emulate(corpus, faults=fault or None), inputs=inputs, grader="exact", target=at_once, **options)
    emulator = emulate(corpus, faults=fault or None)
    first = record(emulator, inputs=inputs, grader="contains", target=later, **options)
    again = record(emulator, inputs=inputs, grader="exact", target=later, **options)
    assert (again.calls, again.reused, again.regraded, again.spent) == (0, 24, True, first.spent)
    assert later.read_bytes() == at_once.read_bytes()
    assert emulator.billed.replies == 24


def test_what_the_inputs_say_now_is_what_is_graded_against(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """An expected answer that was wanting, or was repaired, is no reason to pay again."""
    emulator, target = emulate(corpus), tmp_path / "corpus.jsonl"
    record(emulator, inputs=bare(corpus, expected=False), grader="exact")
    assert set(scores(target)) == {0.0, 1.0}  # by agreement with the baseline
    record(emulator, inputs=bare(corpus), grader="exact")
    assert read_corpus(target).items == corpus.items
    assert emulator.billed.replies == 18


def test_without_a_grader_a_graded_corpus_keeps_its_own(
    corpus: Corpus, emulate: Emulate, home: Path, tmp_path: Path
) -> None:
    """To leave the option out takes no score away, even where a kill left the journal beside the whole corpus."""
    emulator = emulate(corpus)
    Here(home, emulator, *COMMAND, "--grader", "exact", "--name", "mine").communicate(timeout=60)
    before = (home / "c.jsonl").read_bytes()
    inputs = read_inputs(home / "bare.jsonl")
    assert is_complete(Settings(POLICY, tmp_path / "c.jsonl"), inputs)
    with Journal.open(journal_path(home / "c.jsonl"), head_of(inputs)) as journal:
        for entry in entries_from_corpus(read_corpus(home / "c.jsonl"), bind_policy(POLICY)):
            journal.append(entry)
            break
    process = Here(home, emulator, *COMMAND)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert (home / "c.jsonl").read_bytes() == before
    assert emulator.billed.replies == 18
    assert not list(home.glob("*.journal"))


def test_a_judge_is_paid_afterwards_and_nobody_else(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """Its spend is told apart and counts toward the cap; until all is judged the corpus stays as it was, and whole."""
    emulator, target = emulate(corpus, verdicts(corpus, fair)), tmp_path / "corpus.jsonl"
    first = record(emulator, inputs=bare(corpus), grader="contains")
    before = target.read_bytes()
    short = record(emulator, inputs=bare(corpus), grader="judge", cap=first.spent + 2 * COST, concurrency=1)
    assert short.stop is not None
    assert (short.stop.kind, short.is_final) == ("cap", False)
    assert first.spent < short.spent < first.spent + 2 * COST + short.overshoot
    assert target.read_bytes() == before
    done = record(emulator, inputs=bare(corpus), grader="judge")
    assert done.judge is not None
    assert done.judge.cost == done.judge.judged * COST == done.spent - first.spent
    assert emulator.billed.replies == 18 + done.judge.judged == 18 + short.calls + done.calls
    assert max(emulator.asked.values()) == 1
    assert read_corpus(target).items == corpus.items
    assert is_complete(Settings(POLICY, target, grader="judge:opus"), bare(corpus))  # it is the one that graded
    assert not is_complete(Settings(POLICY, target, grader="judge:sonnet"), bare(corpus))


def test_killed_while_a_judge_grades_anew_no_reply_is_asked_again(
    start: Start, corpus: Corpus, emulate: Emulate, home: Path
) -> None:
    """The journal is made again from the corpus: a kill in the midst of that, or of judging, leaves the corpus whole."""
    emulator = emulate(corpus, verdicts(corpus, fair))
    Here(home, emulator, *COMMAND).communicate(timeout=60)
    before = (home / "c.jsonl").read_bytes()
    process = start(home, emulator, *COMMAND, "--grader", "judge")
    emulator.arm(process.child, 3, at_bill=False)
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert (home / "c.jsonl").read_bytes() == before
    journal = journal_path(home / "c.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) > 18
    journal.write_bytes(b"".join(lines[:5]))  # as if killed while it was made
    process = Here(home, emulator, *COMMAND, "--grader", "judge", "--json")
    told = json.loads(process.communicate(timeout=60)[0])
    assert (process.returncode, told["final"], told["graded_anew"]) == (0, True, True)
    assert told["calls"] == told["judge"]["judged"]
    rungs = {"claude-haiku-5-5", "claude-sonnet-5-5"}
    assert all(times == 1 for (model, _), times in emulator.asked.items() if model in rungs)
    made = read_corpus(home / "c.jsonl")
    assert [item.replies for item in made.items] == [item.replies for item in corpus.items]


def test_who_is_right_by_definition_is_kept_and_told_in_a_replay(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without expected answers the judge's reference scores 1 because it is the reference: the manifest says so."""
    pytest.importorskip("numpy")
    from cascade.replay.run import ReplayOptions, replay_corpus  # noqa: PLC0415 - an extra

    emulator = emulate(corpus, verdicts(corpus, fair))
    record(emulator, inputs=bare(corpus, expected=False), grader="judge")
    manifest = read_corpus(tmp_path / "corpus.jsonl").manifest
    assert manifest.extra is not None
    told = {"rung": "opus", "model": "claude-opus-5-5", "right_by_definition": 6, "controls": 12, "error": 0.0}
    assert manifest.extra["recorded"]["judge"] == told
    note = "opus is right by definition on 6 items: it was the judge's reference"
    assert note in replay_corpus(tmp_path / "corpus.jsonl", ReplayOptions()).notes
    record(emulate(corpus), target=tmp_path / "exact.jsonl", inputs=bare(corpus), grader="exact")
    assert not [one for one in replay_corpus(tmp_path / "exact.jsonl", ReplayOptions()).notes if "by definition" in one]


def test_a_manifest_that_says_nonsense_of_a_judge_is_no_trouble(corpus: Corpus) -> None:
    """What comes from elsewhere may hold anything under our keys."""
    for told in (3, {"judge": 3}, {"judge": {"right_by_definition": "6"}}, {"judge": {"right_by_definition": 6}}):
        assert replace(corpus.manifest, extra={"recorded": told}).right_by_definition is None
    apart = {"judge": {"right_by_definition": 2}, "baseline": {"rung": None, "model": "m"}}
    assert replace(corpus.manifest, extra={"recorded": apart}).right_by_definition == ("m (plain)", 2)


@pytest.mark.parametrize("name", ["m.txt", "m.json", "m.jsonl.zst", "m"])
def test_a_name_that_is_no_corpuss_is_refused_before_anything_is_paid(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path, name: str
) -> None:
    """It would hold JSON lines under a name that says something else."""
    emulator = emulate(corpus)
    with pytest.raises(ConfigurationError, match=r"\.jsonl, \.jsonl\.gz, \.parquet"):
        record(emulator, target=tmp_path / name)
    assert not emulator.requests
    assert [path.name for path in tmp_path.iterdir()] == ["inputs.jsonl"]


def test_a_corpus_is_on_the_disk_before_it_has_its_name(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole draft is synced while the old file still stands, and the folder once the new one does."""
    target = tmp_path / "c.jsonl"
    target.write_bytes(b"old")
    seen: list[tuple[bool, bool, int]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        about = os.fstat(descriptor)
        seen.append((target.read_bytes() == b"old", os.path.samestat(about, tmp_path.stat()), about.st_size))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write_corpus(target, corpus.manifest, corpus.items)
    assert seen[0] == (True, False, target.stat().st_size)
    assert [(old, folder) for old, folder, _ in seen[1:]] == [(False, True)]
