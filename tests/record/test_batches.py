"""`record --batch`: the same corpus at half the price, and no call paid twice, whenever it is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import pytest
from msgspec.structs import replace

from cascade.core.errors import CorpusError
from cascade.corpora import Corpus, read_corpus
from cascade.emulator import Emulator
from cascade.emulator.server import SeenRequest
from cascade.policy.loading import load_policy
from cascade.recording.batching import batches_path
from cascade.recording.inputs import Inputs, read_inputs
from cascade.recording.journal import journal_path
from cascade.recording.progress import Report, Settings
from cascade.recording.recorder import Recorder
from cascade.recording.samples import SampleOptions, with_samples

from .conftest import POLICY, YAML, Here, Start, journal_of, make_corpus
from .test_judging import bare, fair, verdicts
from .test_reviews import GATED, Critical
from .test_samples import Drawn

RecordBatch = Callable[..., Report]
POLL_S = 0.01


class Striking(Emulator):
    """An emulator that kills a process at a request to a path, before or after it is answered, or as it bills."""

    victim: int | None = None
    after, at, by = 0, "", 9

    def arm(self, victim: int, at: str, after: int, by: int = 9) -> None:
        """Send `victim` the signal `by` at the `after`-th event of the kind `at`: a method and a path's end, or "number"."""
        self.at, self.after, self.by, self.victim = at, after, by, victim

    def note(self, request: SeenRequest) -> None:
        """Strike when it is asked."""
        super().note(request)
        end = request.path.split("?")[0].rsplit("/", 1)[-1]
        self._strike(f"{request.method} {'msgbatch' if end.startswith('msgbatch') else end}")

    def next_id(self) -> int:
        """Strike when it makes a batch, or processes a request: each takes a number."""
        self._strike("number")
        return super().next_id()

    def _strike(self, kind: str) -> None:
        if self.victim is not None and kind == self.at:
            self.after -= 1
            if self.after <= 0:
                victim, self.victim = self.victim, None
                os.kill(victim, self.by)


@pytest.fixture
def emulate() -> Iterator[Callable[..., Striking]]:
    """Start emulators; they stop when the test ends."""
    with ExitStack() as stack:
        yield lambda *corpora, **options: stack.enter_context(Striking(corpora, **options))


Emulate = Callable[..., Striking]


def recorded(emulator: Emulator, inputs: Inputs, target: Path, *, batch: bool = True, **options: Any) -> Report:
    """Record in this process."""
    settings = Settings(options.pop("policy", POLICY), target=target, batch=batch, poll_s=POLL_S, **options)
    url = emulator.base_url

    async def go() -> Report:
        if batch:
            with anthropic.Anthropic(base_url=url, api_key="test") as client:
                return await Recorder.open(settings, inputs, client=client).run()
        async with anthropic.AsyncAnthropic(base_url=url, api_key="test") as client:
            return await Recorder.open(settings, inputs, client=client).run()

    return asyncio.run(go())


def assert_same(one: Path, other: Path) -> None:
    """The two corpora hold the same, but for what the second says of batches and its name."""
    live, batched = read_corpus(one), read_corpus(other)
    assert live.items == batched.items
    told = dict(batched.manifest.extra or {})
    told["recorded"] = dict(told["recorded"])
    assert "half the price" in told["recorded"].pop("batches")
    assert (live.manifest.extra, live.manifest.grader) == (told, batched.manifest.grader)


def test_the_corpus_is_the_live_ones_and_costs_half(
    corpus: Corpus, source: Path, emulate: Emulate, tmp_path: Path
) -> None:
    """Item by item the same, costs included, which are those of live calls; all rungs in one batch; nothing is left over."""
    inputs = read_inputs(source)
    live = recorded(emulate(corpus), inputs, tmp_path / "live.jsonl", batch=False)
    emulator = emulate(corpus)
    target = tmp_path / "batch.jsonl"
    report = recorded(emulator, inputs, target)
    assert_same(tmp_path / "live.jsonl", target)
    assert (report.calls, report.reused, report.complete, report.is_final) == (36, 0, 12, True)
    assert report.spent * 2 == live.spent
    assert emulator.batches.billed.replies == emulator.billed.replies == 36
    assert len([one for one in emulator.requests if one.method == "POST"]) == 1
    assert not journal_path(target).exists()
    assert not batches_path(target).exists()


def test_what_depends_on_replies_follows_in_further_rounds(corpus: Corpus, emulate: Emulate, tmp_path: Path) -> None:
    """A judge as grader, with its controls: the same scores and the same judge's errors, in three rounds, at half the price."""
    few = Corpus(corpus.manifest, corpus.items[:6])
    known = verdicts(few, fair)
    reports = [
        recorded(emulate(few, known), bare(few), tmp_path / f"{batch}.jsonl", batch=batch, grader="judge")
        for batch in (False, True)
    ]
    assert_same(tmp_path / "False.jsonl", tmp_path / "True.jsonl")
    live, batched = reports
    assert live.judge is not None
    assert batched.judge is not None
    assert batched.spent * 2 == live.spent
    assert batched.judge.cost * 2 == live.judge.cost
    assert (batched.judge.judged, batched.judge.controls) == (live.judge.judged, live.judge.controls)
    assert batched.calls == live.calls


def test_grades_by_definition_are_counted_once(corpus: Corpus, emulate: Emulate, tmp_path: Path) -> None:
    """However often an item is looked at before its last judgement is there."""
    few = Corpus(corpus.manifest, corpus.items[:6])
    report = recorded(
        emulate(few, verdicts(few, fair)), bare(few, expected=False), tmp_path / "a.jsonl", grader="judge"
    )
    assert report.judge is not None
    assert (report.complete, report.judge.by_definition) == (6, 6)


def test_samples_their_judge_and_reviews_are_recorded_as_live(emulate: Emulate, tmp_path: Path) -> None:
    """Votes on free text, grouped by a judge for every prefix, and a review gate: as many calls, for half the price."""
    corpus = make_corpus(6)
    texts = [replace(item, input=f"question {n}?", expected="A") for n, item in enumerate(corpus.items)]
    inputs = Inputs(tuple(replace(item, replies={}) for item in texts))
    sampled = with_samples(POLICY, SampleOptions({"haiku": 4}, (), judge=True))
    for policy, answers in ((sampled, Drawn), (GATED, Critical)):
        reports: list[Report] = []
        for batch in (False, True):
            emulator = emulate(corpus)
            emulator.answers = answers(Corpus(corpus.manifest, tuple(texts)))
            target = tmp_path / f"{answers.__name__}-{batch}.jsonl"
            reports.append(
                recorded(emulator, inputs, target, batch=batch, policy=policy, grader="normalized", concurrency=1)
            )
            if batch:
                assert set(emulator.batches.processed.values()) == {1}
        live, batched = reports
        assert (batched.complete, batched.is_final) == (6, True)
        if answers is Critical:  # its answers do not depend on the order in which it is asked
            assert_same(tmp_path / "Critical-False.jsonl", tmp_path / "Critical-True.jsonl")
            assert batched.spent * 2 == live.spent
            assert batched.reviews is not None
            assert live.reviews is not None
            assert batched.reviews.cost * 2 == live.reviews.cost > 0
        else:
            assert batched.same is not None
            assert batched.same.groupings > 0


def test_items_that_expire_or_fail_are_asked_again_and_paid_once(
    corpus: Corpus, source: Path, emulate: Emulate, tmp_path: Path
) -> None:
    """Within a run three times; what fails then is asked again by the next run. Every prompt is paid once."""
    faults = "expired=0.3;overloaded=0.2,on=items;slow_end,polls=2;cut,on=results,times=2"
    emulator = emulate(corpus, faults=faults, seed=5)
    target, inputs = tmp_path / "corpus.jsonl", read_inputs(source)
    reports = [recorded(emulator, inputs, target)]
    assert not reports[0].is_final
    while not reports[-1].is_final:
        assert len(reports) < 8
        assert set(reports[-1].failed)
        reports.append(recorded(emulator, inputs, target))
    assert sorted(set(emulator.batches.paid.values())) == [1]
    assert emulator.batches.billed.replies == 36
    recorded(emulate(corpus), inputs, tmp_path / "live.jsonl", batch=False)
    assert_same(tmp_path / "live.jsonl", target)
    whole = sum(round((r.cost_usd or 0) * 1e9) for item in corpus.items for r in item.replies.values())
    assert reports[-1].spent * 2 == whole


KILLS = [("number", 2), ("number", 20), ("GET results", 1)]


def test_killed_in_every_phase_it_pays_each_call_once(
    start: Start, emulate: Emulate, corpus: Corpus, source: Path, tmp_path: Path
) -> None:
    """It is killed as the batch is sent, made, half processed, read, and as its lost traces are looked for: one corpus, paid once."""
    (tmp_path / "policy.yaml").write_text(YAML, encoding="utf-8")
    command = [
        source.name,
        "--policy",
        "policy.yaml",
        "--batch",
        "--poll-s",
        "0.05",
        "--max-usd",
        "1",
        "-o",
        "corpus.jsonl",
    ]
    emulator = emulate(corpus, faults="expired=0.2;slow_end,polls=1;lost,times=1", seed=2)
    for at, after in KILLS:
        process = start(tmp_path, emulator, *command)
        emulator.arm(process.child, at, after)
        process.communicate(timeout=120)
        assert process.returncode == -9
    process = start(tmp_path, emulator, *command, "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert set(emulator.batches.paid.values()) == {1}
    assert emulator.batches.billed.replies == 36
    recorded(emulate(corpus), read_inputs(source), tmp_path / "live.jsonl", batch=False)
    assert_same(tmp_path / "live.jsonl", tmp_path / "corpus.jsonl")
    whole = sum(round((r.cost_usd or 0) * 1e9) for item in corpus.items for r in item.replies.values())
    told = json.loads(out)
    assert round(told["spent_usd"] * 1e9) * 2 == whole
    assert told["unanswered"]["calls"] == 0


def test_the_cap_holds_and_a_higher_one_goes_on(corpus: Corpus, source: Path, emulate: Emulate, tmp_path: Path) -> None:
    """Calls are admitted at the most that each may cost: spent and reserved together never pass the cap by more than one call."""
    emulator, inputs, target = emulate(corpus), read_inputs(source), tmp_path / "corpus.jsonl"
    whole = sum(round((r.cost_usd or 0) * 1e9) for item in corpus.items for r in item.replies.values()) // 2
    report = recorded(emulator, inputs, target, cap=whole // 2)
    assert report.stop is not None
    assert report.stop.kind == "cap"
    assert whole // 2 <= report.spent <= whole // 2 + report.overshoot
    assert emulator.batches.billed.replies == report.calls < 36
    final = recorded(emulator, inputs, target, cap=2 * whole)
    assert (final.is_final, final.spent) == (True, whole)
    assert emulator.batches.billed.replies == 36


def test_a_recording_with_batches_under_way_is_not_resumed_live(
    corpus: Corpus, source: Path, emulate: Emulate, tmp_path: Path
) -> None:
    """Their replies are paid for: an error says to add --batch, and that collects them."""
    emulator, inputs, target = (
        emulate(corpus, faults="spend_cap,on=retrieve"),
        read_inputs(source),
        tmp_path / "c.jsonl",
    )
    report = recorded(emulator, inputs, target, policy=POLICY)
    assert report.stop is not None
    assert report.stop.kind == "refused"
    with pytest.raises(CorpusError, match=r"has calls under way in batches .*--batch"):
        recorded(emulator, inputs, target, batch=False)
    emulator.faults = None
    assert recorded(emulator, inputs, target).is_final
    assert emulator.batches.billed.replies == 36


def test_ctrl_c_waits_for_no_batch_and_the_same_command_collects_it(
    start: Start, emulate: Emulate, corpus: Corpus, source: Path, tmp_path: Path
) -> None:
    """Exit 130 at once, with what to do; nothing is sent again."""
    (tmp_path / "policy.yaml").write_text(YAML, encoding="utf-8")
    command = [source.name, "--policy", "policy.yaml", "--batch", "-o", "corpus.jsonl"]
    emulator = emulate(corpus, faults="slow_end,polls=3")
    process = start(tmp_path, emulator, *command, "--poll-s", "600")
    emulator.arm(process.child, "GET msgbatch", 1, by=signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "36 paid calls in flight go on in batches, and the same command collects them" in err
    report = recorded(
        emulator, read_inputs(source), tmp_path / "corpus.jsonl", policy=load_policy(tmp_path / "policy.yaml")
    )
    assert report.is_final
    assert emulator.batches.billed.replies == 36
    assert len([one for one in emulator.requests if one.method == "POST"]) == 1


def test_the_command_records_in_batches(corpus: Corpus, source: Path, emulate: Emulate, tmp_path: Path) -> None:
    """The option does it, and says what was paid."""
    (tmp_path / "policy.yaml").write_text(YAML, encoding="utf-8")
    emulator = emulate(corpus)
    here = Here(tmp_path, emulator, source.name, "--policy", "policy.yaml", "--batch", "-o", "corpus.jsonl", "--json")
    told = json.loads(here.communicate(timeout=60)[0])
    assert (here.returncode, told["final"], told["calls"]) == (0, True, 36)
    assert emulator.batches.billed.replies == 36
    assert journal_of(tmp_path / "corpus.jsonl") == []
