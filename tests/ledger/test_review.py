"""The review of an answer, as the ledger has it: on SQLite and on Postgres."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cascade.core.messages import Usage
from cascade.core.policy.operations import Ledger
from cascade.core.trail import Review, Sample, Step, Verdict
from cascade.core.voting import Vote
from cascade.hooks import Calling, Ended
from cascade.ledger.exporting.requests import write_parquet
from cascade.ledger.hook import LedgerHook
from cascade.ledger.opening import open_ledger, open_reader
from cascade.ledger.requests import gather, with_texts
from cascade.ledger.verifying.verification import verify

from .scenes import LONG_S, NOW, PLAN, answer_of, begin, bodies, steps_of

REVIEW = Review("r1", "model-1", False, "", Usage(40, 8), 50_000, 2, 0.25, "req_r", reason="it is wrong")
ANSWERED, TOP = steps_of(2)
REJECTED = replace(
    ANSWERED, usage=ANSWERED.usage + REVIEW.usage, cost_nanousd=350_000, attempts=3, latency_s=0.25, reason="check_failed",
    review=REVIEW,
)  # fmt: skip
SAID = Verdict("answered", 0.9, "self_reported", "yes")
VOTES = tuple(Sample(number, "steps", "model-0", SAID, Usage(10, 2), 30_000) for number in range(2))
VOTED = Step(
    0, "r0", "model-0", replace(SAID, vote=Vote(2, 2, 2, (0, 1), reached=True)), Usage(60, 12), 110_000, 4, 0.25,
    samples=VOTES, review=replace(REVIEW, accepted=True),
)  # fmt: skip
SECONDS = (0, 1 << 40)
RUNGS = PLAN.policy.ladder


def reviewing(step: Step) -> Calling:
    """The call that reviews a step's answer."""
    return Calling(0, RUNGS[1], (), 2_000, reviewed=replace(step, review=None))


FIRST = Calling(0, RUNGS[0], (), 1_000)
SECOND = Calling(1, RUNGS[1], (REJECTED,), 3_000)
END = Ended((REJECTED, TOP), answer_of("a", (REJECTED, TOP)), None, 1.0)


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a ledger that is not there yet."""
    return str(tmp_path / "ledger.db") if request.param == "sqlite" else request.getfixturevalue("postgres_database")


def write(address: str, calls: tuple[Calling, ...], end: Ended | None, durability: str = "commit") -> None:
    """Tell the ledger of one request; `end` None: its process is killed."""
    settings = Ledger.model_validate({"durability": durability, "content": True})
    writer = open_ledger(address, settings)
    track = begin(LedgerHook(writer, settings, clock=lambda: NOW), "a")
    for call in calls:
        track.calling(call)
    if end is not None:
        track.ended(end)
    assert writer.flush(LONG_S)


@pytest.mark.parametrize("durability", ["batched", "commit"])
def test_a_review_is_a_row_and_the_step_counts_once(address: str, durability: str) -> None:
    """The answer's row has its own cost and the reason, the review's row the rest, by the reviewer's model; nothing is left open."""
    write(address, (FIRST, reviewing(REJECTED), SECOND), END, durability)
    with closing(open_reader(address)) as reader:
        found = verify(reader)
        kept, sums = list(reader.entries()), sorted(row[6:] for row in reader.spend(*SECONDS))
        texts = {content.part: content.text for content in reader.contents(["a"])}
    assert (found.findings, found.unsettled, found.texts) == ((), 0, len(texts))
    names = (
        "index",
        "rung",
        "model",
        "verdict",
        "cost",
        "call",
        "variant",
        "review",
        "more",
        "reason",
        "attempts",
        "latency_ms",
    )
    assert [tuple(row.get(name) for name in names) for row in bodies(kept, "step")] == [
        (0, "r0", "model-0", "answered", 300_000, None, None, None, None, "check_failed", None, 0.0),
        (0, "r0", "model-1", "answered", 50_000, 1, "review:r1", True, True, None, 2, 250.0),
        (1, "r1", "model-1", "answered", 300_000, None, None, None, None, None, None, 0.0),
    ]
    assert sums == [
        ("r0", "model-0", 1, 1, 300_000, 100, 20, 0), ("r1", "model-1", 1, 0, 300_000, 100, 20, 0),
        ("review by r1", "model-1", 1, 0, 50_000, 40, 8, 0),
    ]  # fmt: skip
    assert {part: text for part, text in texts.items() if part != "prompt"} == {
        "step:0": "an answer 0", "step:0/1": "it is wrong", "step:1": "an answer 1",
    }  # fmt: skip


def test_a_vote_and_its_review_are_one_step(address: str) -> None:
    """The vote is with the last sample, the review after it."""
    calls = tuple(Calling(0, RUNGS[0], (), 1_000, VOTES[:number], number) for number in range(2))
    write(address, (*calls, reviewing(VOTED)), Ended((VOTED,), answer_of("a", (VOTED,)), None, 1.0))
    with closing(open_reader(address)) as reader:
        assert (verify(reader).findings, verify(reader).unsettled) == ((), 0)
        rows = bodies(list(reader.entries()), "step")
    names = ("call", "sample", "review", "more", "cost")
    assert [tuple(row.get(name) for name in names) for row in rows] == [
        (None, 0, None, True, 30_000), (1, 1, None, None, 30_000), (2, None, True, True, 50_000),
    ]  # fmt: skip
    assert ["vote" in row for row in rows] == [False, True, False]


def test_a_review_that_no_budget_had_room_for_leaves_no_row(address: str) -> None:
    """No call was made, so there is nothing to record."""
    unasked = replace(ANSWERED, reason=None, review=Review("r1", "model-1", None, attempts=0, refused=True))
    write(address, (FIRST,), Ended((unasked,), answer_of("a", (unasked,)), None, 1.0), "batched")
    with closing(open_reader(address)) as reader:
        assert verify(reader).findings == ()
        (row,) = bodies(list(reader.entries()), "step")
    assert (row["cost"], "review" in row) == (300_000, False)


def test_a_process_killed_in_the_review_leaves_both_calls_open(address: str) -> None:
    """With `commit`: what they may have cost counts until the ledger knows more."""
    write(address, (FIRST, reviewing(REJECTED)), None)
    with closing(open_reader(address)) as reader:
        assert (verify(reader).findings, verify(reader).unsettled) == ((), 2)
        (one,) = gather(reader)
        assert reader.spent("test", "policy", "", *SECONDS) == 3_000
    assert [(call.model, call.call, call.bound) for call in one.open_calls.values()] == [
        ("model-0", 0, 1_000), ("model-1", 1, 2_000),
    ]  # fmt: skip


def test_a_review_is_marked_in_an_export(address: str) -> None:
    """A row of its own, with the reviewer's words where texts are exported."""
    write(address, (FIRST, reviewing(REJECTED), SECOND), END)
    file = BytesIO()
    with closing(open_reader(address)) as reader:
        assert write_parquet(with_texts(reader, gather(reader)), file, content=True) == (1, 3)
    columns = ("step", "call", "variant", "review", "more", "answer")
    assert [tuple(row[name] for name in columns) for row in pq.read_table(file).to_pylist()] == [
        (0, 0, None, False, False, "an answer 0"), (0, 1, "review:r1", True, True, "it is wrong"),
        (1, 0, None, False, False, "an answer 1"),
    ]  # fmt: skip
