"""Where nothing is expected: graded by agreement with the baseline, which is asked twice on a sample for its noise floor."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from cascade.core.errors import ConfigurationError
from cascade.corpora import Corpus, Item, read_corpus, write_corpus
from cascade.recording.inputs import Inputs, read_inputs
from cascade.recording.noise_floor import NoiseFloor, draw_sample, read_noise_floor

from .conftest import OPUS, SONNET, YAML, Here, Killer, Record, Start, journal_of, make_corpus
from .test_judging import bare, fair, verdicts

Emulate = Callable[..., Killer]
NOTHING_EXPECTED = "no expected answers: scores are agreement with the baseline's plain answers, of which"


def saying(corpus: Corpus, ids: Sequence[str], text: str = "something else") -> Corpus:
    """The same models on another day: the top one says something else of these items."""
    items = [
        item if item.id not in ids
        else structs.replace(item, replies={**item.replies, "opus": structs.replace(item.replies["opus"], answer=text)})
        for item in corpus.items
    ]  # fmt: skip
    return replace(corpus, items=tuple(items))


def scores(path: Path) -> dict[str, list[float | None]]:
    """Every rung's, by item."""
    return {item.id: [reply.score for reply in item.replies.values()] for item in read_corpus(path).items}


def unlabelled(corpus: Corpus) -> Inputs:
    """Its inputs, without what is expected."""
    return bare(corpus, expected=False)


def alike(corpus: Corpus) -> dict[str, list[float | None]]:
    """Who says the same as the top rung."""
    return {
        item.id: [float(reply.answer == item.replies["opus"].answer) for reply in item.replies.values()]
        for item in corpus.items
    }


@pytest.mark.parametrize("grader", ["exact", "normalized", f"{__name__}:the_same", "judge"])
def test_without_expected_answers_it_grades_by_agreement_with_the_baseline(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path, grader: str
) -> None:
    """The top rung's plain answer is the reference, and right by definition: the manifest says on how many items."""
    report = record(emulate(corpus, verdicts(corpus, fair)), inputs=unlabelled(corpus), grader=grader)
    assert scores(tmp_path / "corpus.jsonl") == alike(corpus)
    assert report.ungraded == ()
    assert report.by_definition == 12
    made = read_corpus(tmp_path / "corpus.jsonl").manifest
    assert made.right_by_definition == ("opus", 12)
    assert made.baseline_name == OPUS
    assert read_noise_floor(made) is None


def the_same(answer: Any, expected: Any, _item: Any) -> bool | None:
    """A grader of one's own that cannot say without an expected answer."""
    return None if expected is None else answer == expected


def test_a_baseline_apart_is_the_reference(corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path) -> None:
    """Sonnet, asked plainly: it scores 1, and the top rung only where it says the same."""
    record(emulate(corpus), inputs=unlabelled(corpus), grader="exact", baseline="sonnet")
    for item, before in zip(read_corpus(tmp_path / "corpus.jsonl").items, corpus.items, strict=True):
        assert item.baseline is not None
        assert item.baseline.score == 1.0
        for rung, reply in item.replies.items():
            assert reply.score == float(before.replies[rung].answer == item.baseline.answer)
    assert read_corpus(tmp_path / "corpus.jsonl").manifest.baseline_name == SONNET


def test_a_grader_that_needs_no_expected_answer_grades_as_ever(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """A pattern says what is right by itself: the baseline is not right by definition, and there is no noise floor."""
    asked = {"inputs": unlabelled(corpus), "grader": "pattern:^answer", "baseline_twice": 3}
    report = record(emulate(corpus), **asked)
    wanted = {
        item.id: [float(str(reply.answer).startswith("answer")) for reply in item.replies.values()]
        for item in corpus.items
    }
    assert scores(tmp_path / "corpus.jsonl") == wanted
    assert (report.by_definition, report.noise) == (0, None)
    (reason,) = {why for _, _, why in report.ungraded}
    assert "no noise floor" in reason


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("grader", ["exact", "judge"])
def test_the_second_answers_are_asked_for_later_and_tell_the_noise_floor(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path, grader: str, suffix: str
) -> None:
    """Of a whole recording only they are asked for, and only once; no score moves, and any regrading keeps them."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    target, inputs = tmp_path / f"corpus{suffix}", unlabelled(corpus)
    first = record(emulate(corpus, verdicts(corpus, fair)), inputs=inputs, grader=grader, target=target)
    before, drawn = scores(target), sorted(draw_sample(inputs.items, 5))
    assert len(drawn) == 5
    another_day = saying(corpus, drawn[:2])
    told = verdicts(replace(corpus, items=(*corpus.items, *another_day.items)), fair)
    emulator = emulate(another_day, told)
    again = record(emulator, inputs=inputs, grader=grader, target=target, baseline_twice=5)
    assert again.noise == NoiseFloor(5, 2)
    assert again.reused == first.calls - (first.judge.judged if first.judge else 0)
    plain = [request for request in emulator.requests if request.body["model"] == OPUS and "system" not in request.body]
    assert len(plain) == 5
    assert again.spent > first.spent
    made = read_corpus(target)
    assert made.manifest.extra is not None
    assert made.manifest.extra["noise_floor"] == {"items": 5, "disagreed": 2}
    assert read_noise_floor(made.manifest) == NoiseFloor(5, 2)
    assert scores(target) == before
    assert sorted(item.id for item in made.items if "baseline_again" in (item.extra or {})) == drawn
    silent = emulate(replace(corpus, items=corpus.items[:1]))
    anew = record(silent, inputs=inputs, grader="normalized", target=target)  # nobody has to be asked
    assert (anew.calls, anew.noise) == (0, NoiseFloor(5, 2))
    assert read_corpus(target).manifest.extra == made.manifest.extra | {
        "recorded": read_corpus(target).manifest.extra["recorded"]  # type: ignore[index]
    }


def test_the_second_answer_counts_toward_the_cap_and_is_paid_once_over_kills(
    start: Start, emulate: Emulate, tmp_path: Path
) -> None:
    """Killed with -9 while it is asked: the same command goes on, and the corpus is that of an undisturbed run."""
    corpus = make_corpus(10)
    labels = [{"id": item.id, "input": item.input, "group": item.group} for item in corpus.items]
    (tmp_path / "inputs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in labels), encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(YAML, encoding="utf-8")
    command = ["inputs.jsonl", "-p", "policy.yaml", "--grader", "exact", "--baseline-twice", "4", "--concurrency", "1"]
    emulator, target = emulate(corpus), tmp_path / "c.jsonl"
    for kill in range(2):  # at a request, and at a bill
        process = start(tmp_path, emulator, *command, "-o", "c.jsonl")
        emulator.arm(process.child, 6 + kill, at_bill=kill % 2 == 1)
        process.communicate(timeout=60)
        assert process.returncode == -9
        assert emulator.billed.replies - len(journal_of(target)) <= kill + 1
    process = Here(tmp_path, emulator, *command, "-o", "c.jsonl")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "noise floor: asked twice, the baseline disagrees with itself on 0 of 4 items (0.0%)" in " ".join(
        out.split()
    )
    assert NOTHING_EXPECTED in " ".join(out.split())
    assert 34 <= emulator.billed.replies <= 34 + 2
    calm = emulate(corpus)
    Here(tmp_path, calm, *command, "-o", "calm.jsonl", "--name", "c").communicate(timeout=60)
    assert calm.billed.replies == 34
    assert target.read_bytes() == (tmp_path / "calm.jsonl").read_bytes()
    out, _ = Here(tmp_path, calm, *command, "-o", "c.jsonl").communicate(timeout=60)
    assert "no call was made" in out
    # A further sample holds the one before: only its own answers are asked for, under what is left of the cap.
    more = [*command[:6], "5", *command[7:]]
    process = Here(tmp_path, calm, *more, "-o", "c.jsonl", "--max-usd", "0.000001")
    assert "\ncascade: stopped at the cap" in process.communicate(timeout=60)[1]
    assert (process.returncode, calm.billed.replies) == (5, 34)
    told = Here(tmp_path, calm, *more, "-o", "c.jsonl", "--max-usd", "1", "--json").communicate(timeout=60)[0]
    assert json.loads(told)["noise_floor"] == {"items": 5, "disagreed": 0, "rate": 0.0}
    assert calm.billed.replies == 35


def test_an_answer_that_is_missing_the_second_time_disagrees_and_one_that_never_was_is_not_counted(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """Refused the second time: not the same. Refused the first time: there is nothing to agree with."""
    inputs = unlabelled(corpus)
    record(emulate(corpus), inputs=inputs, grader="exact")
    refusing = emulate(corpus, faults=f"refusal,model={OPUS}")
    assert record(refusing, inputs=inputs, grader="exact", baseline_twice=6).noise == NoiseFloor(6, 6)
    other = tmp_path / "other.jsonl"
    report = record(refusing, inputs=inputs, grader="exact", baseline_twice=6, target=other)
    assert report.noise is None
    assert any("baseline's first" in why for _, _, why in report.ungraded)


def test_with_expected_answers_it_is_refused_before_a_call_is_paid(
    corpus: Corpus, record: Record, emulate: Emulate, source: Path
) -> None:
    """Their scores do not hang on the baseline."""
    emulator = emulate(corpus)
    with pytest.raises(ConfigurationError, match="--baseline-twice: 12 of 12 items have an expected answer"):
        record(emulator, inputs=read_inputs(source), grader="exact", baseline_twice=5)
    assert emulator.billed.replies == 0


def test_the_sample_has_one_item_of_a_group_and_grows_by_adding(corpus: Corpus) -> None:
    """Whatever the order of the items; and a group's items do not count as if they were independent."""
    items = [Item(f"i{n}", f"q{n}", {}, group=f"g{n // 4}") for n in range(40)]
    drawn = [draw_sample(items, size) for size in range(12)]
    assert [len(ids) for ids in drawn] == [*range(11), 10]
    assert all(smaller < larger for smaller, larger in pairwise(drawn[:11]))
    assert len({f"g{int(one[1:]) // 4}" for one in drawn[10]}) == 10
    assert draw_sample(items[::-1], 7) == drawn[7]
    assert {int(one[1:]) % 4 for one in drawn[10]} > {0}
    assert len(draw_sample(unlabelled(corpus).items, 100)) == 6


@pytest.mark.parametrize("said", [3, [], {"items": 5}, {"items": 5, "disagreed": 6}, {"items": 0, "disagreed": 0},
                                  {"items": True, "disagreed": 0}, {"items": 5, "disagreed": "1"}])  # fmt: skip
def test_nonsense_under_our_key_is_no_noise_floor(corpus: Corpus, said: Any) -> None:
    """What comes from elsewhere may hold anything there."""
    assert read_noise_floor(replace(corpus.manifest, extra={"noise_floor": said})) is None
    assert read_noise_floor(
        replace(corpus.manifest, extra={"noise_floor": {"items": 5, "disagreed": 1}})
    ) == NoiseFloor(5, 1)


def test_another_recordings_second_answers_are_not_taken_for_ones_own(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """A corpus as inputs gives its inputs, not what was answered then."""
    record(emulate(corpus), inputs=unlabelled(corpus), grader="exact", baseline_twice=4)
    made = read_inputs(tmp_path / "corpus.jsonl")
    assert not any("baseline_again" in (item.extra or {}) for item in made.items)
    write_corpus(tmp_path / "copy.jsonl", read_corpus(tmp_path / "corpus.jsonl").manifest, read_corpus(tmp_path / "corpus.jsonl").items)  # fmt: skip
    assert read_noise_floor(read_corpus(tmp_path / "copy.jsonl").manifest) == NoiseFloor(4, 0)
