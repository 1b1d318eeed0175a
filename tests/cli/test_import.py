"""`cascade import`: the command, what it prints, and that its corpus is one that the others read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cascade.corpora import read_corpus
from tests.cli import within
from tests.cli.conftest import Run

run = within.run

FIXTURES = Path(__file__).resolve().parents[1] / "importing" / "fixtures"
SMALL = FIXTURES / "lm_eval" / "small" / "samples_trivia_2026-01-05T10-00-00.123456.jsonl"
LARGE = FIXTURES / "lm_eval" / "large" / "samples_trivia_2026-01-05T11-30-00.654321.jsonl"


def test_import_writes_a_corpus_and_tells_every_gap(run: Run, tmp_path: Path) -> None:
    """What it is and what it lacks on stdout; on stderr what the sources lack: items missing in one, confidences, costs."""
    rungs = ("--rung", f"small={SMALL}", "--rung", f"large={LARGE}")
    done = run("import", "lm-eval", *rungs, "--filter", "strict", "--metric", "exact_match", "-o", "trivia.jsonl.gz")
    bare, first = "(small lacks 2 of 2, large lacks 2 of 2)", "trivia.jsonl.gz: 2 items, small → large\n"
    last = f"cannot be replayed yet: no cost {bare} and no usage {bare}, add cost_usd, or input and output tokens"
    last += ", or estimate the usage: --estimate-usage\n"
    assert (done.code, done.out) == (0, first + last)
    assert done.err.splitlines() == [
        "large: no reply in 1 item",
        "left out: 1 item, because a rung's reply is missing (--keep-incomplete keeps them)",
        "replies without confidence: small 2 of 2 (below the top rung they never ship)",
        "replies without cost_usd: small 2 of 2, large 2 of 2 (not all have usage that could be priced instead)",
    ]
    corpus = read_corpus(tmp_path / "trivia.jsonl.gz")
    assert (corpus.manifest.name, corpus.manifest.rungs) == ("trivia", ("small", "large"))
    assert corpus.manifest.grader == "recorded lm-eval exact_match (strict)"


def test_import_json_counts_what_the_table_tells(run: Run) -> None:
    """With --json the counts and the notices are fields, and stderr is silent."""
    done = run("import", "routerbench", str(FIXTURES / "routerbench.csv"), "-o", "c.jsonl", "--name", "bench", "--json")
    assert (done.code, done.err) == (0, "")
    found = done.json
    assert (found["name"], found["items"], found["left_out"]) == ("bench", 2, 1)
    assert found["missing"] == {"small-7b": 0, "large-70b": 1}
    assert found["without"]["small-7b"] == {"confidence": 2, "score": 0, "cost_usd": 0}
    assert found["notices"][0].startswith("the ladder is in the order of the sources")


def test_import_maps_a_table_of_ones_own(run: Run, tmp_path: Path) -> None:
    """`--map` repeated says which column is what, the rungs' own included."""
    maps = ("id=qid", "input=question", "haiku.confidence=h_conf", "haiku.score=h_ok", "opus.score=o_ok")
    options = [part for text in maps for part in ("--map", text)]
    done = run("import", "csv", str(FIXTURES / "table.csv"), *options, "-o", "own.jsonl")
    assert done.code == 0
    assert read_corpus(tmp_path / "own.jsonl").items[0].reply("haiku").confidence == 0.95


def test_import_tells_the_columns_that_no_map_names(run: Run, tmp_path: Path) -> None:
    """One line on stderr, a key in --json, over all tables; a name that would break the line is quoted."""
    (tmp_path / "a.csv").write_text('id,q,ok,cost,"two\nlines",\n1,one?,1,0.1,x,y\n2,two?,1,0.1,x,y\n')
    (tmp_path / "b.csv").write_text("id,q,ok,cost,more\n3,three?,0,0.1,z\n")
    maps = ("--map", "id=id", "--map", "input=q", "--map", "haiku.score=ok")
    done = run("import", "csv", "a.csv", "b.csv", *maps, "-o", "own.jsonl")
    said = [line for line in done.err.splitlines() if line.startswith("not imported")]
    assert said == ["not imported, as no --map names them: the columns cost, 'two\\nlines', '', more"]
    assert done.code == 0
    assert done.out.startswith("own.jsonl: 3 items, haiku\ncannot be replayed yet: haiku is its only rung")
    told = run("import", "csv", "a.csv", "b.csv", *maps, "-o", "own.jsonl", "--force", "--json")
    assert (told.err, told.json["unmapped"]) == ("", ["cost", "two\nlines", "", "more"])
    every = ("--map", "haiku.cost_usd=cost", "--map", "extra.more=more")
    (tmp_path / "many.csv").write_text(f"id,q,{','.join(f'c{number}' for number in range(23))}\n1,one?{',v' * 23}\n")
    many = run(
        "import", "csv", "many.csv", "--map", "id=id", "--map", "input=q", "--map", "a.answer=c0", "-o", "m.jsonl"
    )
    assert "c19, c20 and 2 more" in many.err
    whole = run("import", "csv", "b.csv", *maps, *every, "-o", "own.jsonl", "--force", "--json")
    assert whole.json["unmapped"] == []
    assert not any("not imported" in notice for notice in whole.json["notices"])


def test_import_refusals_are_one_line_and_leave_nothing(run: Run, tmp_path: Path) -> None:
    """A pickle, a format that is not there, a pair that is none, an ending that is no corpus's: exit 2, no file."""
    bench, table = str(FIXTURES / "routerbench.csv"), str(FIXTURES / "table.csv")
    for arguments, problem in (
        (("routerbench", "routerbench_0shot.pkl", "-o", "c.jsonl"), "is a pickle, which is never loaded here"),
        (("ragas", bench, "-o", "c.jsonl"), "there is no format 'ragas' (formats: lm-eval, "),
        (("routerbench", "-o", "c.jsonl"), "no sources given"),
        (("routerbench", bench, "--rung", "haiku", "-o", "c.jsonl"), "--rung haiku: "),
        (("routerbench", bench, "-o", "c.csv"), "c.csv: a corpus ends in .jsonl, .jsonl.gz or .parquet"),
        (("routerbench", bench), "Missing option"),
        (
            ("csv", table, "--map", "id=qid", "--map", "input=question", "-o", "c.jsonl"),
            "no rung is mapped: --map haiku.",
        ),
        (("routerbench", bench, "--metric", "f1", "-o", "c.jsonl"), "--metric: routerbench does not use it"),
    ):
        done = run("import", *arguments)
        assert (done.code, done.out) == (2, "")
        assert problem in done.err
        assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_import_does_not_write_over_a_corpus_unasked(run: Run, tmp_path: Path) -> None:
    """What is there stays as it is, whatever it is; --force says that it may go."""
    (tmp_path / "mine.jsonl").write_text("paid for\n")
    arguments = ("import", "routerbench", str(FIXTURES / "routerbench.csv"), "-o", "mine.jsonl")
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err == "cascade: mine.jsonl: exists (give another -o, or --force)\n"
    assert (tmp_path / "mine.jsonl").read_text() == "paid for\n"
    assert run(*arguments, "--force").code == 0
    assert len(read_corpus(tmp_path / "mine.jsonl").items) == 2


def test_import_says_whether_its_corpus_can_be_replayed(run: Run, tmp_path: Path) -> None:
    """What it says holds: with costs replay takes it, with usage alone it does with --reprice, with neither it refuses."""
    (tmp_path / "t.csv").write_text("id,q,c,h,o,usd,tok\n1,a?,0.9,1,1,0.1,5\n2,b?,0.2,0,1,0.1,5\n")
    graded = ("id=id", "input=q", "haiku.confidence=c", "haiku.score=h", "opus.score=o")
    spent = [f"{rung}.{field}_tokens=tok" for rung in ("haiku", "opus") for field in ("input", "output")]
    models = ("--rung", "haiku=claude-haiku-5-5", "--rung", "opus=claude-opus-5-5")
    for name, more, told, options, code in (
        ("paid", ["haiku.cost_usd=usd", "opus.cost_usd=usd"], "", (), 0),
        ("used", spent, "replay with --reprice", ("--reprice",), 0),
        (
            "mixed",
            ["haiku.cost_usd=usd", *spent[2:]],
            "cannot be replayed yet: no cost (opus lacks 2 of 2) and no usage",
            (),
            2,
        ),
        ("bare", [], "cannot be replayed yet: no cost (haiku lacks 2 of 2, opus lacks 2 of 2) and no usage", (), 2),
        ("ungraded", None, "cannot be replayed yet: no score (haiku lacks 2 of 2, opus lacks 2 of 2)", (), 2),
    ):
        maps = (
            [*graded[:3], "opus.answer=q", "haiku.cost_usd=usd", "opus.cost_usd=usd"]
            if more is None
            else [*graded, *more]
        )
        pairs = [part for text in maps for part in ("--map", text)]
        done = run("import", "csv", "t.csv", *models, *pairs, "-o", f"{name}.jsonl")
        assert told in done.out + done.err
        assert ("cannot be replayed" in done.out) == bool(code)
        assert code == 0 or done.out.splitlines()[-1].startswith("cannot be replayed yet: ")
        assert "--reprice" not in done.out + done.err or name == "used"
        assert run("replay", f"{name}.jsonl", *options).code == code


def logged(path: Path, rows: list[tuple[list[str], float]]) -> str:
    """A file of lm-eval: each document's responses, and the first one's score."""
    lines = [
        {
            "doc_id": n, "target": "42", "arguments": [[f"What is 6 times 7, {n}?", {"until": []}]], "resps": [responses],
            "filtered_resps": responses[:1], "filter": "none", "metrics": ["acc"], "acc": score,
        }
        for n, (responses, score) in enumerate(rows)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_an_estimated_usage_is_a_way_on_and_every_table_says_so(run: Run, tmp_path: Path) -> None:
    """What lacks usage cannot be replayed, and the message says what helps; what that makes says that it is an estimate."""
    rungs = [
        part
        for rung in ("haiku", "sonnet", "opus")
        for part in ("--rung", f"{rung}={logged(tmp_path / rung, [(['42', '41'], 1.0), (['42'], 1.0)])}")
    ]
    bare = run("import", "lm-eval", *rungs, "-o", "bare.jsonl")
    assert bare.out.endswith(", or estimate the usage: --estimate-usage\n")
    assert run("replay", "bare.jsonl", "--policy", "default", "--reprice").code == 2
    done = run("import", "lm-eval", *rungs, "-o", "c.jsonl", "--estimate-usage")
    assert (
        "estimate: usage or cost of 6 replies, from the lengths of their texts (characters / 4, list prices)"
        in done.err.splitlines()
    )
    assert "cannot be replayed" not in done.out
    said = "costs are an estimate: 6 replies came without usage or cost (characters / 4, list prices)"
    told = run("replay", "c.jsonl", "--policy", "default", "--reprice")
    assert (told.code, said in " ".join(told.out.split())) == (0, True)
    assert said in run("replay", "c.jsonl", "--policy", "default", "--reprice", "--json").json["notes"]
    models = [part for rung in ("haiku", "sonnet", "opus") for part in ("--model", f"{rung}=claude-{rung}-5-5")]
    priced = run("import", "lm-eval", *rungs, *models, "-o", "d.jsonl", "--estimate-usage", "--metric", "acc")
    assert (priced.code, "replies without cost_usd" in priced.err) == (0, False)
    assert said in run("replay", "d.jsonl", "--json").json["notes"]
    assert said in run("calibrate", "d.jsonl", "--min-quality", "0.5", "--json").json["notes"]
    typo = run("import", "lm-eval", *rungs, "--model", "haikou=claude-haiku-5-5", "-o", "e.jsonl")
    assert "there is no rung 'haikou' (did you mean 'haiku'? rungs: haiku, sonnet, opus)" in typo.err


def test_a_policy_without_samples_reads_the_first_alone(run: Run, tmp_path: Path) -> None:
    """Further samples change nothing of a replay: neither answers nor costs."""
    found: list[Any] = []
    for name, further in (("one", []), ("more", ["41", "40"])):
        rungs = [
            part
            for rung in ("haiku", "sonnet", "opus")
            for part in ("--rung", f"{rung}={logged(tmp_path / rung, [(['42', *further], 1.0)] * 3)}")
        ]
        options = ("-o", f"{name}.jsonl", "--name", "c", "--estimate-usage")
        assert run("import", "lm-eval", *rungs, *options).code == 0
        assert ('"samples"' in (tmp_path / f"{name}.jsonl").read_text()) == bool(further)
        replayed = run("replay", f"{name}.jsonl", "--policy", "default", "--reprice", "--json").json
        found.append({key: value for key, value in replayed.items() if key != "seconds"})
    assert found[0] == found[1]


def test_what_samples_lack_is_told_with_what_helps(run: Run, tmp_path: Path) -> None:
    """How many there are, without a score and without a cost, as a notice and in --json; both options fill the gaps."""
    source = logged(tmp_path / "s.jsonl", [(["42", "41"], 1.0), (["42", "42"], 1.0)])
    done = run("import", "lm-eval", "--rung", f"m={source}", "-o", "c.jsonl")
    assert "m was asked more than once: 2 further samples, 1 of them without a score, so that" in done.err
    assert "2 of them without cost and usage (--estimate-usage estimates them)" in done.err
    options = ("--estimate-usage", "--grader", "contains", "--force", "--json")
    told = run("import", "lm-eval", "--rung", f"m={source}", "-o", "c.jsonl", *options).json
    assert told["samples"] == {"m": {"further": 2, "without_score": 0, "without_cost": 0}}
    assert (told["graded"], told["ungraded"]) == (1, 0)


def test_a_broken_sample_is_told_and_the_others_are_imported(run: Run, tmp_path: Path) -> None:
    """NaN and an unpaired surrogate: a line each on stderr, a count each in --json, and no option that is not there."""
    source = logged(tmp_path / "s.jsonl", [(["fine"], float("nan")), (["half \ud800"], 1.0), (["fine"], 1.0)])
    done = run("import", "lm-eval", "--rung", f"m={source}", "-o", "c.jsonl")
    assert (done.code, done.out.splitlines()[0]) == (0, "c.jsonl: 2 items, m")
    assert "1 item held NaN or Infinity, which JSON does not have: null in the corpus" in done.err
    assert f"left out: 1 item that cannot be asked or stored, the first: {source}:2: item '1': holds what" in done.err
    assert "--skip-bad" not in done.err
    told = run("import", "lm-eval", "--rung", f"m={source}", "-o", "c.jsonl", "--force", "--json").json
    assert (told["nulled"], told["unusable"], told["items"]) == (1, 1, 2)


def test_the_confidence_of_a_multiple_choice_is_asked_for(run: Run, tmp_path: Path) -> None:
    """`--confidence logprob` takes the softmax; a format that has none refuses it."""
    line = {
        "doc_id": 0, "target": "0", "arguments": [["q?", " a"], ["q?", " b"]], "resps": [[[-1.0, False]], [[-1.0, False]]],
        "filtered_resps": [[-1.0, True], [-1.0, False]], "filter": "none", "metrics": ["acc"], "acc": 1.0,
    }  # fmt: skip
    (tmp_path / "s.jsonl").write_text(json.dumps(line))
    assert run("import", "lm-eval", "--rung", "m=s.jsonl", "-o", "c.jsonl", "--confidence", "logprob").code == 0
    assert read_corpus(tmp_path / "c.jsonl").items[0].reply("m").confidence == 0.5
    bench = str(FIXTURES / "routerbench.csv")
    refused = run("import", "routerbench", bench, "-o", "d.jsonl", "--confidence", "logprob")
    assert (refused.code, "--confidence: routerbench does not use it" in refused.err) == (2, True)
