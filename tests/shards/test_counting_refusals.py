"""What the reader refuses is refused when shards are counted by an engine, in the same words; what cells cannot say names its key."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs]
import pytest

from cascade import Policy
from cascade.core.errors import CorpusError
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply
from cascade.corpora.shards import write_shards
from cascade.replay.run import ReplayOptions, replay_corpus
from cascade.replay.shards import Undecided
from cascade.replay.shards.run import replay_shards

from .scenes import RUNGS, counting_of

LADDER = [
    {"rung": rung, "model": f"model-{rung}", "max_tokens": 9, "price": {"input": "1", "output": "1"}} for rung in RUNGS
]


def policy(**keys: Any) -> Policy:
    """A policy of the three rungs, with more keys."""
    below = [{**rung, "threshold": 0.5} for rung in LADDER[:-1]]
    return Policy.model_validate({"version": 1, "name": "asked", "ladder": [*below, LADDER[-1]], **keys})


def shards(folder: Path, **more: Any) -> Path:
    """Four plain items in two shards."""
    reply = RecordedReply(0.9, "A", 1.0, {"input_tokens": 1, "output_tokens": 1}, 0.001)
    items = [Item(f"i{n}", f"q{n}", dict.fromkeys(RUNGS, reply), **more) for n in range(4)]
    write_shards(folder / "many", Manifest("few", tuple(map(LadderEntry, RUNGS))), items, items_per_shard=2)
    return folder / "many"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("small.confidence", float("nan")),
        ("small.confidence", 1.5),
        ("middle.score", float("inf")),
        ("large.score", -2e6),
        ("small.score", float("nan")),
        ("small.cost_usd", -1e-9),
        ("middle.cost_usd", 1001.0),
        ("small.cost_usd", None),
        ("small.score", None),
        ("small.answer", "yes"),
        ("small.answer", '"a" "b"'),
        ("small.answer", "[1,]"),
        ("split", "test"),
        ("id", ""),
        ("input", " \u2003"),
        ("input", None),
        ("messages", "[]"),
        ("extra", "[1]"),
        ("at", float("inf")),
    ],
)
def test_an_invalid_cell_is_refused_as_by_the_reader(tmp_path: Path, column: str, value: Any) -> None:
    """Shard, row, item and words are those of the reader of the same folder."""
    folder = shards(tmp_path)
    path = folder / "part-00001.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    cells = table.column(column).to_pylist()
    changed = table.set_column(
        place, table.schema.field(place), pa.array([cells[0], value], table.schema.field(place).type)
    )
    pq.write_table(changed, path)
    with pytest.raises(CorpusError) as expected:
        replay_corpus(folder, ReplayOptions())
    with pytest.raises(CorpusError) as found:
        replay_shards(counting_of(folder), ReplayOptions())
    assert str(found.value) == str(expected.value)
    assert f"{path}:row 2" in str(found.value)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    """The engine does not say which file it could not read."""
    folder = shards(tmp_path)
    counting, path = counting_of(folder), folder / "part-00001.parquet"
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    with pytest.raises(CorpusError) as found:
        replay_shards(counting, ReplayOptions())
    assert found.value.where == str(path)


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        ("checks", {"checks": [{"max_chars": 3}]}),
        ("checks", {"tasks": [{"name": "one", "checks": [{"pattern": "y"}]}]}),
        ("tasks.when", {"tasks": [{"name": "one", "when": {"words": ["refund"]}}]}),
        ("early_stop", {"early_stop": True, "triage": {"order": "confidence_first"}}),
        ("scorer", {"scorer": {"small": {"bias": 0.5, "features": []}}}),
        ("storm_guard", {"storm_guard": {"rate": 0.3, "window": 4, "min_samples": 2}}),
    ],
)
def test_what_cells_cannot_say_names_its_key(tmp_path: Path, key: str, keys: dict[str, Any]) -> None:
    """So that the caller can read item by item instead; the error crosses processes."""
    counting = counting_of(shards(tmp_path, at=1.0))
    with pytest.raises(Undecided) as found:
        replay_shards(counting, ReplayOptions(policy(**keys)))
    again = pickle.loads(pickle.dumps(found.value))
    assert (found.value.key, str(again)) == (key, str(found.value))


def test_options_that_need_each_item_name_their_key(tmp_path: Path) -> None:
    """As keys of the policy do."""
    counting = counting_of(shards(tmp_path))
    for options, key in (
        (replace(ReplayOptions(), exact=True), "--exact-engine"),
        (replace(ReplayOptions(), skip_bad=True), "--skip-bad"),
        (replace(ReplayOptions(), against=policy()), "--against"),
    ):
        with pytest.raises(Undecided) as found:
            replay_shards(counting, options)
        assert found.value.key == key
