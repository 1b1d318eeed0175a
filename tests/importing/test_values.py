"""Values that JSON or a corpus cannot hold, anywhere in a log: NaN and Infinity become null, an unpaired surrogate costs its item alone."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascade.core.errors import CorpusError
from cascade.corpora import read_corpus, write_corpus
from cascade.corpora.items import Item, LadderEntry, Manifest, RecordedReply
from cascade.importing import Imported, Options, import_corpus

NAN, INF = float("nan"), float("inf")
HALF = "a\ud800b"  # json.dumps writes it as the escape \ud800, as harnesses do
MAPS = (("id", "id"), ("input", "q"), ("a.score", "s"), ("a.confidence", "c"), ("a.signals.x", "x"), ("at", "t"))


def lm_eval(path: Path, values: list[Any]) -> Imported:
    """A log of lm-eval whose documents hold these values."""
    lines = [
        {
            "doc_id": n, "doc": {"deep": [value]}, "target": "t", "arguments": [["q", {"until": []}]], "resps": [["r"]],
            "filtered_resps": ["r"], "filter": "none", "metrics": ["acc", "ppl"], "acc": 1.0,
            "ppl": value if isinstance(value, float) else 0.0,
        }
        for n, value in enumerate(values)
    ]  # fmt: skip
    (path / "s.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return import_corpus("lm-eval", [], name="c", rungs=[("m", str(path / "s.jsonl"))], options=Options(metric="acc"))


def promptfoo(path: Path, values: list[Any]) -> Imported:
    """A run of promptfoo whose tests' variables hold these values."""
    results = [
        {
            "testIdx": n, "prompt": {"raw": "q", "label": "l"}, "provider": {"id": "m"}, "vars": {"v": value},
            "response": {"output": "x"}, "score": 1.0, "namedScores": {"n": value if isinstance(value, float) else 0.0},
        }
        for n, value in enumerate(values)
    ]  # fmt: skip
    (path / "p.json").write_text(json.dumps({"results": {"results": results}}))
    return import_corpus("promptfoo", [str(path / "p.json")], name="c")


def _log(values: list[Any]) -> dict[str, Any]:
    samples = [
        {
            "id": str(n), "epoch": 1, "input": "q", "target": "t", "metadata": {"v": [value]},
            "output": {"completion": "x", "choices": [{"message": {"content": "x"}}]}, "scores": {"s": {"value": 1.0}},
        }
        for n, value in enumerate(values)
    ]  # fmt: skip
    return {"eval": {"model": "m", "task": "t"}, "samples": samples}


def inspect_json(path: Path, values: list[Any]) -> Imported:
    """A JSON log of inspect whose metadata holds these values."""
    (path / "i.json").write_text(json.dumps(_log(values)))
    return import_corpus("inspect", [str(path / "i.json")], name="c")


def inspect_eval(path: Path, values: list[Any]) -> Imported:
    """The same as an `.eval` file."""
    log = _log(values)
    with zipfile.ZipFile(path / "i.eval", "w") as written:
        written.writestr("header.json", json.dumps({"eval": log["eval"]}))
        for sample in log["samples"]:
            written.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
    return import_corpus("inspect", [str(path / "i.eval")], name="c")


LOGS: list[Callable[[Path, list[Any]], Imported]] = [lm_eval, promptfoo, inspect_json, inspect_eval]


@pytest.mark.parametrize("log", LOGS)
def test_nan_and_infinity_become_null_and_are_counted(
    tmp_path: Path, log: Callable[[Path, list[Any]], Imported]
) -> None:
    """Wherever they stand in a log: every item is imported, and the corpus can be written and read again."""
    imported = log(tmp_path, [1.5, NAN, INF, -INF])
    assert (len(imported.items), imported.nulled, imported.unusable) == (4, 3, 0)
    write_corpus(tmp_path / "c.jsonl", imported.manifest, imported.items)
    assert read_corpus(tmp_path / "c.jsonl").items == imported.items
    assert "1.5" in (tmp_path / "c.jsonl").read_text()


@pytest.mark.parametrize("log", LOGS)
def test_an_unpaired_surrogate_costs_its_item_alone(tmp_path: Path, log: Callable[[Path, list[Any]], Imported]) -> None:
    """That item is left out, counted and named; the others are imported."""
    imported = log(tmp_path, ["fine", HALF, "fine too"])
    assert (len(imported.items), imported.unusable, imported.nulled) == (2, 1, 0)
    assert "surrogate" in imported.first_problem
    assert "1" in imported.first_problem.partition("item ")[2]
    write_corpus(tmp_path / "c.jsonl", imported.manifest, imported.items)
    assert read_corpus(tmp_path / "c.jsonl").items == imported.items


def test_an_item_that_nests_too_deep_costs_itself_alone(tmp_path: Path) -> None:
    """It could be read, but not be written again everywhere: left out and named, and the others are imported."""
    deep: Any = []
    for _ in range(250):
        deep = [deep]
    imported = inspect_json(tmp_path, ["fine", deep, "fine too"])
    assert (len(imported.items), imported.unusable) == (2, 1)
    assert "item 't/1': it nests deeper than 200 levels" in imported.first_problem


def test_a_surrogate_in_what_is_not_imported_costs_nothing(tmp_path: Path) -> None:
    """A log's other keys are not stored, so they can hold anything."""
    log = _log(["fine"])
    log["samples"][0]["events"] = [HALF]
    (tmp_path / "i.json").write_text(json.dumps(log))
    imported = import_corpus("inspect", [str(tmp_path / "i.json")], name="c")
    assert (len(imported.items), imported.unusable) == (1, 0)


@pytest.mark.parametrize("raw", [b'{"doc_id": 0, "x": "\xff"}\n', b'{"doc_id": 0, "x": "\\ud8"}\n', b'{"doc_id": \n'])
def test_what_is_not_json_is_still_refused(tmp_path: Path, raw: bytes) -> None:
    """Bytes that are no text, half an escape, a line that ends early: an error that names the line."""
    (tmp_path / "s.jsonl").write_bytes(raw)
    with pytest.raises(CorpusError, match=r"s\.jsonl:1: is not JSON"):
        import_corpus("lm-eval", [], name="c", rungs=[("m", str(tmp_path / "s.jsonl"))])


def test_a_score_that_is_nan_is_a_score_that_is_missing(tmp_path: Path) -> None:
    """In the metric that is the score, too: null, counted, and among the replies without a score."""
    (tmp_path / "s.jsonl").write_text(
        "".join(
            json.dumps({"doc_id": n, "target": "t", "arguments": [["q", {}]], "filtered_resps": ["r"], "acc": acc})
            + "\n"
            for n, acc in enumerate([1.0, NAN, INF])
        )
    )
    imported = import_corpus("lm-eval", [], name="c", rungs=[("m", str(tmp_path / "s.jsonl"))])
    assert [item.reply("m").score for item in imported.items] == [1.0, None, None]
    assert (imported.nulled, imported.without["m"]["score"]) == (2, 2)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_tables_nan_is_an_empty_cell_that_is_counted(tmp_path: Path, ending: str) -> None:
    """What pandas writes for a missing number: in every numeric field, in CSV as text and in Parquet as a double."""
    names, rows = ("id", "q", "s", "c", "x", "t"), [("1", "q?", NAN, NAN, INF, NAN), ("2", "q?", 1.0, 0.5, 2.0, 3.0)]
    path = tmp_path / f"t.{ending}"
    if ending == "csv":
        path.write_text("\n".join(",".join(map(str, row)) for row in [names, *rows]) + "\n")
    else:
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), path)
    imported = import_corpus("csv", [str(path)], name="c", options=Options(maps=MAPS))
    first, second = imported.items
    reply = first.reply("a")
    assert (reply.score, reply.confidence, reply.signals or None, first.at, imported.nulled) == (None,) * 4 + (1,)
    assert (second.reply("a").score, second.reply("a").signals, second.at) == (1.0, {"x": 2.0}, 3.0)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_the_reader_and_the_writer_accept_the_same_values(tmp_path: Path, ending: str) -> None:
    """What the one writes the other reads as it was; what the one refuses the other does, too, each as a CorpusError."""
    manifest = Manifest("c", (LadderEntry("m"),))
    path, refused = tmp_path / f"c.{ending}", 0
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    for value in (
        "\x00", "\u2028", "\U0001f600", "\ud800", {"\udc00": 1}, 0.0, -0.0, 5e-324, 1.7e308, NAN, INF, -INF, 10**40, -(2**63),
        2**64, True, None, [], {}, [[None]], {"": ""}, b"x",
    ):  # fmt: skip
        item = Item("1", "q", {"m": RecordedReply(answer=value)})
        try:
            write_corpus(path, manifest, (item,))
        except CorpusError:
            refused += 1
            if isinstance(value, bytes) or ending == "parquet":
                continue
            head = json.dumps({"corpus": "c", "version": 1, "ladder": [{"rung": "m"}], "items": 1})
            line = json.dumps({"id": "1", "input": "q", "replies": {"m": {"answer": value}}})
            path.write_text(f"{head}\n{line}\n")
            with pytest.raises(CorpusError):
                read_corpus(path)
        else:
            assert read_corpus(path).items == (item,)
    assert refused == 6
