"""Shards counted by cells give what one process makes of the same items as one file, to the digit; or both refuse."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs]
import pytest

from cascade.calibration.tables.parquet import PARTS, CountsTable, tabulate_corpus
from cascade.calibration.tables.shards import tabulate_shards
from cascade.core.errors import CascadeError
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply
from cascade.corpora.encoding import encode_line, raw_manifest
from cascade.corpora.parquet import MANIFEST_KEY
from cascade.corpora.splits import Split
from cascade.replay.fields import fields_of
from cascade.replay.mapping import parse_override
from cascade.replay.run import ReplayOptions, replay_corpus
from cascade.replay.shards.passes import count_all
from cascade.replay.shards.run import replay_shards

from .scenes import RUNGS, counting_of, draw_corpus, draw_policy, write_both


def outcome(function: Callable[[], Any]) -> Any:
    """What it returns, or the kind of its refusal."""
    try:
        return function()
    except CascadeError as error:
        return type(error), getattr(error, "item", None)


def plain(table: CountsTable) -> dict[str, Any]:
    """A table's values as lists, without its sources."""
    made: dict[str, Any] = {field.name: getattr(table, field.name) for field in fields(table)}
    del made["sources"], made["parts"]
    for part in PARTS:
        for field in fields(table.parts[part]):
            value = getattr(table.parts[part], field.name)
            if isinstance(value, tuple):
                value = [one.tolist() if isinstance(one, np.ndarray) else one for one in value]
            made[f"{part}.{field.name}"] = value.tolist() if isinstance(value, np.ndarray) else value
    return made


@pytest.mark.parametrize("seed", [*range(7), 1177])  # the last: sums of scores that a double does not hold
def test_replay_and_tables_equal_those_of_one_process(tmp_path: Path, seed: int) -> None:
    """Every field of `replay --json` but the seconds, and every column of the table; or the same refusal."""
    chance = random.Random(seed)
    manifest, items = draw_corpus(seed, gaps=seed % 3 == 0)
    one, many = write_both(tmp_path, manifest, items, shards=chance.randint(1, 4))
    policy, counting, pieces = draw_policy(seed), counting_of(many), chance.randint(1, 3)
    overrides = tuple(map(parse_override, chance.choice([(), ("small=0.25",), ("small=never",)])))
    part: Any = chance.choice(["all", "all", "tune", "certify"])
    split = Split(0.4, seed)
    options = ReplayOptions(policy, overrides, part, split, reprice=policy is not None and seed % 4 == 1)
    expected = outcome(lambda: fields_of(replay_corpus(one, options), 0))
    found = outcome(lambda: fields_of(replay_shards(counting, options, pieces=pieces), 0))
    assert found == expected
    expected = outcome(lambda: plain(tabulate_corpus(one, policy, split)))
    grouped = isinstance(expected, dict) and expected["grouped"]
    counting = replace(counting, policy=policy, split=split)
    assert outcome(lambda: plain(tabulate_shards(counting, grouped=grouped, pieces=pieces))) == expected


def test_a_recorded_corpus_in_fifty_shards(recorded_shards: Path, real_corpus: Callable[[str], Path]) -> None:
    """Real answers, escapes, verdicts and usage. Tables of it are compared by `test_engines`, with a cluster."""
    counting = counting_of(recorded_shards)
    assert len(counting.shards) == 50
    expected = fields_of(replay_corpus(real_corpus("mmlupro-gpt41"), ReplayOptions()), 0)
    assert fields_of(replay_shards(counting, ReplayOptions()), 0) == expected


def test_a_score_between_0_and_1_in_a_later_shard(tmp_path: Path) -> None:
    """The leaner query is asked since the first shard's scores are all 0 or 1, and its sums are then not taken."""
    reply = RecordedReply(0.9, "A", 1.0, cost_usd=0.001)
    manifest = Manifest("few", tuple(map(LadderEntry, RUNGS)))
    whole: dict[str, RecordedReply] = dict.fromkeys(RUNGS, reply)
    half = {rung: msgspec.structs.replace(reply, score=0.5) for rung in whole}
    items = [Item(f"i{n}", f"q{n}", half if n == 3 else whole) for n in range(4)]
    one, many = write_both(tmp_path, manifest, items, shards=2)
    assert plain(tabulate_shards(counting_of(many), grouped=False)) == plain(tabulate_corpus(one))


def test_tasks_keep_their_order_however_shards_are_cut(tmp_path: Path) -> None:
    """That in which they first appear, also where a shard has but one."""
    reply = RecordedReply(0.9, "A", 1.0, cost_usd=0.001)
    replies: dict[str, RecordedReply] = dict.fromkeys(RUNGS, reply)
    items = [Item(f"i{n}", f"q{n}", replies, task) for n, task in enumerate(("z", "b", "b", "b"))]
    one, many = write_both(tmp_path, Manifest("few", tuple(map(LadderEntry, RUNGS))), items, shards=2)
    for pieces in (1, 2):
        found = replay_shards(counting_of(many), ReplayOptions(), pieces=pieces)
        assert list(found.tasks) == list(replay_corpus(one, ReplayOptions()).tasks)


def test_names_that_an_engine_would_take_for_patterns(tmp_path: Path) -> None:
    """Each file is read once, whatever its name and that of a rung."""
    rungs = ('small "1"', "it's", "100%*")
    reply = RecordedReply(0.9, "A", 1.0, cost_usd=0.001)
    items = [Item(f"i{n}", f"q{n}", dict.fromkeys(rungs, reply)) for n in range(6)]
    one, many = write_both(tmp_path, Manifest("few", tuple(map(LadderEntry, rungs))), items, shards=6)
    names = ("a*.parquet", "a?.parquet", "ab[0].parquet", "ab0.parquet", 'it\'s "1"\n.parquet', "{a,b} $%~\\.parquet")
    for file, name in zip(sorted(many.iterdir()), names, strict=True):
        file.rename(many / name)
    counting = counting_of(many)
    assert fields_of(replay_shards(counting, ReplayOptions()), 0) == fields_of(replay_corpus(one, ReplayOptions()), 0)


def test_most_rows_are_grouped_by_the_engine(tmp_path: Path) -> None:
    """Otherwise equality would say nothing of the queries."""
    manifest, items = draw_corpus(1, gaps=False)
    plain_items = [item for item in items if isinstance(item.input, str) and item.extra is None]
    _, many = write_both(tmp_path, manifest, items, shards=2)
    cells = count_all(counting_of(many))
    assert 0 < cells.read < len(items)
    assert cells.read >= len(items) - len(plain_items)
    assert int(np.sum(cells.table.column("items").to_numpy())) == len(items)


def test_more_items_than_a_bootstrap_takes(tmp_path: Path) -> None:
    """Above 100,000 items the intervals come from moments that the engine adds up; a small task beside them has its bootstrap."""
    manifest = Manifest("large", tuple(LadderEntry(rung) for rung in RUNGS[1:]))
    chance = np.random.default_rng(1)
    for number, count in enumerate((100_001, 300)):
        groups = [f"g{one}" if one % 3 else None for one in chance.integers(0, 40_000, count).tolist()]
        columns: dict[str, Any] = {
            "id": [f"{number}-{n}" for n in range(count)],
            "input": [f"q{n}" for n in range(count)],
        }
        columns |= {"task": [("one", "two")[number]] * count, "group": groups}
        for rung in RUNGS[1:]:
            columns |= {
                f"{rung}.confidence": chance.integers(0, 21, count) / 20,
                f"{rung}.score": chance.random(count),
                f"{rung}.cost_usd": chance.random(count) / 100,
                f"{rung}.answer": ['"A"'] * count,
            }
        line = encode_line(raw_manifest(manifest), "", "").strip()
        table = pa.table(columns).replace_schema_metadata({MANIFEST_KEY: line})
        (tmp_path / "many").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "many" / f"{number}.parquet")
    expected = fields_of(replay_corpus(tmp_path / "many", ReplayOptions()), 0)
    assert fields_of(replay_shards(counting_of(tmp_path / "many"), ReplayOptions(), pieces=2), 0) == expected
