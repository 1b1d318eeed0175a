"""lm-eval's logs: every sample and every log-likelihood is kept, older files are read, and a missing usage can be estimated."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from cascade.core.errors import ConfigurationError, CorpusError
from cascade.corpora import read_corpus, write_corpus
from cascade.corpora.items import NOT_RECORDED, LadderEntry, RecordedReply
from cascade.importing import Imported, Options, import_corpus
from cascade.importing.estimating import list_prices, with_estimates
from cascade.importing.joining import SampleCounts


def written(number: int = 0, **more: Any) -> dict[str, Any]:
    """A line of a task in which the model writes."""
    arguments = {"gen_args_0": {"arg_0": "What is 6 times 7?", "arg_1": {"until": ["\n"]}}}
    line = {"doc_id": number, "doc": {"q": number}, "target": "42", "arguments": arguments, "resps": [["42"]]}
    return {**line, "filtered_resps": ["42"], "filter": "none", "metrics": ["exact_match"], "exact_match": 1.0, **more}


def chosen(likelihoods: list[Any], *, old: bool = False, texts: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """A line of a multiple choice; newer files have all of it as texts."""
    texts = texts or tuple(f" {letter}" for letter in "ABCDEFGHIJKL"[: len(likelihoods)])
    pairs = [[likelihood, False] if old else [str(likelihood), "False"] for likelihood in likelihoods]
    arguments = [["Which?", text] for text in texts]
    named = {f"gen_args_{n}": {"arg_0": prompt, "arg_1": text} for n, (prompt, text) in enumerate(arguments)}
    line = {"doc_id": 0, "doc": {}, "target": "0", "arguments": arguments if old else named, "acc": 1.0}
    return {**line, "resps": [[pair] for pair in pairs], "filtered_resps": pairs, "metrics": ["acc"], **more}


def imported(folder: Path, *lines: dict[str, Any], **options: Any) -> Imported:
    """The corpus of one file with these lines."""
    path = folder / "s.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return import_corpus("lm-eval", [], name="c", rungs=[("m", str(path))], options=Options(**options))


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_every_sample_is_kept_and_survives_a_round_trip(tmp_path: Path, ending: str) -> None:
    """The first is the reply, `samples` are the further ones."""
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    made = imported(tmp_path, written(resps=[["42", "41", "42"]]))
    (item,) = made.items
    assert (item.reply("m").answer, item.reply("m").score) == ("42", 1.0)
    assert item.reply("m").samples == (RecordedReply(answer="41"), RecordedReply(answer="42", score=1.0))
    assert made.samples == {"m": SampleCounts(2, 1, 2)}
    write_corpus(tmp_path / f"c.{ending}", made.manifest, made.items)
    assert read_corpus(tmp_path / f"c.{ending}").items == made.items


def test_a_filters_answer_is_the_first_responses(tmp_path: Path) -> None:
    """It was logged once: a further sample has its raw response, unless it is word for word the first one."""
    responses = ["It is 42.", "It is 41.", "It is 42."]
    (item,) = imported(tmp_path, written(resps=[responses], filter="strict")).items
    reply, other, same = item.reply("m").every
    assert (reply.answer, (reply.extra or {})["response"]) == ("42", "It is 42.")
    assert other == RecordedReply(answer="It is 41.")
    assert same == RecordedReply(answer="42", score=1.0, extra={"response": "It is 42."})


def test_a_filter_that_keeps_several_leaves_them_without_a_score(tmp_path: Path) -> None:
    """The metric is of all of them together (pass@k): it is under `metrics`, and no sample's score."""
    made = imported(tmp_path, written(resps=[["42", "41"]], filtered_resps=[["42", "41"]]))
    reply = made.items[0].reply("m")
    assert (reply.answer, reply.score, reply.samples) == ("42", None, (RecordedReply(answer="41"),))
    assert (reply.extra or {})["metrics"] == {"exact_match": 1.0}
    assert made.without["m"]["score"] == 1


@pytest.mark.parametrize("filtered", [["42"], ["42", "41", None], ["42", "41", "40"]])
def test_a_metric_that_is_a_list_scores_each_response(tmp_path: Path, filtered: list[str | None]) -> None:
    """Each sample has the score of its place; null is no score."""
    line = written(resps=[["42", "41", "40"]], filtered_resps=[filtered], exact_match=[1.0, False, None])
    made = imported(tmp_path, line)
    assert [(one.answer, one.score) for one in made.items[0].reply("m").every] == [
        ("42", 1.0),
        ("41", 0.0),
        ("40", None),
    ]
    assert made.samples == {"m": SampleCounts(2, 1, 2)}


def test_a_grader_scores_the_samples_that_the_log_does_not(tmp_path: Path) -> None:
    """The log's own score stays, and the manifest names both graders."""
    made = imported(tmp_path, written(resps=[["42", "41", "42."]]), grader="numeric")
    assert [one.score for one in made.items[0].reply("m").every] == [1.0, 0.0, 1.0]
    assert made.manifest.grader == "recorded lm-eval score, else numeric"


def test_what_json_does_not_have_is_left_out_of_samples_too(tmp_path: Path) -> None:
    """NaN in a sample's score is null, and its item is counted."""
    made = imported(tmp_path, written(resps=[["42", "41"]], exact_match=[1.0, math.nan]))
    assert [one.score for one in made.items[0].reply("m").every] == [1.0, None]
    assert made.nulled == 1


@pytest.mark.parametrize(
    ("name", "responses"), [("maj@3", ["It is 41", "It is 42", "It is 42"]), ("vote", ["41", "42", "42"])]
)
def test_a_vote_is_no_sample(tmp_path: Path, name: str, responses: list[str]) -> None:
    """Its answer and score are the vote's, not the first response's; what was voted on stands beside it."""
    (item,) = imported(tmp_path, written(resps=[responses], filter=name)).items
    reply = item.reply("m")
    assert (reply.answer, reply.score) == ("42", 1.0)
    assert reply.extra == {"metrics": {"exact_match": 1.0}, "responses": responses}


@pytest.mark.parametrize("old", [False, True])
def test_a_multiple_choices_log_likelihoods_are_kept(tmp_path: Path, *, old: bool) -> None:
    """All of them in the choices' order, the taken one as a signal; they are a confidence only where that is asked for."""
    values = [-3.0, -1.0, -2.0]
    reply = imported(tmp_path, chosen(values, old=old)).items[0].reply("m")
    assert (reply.answer, reply.score, reply.confidence) == (NOT_RECORDED, 1.0, None)
    assert reply.signals == {"logprob": -1.0}
    assert reply.extra == {"metrics": {"acc": 1.0}, "logprobs": values, "choice": " B"}
    confident = imported(tmp_path, chosen(values, old=old), confidence="logprob").items[0].reply("m")
    assert confident.confidence == pytest.approx(1 / (1 + math.exp(-1) + math.exp(-2)))


def test_the_softmax_is_of_the_choice_that_the_metric_takes(tmp_path: Path) -> None:
    """By characters with acc_norm, by bytes with acc_bytes; a choice by itself (an empty prompt) is no choice."""
    texts = (" a", " abcdefgh", " éééé")
    line = chosen(
        [-2.0, -3.0, -2.2], texts=texts, metrics=["acc", "acc_norm", "acc_bytes"], acc_norm=0.0, acc_bytes=0.0
    )
    total = sum(map(math.exp, (-2.0, -3.0, -2.2)))
    for metric, choice, value in (("acc", " a", -2.0), ("acc_norm", " abcdefgh", -3.0), ("acc_bytes", " éééé", -2.2)):
        reply = imported(tmp_path, line, metric=metric, confidence="logprob").items[0].reply("m")
        assert ((reply.extra or {})["choice"], reply.signals) == (choice, {"logprob": value})
        assert reply.confidence == pytest.approx(math.exp(value) / total)
    mutual = chosen([-2.0, -1.0, -9.0, -0.5], old=True, texts=(" a", " b", " a", " b"))
    mutual["arguments"][2][0] = mutual["arguments"][3][0] = ""
    reply = imported(tmp_path, mutual, confidence="logprob").items[0].reply("m")
    assert (reply.extra or {})["logprobs"] == [-2.0, -1.0]


def test_likelihoods_that_are_no_choice_make_no_confidence(tmp_path: Path) -> None:
    """One alone has a softmax of 1 whatever it is; with a NaN there is none; all at zero probability say nothing."""
    for likelihoods in ([-1.0], [-1.0, "nan"], ["-inf", "-inf"]):
        reply = imported(tmp_path, chosen(likelihoods), confidence="logprob").items[0].reply("m")
        assert reply.confidence is None
    reply = imported(tmp_path, chosen([-1.0, "-inf"]), confidence="logprob").items[0].reply("m")
    assert (reply.confidence, (reply.extra or {})["logprobs"]) == (1.0, [-1.0, None])
    with pytest.raises(ConfigurationError, match=r"--confidence verbal: .*logprob"):
        imported(tmp_path, chosen([-1.0]), confidence="verbal")


def test_more_than_ten_choices_stay_in_their_order(tmp_path: Path) -> None:
    """`gen_args_10` comes after `gen_args_9`, as in the file."""
    values = [-float(n) for n in range(12, 0, -1)]
    reply = imported(tmp_path, chosen(values)).items[0].reply("m")
    assert ((reply.extra or {})["logprobs"], (reply.extra or {})["choice"]) == (values, " L")


def old(*lines: dict[str, Any]) -> list[dict[str, Any]]:
    """Lines as older versions wrote them: no filter's name, no list of metrics."""
    return [{key: value for key, value in line.items() if key not in {"filter", "metrics"}} for line in lines]


def test_older_files_without_filter_names_are_read_by_place(tmp_path: Path) -> None:
    """Each document once for each filter, without a name: the message says how to choose, and each place is one filter."""
    lines = old(written(0), written(1), written(0, filtered_resps=["x"], exact_match=0.0), written(1))
    with pytest.raises(
        CorpusError, match=r"each document 2 times, for 2 filters without names .*--filter 1 or 2\)"
    ) as told:
        imported(tmp_path, *lines)
    assert "import each run once" not in str(told.value)
    assert [item.reply("m").score for item in imported(tmp_path, *lines, filter="1").items] == [1.0, 1.0]
    assert [item.reply("m").score for item in imported(tmp_path, *lines, filter="2").items] == [0.0, 1.0]
    with pytest.raises(CorpusError, match=r"--filter 1 or 2\)"):
        imported(tmp_path, *lines, filter="strict-match")


def test_an_older_file_of_one_filter_needs_no_choice(tmp_path: Path) -> None:
    """It is read without `--filter`; one that was given is not looked for among names that were never written."""
    assert len(imported(tmp_path, *old(written(0), written(1))).items) == 2
    with pytest.raises(CorpusError, match=r"no line names its filter .*leave --filter out\)") as told:
        imported(tmp_path, *old(written(0)), filter="strict")
    assert "it has none" not in str(told.value)


def test_two_runs_in_one_older_file_are_not_taken_for_filters(tmp_path: Path) -> None:
    """Documents that occur unequally often are no filters' turns."""
    with pytest.raises(
        CorpusError, match=r"doc_id '1' occurs 1 times and others 2 times, and no line names its filter"
    ):
        imported(tmp_path, *old(written(0), written(1), written(0)))


def test_an_older_file_that_is_one_json_list_is_read(tmp_path: Path) -> None:
    """The first versions wrote a list over many lines, under the same ending."""
    (tmp_path / "s.jsonl").write_text(json.dumps(old(written(0), written(1)), indent=2))
    made = import_corpus("lm-eval", [], name="c", rungs=[("m", str(tmp_path / "s.jsonl"))])
    assert [item.id for item in made.items] == ["0", "1"]
    (tmp_path / "s.jsonl").write_text('[{"doc_id": 0}, 3]')
    with pytest.raises(CorpusError, match=re.escape("s.jsonl:[1]: is not a JSON object")):
        import_corpus("lm-eval", [], name="c", rungs=[("m", str(tmp_path / "s.jsonl"))])


def test_usage_is_estimated_only_where_asked_and_is_marked(tmp_path: Path) -> None:
    """Characters / 4, rounded up, of the prompt and of the whole response; every sample has its own."""
    line = written(resps=[["It is 42, I am sure.", "It is 41."]], filter="strict")
    assert imported(tmp_path, line).items[0].reply("m").usage is None
    made = imported(tmp_path, line, estimate_usage=True)
    reply = made.items[0].reply("m")
    assert (reply.usage, (reply.extra or {})["estimate"]) == ({"input_tokens": 5, "output_tokens": 5}, ["usage"])
    usage = {"input_tokens": 5, "output_tokens": 3}
    assert reply.samples == (RecordedReply(answer="It is 41.", usage=usage, extra={"estimate": ["usage"]}),)
    assert made.estimated == 1
    assert made.manifest.extra == {"estimate": {"replies": 1, "usage": "characters / 4", "cost_usd": "list prices"}}
    assert "usage or cost of 1 replies is an estimate" in (made.manifest.notes or "")


def test_what_was_observed_is_never_estimated() -> None:
    """A usage or a cost stays as it is; without any text that came back there is nothing to estimate by."""
    for reply in ({"usage": {"input_tokens": 1, "output_tokens": 1}, "answer": "a"}, {"cost_usd": 0.1, "answer": "a"}):
        assert with_estimates({"input": "q"}, reply, None) == reply
    for reply in ({"score": 1.0}, {"answer": None}):
        assert with_estimates({"input": "q"}, reply, None) == reply
    turns = [{"role": "user", "content": [{"type": "text", "text": "12345678"}]}, {"role": "user", "content": "1"}]
    found = with_estimates({"input": turns, "system": ["1234"]}, {"responses": ["12345", "1"]}, None)
    assert found["usage"] == {"input_tokens": 2 * (3 + 1), "output_tokens": 2 + 1}


def test_a_missing_cost_is_estimated_where_the_model_has_a_price() -> None:
    """From the usage, observed or estimated, at list prices; a model that is not known, or has no price, gives none."""
    rates = list_prices([LadderEntry("h", "claude-haiku-5-5"), LadderEntry("x", "no-such-model"), LadderEntry("n")])
    assert list(rates) == ["h"]
    observed = {"usage": {"input_tokens": 1000, "output_tokens": 1000}, "answer": "a"}
    first = with_estimates({"input": "q"}, observed, rates["h"])
    assert (first["usage"], first["estimate"], first["cost_usd"] > 0) == (observed["usage"], ["cost_usd"], True)
    twice = with_estimates({"input": "q"}, {"usage": {"input_tokens": 2000, "output_tokens": 2000}}, rates["h"])
    assert twice["cost_usd"] == pytest.approx(2 * first["cost_usd"])
    assert with_estimates({"input": "q"}, {"answer": "a", "cost_usd": 0.5}, rates["h"])["cost_usd"] == 0.5
    assert with_estimates({"input": "q"}, {"answer": "a"}, rates["h"])["estimate"] == ["usage", "cost_usd"]


@pytest.mark.parametrize(
    ("line", "options", "problem"),
    [
        ({"docid": 0, "acc": 1.0}, {}, r"has no doc_id \(.*did you mean 'docid'\? it has docid, acc\)"),
        (written(), {"metric": "exact_mach"}, r"has no metric 'exact_mach' \(did you mean 'exact_match'\?"),
        (
            written(filter="strict-match"),
            {"filter": "strict_match"},
            r"did you mean 'strict-match'\? it has strict-match",
        ),
    ],
)
def test_a_misspelt_name_is_answered_with_the_one_that_was_meant(
    tmp_path: Path, line: dict[str, Any], options: dict[str, Any], problem: str
) -> None:
    """And with what is there."""
    with pytest.raises(CorpusError, match=problem):
        imported(tmp_path, line, **options)


@pytest.mark.parametrize(
    ("field", "meant"), [("haiku.anwser", "haiku.answer"), ("imput", "input"), ("a.b.Score", "a.b.score")]
)
def test_a_misspelt_field_of_a_table_is_answered_with_the_one_that_was_meant(field: str, meant: str) -> None:
    """In the rung's own name, however it is written."""
    with pytest.raises(
        ConfigurationError, match=rf"there is no field '{field}' \(did you mean '{meant}'\? fields: at, "
    ):
        import_corpus("csv", ["t.csv"], name="c", options=Options(maps=(("id", "id"), (field, "x"))))


def test_a_misspelt_format_or_model_is_answered_with_the_one_that_was_meant() -> None:
    """A format's name, and a model's in a source that has several."""
    with pytest.raises(ConfigurationError, match=r"no format 'lm_eval' \(did you mean 'lm-eval'\? formats: lm-eval, "):
        import_corpus("lm_eval", ["x"], name="c")
    bench = str(Path(__file__).parent / "fixtures" / "routerbench.csv")
    with pytest.raises(
        ConfigurationError, match=r"no 'small-7B' .*\(did you mean 'small-7b'\? they have small-7b, large"
    ):
        import_corpus("routerbench", [bench], name="c", rungs=[("a", "small-7B")])


@pytest.mark.parametrize(
    ("form", "name", "text", "seen"),
    [
        ("promptfoo", "x.json", '{"result": {}}', r"did you mean 'result'\? it has result"),
        ("promptfoo", "x.jsonl", '{"test_idx": 1}', r"did you mean 'test_idx'\? it has test_idx"),
        ("inspect", "x.json", '{"samples": [], "evals": {}}', r"it has samples, evals"),
        ("inspect", "x.json", '{"samples": [], "eval": {"Model": "m"}}', r"its eval has Model"),
        ("routerbench", "x.csv", "id,prompt\n1,q\n", r"it has id, prompt"),
        ("routerbench", "x.csv", "sampleid,m|model_response\n1,q\n", r"did you mean 'sampleid'\? it has sampleid, m"),
    ],
)
def test_a_file_that_lacks_a_key_is_answered_with_those_that_it_has(
    tmp_path: Path, form: str, name: str, text: str, seen: str
) -> None:
    """What was seen, and what was probably meant, in every format."""
    (tmp_path / name).write_text(text)
    with pytest.raises(CorpusError, match=seen):
        import_corpus(form, [str(tmp_path / name)], name="c")
