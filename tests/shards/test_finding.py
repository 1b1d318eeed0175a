"""Which files are the shards of a corpus, and what is refused so that no item is lost or counted twice."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from cascade.core.errors import CorpusError
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, open_corpus, read_corpus, write_corpus

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

from cascade.corpora.shards import write_shards  # noqa: E402

MANIFEST = Manifest("support", (LadderEntry("haiku", "claude-haiku-5-5"), LadderEntry("opus", "claude-opus-5-5")))
ITEMS = tuple(
    Item(f"i-{n}", f"question {n}", {rung: RecordedReply(0.9, "yes", 1.0, cost_usd=0.001) for rung in MANIFEST.rungs})
    for n in range(7)
)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Seven items in three shards."""
    write_shards(tmp_path / "shards", MANIFEST, ITEMS, items_per_shard=3)
    return tmp_path / "shards"


def names_in(folder: Path) -> list[str]:
    """What is in a folder, by name."""
    return sorted(path.name for path in folder.iterdir())


def refusal(path: Path | str) -> str:
    """What is said of shards that are not read."""
    with pytest.raises(CorpusError) as told:
        read_corpus(path)
    return str(told.value)


def test_shards_are_one_corpus(shards: Path) -> None:
    """A folder and a pattern: the items in the order of the files, the manifest with their number."""
    assert names_in(shards) == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    for path in (shards, f"{shards}/*.parquet", f"{shards}/**"):
        corpus = read_corpus(path)
        assert corpus.items == ITEMS
        assert corpus.manifest == replace(MANIFEST, items=7)
        assert [item.line for item in corpus.items] == list(range(1, 8))
    assert read_corpus(f"{shards}/*[02].parquet").items == (*ITEMS[:3], *ITEMS[6:])


def test_a_recorded_corpus_in_50_shards_is_the_same(recorded_shards: Path, real_corpus: Callable[[str], Path]) -> None:
    """Item for item."""
    one, many = read_corpus(real_corpus("mmlupro-gpt41")), read_corpus(recorded_shards)
    assert (many.items, many.manifest) == (one.items, one.manifest)


def test_one_file_is_open_at_a_time(shards: Path) -> None:
    """Any number of shards can be read."""

    def opened() -> int:
        return sum("part-" in os.path.realpath(f"/proc/self/fd/{fd}") for fd in names_in(Path("/proc/self/fd")))

    with open_corpus(shards) as reader:
        assert max(opened() for _ in reader) == 1
    assert opened() == 0


def test_what_engines_leave_beside_their_files_is_left_out(shards: Path) -> None:
    """Markers, checksums, summaries, hidden files and what is being written."""
    for name in (
        "_SUCCESS",
        "_metadata",
        ".part-00000.parquet.crc",
        ".part-9.parquet",
        "part-9.parquet.tmp",
        "README.md",
    ):
        (shards / name).write_bytes(b"x")
    (shards / "_temporary").mkdir()
    shutil.copy(shards / "part-00000.parquet", shards / "_temporary" / "part-9.parquet")
    assert len(read_corpus(shards).items) == 7


def test_folders_by_key_are_entered(shards: Path) -> None:
    """As Hive and Spark partition a table; a folder of another name is not passed over in silence."""
    for month, name in (("2026-10", "part-00000.parquet"), ("2026-11", "part-00001.parquet")):
        (shards / f"month={month}").mkdir()
        (shards / name).rename(shards / f"month={month}" / "part-0.parquet")
    assert [item.id for item in read_corpus(shards).items] == [item.id for item in ITEMS]
    (shards / "month=2026-10").rename(shards / "old")
    assert "old: is a folder with more Parquet files (name all that is meant" in refusal(shards)


def test_a_folder_that_replaces_a_column_is_refused(shards: Path) -> None:
    """`partition by task` takes the column out of the files: every item would be of task `other`."""
    table = parquet.read_table(shards / "part-00000.parquet")
    (shards / "task=refund").mkdir()
    parquet.write_table(table.drop_columns(["task"]), shards / "task=refund" / "part-0.parquet")
    (shards / "part-00000.parquet").unlink()
    assert "has no column 'task', which its folder 'task=refund' replaces" in refusal(shards)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("more.jsonl", b"{}", "more.jsonl: stands among Parquet shards in another format"),
        ("more.jsonl.gz", b"", "more.jsonl.gz: stands among Parquet shards in another format"),
        ("more.parquet", b"PAR1", "more.parquet: is not Parquet"),
        ("more.parquet", b"", "more.parquet: is not Parquet"),
    ],
)
def test_a_file_that_is_no_shard_is_named(shards: Path, name: str, content: bytes, said: str) -> None:
    """Rather than read without it."""
    (shards / name).write_bytes(content)
    assert said in refusal(shards)


def test_a_parquet_file_that_is_no_corpus_is_named(shards: Path) -> None:
    """Such as a table of counts, or an export."""
    parquet.write_table(pa.table({"id": ["x"]}), shards / "more.parquet")
    assert "more.parquet: has no manifest under 'cascade.corpus'" in refusal(shards)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"grader": "exact"}, "grader"),
        ({"right_at": 0.7}, "right_at"),
        ({"name": "other"}, "corpus"),
        ({"ladder": (MANIFEST.ladder[0], LadderEntry("opus", "claude-opus-4-5"))}, "ladder[1].model"),
        ({"ladder": MANIFEST.ladder[:1]}, "ladder"),
        ({"extra": {"recorded": {"at": "2026-11"}}}, "recorded"),
    ],
)
def test_manifests_that_differ_are_refused(shards: Path, change: dict[str, Any], key: str) -> None:
    """Both files and the key are named."""
    item = changed(ITEMS[0], id="x", replies={"haiku": ITEMS[0].replies["haiku"]})
    write_corpus(shards / "part-9.parquet", replace(MANIFEST, **change), [item])
    said = refusal(shards)
    assert f"part-9.parquet: its manifest differs from that of {shards}/part-00000.parquet in {key!r}" in said


@pytest.mark.parametrize("link", [os.symlink, os.link, shutil.copyfile])
def test_a_file_that_is_there_twice_is_refused(shards: Path, link: Callable[[Path, Path], object]) -> None:
    """By another name, or with the same content."""
    link(shards / "part-00001.parquet", shards / "part-9.parquet")
    said = refusal(shards)
    assert "part-9.parquet: " in said
    assert f"as {shards}/part-00001.parquet" in said


def test_shards_without_items_may_be_alike(shards: Path) -> None:
    """Spark leaves files without a row."""
    for name in ("part-7.parquet", "part-8.parquet"):
        write_corpus(shards / name, MANIFEST, [])
    assert len(read_corpus(shards).items) == 7


def test_nothing_found_says_where_it_was_sought(tmp_path: Path) -> None:
    """A folder without shards, a pattern that nothing matches, one that matches something else."""
    (tmp_path / "notes.txt").write_text("x")
    assert f"{tmp_path}: has no Parquet file" in refusal(tmp_path)
    assert "matches no Parquet file" in refusal(tmp_path / "*.parquet")
    assert "notes.txt: matches the pattern, but is no Parquet file" in refusal(tmp_path / "*")
    assert "there is no such file" in refusal_of_command(tmp_path / "none")


def refusal_of_command(path: Path) -> str:
    """What `find_corpus` or the reading says of a path that is nothing."""
    return refusal(path).replace("cannot be read: No such file or directory", "there is no such file")


def test_a_count_that_is_not_the_files_own_is_refused(shards: Path) -> None:
    """The whole corpus's `items` in each shard, or a shard that was cut."""
    table = parquet.read_table(shards / "part-00000.parquet")
    manifest = json.loads(table.schema.metadata[b"cascade.corpus"]) | {"items": 7}
    parquet.write_table(
        table.replace_schema_metadata({"cascade.corpus": json.dumps(manifest)}), shards / "part-00000.parquet"
    )
    assert "part-00000.parquet: has 3 rows, its manifest says 7" in refusal(shards)


def test_an_error_of_an_item_names_its_shard_and_row(shards: Path) -> None:
    """While reading, and in a replay, which finds it in its columns."""
    from cascade.replay.run import ReplayOptions, replay_corpus  # noqa: PLC0415 - numpy is an extra

    worse = changed(ITEMS[0], id="x", replies={"haiku": changed(ITEMS[0].replies["haiku"], cost_usd=None)})
    write_corpus(shards / "part-9.parquet", MANIFEST, [changed(ITEMS[0], id="w"), worse])
    with pytest.raises(CorpusError, match=r"part-9\.parquet:row 2: item 'x': the reply of 'haiku' has no cost_usd"):
        replay_corpus(shards, ReplayOptions())
    table = parquet.read_table(shards / "part-9.parquet")
    scores = pa.array([None, float("nan")])
    parquet.write_table(
        table.set_column(table.column_names.index("haiku.score"), "haiku.score", scores), shards / "part-9.parquet"
    )
    assert "part-9.parquet:row 2: item 'x': haiku.score: is NaN or infinite" in refusal(shards)


def test_an_id_in_two_shards_is_refused(shards: Path) -> None:
    """With both places."""
    write_corpus(shards / "part-9.parquet", MANIFEST, [changed(ITEMS[1], id="w"), ITEMS[4]])
    said = refusal(shards)
    assert "part-9.parquet:row 2: item 'i-4': the id occurs twice, first in " in said
    assert "part-00001.parquet:row 2" in said


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "replaced"])
def test_a_damaged_shard_is_named(shards: Path, damage: str) -> None:
    """Also one that is damaged after it was listed: what was read before is not taken for the corpus."""
    shard = shards / "part-00001.parquet"
    whole = bytearray(shard.read_bytes())
    with open_corpus(shards) as reader:
        if damage == "cut":
            shard.write_bytes(whole[:-300])
        elif damage == "flipped":
            whole[4:400] = bytes(byte ^ 0x5A for byte in whole[4:400])
            shard.write_bytes(whole)
        elif damage == "gone":
            shard.unlink()
        else:
            write_corpus(shard, MANIFEST, [changed(item, id=f"{item.id}!") for item in ITEMS[3:6]])
        with pytest.raises(CorpusError) as told:
            tuple(reader)
    assert str(told.value).startswith(str(shard))


def test_a_cut_corpus_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """No half-written folder is left, and none is added to."""

    def broken() -> Any:
        yield from ITEMS
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - its own
        write_shards(tmp_path / "shards", MANIFEST, broken(), items_per_shard=3)
    assert names_in(tmp_path) == []
    with pytest.raises(CorpusError, match="has no items"):
        write_shards(tmp_path / "shards", MANIFEST, [])
    with pytest.raises(CorpusError, match="7 items were given, the manifest says 8"):
        write_shards(tmp_path / "shards", replace(MANIFEST, items=8), ITEMS)
    write_shards(tmp_path / "shards", MANIFEST, ITEMS)
    with pytest.raises(CorpusError, match="is there already"):
        write_shards(tmp_path / "shards", MANIFEST, ITEMS)
    assert names_in(tmp_path) == ["shards"]
