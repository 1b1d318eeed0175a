"""What may be recorded: JSON lines, a corpus, plain lines; and what is wrong is one line before anything is paid."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from msgspec import structs

from cascade.core.errors import ConfigurationError, CorpusError
from cascade.corpora import Corpus, write_corpus
from cascade.recording.inputs import read_inputs
from cascade.replay.driver import request_of


def written(folder: Path, text: str, name: str = "in.jsonl") -> Path:
    """A file with this text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_json_lines_are_items(tmp_path: Path) -> None:
    """Every key of an item is taken, and what is not known is kept."""
    path = written(
        tmp_path,
        '{"id": "a", "input": "one?", "task": "t", "group": "g", "split": "tune", "at": 1.5, "expected": {"x": 1}, "level": 3}\n'
        "\n"
        '{"id": "b", "input": [{"role": "user", "content": "two?"}], "replies": {"haiku": {}}, "baseline": {}}\n',
    )
    one, two = read_inputs(path).items
    assert (one.id, one.input, one.task, one.group, one.split, one.at) == ("a", "one?", "t", "g", "tune", 1.5)
    assert (one.expected, one.extra, one.replies) == ({"x": 1}, {"level": 3}, {})
    assert (two.input, two.extra, two.replies, two.line) == ([{"role": "user", "content": "two?"}], None, {}, 3)


def test_a_corpus_is_recorded_anew(source: Path, corpus: Corpus) -> None:
    """Its manifest comes along, its replies do not."""
    inputs = read_inputs(source)
    assert inputs.manifest is not None
    assert inputs.manifest.grader == "exact"
    assert [(item.id, item.replies) for item in inputs.items] == [(item.id, {}) for item in corpus.items]


def test_plain_lines_are_inputs(tmp_path: Path) -> None:
    """One a line, blank ones left out, numbered as in the file; gzip too."""
    text = "one?\n\n  two ü?\r\nthree"
    path = tmp_path / "in.txt.gz"
    path.write_bytes(gzip.compress(text.encode()))
    for inputs in (read_inputs(written(tmp_path, text, "in.txt")), read_inputs(path)):
        assert [(i.id, i.input) for i in inputs.items] == [
            ("line-1", "one?"),
            ("line-3", "  two ü?"),
            ("line-4", "three"),
        ]


def test_the_hash_holds_order_ids_and_inputs(tmp_path: Path) -> None:
    """What was asked is in it; what is only for grading and splitting is not."""
    one = '{"id": "a", "input": "x"}\n{"id": "b", "input": "y"}\n'
    same = '{"input": "x", "id": "a", "expected": 3}\n{"id": "b", "input": "y", "task": "t"}\n'
    swapped = '{"id": "b", "input": "y"}\n{"id": "a", "input": "x"}\n'
    first, second, third = (read_inputs(written(tmp_path, text)).hash for text in (one, same, swapped))
    assert first == second != third


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no input in it"),
        ("\n \n", "no input in it"),
        ('{"corpus": "x", "version": 1, "ladder": [{"rung": "a"}]}\n', "no input in it"),
        ("text\n", r"in\.jsonl:1: not JSON"),
        ('{"id": "a", "input": "x"}\n{"id": "b"\n', r"in\.jsonl:2: not JSON"),
        ('{"id": "a", "input": "x"}\n[]\n', r"in\.jsonl:2: the line is not a JSON object"),
        ('{"input": "x"}\n', r"in\.jsonl:1: id: is missing"),
        ('{"id": 7, "input": "x"}\n', r"in\.jsonl:1: id: "),
        ('{"id": "a"}\n', r"in\.jsonl:1: item 'a': input: is missing"),
        ('{"id": "a", "input": 3}\n', r"item 'a': input: "),
        ('{"id": "a", "input": ""}\n', r"item 'a': it cannot be asked: prompt: it is empty"),
        ('{"id": "a", "input": [{"role": "system", "content": "x"}]}\n', r"item 'a': it cannot be asked: .* role"),
        ('{"id": "a", "input": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n', "prefill"),
        ('{"id": "a", "input": "x"}\n\n{"id": "a", "input": "y"}\n', r"in\.jsonl:3: item 'a': the id occurs twice, first on line 1"),
        ('{"id": "a", "input": "x", "split": "test"}\n', r"item 'a': split: "),
        ('{"id": "a", "input": "x", "at": NaN}\n', "not JSON"),
        ('\n{"id": "a", "input": "x", "system": 5}\n', r"in\.jsonl:2: item 'a': it cannot be asked: system: must be a text"),
        ('{"id": "a", "input": "x", "system": [{"type": "image"}]}\n', r"in\.jsonl:1: item 'a': .*system: must be"),
        ('{"id": "a", "input": "x", "system": {"type": "text", "text": "y"}}\n', r"in\.jsonl:1: item 'a': .*system: must"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_named(tmp_path: Path, text: str, why: str) -> None:
    """File, line, item and what is wrong, in one line that quotes nothing of the input."""
    with pytest.raises(CorpusError, match=why) as raised:
        read_inputs(written(tmp_path, text))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["in.json", "in.txt", "in.jsonl"])
def test_json_that_is_not_one_object_a_line_is_not_asked_line_by_line(tmp_path: Path, name: str) -> None:
    """An object over several lines is no list of texts, whatever the file is called."""
    text = '{\n  "id": "a",\n  "input": "x"\n}\n'
    with pytest.raises(CorpusError, match=r"in\.\w+:\d: it is JSON, but not one object a line \(give one JSON object"):
        read_inputs(written(tmp_path, text, name))


@pytest.mark.parametrize("name", ["in.json", "in.txt", "in.jsonl"])
@pytest.mark.parametrize(
    "text",
    [
        '[{"id": "a", "input": "x", "expected": "y"}]',
        '\n  [\n{"id": "a", "input": "x", "expected": "y"}\n]\n',
        '\ufeff[{"id": "a", "input": "x", "expected": "y"}]',
    ],
)
def test_a_json_array_is_its_objects(tmp_path: Path, name: str, text: str) -> None:
    """On one line or several, whatever the file is called."""
    (item,) = read_inputs(written(tmp_path, text, name)).items
    assert (item.id, item.input, item.expected) == ("a", "x", "y")


def test_a_json_array_of_texts_or_of_other_keys_is_read_as_well(tmp_path: Path) -> None:
    """Bare questions; and `--map` for keys of another name."""
    bare = read_inputs(written(tmp_path, '["one", "two"]', "in.json")).items
    assert [(item.id, item.input) for item in bare] == [("row-1", "one"), ("row-2", "two")]
    asked = (("input", "question"), ("expected", "answer"))
    text = '{"question": "one", "answer": 1}\n{"question": "two", "answer": "b"}\n'
    for name, given in (("a.json", f"[{text.strip().replace(chr(10), ', ')}]"), ("b.jsonl", text)):
        items = read_inputs(written(tmp_path, given, name), maps=asked).items
        assert [(item.id, item.input, item.expected) for item in items] == [("row-1", "one", 1), ("row-2", "two", "b")]


@pytest.mark.parametrize("text", ["[1, 2]", '[{"id": "a"}, "b"]', "[", '[{"id": "a", "input": "x"}', "[]"])
def test_an_array_that_holds_no_items_is_one_line(tmp_path: Path, text: str) -> None:
    """Numbers, a mixture, half of one, an empty one."""
    with pytest.raises(CorpusError) as raised:
        read_inputs(written(tmp_path, text, "in.json"))
    assert str(raised.value).isprintable()
    assert "in.json" in str(raised.value)


TABLE = 'qid,question,answer,team,notes\nq7,"What, now?",now,a,x\nq8,"two\nlines",,a,x\n'


@pytest.mark.parametrize("name", ["in.csv", "in.TSV", "in.csv.gz"])
def test_a_table_is_read_with_its_columns_mapped(tmp_path: Path, name: str) -> None:
    """As people have it: commas, tabs or gzip; an empty cell is nothing; what is not used is named."""
    text = TABLE.replace("What, now?", "What now?").replace(",", "\t") if name.endswith("TSV") else TABLE
    maps = (("id", "qid"), ("input", "question"), ("expected", "answer"), ("group", "team"))
    path = written(tmp_path, text, name)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    inputs = read_inputs(path, maps=maps)
    one, two = inputs.items
    assert (one.id, one.expected, one.group, two.id, two.input, two.expected) == (
        "q7",
        "now",
        "a",
        "q8",
        "two\nlines",
        None,
    )
    assert str(one.input).endswith("now?")
    assert inputs.unused == ("notes",)


def test_columns_with_a_fields_own_name_need_no_map(tmp_path: Path) -> None:
    """`input`, `expected`, `system` …; a mapped one goes first; rows without an id are numbered."""
    inputs = read_inputs(
        written(tmp_path, "input,expected,system,gold\na,b,brief,c\n", "in.csv"), maps=(("expected", "gold"),)
    )
    (item,) = inputs.items
    assert (item.id, item.input, item.expected, item.extra) == ("row-1", "a", "c", {"system": "brief"})
    assert inputs.unused == ("expected",)


def test_a_table_of_bare_questions_is_enough(tmp_path: Path) -> None:
    """One column, nothing expected."""
    path = written(tmp_path, "question\nWhat?\nWhy?\n", "in.csv")
    assert [item.input for item in read_inputs(path, maps=(("input", "question"),)).items] == ["What?", "Why?"]


@pytest.mark.parametrize(
    ("text", "maps", "why"),
    [
        (
            TABLE,
            (),
            r"in.csv:2: has no column called input \(say --map input=question --map expected=answer; it has qid",
        ),
        ("id,frage,antwort\n1,a,b\n", (), r"say --map input=COLUMN --map expected=COLUMN; it has id, frage, antwort"),
        ("id,prompt,expected\n1,a,b\n", (), r"say --map input=prompt; it has id, prompt, expected"),
        ("frage\na\n", (), r"say --map input=frage"),
        ("id;input\n1;a\n", (), r"separated by ;"),
        (TABLE, (("input", "qestion"),), r"has no column 'qestion' \(did you mean 'question'\? it has qid, question"),
        (TABLE, (("inptu", "question"),), r"there is no field 'inptu' \(did you mean 'input'\? fields: at, expected"),
        (TABLE, (("input", "question"), ("haiku.score", "answer")), r"replies are what `record` asks for"),
        ("input\n\nx\n", (), r"in.csv:2"),
        ("id,input\na,x\na,y\n", (), r"in.csv:3: item 'a': the id occurs twice, first on line 2"),
        ("", (), r"has no header"),
        ("input\n", (), r"there is no input in it"),
    ],
)
def test_a_table_that_cannot_be_asked_says_what_to_do(
    tmp_path: Path, text: str, maps: tuple[tuple[str, str], ...], why: str
) -> None:
    """The column that is likely meant, what was seen, and where."""
    with pytest.raises((CorpusError, ConfigurationError), match=why) as raised:
        read_inputs(written(tmp_path, text, "in.csv"), maps=maps)
    assert str(raised.value).isprintable()


def test_a_map_is_refused_where_there_are_no_columns(tmp_path: Path, source: Path) -> None:
    """Plain lines, and a corpus."""
    for path in (written(tmp_path, "What?\n", "in.txt"), source):
        with pytest.raises(ConfigurationError, match="--map input=question: "):
            read_inputs(path, maps=(("input", "question"),))


def test_no_advice_names_an_option_that_record_does_not_have(tmp_path: Path) -> None:
    """Nothing is passed over here: `--skip-bad` is a replay's."""
    with pytest.raises(CorpusError, match="an item is") as raised:
        read_inputs(written(tmp_path, '{"id": "a", "input": "x"}\n{"id": "b"\n'))
    assert "--skip-bad" not in str(raised.value)


def test_a_system_prompt_is_part_of_what_is_asked(tmp_path: Path) -> None:
    """It is kept as it stands, the request has it, and the hash is another; a text or blocks, also a turn's of a log."""
    said: list[object] = [
        "be brief",
        [{"type": "text", "text": "be brief"}],
        ["one", [{"type": "text", "text": "two"}]],
    ]
    bare = read_inputs(written(tmp_path, '{"id": "a", "input": "x"}\n'))
    hashes = {bare.hash}
    asked: list[object] = []
    for system in said:
        inputs = read_inputs(written(tmp_path, json.dumps({"id": "a", "input": "x", "system": system}) + "\n"))
        hashes.add(inputs.hash)
        assert inputs.items[0].extra == {"system": system}
        asked.append(request_of(inputs.items[0]).system)
    block = {"type": "text", "text": "be brief"}
    assert asked == ["be brief", (block,), ({"type": "text", "text": "one"}, {"type": "text", "text": "two"})]
    assert len(hashes) == 4
    nothing = read_inputs(written(tmp_path, '{"id": "a", "input": "x", "system": null}\n'))
    assert (nothing.hash, request_of(nothing.items[0]).system) == (bare.hash, None)


def test_hostile_files_are_refused_in_bounds(tmp_path: Path) -> None:
    """A long line, a file that is no gzip, one that is not there, text that is not UTF-8."""
    path = written(tmp_path, '{"id": "a", "input": "' + "x" * 1000 + '"}\n')
    with pytest.raises(CorpusError, match=r"in\.jsonl:1: the line is longer than 100 bytes"):
        read_inputs(path, max_line_bytes=100)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_inputs(written(tmp_path, "no gzip", "in.jsonl.gz"))
    with pytest.raises(CorpusError, match=r"nowhere\.jsonl: cannot be read: No such file"):
        read_inputs(tmp_path / "nowhere.jsonl")
    (tmp_path / "latin.txt").write_bytes("für\n".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"latin\.txt:1: the line is not UTF-8"):
        read_inputs(tmp_path / "latin.txt")


@pytest.mark.parametrize("exact", [False, True])
def test_a_replay_refuses_a_system_prompt_that_is_none_with_its_line(
    corpus: Corpus, tmp_path: Path, exact: bool
) -> None:
    """Its signals see the request that was recorded; one that cannot be made is a line of the file, and may be skipped."""
    pytest.importorskip("numpy")
    from cascade.replay.run import ReplayOptions, replay_corpus  # noqa: PLC0415 - an extra

    first = structs.replace(corpus.items[0], extra={"system": 5})
    write_corpus(tmp_path / "c.jsonl", corpus.manifest, (first, *corpus.items[1:]))
    with pytest.raises(CorpusError, match=r"c\.jsonl:2: item 'i-0': system: must be a text, or a list of text blocks"):
        replay_corpus(tmp_path / "c.jsonl", ReplayOptions(exact=exact))
    assert replay_corpus(tmp_path / "c.jsonl", ReplayOptions(exact=exact, skip_bad=True)).skipped == 1
