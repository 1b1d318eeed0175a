"""Each format's fixture, written by us in the format's real field names, becomes a corpus that says what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascade.core.errors import ConfigurationError, CorpusError
from cascade.corpora import read_corpus, write_corpus
from cascade.corpora.items import NOT_RECORDED
from cascade.importing import FORMATS, Imported, Options, import_corpus
from cascade.importing.joining import SampleCounts

FIXTURES = Path(__file__).parent / "fixtures"
SMALL = str(FIXTURES / "lm_eval" / "small" / "samples_trivia_2026-01-05T10-00-00.123456.jsonl")
LARGE = str(FIXTURES / "lm_eval" / "large" / "samples_trivia_2026-01-05T11-30-00.654321.jsonl")
BENCH, FOO, TABLE = (str(FIXTURES / name) for name in ("routerbench.csv", "promptfoo.json", "table.csv"))
LOGS = [str(FIXTURES / f"inspect_{model}.json") for model in ("haiku", "opus")]
MAPS = (
    ("id", "qid"), ("input", "question"), ("expected", "gold"), ("task", "kind"), ("extra.why", "why"),
    ("haiku.answer", "h_ans"), ("haiku.confidence", "h_conf"), ("haiku.score", "h_ok"), ("haiku.cost_usd", "h_usd"),
    ("haiku.declined", "h_null"), ("opus-5.5.answer", "o_ans"), ("opus-5.5.score", "o_ok"),
    ("opus-5.5.input_tokens", "o_in"), ("opus-5.5.output_tokens", "o_out"),
)  # fmt: skip


def lm_eval(**options: Any) -> Imported:
    """Both models' files of lm-eval."""
    chosen = Options(**{"filter": "flexible", "metric": "exact_match", **options})
    return import_corpus("lm-eval", [], name="c", rungs=[("small", SMALL), ("large", LARGE)], options=chosen)


def routerbench() -> Imported:
    """The wide table."""
    return import_corpus("routerbench", [BENCH], name="c")


def promptfoo(**more: Any) -> Imported:
    """One run of two providers."""
    return import_corpus("promptfoo", [FOO], name="c", **more)


def inspect_logs(metric: str = "match") -> Imported:
    """A log of each of two models."""
    return import_corpus("inspect", LOGS, name="c", options=Options(metric=metric))


def csv(**more: Any) -> Imported:
    """A table of one's own, all of it mapped."""
    more = {"rungs": [("haiku", "claude-haiku-5-5"), ("opus-5.5", "claude-opus-5-5")], **more}
    return import_corpus("csv", [TABLE], name="c", options=Options(maps=MAPS), **more)


IMPORTS: dict[str, Callable[[], Imported]] = {
    "lm-eval": lm_eval,
    "routerbench": routerbench,
    "promptfoo": promptfoo,
    "inspect": inspect_logs,
    "csv": csv,
}


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("name", IMPORTS)
def test_what_was_imported_survives_a_round_trip(tmp_path: Path, name: str, ending: str) -> None:
    """Import, write, read: the same manifest and items, in each form that a corpus has."""
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    imported = IMPORTS[name]()
    path = tmp_path / f"c.{ending}"
    write_corpus(path, imported.manifest, imported.items)
    read = read_corpus(path)
    assert read.items == imported.items
    assert (read.manifest.name, read.manifest.ladder) == ("c", imported.manifest.ladder)
    assert read.manifest.items == len(imported.items) > 0


def test_every_format_has_a_fixture_here() -> None:
    """No format is offered that this file does not import."""
    assert set(IMPORTS) == set(FORMATS)


def test_lm_eval_takes_one_filters_answers_and_scores() -> None:
    """The same doc_id comes once per filter: one is taken, its answer, its metric, the others' beside it."""
    flexible, strict = lm_eval(), lm_eval(filter="strict")
    first, second = flexible.items
    assert (first.id, first.task, first.expected) == ("trivia/0", "trivia", "Lima")
    assert first.input == "Q: What is the capital of Peru?\nA:"
    assert (first.reply("small").answer, first.reply("small").score) == ("Lima", 1.0)
    assert (strict.items[0].reply("small").answer, strict.items[0].reply("small").score) == ("[invalid]", 0.0)
    assert first.reply("small").extra == {
        "metrics": {"exact_match": 1.0, "f1": 1.0},
        "response": "Lima, of course",
    }
    assert lm_eval(metric="f1").items[1].reply("small").score == 0.5
    assert (second.reply("small").score, second.reply("large").score) == (0.0, 1.0)
    assert first.extra == {
        "doc": {"question": "What is the capital of Peru?", "answer": "Lima"},
        "doc_hash": "d0",
    }


def test_what_a_source_does_not_say_stays_absent() -> None:
    """No confidence, no cost and no usage is made up for lm-eval, which records none of them."""
    reply = lm_eval().items[0].reply("small")
    assert (reply.confidence, reply.cost_usd, reply.usage) == (None, None, None)
    assert [entry.model for entry in lm_eval().manifest.ladder] == [None, None]


def test_items_missing_in_one_source_are_counted_and_told() -> None:
    """The large model's run lacks a document: it is left out and counted, or kept on request without that reply."""
    imported = lm_eval()
    assert (imported.missing, imported.left_out, len(imported.items)) == ({"small": 0, "large": 1}, 1, 2)
    kept = import_corpus(
        "lm-eval", [], name="c", rungs=[("small", SMALL), ("large", LARGE)],
        options=Options("flexible", "exact_match"), keep_incomplete=True,
    )  # fmt: skip
    assert (kept.left_out, len(kept.items), set(kept.items[2].replies)) == (0, 3, {"small"})
    with pytest.raises(CorpusError, match="item 'trivia/2': no reply of rung 'large' was recorded"):
        kept.items[2].reply("large")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"filter": None}, r"has 2 filters: strict, flexible \(choose one with --filter NAME\)"),
        ({"filter": "none"}, r"has no filter 'none' \(it has strict, flexible\)"),
        ({"metric": None}, r"has 2 metrics: exact_match, f1 \(choose one with --metric NAME\)"),
        ({"metric": "acc"}, r"has no metric 'acc' \(it has exact_match, f1\)"),
    ],
)
def test_a_choice_that_is_not_clear_is_an_error_that_lists_it(options: dict[str, Any], problem: str) -> None:
    """Several filters or metrics, and none chosen, or one that is not there: never a guess."""
    with pytest.raises(CorpusError, match=problem):
        lm_eval(**options)


def test_lm_eval_needs_to_be_told_the_rung() -> None:
    """Its files do not say which model it was."""
    with pytest.raises(CorpusError, match=r"does not say which model it was \(say it with --rung NAME="):
        import_corpus("lm-eval", [SMALL], name="c", options=Options("strict", "f1"))


def test_lm_eval_of_a_multiple_choice_and_of_a_conversation(tmp_path: Path) -> None:
    """Likelihoods are no text, so there is no answer; a prompt that is logged as JSON messages is a conversation."""
    line = {
        "doc_id": 7, "doc": {}, "target": "1", "arguments": [[json.dumps([{"role": "user", "content": "q"}]), " a"]],
        "resps": [[["-1.0", "False"]], [["-2.0", "False"]]], "filtered_resps": [["-1.0", "False"], ["-2.0", "False"]],
        "acc": True,
    }  # fmt: skip
    (tmp_path / "s.jsonl").write_text(json.dumps(line) + "\n")
    (item,) = import_corpus("lm-eval", [], name="c", rungs=[("a", str(tmp_path / "s.jsonl"))]).items
    assert (item.id, item.input) == ("7", [{"role": "user", "content": "q"}])
    assert (item.reply("a").answer, item.reply("a").score) == (NOT_RECORDED, 1.0)


def test_one_id_that_means_two_documents_is_an_error(tmp_path: Path) -> None:
    """Where the hashes of a document differ, the files are not runs of the same task."""
    other = tmp_path / Path(LARGE).name
    other.write_text(Path(LARGE).read_text().replace('"d1"', '"e1"'))
    with pytest.raises(CorpusError, match="item 'trivia/1': differs from"):
        import_corpus(
            "lm-eval", [], name="c", rungs=[("small", SMALL), ("large", str(other))], options=Options("strict", "f1")
        )


def test_the_same_run_twice_is_an_error() -> None:
    """A second reply of the same rung to the same item is refused."""
    with pytest.raises(CorpusError, match="has a second reply of 'small'"):
        import_corpus(
            "lm-eval", [SMALL, SMALL], name="c", rungs=[("small", SMALL), ("small", LARGE)],
            options=Options("strict", "f1"),
        )  # fmt: skip


def test_routerbench_is_read_column_by_column() -> None:
    """Scores, responses and costs by model, the data set as the task, other columns kept; a model's gap is one."""
    imported = routerbench()
    first, second = imported.items
    assert (first.id, first.task, first.input) == ("trivia.0", "trivia", "['Name the capital of Peru.']")
    assert first.extra == {"oracle_model_to_route_to": "small-7b"}
    cheap, dear = second.reply("small-7b"), second.reply("large-70b")
    assert (cheap.score, cheap.answer, cheap.cost_usd) == (0.0, "['36']", 0.00002)
    assert (dear.score, dear.answer, dear.cost_usd, dear.confidence) == (1.0, "['42']", 0.0003, None)
    assert imported.missing == {"small-7b": 0, "large-70b": 1}


def test_routerbench_parquet_says_the_same(tmp_path: Path) -> None:
    """The same table as Parquet, types and all, makes the same items."""
    pa = pytest.importorskip("pyarrow")
    table, parquet = pytest.importorskip("pyarrow.csv"), pytest.importorskip("pyarrow.parquet")

    options = table.ParseOptions(newlines_in_values=True)
    types = table.ConvertOptions(column_types={"small-7b": pa.string(), "large-70b": pa.string()})
    parquet.write_table(table.read_csv(BENCH, parse_options=options, convert_options=types), tmp_path / "r.parquet")
    assert import_corpus("routerbench", [str(tmp_path / "r.parquet")], name="c").items == routerbench().items


def test_the_ladder_is_the_order_given() -> None:
    """`--rung` names and orders the models; one that is not named is not on the ladder, and that is told."""
    rungs = [("big", "large-70b"), ("little", "small-7b")]
    turned = import_corpus("routerbench", [BENCH], name="c", rungs=rungs)
    assert [(entry.rung, entry.model) for entry in turned.manifest.ladder] == rungs
    only = import_corpus("routerbench", [BENCH], name="c", rungs=rungs[1:])
    assert (only.other_models, len(only.items), set(only.items[0].replies)) == (("large-70b",), 3, {"little"})
    with pytest.raises(ConfigurationError, match=r"there is no 'gpt' in the sources \(they have small-7b, large-70b\)"):
        import_corpus("routerbench", [BENCH], name="c", rungs=[("a", "gpt")])


def test_promptfoo_keeps_what_is_the_models_own() -> None:
    """Usage and cost are the call's; what its cache gave has neither, a failed call is no reply, a failed check is."""
    imported = promptfoo(keep_incomplete=True)
    haiku, opus = imported.manifest.rungs
    first, second, third = imported.items
    assert (first.id, first.input, first.expected) == ("0", "Answer: What is the capital of Peru?", "Lima")
    assert (first.reply(opus).cost_usd, first.reply(opus).tokens.input_tokens) == (0.0002, 12)
    assert (second.reply(haiku).score, second.reply(haiku).answer) == (0.0, "36")
    assert (second.reply(opus).cost_usd, second.reply(opus).usage) == (None, None)
    assert second.reply(opus).extra == {"metrics": {"style": 0.25}, "cached": True}
    assert third.reply(haiku).answer == {"planet": "Mars"}
    assert opus not in third.replies
    assert (imported.missing[opus], imported.failed[opus]) == (1, 1)


def test_promptfoo_by_a_named_score_and_from_lines(tmp_path: Path) -> None:
    """`--metric` takes a named score; the export as lines says the same as the document."""
    style = promptfoo(options=Options(metric="style")).items[0]
    assert {reply.score for reply in style.replies.values()} == {0.25}
    results = json.loads(Path(FOO).read_text())["results"]["results"]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(result) + "\n" for result in results))
    assert import_corpus("promptfoo", [str(tmp_path / "r.jsonl")], name="c").items == promptfoo().items


def test_a_repeated_test_of_promptfoo_is_one_item(tmp_path: Path) -> None:
    """`--repeat` makes a test of each repetition: the same prompt, variables and checks are further samples."""
    results = json.loads(Path(FOO).read_text())["results"]["results"]
    again = [{**one, "testIdx": one["testIdx"] + 3, "score": 0.5} for one in results]
    other = {**results[0], "testIdx": 6, "testCase": {"vars": results[0]["vars"], "assert": []}}
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(result) + "\n" for result in (*results, *again, other)))
    imported = import_corpus("promptfoo", [str(path)], name="c", keep_incomplete=True)
    haiku, _opus = imported.manifest.rungs
    first, *_, last = imported.items
    assert [item.id for item in imported.items] == ["0", "1", "2", "6"]
    assert [reply.score for reply in first.reply(haiku).every] == [1.0, 0.5]
    assert (last.reply(haiku).samples, imported.samples[haiku]) == (None, SampleCounts(3))
    path.write_text("".join(json.dumps(result) + "\n" for result in (*results, results[0])))
    with pytest.raises(CorpusError, match="item '0': has a second reply of"):
        import_corpus("promptfoo", [str(path)], name="c")


SAMPLED = """\
qid,question,gold,h_ans,h_ok,prompt,o_ans,o_ok
q1,Capital of Peru?,Lima,Lima,1,steps,Lima,1
q2,6 times 7?,42,41,0,steps,42,1
q1,,,Lima.,1,doubt,,
q1,Capital of Peru?,Lima,Quito,,doubt,,
q2,,,42,,doubt,,
q2,,,,,doubt,,
"""
SAMPLED_MAPS = (
    ("id", "qid"), ("input", "question"), ("expected", "gold"), ("haiku.answer", "h_ans"), ("haiku.score", "h_ok"),
    ("haiku.variant", "prompt"), ("opus.answer", "o_ans"), ("opus.score", "o_ok"),
)  # fmt: skip


def sampled(path: Path, text: str = SAMPLED, **options: Any) -> Imported:
    """The corpus of a table with several rows for an item."""
    path.write_text(text)
    return import_corpus("csv", [str(path)], name="c", options=Options(maps=SAMPLED_MAPS, **options))


def test_rows_of_a_table_with_one_id_are_samples(tmp_path: Path) -> None:
    """In their order, each with its variant; empty cells are no sample, and a rung that was asked once has none."""
    imported = sampled(tmp_path / "t.csv")
    first, second = imported.items
    told = [(one.variant, one.answer, one.score) for one in first.reply("haiku").every]
    assert told == [("steps", "Lima", 1.0), ("doubt", "Lima.", 1.0), ("doubt", "Quito", None)]
    assert [one.answer for one in second.reply("haiku").every] == ["41", "42"]
    assert (first.input, first.expected, first.reply("opus").samples) == ("Capital of Peru?", "Lima", None)
    assert imported.samples == {"haiku": SampleCounts(3, 2, 3)}
    write_corpus(tmp_path / "c.jsonl", imported.manifest, imported.items)
    assert read_corpus(tmp_path / "c.jsonl").items == imported.items


def test_the_same_table_twice_is_an_error(tmp_path: Path) -> None:
    """Repeats are rows of one table; a second table with the same ids is a run imported twice."""
    sampled(tmp_path / "t.csv")
    with pytest.raises(CorpusError, match=r"item 'q1': has a second reply of 'haiku' \(import each run once\)"):
        import_corpus("csv", [str(tmp_path / "t.csv")] * 2, name="c", options=Options(maps=SAMPLED_MAPS))


def test_a_grader_scores_what_has_no_score(tmp_path: Path) -> None:
    """Recorded scores stay; what the grader cannot grade stays without one, and both are counted."""
    imported = sampled(tmp_path / "t.csv", grader="normalized")
    first, second = imported.items
    assert [one.score for one in first.reply("haiku").every] == [1.0, 1.0, 0.0]
    assert [one.score for one in second.reply("haiku").every] == [0.0, 1.0]
    assert (imported.graded, imported.ungraded, imported.samples) == (2, 0, {"haiku": SampleCounts(3, 0, 3)})
    assert imported.manifest.grader == "recorded csv score, else normalized"
    numeric = sampled(tmp_path / "t.csv", grader="numeric")
    assert (numeric.graded, numeric.ungraded, numeric.samples) == (1, 1, {"haiku": SampleCounts(3, 1, 3)})
    for name, problem in (("judge", "a judge asks a model"), ("exakt", "did you mean 'exact'")):
        with pytest.raises(ConfigurationError, match=problem):
            sampled(tmp_path / "t.csv", grader=name)


def test_inspect_reads_letters_epochs_and_attachments() -> None:
    """C, I, P, numbers and words are scores as inspect reads them; a later epoch is an item; references are resolved."""
    imported = inspect_logs()
    haiku, opus = imported.manifest.rungs
    first, second, again = imported.items
    assert [item.id for item in imported.items] == ["trivia/1", "trivia/2", "trivia/2#2"]
    assert [item.reply(haiku).score for item in imported.items] == [1.0, 0.0, 0.5]
    assert [item.reply(opus).score for item in imported.items] == [1.0, 1.0, 1.0]
    assert second.input == "What is 6 times 7?"
    assert again.input == [{"role": "user", "content": "What is 6 times 7?"}]
    assert again.extra == {"system": ["Be brief."], "metadata": {"level": "easy"}}
    assert second.reply(opus).answer == "42"
    assert (first.reply(haiku).cost_usd, first.reply(haiku).tokens.input_tokens) == (0.00003, 30)
    assert (second.reply(haiku).tokens.cache_read, second.reply(haiku).tokens.input_tokens) == (100, 10)
    assert (imported.failed[haiku], imported.left_out, imported.differing) == (1, 1, 1)
    assert [item.reply(haiku).score for item in inspect_logs("style.tone").items] == [0.5, 0.5, 0.5]


def test_inspect_usage_is_not_guessed(tmp_path: Path) -> None:
    """Whether the input's count holds the cached tokens is read off the total; where it cannot be, there is no usage."""
    log = json.loads(Path(LOGS[0]).read_text())
    sample, model = log["samples"][0], log["eval"]["model"]
    found: list[dict[str, Any] | None] = []
    for total in (113, 213, 150):
        sample["model_usage"] = {
            model: {"input_tokens": 110, "output_tokens": 3, "total_tokens": total, "input_tokens_cache_read": 100}
        }
        (tmp_path / "log.json").write_text(json.dumps({**log, "samples": [sample]}))
        source = [str(tmp_path / "log.json")]
        (item,) = import_corpus("inspect", source, name="c", options=Options(metric="match")).items
        usage = item.reply(model).usage
        found.append(None if usage is None else dict(usage))
    inside = {"input_tokens": 10, "output_tokens": 3, "cache_read_input_tokens": 100}
    assert found == [inside, {**inside, "input_tokens": 110}, None]


def test_a_rung_is_one_model(tmp_path: Path) -> None:
    """Two logs said to be one rung, but of two models, are an error; said to be two rungs they keep their models."""
    rungs = [("haiku", LOGS[0]), ("opus", LOGS[1])]
    imported = import_corpus("inspect", [], name="c", rungs=rungs, options=Options(metric="match"))
    assert [entry.model for entry in imported.manifest.ladder] == [
        "anthropic/claude-haiku-5-5", "anthropic/claude-opus-5-5",
    ]  # fmt: skip
    other = tmp_path / "other.json"
    other.write_text(Path(LOGS[1]).read_text().replace('"trivia"', '"quiz"'))
    both = [("haiku", LOGS[0]), ("haiku", str(other))]
    with pytest.raises(CorpusError, match=r"'haiku' was .* before, and is .* here \(a rung is one model\)"):
        import_corpus("inspect", [], name="c", rungs=both, options=Options(metric="match"))


def test_a_table_says_what_its_columns_are_mapped_to() -> None:
    """Every field lands in its place; an empty cell is nothing, `declined` is null, a rung's name may have dots."""
    imported = csv(keep_incomplete=True)
    first, second, third = imported.items
    assert (first.id, first.task, first.expected, first.extra) == ("q1", "geo", "Lima", {"why": "easy"})
    reply = first.reply("haiku")
    assert (reply.answer, reply.confidence, reply.score, reply.cost_usd) == ("Lima", 0.95, 1.0, 0.00001)
    assert (second.input, second.extra) == ("What is 6 times 7,\nroughly?", None)
    assert (second.reply("haiku").has_answer, second.reply("haiku").answer) == (True, None)
    assert (third.task, set(third.replies)) == (None, {"opus-5.5"})
    assert (third.reply("opus-5.5").score, third.reply("opus-5.5").tokens.output_tokens) == (0.5, 1)
    assert [entry.model for entry in imported.manifest.ladder] == ["claude-haiku-5-5", "claude-opus-5-5"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("0.95", "95"), r"table.csv:2: item 'q1': replies.haiku.confidence: "),
        (("0.95", "high"), r"table.csv:2: item 'q1': h_conf: is not a number"),
        (("true", "maybe"), r"item 'q1': h_ok: is not a number"),
        (("no,Lima", "perhaps,Lima"), r"h_null: is neither true nor false"),
        (("20,2,", "20.5,2,"), r"o_in: is not a number of tokens"),
        (("q3,", ","), r"table.csv:5: has no id"),
        (("q3,", "q1,"), r"table.csv:5: item 'q1': its id occurred before, with another input \(rows with one id are"),
        ((",easy", ""), r"table.csv:2: has 13 cells, the header has 14"),
        (("h_conf", "conf"), r"has no column 'h_conf' \(did you mean 'conf'\? it has qid, "),
        (("question", "gold"), r"table.csv:1: two columns"),
        (("roughly?", 'roughly?" x'), r"is not CSV: "),
    ],
)
def test_a_table_that_is_wrong_is_told_by_line(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    """A cell that is not what it is mapped to is an error that names file, line, item and column."""
    path = tmp_path / "table.csv"
    path.write_text(Path(TABLE).read_text().replace(*change, 1))
    with pytest.raises(CorpusError, match=problem):
        import_corpus("csv", [str(path)], name="c", options=Options(maps=MAPS))


@pytest.mark.parametrize(
    ("maps", "problem"),
    [
        ((("input", "question"),), "no column is mapped to id"),
        ((("id", "qid"), ("input", "question")), "no rung is mapped: --map haiku.answer=COLUMN"),
        (
            (*MAPS, ("haiku.score", "o_ok")),
            r"--map haiku.score=o_ok: haiku.score is mapped to 'h_ok' \(leave one out\)",
        ),
        ((("id", "qid"), ("answer", "h_ans")), r"--map answer=h_ans: there is no field 'answer' \(fields: "),
    ],
)
def test_a_map_that_cannot_be_meant_is_an_error(maps: tuple[tuple[str, str], ...], problem: str) -> None:
    """A field that does not exist, or none for the id, is told before anything is made."""
    with pytest.raises(ConfigurationError, match=problem):
        import_corpus("csv", [TABLE], name="c", options=Options(maps=maps))


def test_an_input_that_cannot_be_asked_is_left_out_and_counted(tmp_path: Path) -> None:
    """An empty prompt is not a request: its item could never be replayed."""
    path = tmp_path / "table.csv"
    path.write_text("id,q,s\na,what?,1\nb,' ',1\n".replace("' '", '" "'))
    maps = (("id", "id"), ("input", "q"), ("haiku.score", "s"))
    imported = import_corpus("csv", [str(path)], name="c", options=Options(maps=maps))
    assert ([item.id for item in imported.items], imported.unusable) == (["a"], 1)


def test_a_tables_signals_stand_beside_the_confidence(tmp_path: Path) -> None:
    """`RUNG.signals.NAME`: numbers by their source; an empty cell is none."""
    path = tmp_path / "signals.csv"
    path.write_text("id,q,s,lex,margin\n1,one?,1,0.25,-3\n2,two?,0,,1\n")
    maps = (
        ("id", "id"),
        ("input", "q"),
        ("a.score", "s"),
        ("a.signals.lexical", "lex"),
        ("a.signals.margin", "margin"),
    )
    imported = import_corpus("csv", [str(path)], name="c", options=Options(maps=maps))
    assert [item.reply("a").signals for item in imported.items] == [{"lexical": 0.25, "margin": -3.0}, {"margin": 1.0}]
    assert imported.unmapped == ()


def test_a_rung_is_said_once() -> None:
    """Two models cannot stand for one rung of the ladder."""
    with pytest.raises(ConfigurationError, match=r"--rung a=large-70b: the rung is given twice"):
        import_corpus("routerbench", [BENCH], name="c", rungs=[("a", "small-7b"), ("a", "large-70b")])
