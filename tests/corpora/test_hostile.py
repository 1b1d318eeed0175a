"""Hostile corpora: whatever the bytes, reading ends in a corpus or in a typed error, and in bounded memory."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascade.core.errors import CorpusError
from cascade.corpora import Corpus, open_corpus, read_corpus
from cascade.corpora.reading import MAX_PROBLEMS

SEEDS = 300
PEAK_MB = 400  # for a process of its own: Python, pydantic and us are some 50 of them, a line at its bound 64 to 192

MANIFEST: dict[str, Any] = {
    "corpus": "c", "version": 1, "ladder": [{"rung": "haiku", "model": "m"}, {"rung": "opus", "model": None}],
    "grader": "exact", "right_at": 0.5, "synthetic": True, "licence": "x", "notes": "y", "items": 12,
}  # fmt: skip


def honest(number: int) -> dict[str, Any]:
    """An item with every key of the format."""
    usage = {"input_tokens": 12, "output_tokens": 3, "cache_read_input_tokens": 1}
    reply = {"confidence": 0.9, "answer": "a", "score": 1.0, "usage": usage, "cost_usd": 0.1, "signals": {"logit": 0.5}}
    further = [{**reply, "variant": "steps", "checks": {"tests": {"passed": True, "seconds": 0.5}}}]
    groups = [{"of": [0, 1], "groups": [[0, 1]], "usage": dict(usage), "cost_usd": 0.1}]
    return {
        "id": f"i-{number}", "task": "t", "group": "g", "split": "tune", "at": 1.5, "input": "q", "expected": "a",
        "replies": {"haiku": {**reply, "samples": further, "groups": groups}, "opus": {**reply, "answer": None}},
    }  # fmt: skip


def nested(depth: int) -> str:
    """JSON that nests this deep."""
    return "[" * depth + "]" * depth


def wrong_value(chance: random.Random) -> Any:
    """A value of a type or a size that is seldom meant; as text, so that it may be no JSON at all."""
    return chance.choice([
        "null", "true", "0", "-1", "1e999", "NaN", "-Infinity", "1" * 5_000, "9" * 400, "-0.0", "1e-400", '""', '"x"',
        "[]", "{}", "[null]", '{"a": 1}', '"\\ud800"', '"\\u0000"', nested(5), nested(150), nested(100_000), "", "'x'",
        '[{"role": "user"}]', '[{"role": "user", "content": [7]}]', '{"haiku": null}', '{"opus": {"confidence": 2}}',
    ])  # fmt: skip


def put_wrong(chance: random.Random, root: dict[str, Any]) -> str:
    """The JSON of a copy with a wrong value at a key drawn from all levels."""
    copy = json.loads(json.dumps(root))
    spots: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            spots.append((node, key))
            walk(node[key])

    walk(copy)
    node, key = chance.choice(spots)
    node[key] = "\0here\0"
    return json.dumps(copy).replace('"\\u0000here\\u0000"', wrong_value(chance))


def line_of(chance: random.Random, lines: list[str]) -> int:
    """Some line, the manifest's now and then."""
    return chance.randrange(len(lines))


def hostile(seed: int) -> tuple[str, str, bytes]:
    """What was done to an honest corpus, the file's name, and its bytes."""
    chance = random.Random(seed)
    lines = [json.dumps(MANIFEST), *(json.dumps(honest(number)) for number in range(12))]
    kinds: dict[str, Callable[[], object]] = {
        "wrong type": lambda: lines.__setitem__(number := chance.randrange(1, 13), put_wrong(chance, honest(number))),
        "wrong manifest": lambda: lines.__setitem__(0, put_wrong(chance, MANIFEST)),
        "no manifest": lambda: lines.pop(0),
        "duplicate id": lambda: lines.__setitem__(chance.randrange(2, 13), lines[1]),
        "duplicate key": lambda: lines.__setitem__(1, lines[1].replace('"id"', '"id": "z", "id"', 1)),
        "missing lines": lambda: lines.__delitem__(slice(chance.randrange(1, 13), None)),
        "blank line": lambda: lines.insert(line_of(chance, lines), chance.choice(["", " ", "\t"])),
        "NUL": lambda: lines.__setitem__(at := line_of(chance, lines), lines[at][:9] + "\0" + lines[at][9:]),
        "cut line": lambda: lines.__setitem__(at := line_of(chance, lines), lines[at][: chance.randrange(60)]),
        "two on a line": lambda: lines.__setitem__(1, lines[1] + lines[2]),
        "nothing": lines.clear,
    }
    ends = ["CRLF", "BOM", "UTF-16", "garbage", "flipped bit", "truncated gz", "trailing gz", "not gz", "honest"]
    kind = [*kinds, *ends][seed % (len(kinds) + len(ends))]
    if kind in kinds:
        kinds[kind]()
    body = "".join(line + ("\r\n" if kind == "CRLF" else "\n") for line in lines)
    data = body.encode("utf-16" if kind == "UTF-16" else "utf-8-sig" if kind == "BOM" else "utf-8")
    packed = gzip.compress(data, 1)
    if kind == "truncated gz":
        return kind, "c.jsonl.gz", packed[: chance.randrange(len(packed))]
    if kind == "trailing gz":
        return kind, "c.jsonl.gz", packed + chance.randbytes(chance.randrange(1, 40))
    if kind == "not gz":
        return kind, "c.jsonl.gz", data
    zipped = chance.random() < 0.3
    data = packed if zipped else data
    if kind == "garbage":
        start = chance.randrange(len(data))
        data = data[:start] + chance.randbytes(chance.randrange(1, 300)) + data[start:]
    if kind == "flipped bit":
        broken = bytearray(data)
        broken[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        data = bytes(broken)
    return kind, "c.jsonl.gz" if zipped else "c.jsonl", data


def outcome(path: Path, **options: Any) -> Corpus | CorpusError:
    """The corpus, or the one kind of error that reading may end in."""
    try:
        return read_corpus(path, **options)
    except CorpusError as error:
        return error


def test_300_hostile_corpora_are_corpora_or_typed_errors(tmp_path: Path) -> None:
    """Each of 300 seeded attacks is refused in one line that names the file, or is a corpus that holds what it says."""
    ends: Counter[tuple[str, bool]] = Counter()
    for seed in range(SEEDS):
        kind, name, data = hostile(seed)
        (path := tmp_path / name).write_bytes(data)
        for found in (outcome(path), outcome(path, skip_bad=True)):
            if isinstance(found, Corpus):
                assert found.manifest.items in (None, len(found.items) + found.skipped), (seed, kind)
                assert len({item.id for item in found.items}) == len(found.items), (seed, kind)
                assert all(item.replies.keys() <= set(found.manifest.rungs) for item in found.items), (seed, kind)
            else:
                assert str(found).startswith(f"{path}:"), (seed, kind)
                assert len(str(found).splitlines()) == 1, (seed, kind)
        ends[kind, isinstance(outcome(path), Corpus)] += 1
    assert sum(ends.values()) == SEEDS
    refused = {kind for kind, read in ends if not read}
    assert {kind for kind, read in ends if read} >= {"honest", "CRLF"}
    assert refused >= {
        "wrong type", "wrong manifest", "no manifest", "duplicate id", "missing lines", "blank line", "NUL", "cut line",
        "two on a line", "nothing", "UTF-16", "BOM", "garbage", "flipped bit", "truncated gz", "trailing gz", "not gz",
    }  # fmt: skip
    assert "honest" not in refused


def write_lines(path: Path, *lines: object) -> Path:
    """A file of these lines: values as JSON, text as it is."""
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def test_bad_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    """With `skip_bad` the good items are read, the bad ones counted and described by line and id; the count holds."""
    bad = {**honest(2), "at": "noon"}
    path = write_lines(tmp_path / "c.jsonl", {**MANIFEST, "items": 5}, honest(1), bad, "\n", "no\n", honest(3))
    with open_corpus(path, skip_bad=True) as reader:
        assert (reader.skipped, reader.problems) == (0, ())
        assert [(item.id, item.line) for item in reader] == [("i-1", 2), ("i-3", 6)]
        assert reader.skipped == 3
        first, second, third = reader.problems
    assert first.startswith(f"{path}:3: item 'i-2': at: ")
    assert second.startswith(f"{path}:4: the line is blank")
    assert third.startswith(f"{path}:5: not JSON")
    corpus = read_corpus(path, skip_bad=True)
    assert (corpus.skipped, corpus.problems) == (3, (first, second, third))


def test_a_second_item_of_an_id_is_skipped_too(tmp_path: Path) -> None:
    """Reading whole, the first of an id is kept and the others counted."""
    path = write_lines(tmp_path / "c.jsonl", {**MANIFEST, "items": 3}, honest(1), {**honest(1), "at": 9}, honest(2))
    corpus = read_corpus(path, skip_bad=True)
    assert ([item.id for item in corpus.items], corpus.skipped) == (["i-1", "i-2"], 1)
    assert "the id occurs twice, first on line 2" in corpus.problems[0]


def test_only_the_first_thousand_problems_are_kept(tmp_path: Path) -> None:
    """All are counted; what is held of them is bounded."""
    path = write_lines(tmp_path / "c.jsonl", {**MANIFEST, "items": None}, "x\n" * 1500, honest(1))
    with open_corpus(path, skip_bad=True) as reader:
        assert len(list(reader)) == 1
    assert (reader.skipped, len(reader.problems)) == (1500, MAX_PROBLEMS)


def test_without_skip_bad_the_first_bad_line_stops(tmp_path: Path) -> None:
    """The default: the run stops with the line's number."""
    path = write_lines(tmp_path / "c.jsonl", MANIFEST, honest(1), "x\n", honest(2))
    with open_corpus(path) as reader, pytest.raises(CorpusError, match=r"c\.jsonl:3: not JSON"):
        list(reader)


@pytest.mark.parametrize("damage", ["too long", "cut gzip", "cut short", "manifest"])
def test_what_cannot_be_read_further_stops_also_where_bad_lines_are_skipped(tmp_path: Path, damage: str) -> None:
    """A line past the bound, a damaged file, fewer items than promised, a bad manifest: no line that could be skipped."""
    lines = [json.dumps(line) for line in (MANIFEST, honest(1), honest(2))]
    lines[1] += " " * 5000 if damage == "too long" else ""
    lines[0] = "{}" if damage == "manifest" else lines[0]
    data = gzip.compress("\n".join(lines).encode())
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(data[:-30] if damage == "cut gzip" else data)
    with pytest.raises(CorpusError):
        read_corpus(path, skip_bad=True, max_line_bytes=4000)


READ = """
    import json, re, sys
    from pathlib import Path
    from cascade.core.errors import CorpusError
    from cascade.corpora import open_corpus
    try:
        with open_corpus(sys.argv[1], skip_bad=len(sys.argv) > 2) as reader:
            told = f"read {sum(1 for _ in reader)}"
    except CorpusError as error:
        told = str(error)
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps({"told": told, "peak_mb": int(peak[1]) / 1024}))
"""


def in_a_process(path: Path, *arguments: str) -> dict[str, Any]:
    """Read a corpus in a process of its own: what it told, and the most memory that it ever held, in MB.

    Not `getrusage`: there a child begins with the peak of the process that started it.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process's memory is read off /proc")
    command = [sys.executable, "-c", textwrap.dedent(READ), str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("skip", [(), ("skip",)], ids=["stop", "skip"])
@pytest.mark.parametrize("where", ["manifest", "item"])
def test_a_decompression_bomb_is_refused_in_bounded_memory(tmp_path: Path, where: str, skip: tuple[str, ...]) -> None:
    """A gigabyte of one byte behind a megabyte of gzip: refused at the bound of a line, far below the gigabyte."""
    path = tmp_path / "bomb.jsonl.gz"
    head = json.dumps(MANIFEST).encode() + b"\n" if where == "item" else b""
    path.write_bytes(
        gzip.compress(head) + gzip.compress(b"a" * (16 << 20)) * 64
    )  # gzip allows parts, one after the other
    assert path.stat().st_size < 6 << 20
    found = in_a_process(path, *skip)
    line = 1 if where == "manifest" else 2
    assert found["told"].startswith(f"{path}:{line}: the line is longer than 67108864 bytes")
    assert found["peak_mb"] < PEAK_MB


@pytest.mark.parametrize("shape", ["text", "deep", "wide"])
def test_a_line_of_100_mb_is_refused_in_bounded_memory(tmp_path: Path, shape: str) -> None:
    """A long text, deep nesting, many keys: it is never decoded, so its shape does not matter."""
    path = tmp_path / "long.jsonl"
    piece = {"text": b"x", "deep": b"[", "wide": b'"k": [0], '}[shape]
    with path.open("wb") as file:
        file.write(json.dumps(MANIFEST).encode() + b'\n{"id": "i", "input": "q", "extra": ')
        for _ in range(100):
            file.write((piece * (1 << 20))[: 1 << 20])
        file.write(b"\n")
    found = in_a_process(path)
    assert found["told"].startswith(f"{path}:2: the line is longer than 67108864 bytes")
    assert found["peak_mb"] < PEAK_MB


def test_a_parquet_bomb_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    """A gigabyte of one byte in a column of a small file: refused by what its metadata says, before it is unpacked."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "bomb.parquet"
    schema = pa.schema({"id": pa.string(), "input": pa.string()}, {b"cascade.corpus": json.dumps(MANIFEST)})
    text = pa.array(["a" * (16 << 20)])
    table = pa.table([pa.chunked_array([pa.array(["i"])] * 64), pa.chunked_array([text] * 64)], schema=schema)
    parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 1 << 20
    found = in_a_process(path)
    assert found["told"].startswith(f"{path}: column 'input' would decompress to 1")
    assert found["peak_mb"] < PEAK_MB


def test_a_text_that_parquet_repeats_is_held_once(tmp_path: Path) -> None:
    """A dictionary of one text of 8 MB and a hundred rows that name it: not held a hundredfold."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path, rows = tmp_path / "many.parquet", 100
    names = pa.chunked_array([pa.array([str(number)]) for number in range(rows)])
    table = pa.table({"id": names, "input": pa.chunked_array([pa.array(["a" * (8 << 20)])] * rows)})
    table = table.replace_schema_metadata({b"cascade.corpus": json.dumps({**MANIFEST, "items": rows})})
    parquet.write_table(table, path, compression="zstd", dictionary_pagesize_limit=32 << 20)
    assert path.stat().st_size < 1 << 20
    found = in_a_process(path)
    assert found["told"] == f"read {rows}"
    assert found["peak_mb"] < PEAK_MB
