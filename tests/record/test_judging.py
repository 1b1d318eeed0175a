"""A judge grades, its money is told apart, and so is how often it errs where the score is known."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from cascade.core.prompts.grading_judge import RUBRIC
from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply, read_corpus
from cascade.corpora.items import RecordedUsage
from cascade.recording.inputs import Inputs
from cascade.recording.judge import judge_text, make_controls

from .conftest import OPUS, Killer, Record

Emulate = Callable[..., Killer]
Says = Callable[[str, Any, Any], Any]
USAGE: RecordedUsage = {"input_tokens": 300, "output_tokens": 5}
COST = 300 * 4_000 + 5 * 20_000  # nano-USD of one judgement at Opus's list price


def fair(_: str, reference: Any, answer: Any) -> Any:
    """A judge that knows."""
    return {"score": 1 if answer == reference else 0}


def verdicts(corpus: Corpus, says: Says) -> Corpus:
    """What the judge says of every answer beside every reference of the corpus."""
    answers = {reply.answer for item in corpus.items for reply in item.replies.values() if reply.answer is not None}
    references = {item.expected for item in corpus.items} | {item.replies["opus"].answer for item in corpus.items}
    items: list[Item] = []
    for item in corpus.items:
        for reference in sorted(filter(None, references)):
            for answer in sorted(answers | references - {None}):
                said = says(item.id, reference, answer)
                told = RecordedReply(None, said, 1.0, USAGE)
                items.append(Item(f"j-{len(items)}", judge_text(item, reference, answer), {"judge": told}))
    return Corpus(Manifest("judge", (LadderEntry("judge", OPUS),)), tuple(items))


def bare(corpus: Corpus, *, expected: bool = True) -> Inputs:
    """The inputs without replies, and if wanted without what is expected."""
    return Inputs(
        tuple(structs.replace(i, replies={}, expected=i.expected if expected else None) for i in corpus.items)
    )


@pytest.fixture
def corpus(corpus: Corpus) -> Corpus:
    """Six items are enough for a judge."""
    return replace(corpus, items=corpus.items[:6])


def test_a_fair_judge_scores_as_exact_does(corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path) -> None:
    """Same scores; its calls and money are told apart, inside the whole; no control went wrong."""
    emulator = emulate(corpus, verdicts(corpus, fair))
    report = record(emulator, inputs=bare(corpus), grader="judge")
    assert read_corpus(tmp_path / "corpus.jsonl").items == corpus.items
    judge = report.judge
    assert judge is not None
    assert (judge.rung, judge.model, judge.controls, judge.error, judge.deviation) == ("opus", OPUS, 12, 0.0, 0.0)
    assert judge.cost == judge.judged * COST
    recorded = sum(round((r.cost_usd or 0) * 1e9) for item in corpus.items for r in item.replies.values())
    assert report.spent == recorded + judge.cost
    assert emulator.billed.replies == report.calls == 18 + judge.judged
    assert read_corpus(tmp_path / "corpus.jsonl").manifest.grader == "judge"


def test_the_judge_is_asked_with_a_rubric_and_a_format(corpus: Corpus, record: Record, emulate: Emulate) -> None:
    """Plainly, not by triage: {"score"} by output_config.format; what users wrote is JSON inside the user's turn."""
    emulator = emulate(corpus, verdicts(corpus, fair))
    record(emulator, inputs=bare(corpus), grader="judge:opus")
    asked = [request.body for request in emulator.requests if request.body.get("system") == RUBRIC]
    assert asked
    for body in asked:
        assert body["output_config"]["format"]["schema"]["required"] == ["score"]
        assert set(json.loads(body["messages"][0]["content"])) == {"question", "reference", "answer"}


def test_a_judgement_that_items_share_is_paid_once(corpus: Corpus, record: Record, emulate: Emulate) -> None:
    """Also where they ask for it at once: six items with one input and one answer a rung."""
    first = corpus.items[0]
    same = replace(corpus, items=tuple(structs.replace(first, id=i.id, group=None, split=None) for i in corpus.items))
    emulator = emulate(same, verdicts(same, fair))
    report = record(emulator, inputs=bare(same), grader="judge", concurrency=6)
    asked = Counter(
        request.body["messages"][0]["content"] for request in emulator.requests if request.body.get("system") == RUBRIC
    )
    assert set(asked.values()) == {1}
    assert report.judge is not None
    assert report.judge.cost == len(asked) * COST


@pytest.mark.parametrize(
    ("says", "low", "high", "error"),
    [
        (lambda *_: {"score": 1}, 0, 6, 0.5),
        (lambda *_: {"score": 0}, 6, 0, 0.5),
        (lambda _, reference, answer: {"score": 0 if answer == reference else 1}, 6, 6, 1.0),
        (lambda _, reference, answer: {"score": 0.6 if answer == reference else 0.4}, 0, 0, 0.0),
    ],
)
def test_a_judge_that_errs_is_found_out(
    corpus: Corpus, record: Record, emulate: Emulate, says: Says, low: int, high: int, error: float
) -> None:
    """An item's own reference must score 1 and another's 0: what it makes of them is its error."""
    judge = record(emulate(corpus, verdicts(corpus, says)), inputs=bare(corpus), grader="judge").judge
    assert judge is not None
    assert (judge.controls, judge.too_low, judge.too_high, judge.error) == (12, low, high, error)


def test_without_a_reference_the_baselines_answer_is_it(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """The others are judged against it; the baseline itself is right by definition, told, and not judged."""
    report = record(emulate(corpus, verdicts(corpus, fair)), inputs=bare(corpus, expected=False), grader="judge")
    assert report.judge is not None
    assert report.judge.by_definition == 6
    for item, before in zip(read_corpus(tmp_path / "corpus.jsonl").items, corpus.items, strict=True):
        top = before.replies["opus"].answer
        for rung, reply in item.replies.items():
            assert reply.score == float(before.replies[rung].answer == top)


@pytest.mark.parametrize("said", [{"score": 1.5}, {"score": "1"}, {"score": True}, {}, "fine", {"score": None}])
def test_a_judge_without_a_score_grades_nothing(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path, said: Any
) -> None:
    """The answer is reported, its score is null, and the judge's money is counted all the same."""
    report = record(emulate(corpus, verdicts(corpus, lambda *_: said)), inputs=bare(corpus), grader="judge")
    assert report.judge is not None
    assert report.judge.error is None
    assert report.judge.cost == report.judge.judged * COST
    assert {reason for _, _, reason in report.ungraded} == {"the judge gave no score"}
    scores = [r.score for item in read_corpus(tmp_path / "corpus.jsonl").items for r in item.replies.values()]
    assert set(scores) == {None, 0.0}
    assert scores.count(0.0) == 1  # the one that declined


def test_what_was_judged_is_not_paid_again(corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path) -> None:
    """Stopped by the cap among its judgements, it goes on with the next one; equal answers are judged once."""
    emulator = emulate(corpus, verdicts(corpus, fair))
    calls, cap = 0, 0
    for cap in range(4_000_000, 200_000_000, 4_000_000):
        report = record(emulator, inputs=bare(corpus), grader="judge", cap=cap)
        calls += report.calls
        if report.is_final and report.stop is None:
            break
    assert emulator.billed.replies == calls
    assert max(emulator.asked.values()) == 1
    assert read_corpus(tmp_path / "corpus.jsonl").items == corpus.items
    assert report.spent > 4_000_000


def test_a_judge_that_is_down_leaves_the_item_for_later(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """The replies are kept, the item is named, and the next run only judges."""
    emulator = emulate(corpus)  # it does not know the judge's questions: 404
    report = record(emulator, inputs=bare(corpus), grader="judge", concurrency=1)
    assert report.stop is not None
    assert report.complete == 0
    assert report.failed == {"i-0": "judge: rejected, HTTP 404"}
    wiser = emulate(corpus, verdicts(corpus, fair))
    again = record(wiser, inputs=bare(corpus), grader="judge")
    assert again.is_final
    assert again.reused == 3
    assert read_corpus(tmp_path / "corpus.jsonl").items == corpus.items


def test_controls_are_spread_and_never_take_an_equal_reference_for_a_strangers() -> None:
    """With letters for answers, a stranger's reference may be one's own: then another's is taken, or none."""
    items = [Item(f"i-{n}", f"q{n}", {}) for n in range(40)]
    mixed = make_controls([(item, "AB"[n % 4 == 3]) for n, item in enumerate(items)])
    assert len(mixed) == 20
    assert len({control.item.id for control in mixed}) == 10
    assert all((control.answer == control.reference) is (control.score == 1.0) for control in mixed)
    same = make_controls([(item, "A") for item in items])
    assert [control.score for control in same] == [1.0] * 10
    assert make_controls([]) == []


def test_without_any_reference_a_judge_grades_nothing(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """Nothing is expected and the baseline refused: its own score is 0, the others' is null, and nobody is judged."""
    emulator = emulate(corpus, verdicts(corpus, fair), faults=f"refusal,model={OPUS}")
    report = record(emulator, inputs=bare(corpus, expected=False), grader="judge")
    assert report.judge is not None
    assert report.judge.judged == 0
    (reason,) = {reason for _, _, reason in report.ungraded}
    assert "neither an expected answer" in reason
    for item in read_corpus(tmp_path / "corpus.jsonl").items:
        assert item.replies["opus"].score == 0.0
        assert item.replies["sonnet"].score is None
