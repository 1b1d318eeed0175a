"""What leaves the ledger: whole requests, in the time asked for, with texts only where they were asked for."""

from __future__ import annotations

import io
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cascade.core.errors import LedgerError
from cascade.ledger.exporting.requests import line_of, write_parquet
from cascade.ledger.records import OutcomeBody, RequestBody, StepBody
from cascade.ledger.requests import gather, with_texts
from cascade.ledger.sqlite.store import SqliteReader, SqliteStore

from .books import AT, Writer, fill, tamper


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Four requests of each of two writers, with texts."""
    made = tmp_path / "ledger.db"
    fill(made, text="SECRET")
    return made


def lines(path: Path, *, content: bool = False, since: float | None = None, until: float | None = None) -> list[Any]:
    """The export as JSON."""
    with closing(SqliteReader(path)) as reader:
        gathered = gather(reader, since, until)
        kept = with_texts(reader, gathered) if content else gathered
        return [json.loads(line_of(one, content=content)) for one in kept]


def test_a_line_is_a_whole_request(path: Path) -> None:
    """What was asked, every step, how it ended, nothing left out; and of texts only their digests."""
    exported = lines(path)
    assert [one["id"] for one in exported] == [f"{name}-{number}" for name in ("one", "two") for number in range(4)]
    one = exported[1]
    assert set(one["request"]) == set(RequestBody.__struct_fields__)
    assert [set(step) for step in one["steps"]] == [{"at", *StepBody.__struct_fields__}] * 2
    assert set(one["outcome"]) == {"at", *OutcomeBody.__struct_fields__}
    assert [(step["rung"], step["cost"], step["reason"]) for step in one["steps"]] == [
        ("haiku", 2_000, "low_confidence"), ("sonnet", 4_000, None),
    ]  # fmt: skip
    assert (one["open"], one["unsettled"], one["outcome"]["cost"]) == (False, [], 6_000)
    assert one["request"]["prompts"] == {"triage": "0123456789ab"}
    assert "SECRET" not in json.dumps(exported)


def test_texts_come_only_where_they_are_asked_for(path: Path) -> None:
    """With them, by part; an erased one is not there, and everything else is."""
    with closing(SqliteReader(path)) as reader:
        reader.erase(("two-3",))
    exported = lines(path, content=True)
    assert exported[1]["texts"] == {"prompt": "SECRET one 1", "step:0": "SECRET one 1 0", "step:1": "SECRET one 1 1"}
    assert exported[-1]["texts"] == {}
    assert len(exported) == 8


def test_a_request_is_never_torn_by_the_time_asked_for(path: Path) -> None:
    """It belongs to the time when it was taken up, with what came of it later."""
    exported = lines(path, since=AT + 600, until=AT + 1_201)
    assert [one["id"] for one in exported] == ["one-1", "one-2", "two-1", "two-2"]
    assert all(one["outcome"] for one in exported)
    assert [one["id"] for one in lines(path, since=AT + 601, until=AT + 1_200)] == []


def test_what_never_ended_comes_last_and_says_so(tmp_path: Path) -> None:
    """After a kill: the request is open, its last call unsettled."""
    path = tmp_path / "ledger.db"
    with closing(SqliteStore(path, synchronous="FULL")) as store:
        writer = Writer(store, "one")
        writer.ask(0, at=AT, steps=2, opens=True, ended=False)
        writer.ask(1, at=AT + 1, opens=True)
    ended, cut = lines(path)
    assert (ended["id"], ended["open"], ended["unsettled"]) == ("one-1", False, [])
    assert (cut["id"], cut["open"], cut["outcome"], len(cut["steps"])) == ("one-0", True, None, 1)
    assert cut["unsettled"] == [{"index": 1, "rung": "sonnet", "model": "claude-sonnet", "bound": 500, "call": 0}]


def test_a_row_of_parquet_is_a_step(path: Path) -> None:
    """With all that is known of its request; the money adds up to what the lines say."""
    with closing(SqliteReader(path)) as reader:
        plain, full = io.BytesIO(), io.BytesIO()
        assert write_parquet(gather(reader), plain) == (8, 12)
        assert write_parquet(with_texts(reader, gather(reader)), full, content=True) == (8, 12)
    rows: list[dict[str, Any]] = pq.read_table(plain).to_pylist()
    assert sum(row["cost"] for row in rows) == sum(one["outcome"]["cost"] for one in lines(path))
    row = next(row for row in rows if row["request"] == "two-3" and row["step"] == 1)
    wanted = {
        "rung": "sonnet", "answered_rung": "sonnet", "workflow": "flow-1", "customer": "c0", "reason": None, "open": False,
        "step_at": AT + 1_802, "at": AT + 1_800, "request_cost": 12_000, "resolved": True, "cache_read": 0,
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    assert json.loads(row["metadata"]) == {"workflow": "flow-1", "customer": "c0", "key": "team"}
    assert json.loads(row["prompts"]) == {"triage": "0123456789ab"}
    assert "prompt" not in row
    texts = {(row["request"], row["step"]): row["answer"] for row in pq.read_table(full).to_pylist()}
    assert texts["one-3", 1] == "SECRET one 3 1"


def test_an_entry_that_cannot_be_read_is_an_error_that_names_it(path: Path) -> None:
    """Nothing is passed over in silence: what was tampered with ends the export."""
    tamper(path, "UPDATE entries SET body = '{}' WHERE seq = 5")
    with pytest.raises(LedgerError, match=r"seq 5 of one cannot be read \(`cascade ledger verify`"):
        lines(path)
