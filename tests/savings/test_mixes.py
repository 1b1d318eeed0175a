"""The mix of a corpus is what `cascade replay` finds under the same policy."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from cascade.core.errors import CorpusError
from cascade.corpora import open_corpus
from cascade.policy.loading import load_policy
from cascade.savings import mix_of_corpus
from tests.savings.scenes import LARGE, advised, measured, replayed


@pytest.mark.parametrize("name", ["support", "default", "coding"])
def test_a_measured_mix_is_what_replay_measures(name: str) -> None:
    """Shares, rates, qualities and costs equal those of `cascade replay` to the nano-USD, storm guard and all."""
    policy = load_policy(name)
    mix, replay = measured(policy), replayed(policy)
    seen, figures = mix.observed, replay.figures
    assert (mix.basis, seen is not None) == ("measured", True)
    assert seen is not None
    assert mix.shares == tuple(Fraction(count, 1200) for count in figures.shipped.values())
    assert mix.reached == tuple(Fraction(count, 1200) for count in figures.reached.values())
    assert (seen.items, seen.quality, seen.wrong, seen.cost) == (
        1200, figures.quality, figures.wrong / 1200, figures.cost,
    )  # fmt: skip
    singles = [figures.singles[rung] for rung in replay.mapping.names]
    assert seen.singles == tuple((single.quality, single.wrong / 1200) for single in singles)
    assert seen.single_costs == tuple(single.cost for single in singles)
    assert name != "support" or replay.storms["escalated"] > 0  # so that the guard is part of what is compared


REPLY = '{"confidence": 0.9, "answer": "x", "score": 1, "cost_usd": 0.001}'


def written(folder: Path, rungs: Sequence[str], *items: str) -> Path:
    """A corpus of these rungs (`name` or `name=model`), and of these items' replies."""
    pairs = [rung.partition("=") for rung in rungs]
    ladder = ", ".join(
        f'{{"rung": "{name}"' + (f', "model": "{model}"' if model else "") + "}" for name, _, model in pairs
    )
    lines = [f'{{"corpus": "made", "version": 1, "ladder": [{ladder}]}}']
    lines += [f'{{"id": "i{n}", "input": "q", "replies": {{{told}}}}}' for n, told in enumerate(items)]
    path = folder / "made.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_corpus_with_other_names_is_matched_by_its_models(tmp_path: Path) -> None:
    """As in replay: the rungs may be called otherwise where the models are those of the policy."""
    rungs = ("small=claude-haiku-5-5", "mid=claude-sonnet-5-5", "big=claude-opus-5-5")
    path = written(tmp_path, rungs, ", ".join(f'"{name}": {REPLY}' for name in ("small", "mid", "big")))
    with open_corpus(path) as reader:
        assert mix_of_corpus(reader, load_policy("default")).shares == (1, 0, 0)


def test_an_id_that_occurs_twice_is_not_counted_twice(tmp_path: Path) -> None:
    """It is the error that replay gives, with file and line."""
    replies = ", ".join(f'"{name}": {REPLY}' for name in ("haiku", "sonnet", "opus"))
    path = written(tmp_path, ("haiku", "sonnet", "opus"), replies, replies)
    path.write_text(path.read_text().replace('"i1"', '"i0"'))
    with open_corpus(path) as reader, pytest.raises(CorpusError, match=r"made.jsonl:3: item 'i0': the id occurs twice"):
        mix_of_corpus(reader, load_policy("default"))


def test_a_rung_that_some_items_lack_has_no_figures_alone(tmp_path: Path) -> None:
    """The climb never asks for it, so the mix is measured; what Sonnet and Opus alone would do is not known, and not guessed."""
    path = written(tmp_path, ("haiku", "sonnet", "opus"), f'"haiku": {REPLY}')
    with open_corpus(path) as reader:
        mix = mix_of_corpus(reader, load_policy("default"))
    assert mix.observed is not None
    assert (mix.observed.singles, mix.observed.single_costs) == (((1, 0), None, None), (1_000_000, None, None))
    assert advised(LARGE, mix).instead == "haiku"


def test_other_models_replies_are_told(tmp_path: Path) -> None:
    """The corpus's `haiku` was another model than the policy's: the advice says so, as replay does."""
    rungs = ("haiku=claude-haiku-4-5", "sonnet", "opus")
    path = written(tmp_path, rungs, ", ".join(f'"{name}": {REPLY}' for name in ("haiku", "sonnet", "opus")))
    with open_corpus(path) as reader:
        findings = {
            one.code: one.message for one in advised(LARGE, mix_of_corpus(reader, load_policy("default"))).findings
        }
    assert "'haiku' was recorded with claude-haiku-4-5, the policy asks claude-haiku-5-5" in findings["other_models"]


def test_a_corpus_without_the_policys_rungs_is_refused(tmp_path: Path) -> None:
    """It names the rung and says what the corpus has."""
    path = tmp_path / "other.jsonl"
    path.write_text('{"corpus": "other", "version": 1, "ladder": [{"rung": "small"}, {"rung": "big"}]}\n')
    with open_corpus(path) as reader, pytest.raises(CorpusError, match=r"has no rung 'haiku'.*it has small, big"):
        mix_of_corpus(reader, load_policy("default"))


def test_a_corpus_that_cannot_measure_is_refused(tmp_path: Path) -> None:
    """Without items there is no mix, and without scores no quality: the item is named."""
    ladder = ", ".join(f'{{"rung": "{rung}"}}' for rung in ("haiku", "sonnet", "opus"))
    path, head = tmp_path / "made.jsonl", f'{{"corpus": "made", "version": 1, "ladder": [{ladder}]}}\n'
    ungraded = ", ".join(f'"{rung}": {{"confidence": 0.9, "answer": "x"}}' for rung in ("haiku", "sonnet", "opus"))
    for items, problem in (
        ("", "made.jsonl: has no items"),
        (
            f'{{"id": "i", "input": "q", "replies": {{{ungraded}}}}}\n',
            "made.jsonl:2: item 'i': the reply of 'haiku' has no score",
        ),
    ):
        path.write_text(head + items)
        with open_corpus(path) as reader, pytest.raises(CorpusError, match=problem):
            mix_of_corpus(reader, load_policy("default"))


@pytest.mark.parametrize("exhausted", ["ship", "abstain"])
def test_what_nobody_answers_is_wrong_and_counts_for_the_top(tmp_path: Path, exhausted: str) -> None:
    """Every rung's answer is empty: whether that is raised or abstained, it is no answer, and all three were asked."""
    ladder = ", ".join(f'{{"rung": "{rung}"}}' for rung in ("haiku", "sonnet", "opus"))
    empty = ", ".join(
        f'"{rung}": {{"confidence": 0.9, "answer": "", "score": 1}}' for rung in ("haiku", "sonnet", "opus")
    )
    path = tmp_path / "made.jsonl"
    path.write_text(
        f'{{"corpus": "made", "version": 1, "ladder": [{ladder}]}}\n{{"id": "i", "input": "q", "replies": {{{empty}}}}}\n'
    )
    policy = load_policy("default").model_copy(update={"exhausted": exhausted})
    with open_corpus(path) as reader:
        mix = mix_of_corpus(reader, policy)
    assert (mix.shares, mix.reached) == ((0, 0, 1), (1, 1, 1))
    assert mix.observed is not None
    assert (mix.observed.quality, mix.observed.wrong, mix.observed.auroc, mix.observed.cost) == (0, 1, None, None)
