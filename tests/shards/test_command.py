"""The commands over shards: the same JSON as for one file, notes on stderr, and one line for what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("duckdb")

from cascade.policy.shipped import find_corpus
from tests.cli.conftest import Run
from tests.cli.within import run, runner

from .scenes import draw_corpus, write_both

__all__ = ["run", "runner"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A corpus in one file and in three shards. Not to be changed."""
    manifest, items = draw_corpus(7, gaps=False)
    return write_both(tmp_path_factory.mktemp("both"), manifest, items, shards=3)


def test_the_json_of_shards_is_that_of_one_file(run: Run, both: tuple[Path, Path]) -> None:
    """And says which engine counted."""
    one, many = (run("replay", str(path), "--json").json for path in both)
    assert many.pop("engine") == "duckdb"
    del one["seconds"], many["seconds"]
    assert many == one
    one, many = (run("tabulate", str(path), "-o", "counts.parquet", "--json").json for path in both)
    assert many.pop("engine") == "duckdb"
    assert many == one


def test_a_pattern_is_a_corpus_for_every_command(run: Run, both: tuple[Path, Path]) -> None:
    """Calibration reads shards item by item, and counted ones from their table."""
    pattern = str(both[1] / "*.parquet")
    one, many = (run("calibrate", path, "--frontier", "--json").json for path in (str(both[0]), pattern))
    assert many["frontier"] == one["frontier"]
    assert run("tabulate", pattern, "-o", "counts.parquet", "--json").json["engine"] == "duckdb"
    assert run("calibrate", "--counts", "counts.parquet", "--frontier", "--json").json["frontier"] == one["frontier"]


def test_a_shard_in_two_tables_is_refused(run: Run, both: tuple[Path, Path]) -> None:
    """Its items would count twice."""
    run("tabulate", str(both[1]), "-o", "all.parquet")
    run("tabulate", str(both[1] / "part-00000.parquet"), "-o", "one.parquet", "--engine", "python")
    done = run("calibrate", "--counts", "all.parquet", "one.parquet", "--frontier")
    assert (done.code, done.out) == (2, "")
    assert "both tables count the same one shard of drawn" in done.err


@pytest.mark.parametrize("engine", ["auto", "python"])
def test_a_damaged_shard_is_one_line_and_no_figure(
    run: Run, both: tuple[Path, Path], tmp_path: Path, engine: str
) -> None:
    """Exit code 2; no table is written."""
    shutil.copytree(both[1], tmp_path / "shards")
    shard = tmp_path / "shards" / "part-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-500])
    for arguments in (("replay", "shards"), ("tabulate", "shards", "-o", "counts.parquet")):
        done = run(*arguments, "--engine", engine)
        assert (done.code, done.out) == (2, "")
        assert "shards/part-00001.parquet: is not Parquet" in done.err
    assert not (tmp_path / "counts.parquet").exists()


def test_what_no_engine_decides_is_noted_or_refused(run: Run, both: tuple[Path, Path]) -> None:
    """In the notes of the JSON; an engine that was asked for names the key."""
    told = run("replay", str(both[1]), "--exact-engine", "--json").json
    assert told["engine"] == "python"
    assert told["notes"][-1] == "read item by item, in this process: --exact-engine: it climbs for each item"
    done = run("replay", str(both[1]), "--exact-engine", "--engine", "duckdb")
    assert (done.code, done.out) == (2, "")
    assert "--exact-engine: it climbs for each item (--engine python reads every item)" in done.err


def test_a_saving_over_shards_is_that_of_one_file(run: Run, tmp_path: Path) -> None:
    """An export in Parquet and a corpus in shards: the same bill."""
    from cascade.corpora import open_corpus  # noqa: PLC0415
    from cascade.corpora.shards import write_shards  # noqa: PLC0415

    from .test_usage import shards_of  # noqa: PLC0415

    rows = [
        {"model": "claude-opus-5-5", "input_tokens": 1_000 * n, "output_tokens": 90 * n, "date": f"2026-11-{n:02}"}
        for n in range(1, 20)
    ]
    (tmp_path / "usage.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shards_of(tmp_path / "usage", rows, 3)
    with open_corpus(find_corpus("support")) as reader:
        write_shards(tmp_path / "shards", reader.manifest, reader, items_per_shard=400)
    policy = Path(tmp_path / "plain.yaml")
    policy.write_text(
        "version: 1\nname: plain\nladder:\n"
        + "".join(
            f"  - {{rung: {rung}, model: claude-{rung}-5-5, max_tokens: 99{', threshold: 0.7' * (rung != 'opus')}}}\n"
            for rung in ("haiku", "sonnet", "opus")
        )
    )
    one = run("savings", "usage.jsonl", "--corpus", "support", "-p", str(policy), "--json").json
    many = run("savings", "usage", "--corpus", "shards", "-p", str(policy), "--json").json
    assert many.pop("engine") == "duckdb"
    assert (one["usage"].pop("source"), many["usage"].pop("source")) == ("usage.jsonl", "usage")
    assert many == one
