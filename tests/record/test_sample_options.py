"""What the command line asks of samples: what it may ask, what is refused, and what it leaves as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy, Variant
from cascade.corpora import Corpus, write_corpus
from cascade.recording.calls import make_recording_plan
from cascade.recording.grouping import SameJudgeReport, make_pairs, prefixes
from cascade.recording.samples import SampleOptions, samples_of, with_samples
from cascade.replay.driver import request_of

from .conftest import POLICY, YAML, Here
from .test_samples import VARIANTS, Emulate, corpus, emulate, sampled

__all__ = ["corpus", "emulate"]  # fixtures


def test_a_recording_without_samples_is_as_it_always_was() -> None:
    """The hashes that its journal begins with, and that a corpus has, are those of the version before samples."""
    hashes = make_recording_plan(POLICY).hashes()
    assert hashes["ladder"] == "1366b88541848be5c984dc7fc0097bbc7447856e449282245bb7013f29c74a31"
    assert hashes["baseline"] == "0f5252b5e4aebdc7b0f8dd3759c1daf373233e464bb1b4bd7b3a90bb318418c8"
    assert make_recording_plan(sampled({"": 3}, VARIANTS)).hashes() == hashes


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--samples", "1"], "--samples 1: not a number of samples"),
        (["--samples", "haiku=many"], "not a number of samples"),
        (["--samples", "hiaku=3"], "no such rung below the top"),
        (["--samples", "opus=3"], "no such rung below the top"),
        (["--variants", "steps"], "give --samples N too"),
        (["--samples", "haiku=3", "--rungs", "sonnet"], "--rungs leaves this rung out"),
        (["--samples", "3", "--variants", "stepz"], "there is no variant 'stepz'"),
        (["--samples", "3", "--same", "exact"], "only judge is recorded"),
    ],
)
def test_what_cannot_be_recorded_is_said_before_a_call(
    emulate: Emulate, tmp_path: Path, corpus: Corpus, options: list[str], why: str
) -> None:
    """In one line, with exit code 2."""
    write_corpus(tmp_path / "inputs.jsonl", corpus.manifest, corpus.items)
    (tmp_path / "policy.yaml").write_text(YAML, encoding="utf-8")
    emulator = emulate()
    ran = Here(tmp_path, emulator, "inputs.jsonl", "--policy", "policy.yaml", "-o", "c.jsonl", *options)
    _, err = ran.communicate(timeout=60)
    assert (ran.returncode, emulator.requests) == (2, ())
    assert why in " ".join(err.split())


def test_two_prompts_never_share_a_name() -> None:
    """A corpus tells prompts apart by name, so two of one name are refused before a call."""
    raw = POLICY.model_dump(by_alias=True, exclude_unset=True)
    for rung, text in zip(raw["ladder"], ("one", "two"), strict=False):
        rung["samples"] = {"max": 2, "agree": 2, "variants": [{"name": "mine", "prompt": text}]}
    with pytest.raises(ConfigurationError, match="two different variants are named 'mine'"):
        make_recording_plan(Policy.model_validate(raw))


def test_the_command_line_goes_before_the_policy_and_its_tasks() -> None:
    """A number replaces a task's own; prompts and the judge are those of every rung that is asked more than once."""
    raw = POLICY.model_dump(by_alias=True, exclude_unset=True)
    raw["ladder"][0]["samples"] = {"max": 5, "agree": 4, "variants": [{"name": "mine", "prompt": "Be sure."}]}
    raw["tasks"] = [{"name": "t", "samples": {"haiku": {"max": 3, "agree": 3}, "sonnet": None}}]
    policy = Policy.model_validate(raw)
    more = with_samples(policy, SampleOptions({"haiku": 8}))
    assert [more.route(task).samples[0] for task in ("t", "other")] == [more.ladder[0].samples] * 2
    assert more.ladder[0].samples is not None
    assert (more.ladder[0].samples.max, more.ladder[0].samples.agree) == (8, 4)
    fewer = with_samples(policy, SampleOptions({"haiku": 2})).ladder[0].samples
    assert fewer is not None
    assert (fewer.max, fewer.agree) == (2, 2)
    own = with_samples(policy, SampleOptions(variants=("mine", "steps"), judge=True))
    for task, most in (("t", 3), ("other", 5)):
        found = own.route(task).samples[0]
        assert found is not None
        assert (found.max, found.same.kind) == (most, "judge")
        assert found.variants == (Variant(name="mine", prompt="Be sure."), Variant(prompt="steps"))
        assert own.route(task).samples[1] is None
        asked = [(one.variant, one.nth) for one, _ in samples_of(own, 0, found)]
        assert asked[:3] == [("mine", 0), ("steps", 0), ("mine", 1)]
    assert with_samples(policy, SampleOptions()) is policy


def test_a_judge_is_asked_where_the_texts_of_enough_answers_differ() -> None:
    """After each further sample from `agree` on; never twice about the same answers."""
    assert list(prefixes(["a", "b", "c"], 2)) == [(0, 1), (0, 1, 2)]
    assert list(prefixes(["a", "a", "a"], 2)) == []
    assert list(prefixes(["a", "a", "b"], 2)) == [(0, 1, 2)]
    assert list(prefixes(["a", None, "b", None, "c"], 2)) == [(0, 2), (0, 2, 4)]
    assert list(prefixes(["a", "b"], 3)) == []


def test_pairs_are_half_the_same_and_half_of_items_that_expect_different_answers(corpus: Corpus) -> None:
    """A pair of different answers is never one of two items with the same right answer, or with the same words."""
    answers = [(item, request_of(item), text) for item, text in zip(corpus.items, ("A", "a", "B", "A"), strict=True)]
    pairs = make_pairs(answers)
    assert [pair.same for pair in pairs] == [True, False] * 4
    assert all(pair.answers[1].endswith(f"{pair.answers[0]}\n") for pair in pairs if pair.same)
    expected = {item.id: item.expected for item in corpus.items}
    texts = {(expected[item.id], text) for item, _, text in answers}
    for pair in pairs:
        if not pair.same:
            assert any(text == pair.answers[1] and right != expected[pair.item] for right, text in texts)
    alike = [(structs.replace(item, expected="A"), request, text) for item, request, text in answers]
    assert all(pair.same for pair in make_pairs(alike))
    assert make_pairs([]) == []


@pytest.mark.parametrize(("errors", "low", "high"), [(0, 0.0, 0.161), (5, 0.112, 0.469), (20, 0.839, 1.0)])
def test_the_judges_interval_is_wilsons(errors: int, low: float, high: float) -> None:
    """Of 20 pairs, as in his tables."""
    report = SameJudgeReport("haiku", "m", "p", controls=20, apart=errors)
    assert report.error_ci95 == pytest.approx((low, high), abs=0.001)
    assert SameJudgeReport("haiku", "m", "p").error_ci95 is None
