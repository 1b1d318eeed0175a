"""A corpus as Parquet: the same items, columns that other engines can query, and errors that name file and row."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cascade.core.errors import CorpusError
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, open_corpus, read_corpus, write_corpus
from cascade.corpora.items import RecordedCheck, RecordedGroups

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

REAL = ["coding-claims", "mmlupro-claude", "mmlupro-gemini", "mmlupro-gpt41", "mmlupro-llama", "translation-claude"]
KEY = b"cascade.corpus"
LADDER = (LadderEntry("haiku", "claude-haiku-5-5"), LadderEntry("gpt-4.1"))
MANIFEST = {"corpus": "c", "version": 1, "ladder": [{"rung": "haiku"}, {"rung": "gpt-4.1"}]}
ROW = {"id": "i-1", "input": "q", "haiku.confidence": 0.9, "haiku.score": 1.0, "haiku.answer": '"yes"'}


def write_table(path: Path, *rows: dict[str, Any], manifest: object = MANIFEST) -> Path:
    """A Parquet file as another engine might write it."""
    metadata = {} if manifest is None else {KEY: manifest if isinstance(manifest, bytes) else json.dumps(manifest)}
    table = pa.Table.from_pylist(list(rows))
    parquet.write_table(table.replace_schema_metadata(metadata), path)
    return path


@pytest.mark.parametrize("name", REAL)
def test_every_real_corpus_survives_parquet(tmp_path: Path, name: str, real_corpus: Callable[[str], Path]) -> None:
    """The items and the manifest read from Parquet are those of the JSON lines."""
    corpus = read_corpus(real_corpus(name))
    write_corpus(tmp_path / "c.parquet", corpus.manifest, corpus.items)
    again = read_corpus(tmp_path / "c.parquet")
    assert (again.manifest, again.items) == (corpus.manifest, corpus.items)


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
_SOME = st.none() | st.floats(0, 1)
_UNKNOWN = st.none() | st.dictionaries(st.sampled_from(["seconds_", "haiku.score", ""]), _JSON, min_size=1)
_CHECK = st.none() | st.booleans() | st.builds(RecordedCheck, st.none() | st.booleans(), st.floats(0, 9), _UNKNOWN)
_ANSWERED = st.builds(
    RecordedReply,
    confidence=_SOME,
    answer=_JSON,
    score=_SOME,
    usage=st.none()
    | st.fixed_dictionaries(
        {},
        optional={key: st.integers(0, 2**65) for key in ("input_tokens", "output_tokens", "cache_read_input_tokens")},
    ),
    cost_usd=_SOME,
    signals=st.none() | st.dictionaries(st.text("xyz", max_size=3), st.floats(0, 1), max_size=2),
    variant=st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=3),
    checks=st.none() | st.dictionaries(st.text("xyz", max_size=3), _CHECK, max_size=2),
    extra=_UNKNOWN,
) | st.just(RecordedReply())
_GROUPS = st.sampled_from([None, ((0,), (1,)), ((1, 0),)]).flatmap(
    lambda groups: st.builds(
        RecordedGroups, st.just((0, 1)), st.just(groups), st.none() | st.just({"x": 1}), _SOME, _UNKNOWN
    )
)
_REPLY = (
    st.builds(
        replace,
        _ANSWERED,
        samples=st.lists(_ANSWERED, min_size=1, max_size=3).map(tuple),
        groups=st.none() | st.tuples() | st.tuples(_GROUPS),
    )
    | _ANSWERED
)
_ITEM = st.builds(
    Item,
    id=st.just("i"),
    input=st.text(st.characters(codec="utf-8")) | st.just([{"role": "user", "content": "q"}]),
    replies=st.dictionaries(st.sampled_from(["haiku", "gpt-4.1"]), _REPLY),
    task=st.none() | st.text("t", max_size=2),
    split=st.sampled_from([None, "tune", "certify"]),
    at=_SOME,
    expected=_JSON,
    extra=st.none() | st.dictionaries(st.sampled_from(["url", "haiku.score", "messages"]), _JSON, min_size=1),
)


@given(item=_ITEM)
def test_parquet_and_json_lines_say_the_same(tmp_path_factory: pytest.TempPathFactory, item: Item) -> None:
    """Whatever an item holds, absent answers, null ones, huge counts and unknown keys, both forms read the same."""
    folder = tmp_path_factory.getbasetemp()
    for ending in ("jsonl", "parquet"):
        write_corpus(folder / f"same.{ending}", Manifest("c", LADDER), [item])
    lines, rows = (read_corpus(folder / f"same.{ending}") for ending in ("jsonl", "parquet"))
    assert (rows.manifest, rows.items) == (lines.manifest, lines.items)
    assert json.dumps(rows.items[0].expected) == json.dumps(lines.items[0].expected)  # 1, 1.0 and True are equal


def test_other_engines_find_flat_typed_columns(tmp_path: Path) -> None:
    """Without knowing us: `<rung>.score` is a number with a mean, the manifest is JSON in the metadata."""
    usage: Any = {"input_tokens": 3, "output_tokens": 2, "service_tier": "batch"}
    replies = {"haiku": RecordedReply(0.5, {"a": 1}, 1.0, usage, 0.25), "gpt-4.1": RecordedReply(answer=None, score=0)}
    write_corpus(tmp_path / "c.parquet", Manifest("c", LADDER), [Item("i", "q", replies, "t", at=1.5)])
    table = parquet.read_table(tmp_path / "c.parquet")
    (row,) = table.to_pylist()
    assert {name: row[name] for name in row if name.startswith("haiku.")} == {
        "haiku.confidence": 0.5, "haiku.score": 1.0, "haiku.cost_usd": 0.25, "haiku.input_tokens": 3,
        "haiku.output_tokens": 2, "haiku.answer": '{"a": 1}', "haiku.more": '{"usage": {"service_tier": "batch"}}',
        "haiku.variant": None, "haiku.samples": None,
    }  # fmt: skip
    assert (row["gpt-4.1.answer"], row["gpt-4.1.score"], row["gpt-4.1.confidence"]) == ("null", 0.0, None)
    assert (row["input"], row["messages"], row["at"], row["task"]) == ("q", None, 1.5, "t")
    assert json.loads(table.schema.metadata[KEY])["items"] == 1


def test_samples_are_json_that_other_engines_can_query(tmp_path: Path) -> None:
    """`<rung>.variant` is text, `<rung>.samples` the list of the further samples, `null` answers included."""
    further = (RecordedReply(0.5, "no", 0.0, variant="steps"), RecordedReply(answer=None, checks={"tests": False}))
    reply = RecordedReply(
        0.9, "yes", 1.0, variant="doubt", samples=further, groups=(RecordedGroups((0, 1), ((0,), (1,))),)
    )
    write_corpus(tmp_path / "c.parquet", Manifest("c", LADDER), [Item("i", "q", {"haiku": reply})])
    (row,) = parquet.read_table(tmp_path / "c.parquet").to_pylist()
    assert (row["haiku.variant"], row["haiku.answer"]) == ("doubt", '"yes"')
    assert json.loads(row["haiku.samples"]) == [
        {"confidence": 0.5, "answer": "no", "score": 0.0, "variant": "steps"},
        {"confidence": None, "answer": None, "score": None, "checks": {"tests": False}},
    ]
    assert json.loads(row["haiku.more"]) == {"groups": [{"of": [0, 1], "groups": [[0], [1]]}]}


def test_a_table_of_another_engine_is_read(tmp_path: Path) -> None:
    """Only the columns there are; decimals and whole numbers as fractions are taken; unknown columns are kept."""
    row = {**ROW, "haiku.cost_usd": Decimal("0.25"), "haiku.input_tokens": 3.0, "region": "eu", "week": 7}
    (item,) = read_corpus(write_table(tmp_path / "c.parquet", row)).items
    assert item.reply("haiku") == RecordedReply(0.9, "yes", 1.0, {"input_tokens": 3}, 0.25)
    assert (item.extra, set(item.replies), item.line) == ({"region": "eu", "week": 7}, {"haiku"}, 1)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"input": None}, "row 2: item 'i-2': input: "),
    ({"split": "test"}, "row 2: item 'i-2': split: "),
    ({"expected": "Lima"}, "row 2: item 'i-2': expected: is not JSON (text needs quotes there)"),
    ({"extra": "[]"}, "row 2: item 'i-2': extra: is not a JSON object"),
    ({"haiku.more": "7"}, "row 2: item 'i-2': haiku.more: is not a JSON object"),
    ({"haiku.more": '{"usage": 7}'}, "row 2: item 'i-2': replies.haiku.usage: "),
    ({"haiku.more": '{"usage": 7}', "haiku.input_tokens": 1}, "row 2: item 'i-2': haiku.more: its usage is not"),
    ({"haiku.answer": "secret"}, "row 2: item 'i-2': haiku.answer: is not JSON"),
    ({"haiku.confidence": 1.5}, "row 2: item 'i-2': replies.haiku.confidence: "),
    ({"haiku.score": float("nan")}, "row 2: item 'i-2': "),
    ({"haiku.input_tokens": -1}, "row 2: item 'i-2': replies.haiku.usage.input_tokens: "),
    ({"haiku.samples": '{"answer": "no"}'}, "row 2: item 'i-2': replies.haiku.samples: "),
    ({"haiku.samples": '[{"score": "secret"}]'}, "row 2: item 'i-2': replies.haiku.samples[0].score: "),
    ({"haiku.samples": "secret"}, "row 2: item 'i-2': haiku.samples: is not JSON"),
    ({"haiku.variant": ""}, "row 2: item 'i-2': replies.haiku.variant: "),
    ({"blob": b"\xff"}, "row 2: item 'i-2': a cell holds what JSON cannot"),
]


@pytest.mark.parametrize(("change", "problem"), BROKEN, ids=[str(change) for change, _ in BROKEN])
def test_a_broken_row_is_named_or_skipped(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    """A wrong cell is one error with file, row and column that quotes nothing; `skip_bad` passes over it and counts."""
    rows = [ROW, {**ROW, "id": "i-2", **change}, {**ROW, "id": "i-3"}]
    path = write_table(tmp_path / "c.parquet", *({**dict.fromkeys(change), **row} for row in rows))
    with pytest.raises(CorpusError) as caught:
        read_corpus(path)
    assert f"c.parquet:{problem}" in str(caught.value)
    assert "secret" not in str(caught.value)
    with open_corpus(path, skip_bad=True) as reader:
        good = [item.id for item in reader]
    assert (good, reader.skipped, reader.problems) == (["i-1", "i-3"], 1, (str(caught.value),))


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        (None, "has no manifest under 'cascade.corpus' in its metadata"),
        (b"{", "not JSON"),
        (b"[]", "is not a JSON object"),
        ({"corpus": "c", "version": 2}, "its corpus version is not supported"),
        ({**MANIFEST, "ladder": "haiku"}, "ladder: "),
        ({**MANIFEST, "items": 5}, "the file ends after 1 items, its manifest says 5"),
    ],
)
def test_a_file_without_a_right_manifest_is_one_error(tmp_path: Path, manifest: object, problem: str) -> None:
    """No manifest, a wrong one, or a count that is not true."""
    with pytest.raises(CorpusError, match=problem):
        read_corpus(write_table(tmp_path / "c.parquet", ROW, manifest=manifest))


def test_what_is_not_parquet_or_not_there_is_one_error(tmp_path: Path) -> None:
    """Text, a cut file, no file."""
    path = tmp_path / "c.parquet"
    with pytest.raises(CorpusError, match=r"c\.parquet: cannot be read: No such file or directory"):
        read_corpus(path)
    whole = write_table(path, ROW).read_bytes()
    for body in (b"", b"PAR1", b"text " * 99, whole[:-9], whole[len(whole) // 2 :]):
        path.write_bytes(body)
        with pytest.raises(CorpusError, match=r"c\.parquet: "):
            read_corpus(path)


def test_an_id_twice_names_both_rows(tmp_path: Path) -> None:
    """As in the JSON form."""
    with pytest.raises(CorpusError, match=r"c\.parquet:row 2: item 'i-1': the id occurs twice, first in row 1"):
        read_corpus(write_table(tmp_path / "c.parquet", ROW, ROW))


@pytest.mark.parametrize("flaw", [float("nan"), {1, 2}, "\ud800"])
def test_what_json_cannot_hold_is_not_written(tmp_path: Path, flaw: object) -> None:
    """The error names the row and the item, and no file is left."""
    item = Item("i-1", "q", {"haiku": RecordedReply(0.5, flaw)})
    with pytest.raises(CorpusError, match=r"c\.parquet:row 1: item 'i-1': cannot be written as JSON"):
        write_corpus(tmp_path / "c.parquet", Manifest("c", LADDER), [item])
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    """Where pyarrow is not installed reading and writing say which extra brings it; JSON lines need none."""
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from cascade.corpora import *\n"
        "from cascade.core.errors import MissingExtra\n"
        "manifest = Manifest('c', (LadderEntry('haiku'),))\n"
        "write_corpus('c.jsonl', manifest, []); read_corpus('c.jsonl')\n"
        "for act in (lambda: read_corpus('c.parquet'), lambda: write_corpus('c.parquet', manifest, [])):\n"
        "    try: act()\n"
        "    except MissingExtra as error: print(error.extra)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["parquet", "parquet"]
