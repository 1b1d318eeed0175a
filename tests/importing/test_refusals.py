"""What cannot be imported is told by its true reason, and in the right order; what cannot be asked is left out and told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cascade.core.errors import ConfigurationError, CorpusError
from cascade.importing import Options, import_corpus

FIXTURES = Path(__file__).parent / "fixtures"
SMALL = FIXTURES / "lm_eval" / "small" / "samples_trivia_2026-01-05T10-00-00.123456.jsonl"
MAPS = (("id", "qid"), ("haiku.score", "h_ok"))


def test_lm_eval_tells_first_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    """A file that is not there, a folder, an empty file, a filter or metric that it has not: before the rung is asked for."""
    (tmp_path / "empty.jsonl").write_text("")
    for source, options, problem in (
        (tmp_path / "none.jsonl", Options(), "cannot be read: No such file"),
        (tmp_path, Options(), "cannot be read: Is a directory"),
        (tmp_path / "empty.jsonl", Options(), "the file is empty"),
        (SMALL, Options("loose"), "has no filter 'loose'"),
        (SMALL, Options("strict", "acc"), "has no metric 'acc'"),
    ):
        with pytest.raises(CorpusError, match=problem):
            import_corpus("lm-eval", [str(source)], name="c", options=options)


@pytest.mark.parametrize(
    ("form", "options", "problem"),
    [
        ("csv", Options(metric="m"), r"--metric: csv .*it takes --map\)"),
        ("csv", Options(filter="m"), r"--filter: csv"),
        ("routerbench", Options(metric="m"), r"--metric: routerbench .* it takes no such option"),
        ("promptfoo", Options(filter="m"), r"--filter: promptfoo .* it takes --metric"),
        ("inspect", Options(maps=MAPS), r"--map: inspect"),
        ("lm-eval", Options(maps=MAPS), r"--map: lm-eval .* it takes --filter, --metric, --confidence"),
    ],
)
def test_an_option_that_a_format_makes_no_use_of_is_refused(form: str, options: Options, problem: str) -> None:
    """Never passed over in silence: who gave it meant something."""
    with pytest.raises(ConfigurationError, match=problem):
        import_corpus(form, ["any"], name="c", options=options)


def test_a_log_that_is_not_there_is_told_as_such() -> None:
    """`--rung haiku=x.eval` without a file of that name: its path is told, not that there is nothing to read."""
    with pytest.raises(ConfigurationError, match=r"--rung haiku=x.eval: there is no such file"):
        import_corpus("inspect", [], name="c", rungs=[("haiku", "x.eval")])


def prompts(folder: Path, *raws: str) -> str:
    """A run of promptfoo with these prompts, a test each, all answered."""
    results = [
        {"testIdx": n, "prompt": {"raw": raw, "label": "l"}, "provider": {"id": "m"}, "response": {"output": "x"}, "score": 1}
        for n, raw in enumerate(raws)
    ]  # fmt: skip
    (folder / "p.json").write_text(json.dumps({"results": {"results": results}}))
    return str(folder / "p.json")


@pytest.mark.parametrize("indent", [None, 2])
def test_a_system_message_stands_beside_the_conversation(tmp_path: Path, indent: int | None) -> None:
    """Promptfoo's chat prompts, however they are laid out: what the rungs are asked has no system turn in it, and is kept."""
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    (item,) = import_corpus("promptfoo", [prompts(tmp_path, json.dumps(turns, indent=indent))], name="c").items
    assert item.input == [{"role": "user", "content": "Why?"}]
    assert item.extra == {"system": ["Be brief."]}


def test_what_replay_refuses_is_left_out_and_told(tmp_path: Path) -> None:
    """A conversation that the assistant ends, one without a user: counted, with the reason and the place of the first."""
    ended = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    raws = ["fine?", json.dumps(ended), json.dumps([{"role": "system", "content": "s"}])]
    imported = import_corpus("promptfoo", [prompts(tmp_path, *raws)], name="c")
    assert ([item.id for item in imported.items], imported.unusable) == (["0"], 2)
    assert "p.json:results[1]: item '1': prompt: the last message is the assistant's" in imported.first_problem
    with pytest.raises(CorpusError, match=r"2 of 2 items cannot be used, the first: .*the last message is the") as told:
        import_corpus("promptfoo", [prompts(tmp_path, *raws[1:])], name="c")
    assert "runs of the same items" not in str(told.value)


def test_a_corpus_without_items_says_why(tmp_path: Path) -> None:
    """Nothing in the source, or no item with every rung's reply: each has its own words."""
    with pytest.raises(CorpusError, match="no items"):
        import_corpus("promptfoo", [prompts(tmp_path)], name="c")
    (tmp_path / "t.csv").write_text("id,q,h,o\n1,a?,1,\n2,b?,,1\n")
    maps = (("id", "id"), ("input", "q"), ("haiku.score", "h"), ("opus.score", "o"))
    with pytest.raises(CorpusError, match=r"no item of 2 has a reply of every rung \(haiku lacks 1, opus lacks 1\)"):
        import_corpus("csv", [str(tmp_path / "t.csv")], name="c", options=Options(maps=maps))
    (tmp_path / "t.csv").write_text("id,q,h\n1,a?,\n")
    with pytest.raises(CorpusError, match=r"none of the 1 items has any model's reply"):
        import_corpus("csv", [str(tmp_path / "t.csv")], name="c", options=Options(maps=maps[:3]))
