"""A rung that is asked more than once, as the ledger has it: on SQLite and on Postgres."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest

from cascade.core.messages import Usage
from cascade.core.policy.operations import Ledger
from cascade.core.trail import Sample, Step, Verdict
from cascade.core.voting import Vote
from cascade.hooks import Calling, Ended
from cascade.ledger.exporting.requests import line_of, write_parquet
from cascade.ledger.hook import LedgerHook
from cascade.ledger.opening import open_ledger, open_reader
from cascade.ledger.requests import gather, with_texts
from cascade.ledger.verifying.verification import verify

from .scenes import LONG_S, NOW, PLAN, answer_of, begin, bodies, steps_of

_SAID = Verdict("answered", 0.5, "self_reported", "an answer")
CALLS = (
    Sample(0, "steps", "model-0", _SAID, Usage(100, 20), 300_000, 1, 0.25, "req_1"),
    Sample(1, "other", "model-x", _SAID, Usage(10, 2), 30_000, 1, 0.5, "req_2"),
    Sample(1, "judge", "model-0", replace(_SAID, text="[[1], [2]]"), Usage(50, 5), 100_000, is_judge=True),
    Sample(2, "steps", "model-0", Verdict("failed", detail="timeout, no reply"), attempts=4),
)
STEP = Step(
    0, "r0", "model-0", replace(_SAID, vote=Vote(2, 3, 3, (0,), reached=False, failed=1)), Usage(160, 27), 430_000, 7, 0.875,
    reason="disagreement", samples=CALLS,
)  # fmt: skip
TOP = replace(steps_of(2)[1], reason=None)
NEXT = PLAN.policy.ladder[1]
SECONDS = (0, 1 << 40)


def in_vote(taken: int, number: int | None) -> Calling:
    """A call of the first rung, after so many."""
    return Calling(0, PLAN.policy.ladder[0], (), 1_000 + taken, CALLS[:taken], number)


VOTE = (in_vote(0, 0), in_vote(0, 1), in_vote(2, None), in_vote(3, 2))  # a wave of two, the judge, the last sample


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a ledger that is not there yet."""
    return str(tmp_path / "ledger.db") if request.param == "sqlite" else request.getfixturevalue("postgres_database")


def write(address: str, name: str, calls: tuple[Calling, ...], end: Ended | None, durability: Any = "commit") -> None:
    """Tell the ledger of one request; `end` None: its process is killed."""
    settings = Ledger(durability=durability, content=True)
    writer = open_ledger(address, settings)
    track = begin(LedgerHook(writer, settings, clock=lambda: NOW), name)
    for call in calls:
        track.calling(call)
    if end is not None:
        track.ended(end)
    assert writer.flush(LONG_S)


def whole(name: str) -> Ended:
    """The vote did not stand, and the next rung answered."""
    return Ended((STEP, TOP), answer_of(name, (STEP, TOP)), None, 1.0)


@pytest.mark.parametrize("durability", ["batched", "commit"])
def test_every_call_of_a_vote_is_a_row_and_the_step_counts_once(address: str, durability: str) -> None:
    """Money and tokens by the model of each call; the step and its reason with the last; nothing is left open."""
    write(address, "a", (*VOTE, Calling(1, NEXT, (STEP,), 9)), whole("a"), durability)
    with closing(open_reader(address)) as reader:
        found = verify(reader)
        kept, sums = list(reader.entries()), sorted(row[6:] for row in reader.spend(*SECONDS))
        texts = {content.part for content in reader.contents(["a"])}
    assert (found.findings, found.unsettled, found.texts) == ((), 0, len(texts))
    names = ("index", "rung", "model", "cost", "call", "sample", "variant", "judge", "more", "reason")
    assert [tuple(row.get(name) for name in names) for row in bodies(kept, "step")] == [
        (0, "r0", "model-0", 300_000, None, 0, "steps", None, True, None),
        (0, "r0", "model-x", 30_000, 1, 1, "other", None, True, None),
        (0, "r0", "model-0", 100_000, 2, None, None, True, True, None),
        (0, "r0", "model-0", 0, 3, 2, "steps", None, None, "disagreement"),
        (1, "r1", "model-1", 300_000, None, None, None, None, None, None),
    ]  # fmt: skip
    assert bodies(kept, "step")[3]["vote"] == {
        "agree": 2, "max": 3, "asked": 3, "members": [0], "confidence": 0.5, "source": "self_reported",
    }  # fmt: skip
    assert [(row["index"], row["rung"], row.get("call", 0)) for row in bodies(kept, "open")] == (
        [(0, "r0", 0), (0, "r0", 1), (0, "r0", 2), (0, "r0", 3), (1, "r1", 0)] if durability == "commit" else []
    )
    # rung, model, steps, escalated, cost, input, output, errors
    assert sums == [
        ("r0", "model-0", 1, 1, 400_000, 150, 25, 0), ("r0", "model-x", 0, 0, 30_000, 10, 2, 0),
        ("r1", "model-1", 1, 0, 300_000, 100, 20, 0),
    ]  # fmt: skip
    assert texts == {"prompt", "step:0/0", "step:0/1", "step:0/2", "step:1"}


def test_samples_are_on_record_before_the_next_call_is_made(address: str) -> None:
    """A process killed in the vote leaves what came as rows, what was under way open at its own bound, and a sound ledger."""
    write(address, "a", (*VOTE[:2], in_vote(2, 2), in_vote(2, 3)), None)
    with closing(open_reader(address)) as reader:
        found = verify(reader)
        (one,) = gather(reader)
        spent = [reader.spent("test", "policy", "", 0, 1 << 40, alive=alive) for alive in ((), reader.writers())]
    assert (found.findings, found.unsettled) == ((), 2)
    assert [(step.sample, step.cost) for _, step in one.steps] == [(0, 300_000), (1, 30_000)]
    assert [(call.call, call.bound) for call in one.open_calls.values()] == [(2, 1_002), (3, 1_002)]
    assert spent == [330_000 + 2 * 1_002, 330_000]


def test_a_request_cut_off_in_a_vote_costs_what_its_samples_did(address: str) -> None:
    """Its outcome has their cost and no step; its open calls are not taken for those of a later request."""
    write(address, "a", (*VOTE[:2], in_vote(2, 2)), Ended((), None, None, 1.0))
    write(address, "b", (*VOTE, Calling(1, NEXT, (STEP,), 9)), whole("b"))
    with closing(open_reader(address)) as reader:
        found = verify(reader)
        kept = list(reader.entries())
    assert (found.findings, found.unsettled) == ((), 1)
    cut, answered = bodies(kept, "outcome")
    assert (cut["error"], cut["cost"], cut["steps"], cut["slot"]) == ("cancelled", 330_000, 0, 7)
    assert (answered["cost"], answered["steps"]) == (730_000, 2)


def test_an_export_has_a_row_for_each_call(address: str) -> None:
    """In Parquet as in JSON lines, each with its own text; the vote is on the last row of the step."""
    write(address, "a", (*VOTE, Calling(1, NEXT, (STEP,), 9)), whole("a"))
    file = BytesIO()
    with closing(open_reader(address)) as reader:
        assert write_parquet(with_texts(reader, gather(reader)), file, content=True) == (1, 5)
        (line,) = [line_of(one) for one in gather(reader)]
    columns = [
        "step",
        "call",
        "sample",
        "variant",
        "judge",
        "more",
        "answer",
        "samples_agreed",
        "samples_asked",
        "samples_needed",
    ]
    assert [tuple(row[name] for name in columns) for row in pq.read_table(file).to_pylist()] == [
        (0, 0, 0, "steps", False, True, "an answer", None, None, None),
        (0, 1, 1, "other", False, True, "an answer", None, None, None),
        (0, 2, None, None, True, True, "[[1], [2]]", None, None, None),
        (0, 3, 2, "steps", False, False, None, 1, 3, 2),
        (1, 0, None, None, False, False, "an answer 1", None, None, None),
    ]  # fmt: skip
    assert [step["vote"] and step["vote"]["members"] for step in json.loads(line)["steps"]] == [
        None,
        None,
        None,
        [0],
        None,
    ]


def test_a_person_sees_votes_in_the_views(address: str) -> None:
    """Number and variant of each sample; how many agreed, with the last."""
    write(address, "a", (*VOTE, Calling(1, NEXT, (STEP,), 9)), whole("a"))
    question = "SELECT step, call, sample, variant, agreed, asked, needed FROM {}steps WHERE {} ORDER BY seq"
    connection: Any
    if address.startswith("postgres"):
        connection, asked = psycopg.connect(address), question.format("cascade_ledger.", "more OR step = 0")
    else:
        connection, asked = sqlite3.connect(address), question.format("", "more OR step = 0")
    with closing(connection):
        assert connection.execute(asked).fetchall() == [
            (0, 0, 0, "steps", None, None, None), (0, 1, 1, "other", None, None, None), (0, 2, None, None, None, None, None),
            (0, 3, 2, "steps", 1, 3, 2),
        ]  # fmt: skip
