"""A folder of Parquet by month: DuckDB and Polars read it without us, and it says what the ledger says; nothing half, nothing twice."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from benchmarks.ledger_move import make_source
from cascade.disk import try_lock
from cascade.ledger.chain import content_digest
from cascade.ledger.exporting_months import EARLIER_S
from cascade.ledger.exporting_tables import TABLES, microseconds
from cascade.ledger.records import Batch, Content, StepBody
from cascade.ledger.sqlite.store import SqliteStore
from tests.cli.conftest import Run
from tests.warm import WarmPython

from .books import AT, Writer, fill, tamper

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC).timestamp()

_STOPS = """
import signal, sys
from pathlib import Path
from cascade.ledger.exporting_months import export_months
from cascade.ledger.sqlite.store import SqliteReader

class Stops(SqliteReader):
    __slots__ = ()

    def entries(self, **period):
        for number, entry in enumerate(super().entries(**period)):
            if number == 20:
                print("there", flush=True)
                signal.pause()
            yield entry

export_months(Stops(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def add(path: Path, name: str, ats: list[float], **more: Any) -> None:
    """Requests of two steps, which a writer of this name asks at these times."""
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        writer = Writer(store, name)
        for number, at in enumerate(ats):
            writer.ask(number, at=at, steps=2, **more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Eight requests in November, with texts; one that ended in November but began in October, and one that never ended."""
    made = tmp_path / "ledger.db"
    fill(made, text="SECRET")
    add(made, "turn", [NOVEMBER - 1.5])
    add(made, "cut", [NOVEMBER + 60], opens=True, ended=False)
    return made


@pytest.fixture
def export(run: Run, path: Path, tmp_path: Path) -> Callable[..., Any]:
    """Export to `out`; returns what the command says as JSON."""

    def exports(*options: str, code: int = 0) -> Any:
        done = run("ledger", "export", "--parquet", str(tmp_path / "out"), "--ledger", str(path), "--json", *options)
        assert done.code == code, done.err
        return json.loads(done.err if code else done.out)

    return exports


def table(folder: Path, name: str) -> str:
    """A table as DuckDB is told of it."""
    return f"read_parquet('{folder}/{name}/*/*.parquet')"


def ask(question: str) -> list[tuple[Any, ...]]:
    """What DuckDB answers."""
    with closing(duckdb.connect()) as connection:
        return connection.execute(question).fetchall()


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder, hidden ones too."""
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_what_duckdb_and_polars_read_is_what_costs_says(
    run: Run, path: Path, tmp_path: Path, export: Callable[..., Any]
) -> None:
    """Money, steps, tokens and requests, in all and by rung, of all months and of one."""
    said = export()
    assert said["rows"] == {"requests": 10, "steps": 15, "outcomes": 9, "opens": 2}
    assert (said["months"], said["unplaced"]) == (["2026-10", "2026-11"], 0)
    out = tmp_path / "out"
    for since, where in (("2026-10-01", "true"), ("2026-11-01", "month = '2026-11'")):
        costs = run("costs", "--since", since, "--ledger", str(path), "--by", "rung", "--json").json
        steps = table(out, "steps")
        by_rung = ask(
            f"SELECT counted_as, sum(cost_usd), count(*) FILTER (NOT more), count(*) FILTER (reason IS NOT NULL), sum(output_tokens)"
            f" FROM {steps} WHERE {where} GROUP BY ALL ORDER BY 1"
        )
        lines = sorted(costs["lines"], key=lambda line: line["rung"])
        assert [(rung, float(cost), count, tokens) for rung, cost, count, _, tokens in by_rung] == [
            (line["rung"], line["cost_usd"], line["steps"], line["output_tokens"]) for line in lines
        ]
        assert {rung: up for rung, _, _, up, _ in by_rung} == {
            name: one["escalated"] for name, one in costs["rungs"].items()
        }
        ended = ask(
            f"SELECT count(*), count(rung), count(*) FILTER (resolved), count(*) FILTER (steps > 1) FROM {table(out, 'outcomes')}"
            f" WHERE {where}"
        )
        assert ended == [tuple(costs[name] for name in ("requests", "answers", "resolved", "escalated"))]
        read = pl.scan_parquet(out / "steps")
        wanted = read if where == "true" else read.filter(pl.col("month") == "2026-11")
        added = wanted.select(pl.col("cost").sum(), pl.col("cost_usd").sum(), pl.len()).collect().row(0)
        assert added[0] == sum(round(line["cost_usd"] * 1e9) for line in lines)
        assert (added[1], added[2]) == (Decimal(added[0]).scaleb(-9), costs["steps"])


def test_every_column_can_be_named_and_has_its_type(tmp_path: Path, export: Callable[..., Any]) -> None:
    """Without quotes in DuckDB, whatever words it keeps for itself; the same types for Polars."""
    export()
    types = {
        "text": pl.String, "integer": pl.Int64, "real": pl.Float64, "flag": pl.Boolean, "time": pl.Datetime("us", "UTC"),
        "texts": pl.List(pl.String), "usd": pl.Decimal(18, 9),
    }  # fmt: skip
    for one in TABLES.values():
        schema = pl.scan_parquet(tmp_path / "out" / one.name).collect_schema()
        assert dict(schema) == {**{name: types[kind] for name, kind in one.columns.items()}, "month": pl.String}
        ask(f"SELECT {', '.join(schema)} FROM {table(tmp_path / 'out', one.name)} WHERE {next(iter(schema))} <> ''")
    steps = table(tmp_path / "out", "steps")
    found = ask(
        f"SELECT rung, epoch_us(time), policy, workflow, month FROM {steps} WHERE request = 'turn-0' ORDER BY seq"
    )
    assert found == [
        ("haiku", int((NOVEMBER - 0.5) * 1e6), "support", "flow-0", "2026-10"),
        ("sonnet", int((NOVEMBER + 0.5) * 1e6), "support", "flow-0", "2026-11"),
    ]


def test_a_row_is_an_entry_and_says_all_of_it(run: Run, tmp_path: Path) -> None:
    """Many more than are held at once: row by row what the lines of JSON say."""
    path, out = tmp_path / "many.db", tmp_path / "out"
    make_source(path, 2_500, days=2)
    assert run("ledger", "export", "--parquet", str(out), "--ledger", str(path)).out.startswith(
        f"{out}: 1,262 requests, 2,50"
    )
    lines = [json.loads(line) for line in run("ledger", "export", "--ledger", str(path)).out.splitlines()]
    steps = {
        (row["request"], row["step"]): row for row in pl.read_parquet(out / "steps", hive_partitioning=False).to_dicts()
    }
    outcomes = {row["request"]: row for row in pl.read_parquet(out / "outcomes").to_dicts()}
    assert len(steps) == sum(len(line["steps"]) for line in lines)
    for line in lines:
        for step in line["steps"]:
            row = steps[line["id"], step["index"]]
            assert {name for name in step if name not in row} == {"at", "index", "content", "vote"}
            same = [name for name in step if name in row and name not in ("handed", "prepared")]
            assert {name: step[name] for name in same} == {name: row[name] for name in same}
            assert row["time"] == datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds(step["at"]))
        if line["outcome"] is not None:
            row = outcomes[line["id"]]
            assert {name: value for name, value in line["outcome"].items() if name in row} == {
                name: row[name] for name in line["outcome"] if name in row
            }
            assert row["policy"] == line["request"]["policy"]


def test_a_month_is_written_whole_and_replaces_itself(path: Path, tmp_path: Path, export: Callable[..., Any]) -> None:
    """Whatever the period; the months before are not touched, and nothing is doubled."""
    export()
    before = files(tmp_path / "out")
    assert set(before) == {
        f"{name}/month={month}/part-0000.parquet"
        for name, months in {
            "requests": ["2026-10", "2026-11"], "steps": ["2026-10", "2026-11"], "outcomes": ["2026-11"], "opens": ["2026-11"],
        }.items()
        for month in months
    }  # fmt: skip
    assert {stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "out").rglob("*.parquet")} == {0o600}
    add(path, "later", [AT + 86_400])
    tamper(path, "DELETE FROM entries WHERE at < 1793491199")  # as if October were pruned: what was exported stays
    said = export("--since", "2026-11-25", "--until", "2026-11-26")
    assert (said["months"], said["rows"]["requests"]) == (["2026-11"], 10)
    after = files(tmp_path / "out")
    assert {name for name in after if before.get(name) != after[name]} == {
        name
        for name in before
        if "2026-11" in name and "opens" not in name  # it has no others
    }
    assert ask(f"SELECT count(*), count(DISTINCT writer || seq) FROM {table(tmp_path / 'out', 'steps')}") == [(17, 17)]
    assert export("--since", "2026-12-01") == {
        "folder": str(tmp_path / "out"), "rows": {"requests": 0, "steps": 0, "outcomes": 0, "opens": 0}, "months": [], "unplaced": 0, "left": [],
    }  # fmt: skip
    assert files(tmp_path / "out") == after


def test_a_month_that_was_pruned_is_left_as_it_was_exported(
    run: Run, path: Path, tmp_path: Path, export: Callable[..., Any]
) -> None:
    """Of a pruned month some entries stay in the ledger: they must not replace the whole month in the folder."""
    add(path, "open", [NOVEMBER - 86_400], ended=False)
    add(path, "old", [NOVEMBER - 86_400])
    out = tmp_path / "out"
    assert export()["rows"]["steps"] == 18
    before = files(out)
    assert run("ledger", "prune", "--before", "2026-11", "--yes", "--ledger", str(path)).code == 0
    said = export()
    assert (said["months"], said["left"], said["rows"]["steps"]) == (["2026-11"], ["2026-10"], 14)
    assert {name for name, content in files(out).items() if content != before[name]} == set()
    assert ask(f"SELECT count(*) FROM {table(out, 'steps')}") == [(18,)]
    shown = run("ledger", "export", "--parquet", str(tmp_path / "new"), "--ledger", str(path))
    assert (shown.code, shown.out, shown.err) == (
        0, f"{tmp_path / 'new'}: 11 requests, 16 steps, 9 outcomes, 2 opens of 2026-10 to 2026-11\n", "",
    )  # fmt: skip


def test_texts_come_only_where_they_are_asked_for(path: Path, tmp_path: Path, export: Callable[..., Any]) -> None:
    """A column of prompts and one of answers, each call's own; without `--content` there is none of them, and no text."""
    salt, said = b"s" * 16, "SECRET of a sample"
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        writer, batch = Writer(store, "vote"), Batch()
        step = StepBody(0, "haiku", "m", "answered", 1, call=1, sample=1, more=True, content=content_digest(salt, said))
        writer.entry(batch, AT, "step", "vote-0", step)
        batch.contents.append(Content("vote-0", "step:0/1", AT, salt, said))
        store.write(batch)
    export()
    assert not any(b"SECRET" in content for content in files(tmp_path / "out").values())
    assert "answer" not in pl.scan_parquet(tmp_path / "out" / "steps").collect_schema()
    export("--content")
    steps, requests = table(tmp_path / "out", "steps"), table(tmp_path / "out", "requests")
    assert ask(f"SELECT answer FROM {steps} WHERE request IN ('one-3', 'vote-0') ORDER BY request, step") == [
        ("SECRET one 3 0",), ("SECRET one 3 1",), (said,),
    ]  # fmt: skip
    assert ask(f"SELECT prompt FROM {requests} WHERE request IN ('one-3', 'cut-0') ORDER BY request") == [
        (None,), ("SECRET one 3",),
    ]  # fmt: skip


def test_a_killed_export_leaves_what_was_there(
    path: Path, tmp_path: Path, export: Callable[..., Any], warm_python: WarmPython
) -> None:
    """SIGKILL in the middle: readers find the old files, whole, and no others; the next one cleans up."""
    out = tmp_path / "out"
    export()
    before = files(out)
    add(path, "later", [AT + 86_400])
    process = warm_python.start(["-c", _STOPS, str(path), str(out)], env=dict(os.environ))
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    os.kill(process.child, signal.SIGKILL)
    process.communicate()
    left = files(out)
    assert {name: content for name, content in left.items() if name in before} == before
    assert [name for name in left if name not in before]
    assert all(name.startswith(".unfinished/") and "." not in name[1:] for name in left if name not in before)
    assert ask(
        f"SELECT count(*) FROM read_parquet('{out}/**/*.parquet', union_by_name = true) WHERE verdict IS NOT NULL"
    ) == [(15,)]
    export()
    assert set(files(out)) == set(before)
    assert ask(f"SELECT count(*) FROM {table(out, 'steps')}") == [(17,)]


def test_an_entry_that_cannot_be_read_ends_it_and_changes_nothing(
    path: Path, tmp_path: Path, export: Callable[..., Any]
) -> None:
    """Nothing is passed over in silence."""
    export()
    before = files(tmp_path / "out")
    tamper(path, "UPDATE entries SET body = '{}' WHERE writer = 1 AND seq = 5")
    assert "seq 5 of one cannot be read" in export(code=2)["message"]
    tamper(
        path,
        'UPDATE entries SET body = \'{"rung": "haiku", "arm": "cascade", "cost": 99999999999999999999, "steps": 1, "latency_ms": 1}\','
        " kind = 'outcome' WHERE writer = 1 AND seq = 5",
    )
    assert "cost has a number of more than 64 bits" in export(code=2)["message"]
    tamper(path, "UPDATE entries SET at = 1e12 WHERE writer = 1 AND seq = 4")
    assert "seq 4 of one has a time that no calendar has" in export(code=2)["message"]
    assert files(tmp_path / "out") == before


def test_another_ledgers_months_are_replaced_only_by_force(
    run: Run, path: Path, tmp_path: Path, export: Callable[..., Any]
) -> None:
    """Nor is a file that is not ours; a month that is not there yet has nobody to ask."""
    export()
    before = files(tmp_path / "out")
    other = tmp_path / "other.db"
    add(other, "other", [AT])
    to = ("ledger", "export", "--parquet", str(tmp_path / "out"), "--ledger", str(other))
    refused = run(*to)
    assert (refused.code, files(tmp_path / "out")) == (2, before)
    assert "month=2026-11/part-0000.parquet: is not of this ledger" in refused.err
    assert run(*to, "--force").code == 0
    assert ask(f"SELECT count(*) FROM {table(tmp_path / 'out', 'steps')} WHERE month = '2026-11'") == [(2,)]
    (tmp_path / "out" / "steps" / "month=2026-11" / "part-0000.parquet").write_bytes(b"mine")
    assert "is not of this ledger" in run(*to).err


def test_two_at_once_are_refused_and_so_is_nonsense(
    run: Run, path: Path, tmp_path: Path, export: Callable[..., Any]
) -> None:
    """One line each, exit 2, nothing written."""
    out = tmp_path / "out"
    out.mkdir()
    descriptor = os.open(out, os.O_RDONLY)
    try:
        assert try_lock(descriptor)
        assert "another export writes to it" in export(code=2)["message"]
    finally:
        os.close(descriptor)
    assert "give one of them, not both" in export("-o", "x.parquet", code=2)["message"]
    assert files(out) == {}
    (tmp_path / "file").write_text("")
    refused = run("ledger", "export", "--parquet", str(tmp_path / "file"), "--ledger", str(path))
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "cannot be written" in refused.err


def test_what_a_batch_began_days_before_is_found(run: Run, tmp_path: Path) -> None:
    """Seven days before the first month; of what began earlier the row is there, and what is missing is told."""
    path, out = tmp_path / "ledger.db", tmp_path / "out"
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        writer = Writer(store, "one")
        for number, earlier in enumerate((EARLIER_S - 60, EARLIER_S + 60)):
            writer.ask(number, at=NOVEMBER - earlier, ended=False, opens=True)
            batch = Batch()
            writer.entry(batch, NOVEMBER + 1, "step", f"one-{number}", StepBody(0, "haiku", "m", "answered", 5))
            store.write(batch)
    done = run("ledger", "export", "--parquet", str(out), "--ledger", str(path), "--since", "2026-11-01")
    assert (done.code, done.out) == (0, f"{out}: 2 steps of 2026-11\n")
    assert done.err.startswith("rows of requests that began more than a week before: 1 (")
    assert ask(f"SELECT request, policy, cost FROM {table(out, 'steps')} ORDER BY 1") == [
        ("one-0", "support", 5), ("one-1", None, 5),
    ]  # fmt: skip


def test_a_time_is_in_its_month(path: Path, tmp_path: Path, export: Callable[..., Any]) -> None:
    """To the last moment of it, whatever a float is rounded to: in the row, in the folder, and in what a period asks for."""
    add(path, "edge", [NOVEMBER - 3e-7])
    found = f"SELECT epoch_us(time), month FROM {table(tmp_path / 'out', 'requests')} WHERE writer = 'edge'"
    assert export("--since", "2026-11-01")["months"] == ["2026-11"]
    assert ask(found) == []
    assert export("--until", "2026-11-01")["months"] == ["2026-10"]
    assert ask(found) == [(int(NOVEMBER) * 1_000_000 - 1, "2026-10")]
