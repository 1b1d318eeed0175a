"""A policy with a review gate: what the reviewer is asked while recording, and that a replay is what happens live."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.corpora import Corpus, RecordedReply, read_corpus, write_corpus
from cascade.corpora.items import RecordedReview
from cascade.emulator.answers import Answers
from cascade.emulator.requests import ApiRequest
from cascade.policy.binding import bind_policy
from cascade.recording.journal import journal_path
from cascade.replay.building import read_columns
from cascade.replay.driver import replay_item
from cascade.replay.mapping import mapping_of
from cascade.replay.vectorised import evaluate
from tests.live.conftest import Connections, Driver

from .conftest import POLICY, YAML, Here, Killer, Record, make_corpus

Emulate = Callable[[Corpus], "Reviewing"]

GATE = {"kind": "review", "rung": "sonnet", "below": 0.95}
GATED = Policy.model_validate(
    {**POLICY.model_dump(by_alias=True, exclude_unset=True), "checks": [GATE, {"max_chars": 15}]}
)
USAGE = {"input_tokens": 210, "output_tokens": 20}
COST = (210 * 2 + 20 * 10) * 1000  # nano-USD at Sonnet's list price


class Critical(Answers):
    """Answers from the corpus, and a reviewer that rejects a third of the answers, and of a few says nothing of use."""

    def find(self, request: ApiRequest, *, advance: bool = True) -> RecordedReply:
        """The reply; a review depends on what is reviewed alone."""
        if request.to_review is None:
            return super().find(request, advance=advance)
        number = hashlib.sha256(request.text.encode()).digest()[0]
        words = "reject" if number % 3 == 0 else "perhaps" if number % 7 == 0 else "accept"
        return RecordedReply(answer={"verdict": words, "reason": "so it seems"}, usage=USAGE)


class Reviewing(Killer):
    """An emulator with such a reviewer, which counts what it is asked to review."""

    def __init__(self, corpus: Corpus) -> None:
        super().__init__(corpus)
        self.answers = Critical(corpus)

    @property
    def reviewed(self) -> Counter[str]:
        """How often each text was reviewed."""
        texts = Counter[str]()
        for (_, content), count in self.asked.items():
            if content.startswith("{") and "answer" in json.loads(content):
                texts[content] += count
        return texts


@pytest.fixture
def emulate() -> Iterator[Emulate]:
    """Start such emulators; they stop when the test ends."""
    with ExitStack() as stack:
        yield lambda corpus: stack.enter_context(Reviewing(corpus))


@pytest.fixture
def connections() -> Iterator[Connections]:
    """Clients for live requests."""
    with closing(Connections()) as made:
        yield made


def answers_below(corpus: Corpus) -> list[RecordedReply]:
    """The first rung's answers that pass the other check, whatever their confidence is."""
    replies = [item.reply("haiku") for item in corpus.items]
    return [one for one in replies if isinstance(one.answer, str) and len(one.answer) <= 15]


def test_every_answer_that_passes_the_other_checks_is_reviewed_once(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """Whatever its confidence is; with what it cost. Answers of the reviewer and above are not, nor declined ones."""
    emulator = emulate(corpus)
    report = record(emulator, policy=GATED, grader="exact")
    recorded = read_corpus(tmp_path / "corpus.jsonl")
    reviews = [item.reply("haiku").review for item in recorded.items]
    answers = answers_below(recorded)
    assert 0 < len(answers) < len(recorded.items)
    assert [one.review is not None for one in answers] == [True] * len(answers)
    assert sum(one is not None for one in reviews) == len(answers)
    assert set(emulator.reviewed.values()) == {1}
    assert sum(emulator.reviewed.values()) == len(answers)
    assert all(item.reply(rung).review is None for item in recorded.items for rung in ("sonnet", "opus"))
    found = [one for one in reviews if one is not None]
    assert {one.accepted for one in found} == {True, False, None}
    assert found[0] == RecordedReview("sonnet", found[0].accepted, USAGE, COST / 1e9)
    assert report.reviews is not None
    assert (report.reviews.accepted, report.reviews.rejected, report.reviews.unusable) == tuple(
        sum(one.accepted is said for one in found) for said in (True, False, None)
    )
    assert report.reviews.cost == COST * len(found)
    assert report.is_final
    assert not journal_path(tmp_path / "corpus.jsonl").exists()


def test_it_stops_at_the_cap_and_no_review_is_asked_for_twice(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """The cap counts reviews; what was reviewed stands in the journal."""
    emulator, spent = emulate(corpus), 0
    for cap in (6_000_000, 9_000_000, 10**12):
        report = record(emulator, policy=GATED, cap=cap, concurrency=2)
        assert report.spent >= spent
        spent = report.spent
    assert report.is_final
    assert set(emulator.reviewed.values()) == {1}
    whole = sum(round((r.cost_usd or 0) * 1e9) for item in corpus.items for r in item.replies.values())
    assert spent == whole + COST * len(answers_below(read_corpus(tmp_path / "corpus.jsonl")))


def test_items_with_the_same_answer_to_the_same_input_share_one_review(
    record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """Recorded at once, too: each has the review, which is asked for and paid once."""
    corpus = make_corpus(12)
    first = corpus.items[0]
    same = tuple(replace(first, id=item.id, group=None, split=None) for item in corpus.items)
    emulator = emulate(Corpus(corpus.manifest, same))
    write_corpus(tmp_path / "inputs.jsonl", corpus.manifest, same)
    report = record(emulator, policy=GATED, grader="exact", concurrency=12)
    assert list(emulator.reviewed.values()) == [1]
    recorded = read_corpus(tmp_path / "corpus.jsonl")
    reviews = [item.reply("haiku").review for item in recorded.items]
    assert reviews == [reviews[0]] * 12
    assert reviews[0] is not None
    assert report.calls == 3 * 12 + 1


def test_a_gate_that_is_added_later_asks_for_reviews_alone(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """A complete corpus lacks only them. Then nothing is left to ask for, and without the gate they are kept."""
    emulator = emulate(corpus)
    record(emulator, grader="exact")
    assert not emulator.reviewed
    before = read_corpus(tmp_path / "corpus.jsonl")
    report = record(emulator, policy=GATED)
    after = read_corpus(tmp_path / "corpus.jsonl")
    assert report.calls == len(answers_below(before)) == sum(emulator.reviewed.values())
    stripped = [one.reply("haiku") for one in after.items]
    assert [(one.answer, one.confidence, one.score) for one in stripped] == [
        (one.reply("haiku").answer, one.reply("haiku").confidence, one.reply("haiku").score) for one in before.items
    ]
    (tmp_path / "gated.yaml").write_text(f"{YAML}checks:\n  - {json.dumps(GATE)}\n  - {{max_chars: 15}}\n")
    said = Here(tmp_path, emulator, "inputs.jsonl", "-o", "corpus.jsonl", "--policy", "gated.yaml")
    assert said.returncode == 0
    assert "complete: no call was made" in said.communicate(10)[0]
    record(emulator, grader="numeric")  # another grader, and no gate: what was paid for stays
    assert [one.reply("haiku").review for one in read_corpus(tmp_path / "corpus.jsonl").items] == [
        one.review for one in stripped
    ]


def test_a_replay_is_what_happens_live(
    record: Record, emulate: Emulate, tmp_path: Path, connections: Connections
) -> None:
    """The same answers, the same trail and the same bill, to the nano-USD, at every threshold: live, exact, vectorised."""
    corpus = make_corpus(30)
    emulator = emulate(corpus)
    write_corpus(tmp_path / "inputs.jsonl", corpus.manifest, corpus.items)
    record(emulator, policy=GATED, grader="exact")
    recorded = read_corpus(tmp_path / "corpus.jsonl")
    kinds = Counter[str]()
    for threshold in (0.5, 0.9):
        values = GATED.model_dump(by_alias=True, exclude_unset=True)
        values["ladder"][0]["threshold"] = threshold
        policy = Policy.model_validate(values)
        plan, mapping = bind_policy(policy), mapping_of(policy, recorded.manifest)
        columns, (mapped,) = read_columns(recorded.items, recorded.manifest, [mapping])
        fast = evaluate(columns, mapped)
        with closing(Driver("sync", connections, policy, emulator.base_url)) as driver:
            for row, item in enumerate(recorded.items):
                live, again = driver.ask(item.input), replay_item(plan, item)
                assert live.text == again.text
                assert live.cost_nanousd == again.cost_nanousd == int(fast.cost[row])
                assert live.usage == again.usage
                trail = [(s.rung, s.reason, s.cost_nanousd, s.review and s.review.accepted) for s in live.steps]
                assert trail == [
                    (s.rung, s.reason, s.cost_nanousd, s.review and s.review.accepted) for s in again.steps
                ]
                kinds.update(step.review.said for step in live.steps if step.review is not None)
    assert set(kinds) == {"accept", "reject", "unusable"}


def test_a_vote_under_a_gate_is_not_recorded(record: Record, emulate: Emulate, corpus: Corpus) -> None:
    """It is refused before anything is paid."""
    values = GATED.model_dump(by_alias=True, exclude_unset=True)
    values["ladder"][0]["samples"] = {"max": 2, "agree": 2}
    emulator = emulate(corpus)
    with pytest.raises(ConfigurationError, match="review gate"):
        record(emulator, policy=Policy.model_validate(values))
    assert not emulator.requests


def test_a_reviewer_that_is_asked_more_than_once_is_recorded_with_its_reviews(
    record: Record, emulate: Emulate, corpus: Corpus, tmp_path: Path
) -> None:
    """Haiku's answers have reviews, Sonnet's samples have none, and a replay needs no more."""
    values = GATED.model_dump(by_alias=True, exclude_unset=True)
    values["ladder"][1].update({"samples": {"max": 2, "agree": 2}, "threshold": 0.5})
    policy = Policy.model_validate(values)
    report = record(emulate(corpus), policy=policy, grader="exact")
    recorded = read_corpus(tmp_path / "corpus.jsonl")
    reviews = sum(item.reply("haiku").review is not None for item in recorded.items)
    assert reviews == len(answers_below(recorded)) > 0
    assert all(len(item.reply("sonnet").every) == 2 for item in recorded.items)
    assert report.calls == 4 * len(recorded.items) + reviews
    steps = [step for item in recorded.items for step in replay_item(bind_policy(policy), item).steps]
    assert any(step.review is not None for step in steps)
    assert any(step.samples and step.review is None for step in steps)
