from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.errors import CorpusError
from cascade.core.messages import Usage
from cascade.corpora import (
    NOT_RECORDED,
    Corpus,
    Item,
    LadderEntry,
    Manifest,
    RecordedReply,
    open_corpus,
    read_corpus,
    text_of,
    write_corpus,
)

REAL = ["coding-claims", "mmlupro-claude", "mmlupro-gemini", "mmlupro-gpt41", "mmlupro-llama", "translation-claude"]
MANIFEST: dict[str, Any] = {"corpus": "c", "version": 1, "ladder": [{"rung": "haiku", "model": "claude-haiku-5-5"}]}
REPLY: dict[str, Any] = {"confidence": 0.9, "answer": "yes", "score": 1.0}
ITEM: dict[str, Any] = {"id": "i-1", "input": "q", "replies": {"haiku": REPLY}}


def write_lines(path: Path, *lines: object) -> Path:
    """A file of these lines: values as JSON, text as it is."""
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def read_one(tmp_path: Path, **changes: Any) -> Item:
    """The item that is read where these keys of it are changed."""
    return read_corpus(write_lines(tmp_path / "c.jsonl", MANIFEST, {**ITEM, **changes})).items[0]


def refusal(tmp_path: Path, *lines: object) -> str:
    """The error that a file of these lines makes."""
    with pytest.raises(CorpusError) as caught:
        read_corpus(write_lines(tmp_path / "c.jsonl", *lines))
    return str(caught.value)


def test_an_item_is_read_with_everything_it_says(tmp_path: Path) -> None:
    """Each field of the format lands in its own field, whole numbers included where fractions are meant."""
    reply = {**REPLY, "confidence": 1, "usage": {"input_tokens": 3, "output_tokens": 2}, "cost_usd": 0.1}
    item = read_one(tmp_path, task="t", group="g", split="tune", at=2, expected={"a": 1}, replies={"haiku": reply})
    usage = {"input_tokens": 3, "output_tokens": 2}
    expected = RecordedReply(1.0, "yes", 1.0, usage, 0.1)  # pyright: ignore[reportArgumentType]
    assert item == Item("i-1", "q", {"haiku": expected}, "t", "g", "tune", 2.0, {"a": 1})
    assert item.line == 2
    assert item.reply("haiku").tokens == Usage(3, 2)


def test_a_declined_answer_is_not_one_whose_text_was_not_recorded(tmp_path: Path) -> None:
    """Null is an answer that was declined; without the key the text is missing, and the reply may still ship."""
    declined = read_one(tmp_path, replies={"haiku": {"confidence": None, "answer": None}}).reply("haiku")
    silent = read_one(tmp_path, replies={"haiku": {"confidence": 0.5, "score": 1}}).reply("haiku")
    assert (declined.has_answer, declined.answer, declined.confidence) == (True, None, None)
    assert (silent.has_answer, silent.answer, silent.confidence) == (False, NOT_RECORDED, 0.5)


def test_cache_usage_is_billed_as_recorded(tmp_path: Path) -> None:
    """Cache reads and both kinds of writes arrive in the usage that prices are computed from."""
    usage = {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read_input_tokens": 4,
        "cache_creation_input_tokens": 24,
        "cache_creation": {"ephemeral_5m_input_tokens": 8, "ephemeral_1h_input_tokens": 16},
    }
    reply = read_one(tmp_path, replies={"haiku": {**REPLY, "usage": usage}}).reply("haiku")
    assert reply.tokens == Usage(1, 2, cache_write_5m=8, cache_write_1h=16, cache_read=4)


def test_a_reply_that_was_not_recorded_names_item_and_rung(tmp_path: Path) -> None:
    """Asking an item for a rung that it lacks is an error, never a guess."""
    with pytest.raises(CorpusError, match=r"line 2: item 'i-1': no reply of rung 'opus' was recorded \(it has haiku"):
        read_one(tmp_path).reply("opus")


def test_unknown_keys_are_kept_and_written_back(tmp_path: Path) -> None:
    """What this version does not know, in the manifest, a rung, an item or a reply, survives a round trip."""
    manifest = {**MANIFEST, "ladder": [{"rung": "haiku", "model": None, "region": "eu"}], "seed": 7, "items": 1}
    item = {**ITEM, "url": "u", "replies": {"haiku": {**REPLY, "seconds": 1.5}}}
    corpus = read_corpus(write_lines(tmp_path / "a.jsonl", manifest, item))
    assert corpus.manifest.extra == {"seed": 7}
    assert corpus.items[0].extra == {"url": "u"}
    assert corpus.items[0].reply("haiku").extra == {"seconds": 1.5}
    write_corpus(tmp_path / "b.jsonl", corpus.manifest, corpus.items)
    first, second = (json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines())
    assert manifest.items() <= first.items()
    assert item.items() <= second.items()


BROKEN_ITEMS: list[tuple[dict[str, Any], str]] = [
    ({"id": ""}, "id: "),
    ({"id": 7}, "id: "),
    ({"input": None}, "input: must be a text, or a list"),
    ({"input": []}, "input: must be a text, or a list"),
    ({"input": [{"role": "user"}]}, "input: must be a text, or a list"),
    ({"split": "test"}, "split: "),
    ({"at": "noon"}, "at: "),
    ({"replies": []}, "replies: "),
    ({"replies": {"haiku": None}}, "replies.haiku: "),
    ({"replies": {"opus": REPLY}}, "has a reply of 'opus', not on the ladder"),
    ({"replies": {"haiku": {"confidence": 1.01}}}, "replies.haiku.confidence: "),
    ({"replies": {"haiku": {"confidence": "0.9"}}}, "replies.haiku.confidence: "),
    ({"replies": {"haiku": {"confidence": True}}}, "replies.haiku.confidence: "),
    ({"replies": {"haiku": {"confidence": True, "unknown": 1}}}, "replies.haiku.confidence: "),
    ({"replies": {"haiku": {"score": "1"}}}, "replies.haiku.score: "),
    ({"replies": {"haiku": {"cost_usd": -1}}}, "replies.haiku.cost_usd: "),
    ({"replies": {"haiku": {"usage": {"input_tokens": -1}}}}, "replies.haiku.usage.input_tokens: "),
    ({"replies": {"haiku": {"usage": {"input_tokens": 1.5}}}}, "replies.haiku.usage.input_tokens: "),
    ({"replies": {"haiku": {"signals": {"logit": "x"}}}}, "replies.haiku.signals.logit: "),
]


@pytest.mark.parametrize(("changes", "problem"), BROKEN_ITEMS, ids=[str(changes) for changes, _ in BROKEN_ITEMS])
def test_a_broken_item_is_named_with_file_line_and_key(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    """Every wrong field is one error that says where it is, and quotes nothing of what users wrote."""
    told = refusal(tmp_path, MANIFEST, ITEM, {**ITEM, "id": "i-2", "input": "secret", **changes})
    named = "" if "id" in changes else " item 'i-2':"
    assert f"c.jsonl:3:{named} " in told
    assert problem in told
    assert "secret" not in told


BROKEN_FILES: list[tuple[list[object], str]] = [
    ([], ":1: the file is empty"),
    (["not json\n"], ":1: not JSON"),
    ([[1]], ":1: the line is not a JSON object"),
    ([ITEM], ":1: line 1 is not a manifest"),
    ([{**MANIFEST, "version": 2}], ":1: its corpus version is not supported"),
    ([{**MANIFEST, "version": True}], ":1: its corpus version is not supported"),
    ([{**MANIFEST, "corpus": ""}], ":1: name: "),
    ([{**MANIFEST, "ladder": []}], ":1: ladder: "),
    ([{**MANIFEST, "ladder": ["haiku"]}], ":1: ladder.0: "),
    ([{**MANIFEST, "ladder": [{"rung": "a"}, {"rung": "a"}]}], ":1: the ladder names a rung twice"),
    ([{**MANIFEST, "items": 2}, ITEM], "the file ends after 1 items, its manifest says 2"),
    ([{**MANIFEST, "synthetic": "yes"}], ":1: synthetic: "),
    ([MANIFEST, "\n", ITEM], ":2: the line is blank"),
    ([MANIFEST, ITEM, ITEM], ":3: item 'i-1': the id occurs twice, first on line 2"),
    ([MANIFEST, '{"id": "i", "input": "q", "replies": {"haiku": {"score": NaN}}}\n'], ":2: not JSON"),
    ([MANIFEST, "[" * 100_000 + "\n"], ":2: not JSON"),
    ([MANIFEST, '{"id": "\\ud800"}\n'], ":2: not JSON"),
]


@pytest.mark.parametrize(("lines", "problem"), BROKEN_FILES, ids=[problem for _, problem in BROKEN_FILES])
def test_a_broken_file_is_one_error(tmp_path: Path, lines: list[object], problem: str) -> None:
    """A file that is not a corpus, or is cut short, is a CorpusError that says so."""
    told = refusal(tmp_path, *lines)
    assert problem in told
    assert "\n" not in told


def test_a_missing_file_is_one_error(tmp_path: Path) -> None:
    """No such file: what, where, what to do."""
    with pytest.raises(CorpusError, match=r"none\.jsonl: cannot be read: No such file or directory \(check the path\)"):
        read_corpus(tmp_path / "none.jsonl")


def test_a_line_past_the_bound_is_refused_before_it_is_held(tmp_path: Path) -> None:
    """A decompression bomb (a line of 256 MB in 250 kB) stops at the bound; it is never decoded."""
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(json.dumps(MANIFEST).encode() + b"\n")
        for _ in range(256):
            file.write(b" " * (1 << 20))
    with pytest.raises(CorpusError, match=r"bomb\.jsonl\.gz:2: the line is longer than 1000000 bytes"):
        read_corpus(path, max_line_bytes=1_000_000)


@pytest.mark.parametrize("damage", ["cut", "flipped", "plain"])
def test_a_damaged_gzip_file_is_one_error(tmp_path: Path, damage: str) -> None:
    """Cut short, changed in the middle, or never gzip: the line that could not be read is named."""
    packed = bytearray(gzip.compress(json.dumps(MANIFEST).encode() + b"\n" + json.dumps(ITEM).encode() * 200))
    if damage == "flipped":
        packed[len(packed) // 2] ^= 0xFF
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes({"cut": packed[:-20], "flipped": packed, "plain": b"{}"}[damage])
    with pytest.raises(CorpusError, match=r"c\.jsonl\.gz:\d: "):
        read_corpus(path)


def test_streaming_holds_one_item_at_a_time_and_closes_its_file(tmp_path: Path) -> None:
    """The manifest is there before any item is read, and the file is closed also where reading stops early."""
    path = write_lines(tmp_path / "c.jsonl", MANIFEST, ITEM, "not json\n")
    with open_corpus(path) as reader:
        assert reader.manifest.rungs == ("haiku",)
        assert next(iter(reader)).id == "i-1"
    with pytest.raises(ValueError, match="closed file"):
        next(iter(reader))


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz"])
def test_the_same_corpus_makes_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Written twice, and again from what was read, the file is the same to the byte; the count is filled in."""
    manifest = Manifest("c", (LadderEntry("haiku", "m"), LadderEntry("opus")), synthetic=True)
    items = [
        Item(f"i-{n}", "ü\u2028\n", {"haiku": RecordedReply(0.5, {"a": [1, None]}), "opus": RecordedReply()}, at=n / 2)
        for n in range(50)
    ]
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    write_corpus(tmp_path / "a" / name, manifest, items)
    write_corpus(tmp_path / "b" / name, replace(manifest, items=50), iter(items))
    read = read_corpus(tmp_path / "a" / name)
    assert read == Corpus(replace(manifest, items=50), tuple(items), str(tmp_path / "a" / name))
    write_corpus(tmp_path / "c" / name, read.manifest, read.items)
    assert len({(tmp_path / folder / name).read_bytes() for folder in ("a", "b", "c")}) == 1
    assert [path.name for path in (tmp_path / "a").iterdir()] == [name]


@pytest.mark.parametrize("flaw", [float("nan"), {1, 2}, "\ud800"])
def test_what_is_not_json_is_not_written(tmp_path: Path, flaw: object) -> None:
    """An answer that JSON cannot hold is an error that names the item, and leaves what was there before untouched."""
    path = tmp_path / "c.jsonl"
    path.write_text("before")
    item = Item("i-1", "q", {"haiku": RecordedReply(0.5, flaw)})
    with pytest.raises(CorpusError, match=r"c\.jsonl:2: item 'i-1': cannot be written as JSON"):
        write_corpus(path, Manifest("c", (LadderEntry("haiku"),)), [item])
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_count_that_is_not_true_is_not_written(tmp_path: Path) -> None:
    """A manifest that promises another number of items than a generator gives is an error, and no file."""
    with pytest.raises(CorpusError, match="0 items were given, the manifest says 3"):
        write_corpus(tmp_path / "c.jsonl", Manifest("c", (LadderEntry("haiku"),), items=3), iter(()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("q", "q"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "a"),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "c"}]}], "c"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], "a\nb"),
        ([{"role": "user", "content": [{"type": "tool_result", "content": "r"}]}], "r"),
        ([{"role": "assistant", "content": "b"}], ""),
    ],
)
def test_a_conversation_asks_with_its_last_user_turn(asked: Any, text: str) -> None:
    """A list input is looked up by the text of its last user message, whatever form its content has."""
    assert text_of(asked) == text


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*ITEM, *REPLY, "x"]), inner),
    max_leaves=12,
)


@given(line=st.binary() | _JSON.map(lambda value: json.dumps(value).encode()), broken=st.booleans())
def test_a_hostile_line_is_an_item_or_a_typed_error(
    tmp_path_factory: pytest.TempPathFactory, line: bytes, broken: bool
) -> None:
    """Whatever bytes stand on line 2, or in a reply, reading ends in an item or in a CorpusError."""
    raw = line if broken else b'{"id": "i", "input": "q", "replies": {"haiku": ' + line + b"}}"
    path = tmp_path_factory.getbasetemp() / "hostile.jsonl"
    path.write_bytes(json.dumps(MANIFEST).encode() + b"\n" + raw.replace(b"\n", b" ") + b"\n")
    try:
        where = f"{path}:{read_corpus(path).items[0].line}"
    except CorpusError as error:
        where = error.where
    assert where == f"{path}:2"


@pytest.mark.parametrize("name", REAL)
def test_real_corpora_are_read_whole_and_survive_a_round_trip(
    tmp_path: Path, name: str, real_corpus: Callable[[str], Path]
) -> None:
    """Every item of every real corpus is read, and what is written back reads the same."""
    path = real_corpus(name)
    corpus = read_corpus(path)
    assert len(corpus.items) == corpus.manifest.items
    assert not corpus.manifest.synthetic
    write_corpus(tmp_path / path.name, corpus.manifest, corpus.items)
    again = read_corpus(tmp_path / path.name)
    assert (again.manifest, again.items) == (corpus.manifest, corpus.items)
    with gzip.open(path) as before, io.BytesIO(gzip.decompress((tmp_path / path.name).read_bytes())) as after:
        for old, new in zip(before, after, strict=True):
            assert json.loads(old).items() <= json.loads(new).items()
