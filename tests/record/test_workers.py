"""Recorded by several workers, a corpus is that of one process, whatever becomes of the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.audit_killed import patched
from benchmarks.workers_killed import Counting, run_record
from cascade.cluster import InProcess
from cascade.core.errors import ConfigurationError, CorpusError
from cascade.corpora import Corpus, read_corpus
from cascade.recording.inputs import read_inputs
from cascade.recording.journal import Journal, part_path
from cascade.recording.opening import adopt_parts
from cascade.recording.parts import Part, record_part
from cascade.recording.progress import Report, Settings
from cascade.recording.shared_cap import SharedCap
from cascade.recording.workers import Spreading
from cascade.state.recording_cap import RecordingCap
from tests.servers import RedisServer

from .conftest import POLICY, YAML, Here, Killer, Record, head_of

Emulate = Callable[..., Killer]
Spread = Callable[..., Report]


@pytest.fixture
def spread(tmp_path: Path, source: Path) -> Spread:
    """Record `source` in parts, one after another in this process."""

    def run(emulator: Killer, *, workers: int = 3, target: str = "corpus.jsonl", **options: object) -> Report:
        with patched(ANTHROPIC_BASE_URL=emulator.base_url, ANTHROPIC_API_KEY="test"):
            settings = replace(Settings(POLICY, tmp_path / target, concurrency=1), **options)  # type: ignore[arg-type]
            spreading = Spreading(settings, read_inputs(source), workers)
            spreading.spread(InProcess())
            return asyncio.run(spreading.finish())

    return run


def test_killed_workers_lose_nothing_and_pay_nothing_twice(tmp_path: Path, redis_server: RedisServer) -> None:
    """Two Dask workers, one of them killed with -9: the quick form of the benchmark."""
    pytest.importorskip("distributed")
    found = run_record(tmp_path, redis_server.url, items=12, kills=1, seed=3, capped=False)
    assert found.faults == ()
    assert found.killed == 1


def test_the_parts_joined_are_one_corpus(
    corpus: Corpus, spread: Spread, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """Byte for byte that of one process, with each call made once, and no journal left."""
    emulator = emulate(corpus)
    report = spread(emulator, name="x")
    assert (report.is_final, report.calls, report.reused, emulator.billed.replies) == (True, 36, 0, 36)
    record(emulate(corpus), target=tmp_path / "calm.jsonl", name="x")
    assert (tmp_path / "corpus.jsonl").read_bytes() == (tmp_path / "calm.jsonl").read_bytes()
    assert not list(tmp_path.glob("*.journal*"))


def test_an_endpoint_that_refuses_stops_all_and_any_number_of_workers_goes_on(
    corpus: Corpus, spread: Spread, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """What was paid is not paid again: with other workers, and with none."""
    emulator = emulate(corpus, faults="spend_cap,after=10")
    report = spread(emulator)
    assert report.stop is not None
    assert (report.stop.kind, report.calls, len(emulator.requests)) == ("refused", 11, 11)
    assert read_corpus(tmp_path / "corpus.jsonl").items == corpus.items[: report.complete]
    emulator.faults = None
    capped = spread(emulate(corpus, faults="spend_cap,after=5"), workers=5)
    assert (capped.reused, capped.is_final) == (10, False)
    assert record(emulator).reused == 15
    assert emulator.billed.replies == 10 + 36 - 15
    assert read_corpus(tmp_path / "corpus.jsonl").items == corpus.items


def test_journals_of_a_killed_run_are_joined_once(source: Path, tmp_path: Path) -> None:
    """Also if the join itself was killed before it deleted them: failures and unanswered calls count once."""
    target, head = tmp_path / "corpus.jsonl", head_of(read_inputs(source))
    path = part_path(target, "p-1")
    with Journal.open(path, head) as part:
        number = part.open_call("i-1", "haiku", 500)
        part.append({"failure": "overloaded", "item": "i-1", "ask": "haiku", "cost": 7, "call": number})
        part.open_call("i-2", "haiku", 600)
    kept = path.read_bytes()
    with Journal.open(tmp_path / "corpus.jsonl.journal", head) as journal:
        for _ in range(2):
            path.write_bytes(kept)
            adopt_parts(journal, target, head)
            assert not path.exists()
            assert journal.spent == 7
            assert [one["most"] for one in journal.unanswered.values()] == [600]
    with Journal.open(tmp_path / "corpus.jsonl.journal", head) as journal:
        assert (journal.spent, len(journal.unanswered)) == (7, 1)


def test_a_part_that_is_still_written_is_not_joined(source: Path, tmp_path: Path) -> None:
    """Somebody's worker is alive: it is named, and nothing is touched."""
    target, head = tmp_path / "corpus.jsonl", head_of(read_inputs(source))
    with (
        Journal.open(part_path(target, "p-1"), head),
        Journal.open(tmp_path / "corpus.jsonl.journal", head) as journal,
        pytest.raises(CorpusError, match=r"corpus\.jsonl\.journal\.p-1: another `cascade record` is using it"),
    ):
        adopt_parts(journal, target, head)


def test_a_worker_that_does_not_see_the_folder_pays_nothing(source: Path, tmp_path: Path) -> None:
    """Its journal would be found by nobody."""
    inputs = read_inputs(source)
    part = Part("p", Settings(POLICY, tmp_path / "no.jsonl"), inputs.items, head_of(inputs), frozenset(), ())
    with pytest.raises(ConfigurationError, match=r"a worker does not see .*no\.jsonl\.journal: all workers must share"):
        record_part(part)


def test_one_cap_counts_what_all_have_reserved(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what a dead one had, until its part is taken over at what its journal tells."""
    monkeypatch.setenv("CASCADE_STATE", redis_server.url)
    counter = RecordingCap("counts")
    counter.make(1000, 400)
    assert counter.reserve("a", 500) == "ok"
    assert counter.reserve("b", 200) == "ok"  # below the cap before it: one call may pass it
    assert counter.reserve("b", 1) == "wait"
    assert counter.settle("b", 200, 50) == "ok"
    assert counter.reserve("b", 1) == "ok"
    assert counter.reserve("b", 1) == "ok"
    assert counter.take("a", 100) == "ok"  # 400 + 50 + 100, and 2 reserved
    assert counter.reserve("b", 448) == "ok"
    assert counter.reserve("b", 1) == "wait"
    assert counter.settle("b", 448, 450) == "ok"
    assert counter.reserve("a", 1) == "reached"
    counter.remove()
    assert counter.reserve("a", 1) == "gone"


def test_a_worker_without_the_counter_makes_no_call(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another Redis, or one that restarted empty, knows nothing of what was spent."""
    monkeypatch.setenv("CASCADE_STATE", redis_server.url)
    lost = list[str]()
    cap = SharedCap(RecordingCap("unknown"), "a", is_stopped=lambda: False, on_held=lambda: None, on_lost=lost.append)
    assert asyncio.run(cap.admit(1)) is False
    assert len(lost) == 1
    assert lost[0].startswith(
        f"{redis_server.url} does not tell what this recording has spent: it cannot be reached, has"
    )


def test_a_server_that_restarts_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also before the first call and after the last: a part is not given up over a moment."""
    monkeypatch.setenv("CASCADE_STATE", "redis://127.0.0.1:9/0")
    lost, times = list[str](), iter((0.0, 1.0, 19.0, 21.0))
    cap = SharedCap(
        RecordingCap("down"), "a", is_stopped=lambda: False, on_held=lambda: None, on_lost=lost.append, clock=lambda: next(times)
    )  # fmt: skip
    asyncio.run(cap.take(5))
    assert len(lost) == 1
    assert next(times, None) is None


def test_a_cost_that_the_server_did_not_take_in_is_told_at_the_end_of_the_part(
    redis_server: RedisServer, corpus: Corpus, source: Path, tmp_path: Path
) -> None:
    """Else what is left of the cap would be held for ever, and the other parts begun again without end."""
    inputs, target = read_inputs(source), tmp_path / "corpus.jsonl"
    head = head_of(inputs)
    Journal.open(tmp_path / "corpus.jsonl.journal", head).close()
    with (
        Counting(corpus) as emulator,
        patched(ANTHROPIC_BASE_URL=emulator.base_url, ANTHROPIC_API_KEY="test", CASCADE_STATE=redis_server.url),
    ):
        counter = RecordingCap("lost")
        counter.make(10**12, 0)
        part = Part("p", Settings(POLICY, target), inputs.items[:2], head, frozenset(), (), "lost")
        emulator.on_call = lambda: counter.reserve("p", 10**12)  # as if its answer had been lost on the way
        assert record_part(part).stop is None
        assert counter.reserve("q", 1) == "ok"
        counter.remove()


def test_what_others_hold_is_not_waited_for_for_ever(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker may be needed to take over the part of the one that holds it: its own part is begun again later."""
    monkeypatch.setenv("CASCADE_STATE", redis_server.url)
    counter, held, times = RecordingCap("held"), list[bool](), iter((0.0, 1.0, 5.0))
    counter.make(1000, 0)
    counter.reserve("dead", 1000)
    cap = SharedCap(
        counter,
        "a",
        is_stopped=lambda: False,
        on_held=lambda: held.append(True),
        on_lost=pytest.fail,
        clock=lambda: next(times),
    )
    assert asyncio.run(cap.admit(1)) is False
    assert held == [True]
    counter.take("dead", 10)
    assert counter.reserve("a", 1) == "ok"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--max-usd", "1"), r"--max-usd: workers count what they spend in one place: set CASCADE_STATE=redis://"),
        (("--batch",), r"--batch: one process sends its batches; leave out --workers"),
        (("--scheduler", "tcp://127.0.0.1:9", "--batch"), r"--batch: one process sends"),
    ],
)
def test_what_workers_cannot_do_is_refused(
    corpus: Corpus, emulate: Emulate, source: Path, tmp_path: Path, options: tuple[str, ...], why: str
) -> None:
    """In one line, before a call, and nothing is left."""
    (tmp_path / "policy.yaml").write_text(YAML, encoding="utf-8")
    emulator = emulate(corpus)
    with patched(CASCADE_STATE="memory"):
        process = Here(
            tmp_path, emulator, source.name, "-o", "c.jsonl", "-p", "policy.yaml", "--workers", "2", *options
        )
    assert process.returncode == 2
    assert why.replace("\\", "") in " ".join(process.communicate(timeout=60)[1].split())
    assert not emulator.requests
    assert not list(tmp_path.glob("c.jsonl*"))
