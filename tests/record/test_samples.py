"""A rung that is asked several times: what is asked, what stands in the corpus, and what is never paid twice."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from cascade.core.errors import CorpusError
from cascade.core.policy import Policy
from cascade.core.prompts.triage import RULES
from cascade.corpora import Corpus, Item, RecordedReply, read_corpus, write_corpus
from cascade.emulator.answers import Answers
from cascade.emulator.requests import ApiRequest
from cascade.emulator.server import SeenRequest
from cascade.policy.binding import bind_policy
from cascade.recording.inputs import Inputs
from cascade.recording.journal import journal_path
from cascade.recording.samples import SampleOptions, with_samples
from cascade.replay.driver import replay_item

from .conftest import HAIKU, OPUS, POLICY, SONNET, YAML, Here, Killer, Record, Start, journal_of

VARIANTS = ("confidence_first", "answer_first")
COST_USD = 0.000015  # 100 * 0.10 + 10 * 0.50 millionths: a call of Haiku
CAREFUL = "Be careful. Reply with JSON: confidence, then answer."


class Drawn(Answers):
    """Answers of models that do not always say the same: one in four asks for another wording, one in eight declines."""

    def __init__(self, corpus: Corpus) -> None:
        super().__init__(corpus)
        self.asked: Counter[tuple[str, str]] = Counter()

    def find(self, request: ApiRequest, *, advance: bool = True) -> RecordedReply:
        """The next answer to this text; the judge's groups by the first letter."""
        usage = {"input_tokens": 100, "output_tokens": 10}
        if request.schema is not None and "groups" in request.schema.get("properties", {}):
            shown: dict[str, str] = json.loads(request.text)["answers"]
            groups: dict[str, list[int]] = {}
            for number, text in shown.items():
                groups.setdefault(text.removeprefix("Answer:").strip()[0], []).append(int(number))
            contradicts = shown["1"].startswith("B")
            return RecordedReply(None, {"groups": [[1], [1]] if contradicts else list(groups.values())}, usage=usage)
        key = request.model, request.text
        self.asked[key] += advance
        chance = random.Random(f"{key} {self.asked[key]}")
        text = chance.choice(["A", "A.", "Aa", "B", "Bb", "C", None])
        if not request.triage:
            text = "A"
        return RecordedReply(chance.choice([0.5, 0.9, None]), text, usage=usage)


class Sampled(Killer):
    """An emulator that draws its answers, and counts with which rules each question was asked."""

    def __init__(self, corpus: Corpus, **options: Any) -> None:
        super().__init__(corpus, **options)
        self.answers = Drawn(corpus)
        self.by_rules: Counter[tuple[str, str, str]] = Counter()

    def note(self, request: SeenRequest) -> None:
        """Count who was asked what, with which rules."""
        super().note(request)
        system = request.body.get("system") or [{"text": ""}]
        self.by_rules[request.body["model"], str(request.body["messages"][-1]["content"]), system[-1]["text"]] += 1

    def times(self, model: str, rules: str) -> set[int]:
        """How often each question was put to this model with these rules."""
        return {n for (asked, _, given), n in self.by_rules.items() if (asked, given) == (model, rules)}


Emulate = Callable[..., Sampled]


@pytest.fixture
def corpus(corpus: Corpus) -> Corpus:
    """Four items with texts of their own; the answers are right if they are A."""
    asked = enumerate(corpus.items[:4])
    items = [structs.replace(item, input=f"question {n}?", expected=["A", "a"][n % 2]) for n, item in asked]
    return replace(corpus, items=tuple(items), manifest=replace(corpus.manifest, grader="normalized"))


@pytest.fixture
def emulate(corpus: Corpus) -> Iterator[Emulate]:
    """Start emulators that draw their answers."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Sampled(corpus, **options))


def sampled(counts: dict[str, int], variants: tuple[str, ...] = (), *, judge: bool = False) -> Policy:
    """The policy with samples, as the command line would have it."""
    return with_samples(POLICY, SampleOptions(counts, variants, judge))


def made(tmp_path: Path) -> tuple[Item, ...]:
    """The items of the recorded corpus."""
    return read_corpus(tmp_path / "corpus.jsonl").items


def test_every_sample_is_asked_stored_and_graded(record: Record, emulate: Emulate, tmp_path: Path) -> None:
    """All of them, whatever they say; in turn; the top rung once. Each has its variant, usage, cost and score."""
    emulator = emulate()
    report = record(emulator, policy=sampled({"haiku": 5}, VARIANTS))
    assert (report.is_final, report.calls, report.samples) == (True, 4 * 7, {"haiku": 5})
    assert emulator.times(HAIKU, RULES["confidence_first"]) == {3}
    assert emulator.times(HAIKU, RULES["answer_first"]) == {2}
    assert emulator.times(SONNET, RULES["confidence_first"]) == {1}
    for item in made(tmp_path):
        samples = item.replies["haiku"].every
        assert [sample.variant for sample in samples] == [*VARIANTS, *VARIANTS, VARIANTS[0]]
        assert len({sample.answer for sample in samples}) > 1
        for sample in samples:
            assert sample.score == float(sample.answer in ("A", "A."))
            assert (sample.tokens.input_tokens, sample.cost_usd) == (100, COST_USD)
        assert item.replies["sonnet"].samples is None
        assert item.replies["sonnet"].variant is None
        assert item.replies["opus"].samples is None
    manifest = read_corpus(tmp_path / "corpus.jsonl").manifest
    assert set((manifest.extra or {})["recorded"]["hashes"]["prompts"]) == set(VARIANTS)
    assert report.spent == sum(
        round((s.cost_usd or 0) * 1e9) for i in made(tmp_path) for r in i.replies.values() for s in r.every
    )


def test_a_policys_own_samples_are_recorded_by_task(
    record: Record, emulate: Emulate, tmp_path: Path, corpus: Corpus
) -> None:
    """All `max` of them, never curtailed; a task's own number for its items only."""
    raw = POLICY.model_dump(by_alias=True, exclude_unset=True)
    raw["ladder"][0]["samples"] = {"max": 3, "agree": 2}
    raw["tasks"] = [
        {"name": "t", "samples": {"haiku": None, "sonnet": {"max": 2, "agree": 2, "variants": ["steps", "doubt"]}}}
    ]
    record(emulate(), policy=Policy.model_validate(raw))
    for item in made(tmp_path):
        counts = {rung: len(reply.every) for rung, reply in item.replies.items()}
        own = {"haiku": 1, "sonnet": 2, "opus": 1} if item.task == "t" else {"haiku": 3, "sonnet": 1, "opus": 1}
        assert counts == own


def test_more_samples_and_variants_later_ask_only_for_what_is_missing(
    record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """From one reply to three, to five, to another variant: nothing recorded is asked again, and none of it is lost."""
    emulator = emulate()
    record(emulator)
    plain = [item.replies["haiku"] for item in made(tmp_path)]
    assert record(emulator, policy=sampled({"haiku": 3}, VARIANTS)).calls == 8
    for item, before in zip(made(tmp_path), plain, strict=True):
        first = item.replies["haiku"].every[0]
        assert (first.answer, first.cost_usd, first.variant) == (before.answer, before.cost_usd, "confidence_first")
    report = record(emulator, policy=sampled({"haiku": 5}, VARIANTS))
    assert (report.calls, report.reused) == (8, 4 * 5)
    before_last = [item.replies["haiku"].every for item in made(tmp_path)]
    (tmp_path / "careful.txt").write_text(CAREFUL)
    policy = sampled({"haiku": 2}, ("answer_first", str(tmp_path / "careful.txt")))
    assert record(emulator, policy=policy).calls == 4
    for item, before in zip(made(tmp_path), before_last, strict=True):
        after = item.replies["haiku"].every
        assert [sample.variant for sample in after[:2]] == ["answer_first", "careful"]
        assert len(after) == 6
        blank = {"score": None, "samples": None}
        kept = [structs.replace(sample, **blank) for sample in after]
        assert all(structs.replace(sample, **blank) in kept for sample in before)
    with pytest.raises(CorpusError, match="it exists already"):  # fewer are there already: nothing to do
        record(emulator, policy=sampled({"haiku": 2}, VARIANTS))
    hashes = (read_corpus(tmp_path / "corpus.jsonl").manifest.extra or {})["recorded"]["hashes"]
    assert set(hashes["prompts"]) == {"confidence_first", "answer_first", "careful"}


def test_what_a_ledger_holds_is_recorded_without_asking_for_samples(
    record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """`--from-ledger` calls no model but a judge: the policy's samples are not asked for."""
    assert record(emulate(), policy=sampled({"": 3}), asks_samples=False).calls == 4 * 3
    assert all(reply.samples is None for item in made(tmp_path) for reply in item.replies.values())


@pytest.mark.parametrize("killed", [False, True])
def test_a_changed_prompt_voids_its_own_samples_only(
    record: Record, emulate: Emulate, tmp_path: Path, *, killed: bool
) -> None:
    """In a finished corpus and in a journal alike; what the old ones cost is not forgotten."""
    careful = tmp_path / "careful.txt"
    careful.write_text(CAREFUL)
    names = ("confidence_first", str(careful))
    emulator = emulate(faults=f"spend_cap,after=3,model={OPUS}" if killed else None)
    first = record(emulator, policy=sampled({"haiku": 4}, names), concurrency=1)
    assert first.is_final is not killed
    emulator.faults = None
    careful.write_text("Be very careful. Reply with JSON: confidence, then answer.")
    again = record(emulator, policy=sampled({"haiku": 4}, names))
    assert again.is_final
    assert emulator.times(HAIKU, RULES["confidence_first"]) == {2}
    assert emulator.times(HAIKU, careful.read_text()) == {2}
    assert all([s.variant for s in i.replies["haiku"].every] == ["confidence_first", "careful"] * 2 for i in made(tmp_path))  # fmt: skip
    if killed:
        assert again.spent > sum(round((s.cost_usd or 0) * 1e9) for i in made(tmp_path) for r in i.replies.values() for s in r.every)  # fmt: skip


def test_killed_between_any_two_calls_it_pays_no_sample_twice(
    start: Start, emulate: Emulate, tmp_path: Path, corpus: Corpus
) -> None:
    """What is in the journal is never asked again, groupings included; in the end all samples are there."""
    write_corpus(tmp_path / "inputs.jsonl", corpus.manifest, corpus.items)
    (tmp_path / "policy.yaml").write_text(YAML, encoding="utf-8")
    command = ["inputs.jsonl", "--policy", "policy.yaml", "--samples", "haiku=4", "--variants", "confidence_first,answer_first",
               "--same", "judge", "--concurrency", "1", "-o", "corpus.jsonl"]  # fmt: skip
    emulator, target, chance = emulate(), tmp_path / "corpus.jsonl", random.Random(3)
    for kill in range(3):
        before = journal_of(target)
        process = start(tmp_path, emulator, *command)
        emulator.arm(process.child, chance.randrange(3, 9), at_bill=kill % 2 == 1)
        _, err = process.communicate(timeout=60)
        assert process.returncode == -9, err
        after = journal_of(target)
        assert after[: len(before)] == before
        assert emulator.billed.replies - len(after) <= kill + 1
    done = Here(tmp_path, emulator, *command, "--json")
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    report = json.loads(out)
    assert report["unanswered"]["calls"] == 3
    assert [len(item.replies["haiku"].every) for item in made(tmp_path)] == [4] * 4
    asked = 4 * 6 + report["same_judge"]["groupings"]
    assert asked <= emulator.billed.replies <= asked + 3
    assert report["spent_usd"] == pytest.approx(report["same_judge"]["spent_usd"] + sum(
        s.cost_usd or 0 for i in made(tmp_path) for r in i.replies.values() for s in r.every
    ))  # fmt: skip
    assert not journal_path(target).exists()
    out, _ = Here(tmp_path, emulator, *command).communicate(timeout=60)
    assert "holds this recording, complete: no call was made" in out


def test_from_whatever_line_of_its_journal_it_goes_on_with_what_is_missing(
    record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """Cut after any outcome, of a reply as of a grouping: only the calls after it are made again."""
    policy, target = sampled({"haiku": 3, "sonnet": 2}, VARIANTS, judge=True), tmp_path / "corpus.jsonl"
    emulator = emulate()
    for cap in range(2_000_000, 100_000_000, 100_000):  # stopped as late as possible, since the end removes the journal
        kept = journal_path(target).read_bytes() if journal_path(target).exists() else b""
        if record(emulator, policy=policy, cap=cap, concurrency=1).is_final:
            break
    lines = kept.splitlines(keepends=True)
    outcomes = [number for number, line in enumerate(lines) if number and b'"most"' not in line]
    assert len(outcomes) > 4 * 5
    for last in outcomes[::4]:
        target.unlink()
        journal_path(target).write_bytes(b"".join(lines[: last + 1]))
        reused = [json.loads(line) for line in lines[1 : last + 1] if b'"most"' not in line]
        report = record(emulator, policy=policy)
        assert report.is_final
        assert report.same is not None
        assert report.reused == sum("verdict" in entry for entry in reused)
        assert report.calls == 4 * 6 + report.same.groupings - len(reused)
        assert [[len(reply.every) for reply in item.replies.values()] for item in made(tmp_path)] == [[3, 2, 1]] * 4


def test_a_replay_finds_the_groups_of_every_vote(record: Record, emulate: Emulate, tmp_path: Path) -> None:
    """For each (agree, max) up to what was recorded, on every item: nothing is missing, and contradictions are kept."""
    record(emulate(), policy=sampled({"": 5}, judge=True))
    items = made(tmp_path)
    groups = [one for item in items for rung in ("haiku", "sonnet") for one in item.replies[rung].groups or ()]
    assert any(one.groups is None for one in groups)
    assert any(one.groups is not None for one in groups)
    assert all(one.cost_usd == COST_USD for one in groups)
    judged = 0
    for most in range(2, 6):
        for agree in range(2, most + 1):
            for at_once in (1, 2, 5):
                raw = POLICY.model_dump(by_alias=True, exclude_unset=True)
                for rung in raw["ladder"][:2]:
                    rung["samples"] = {"max": most, "agree": agree, "same": "judge", "at_once": at_once}
                plan = bind_policy(Policy.model_validate(raw))
                for item in items:
                    answer = replay_item(plan, item)
                    judged += sum(sample.is_judge for step in answer.steps for sample in step.samples)
    assert judged > 20


def test_the_judges_errors_on_known_pairs_are_told(record: Record, emulate: Emulate, tmp_path: Path) -> None:
    """Pairs that are the same and pairs that differ; in the report and in the manifest, with an interval."""
    report = record(emulate(), policy=sampled({"haiku": 3}, judge=True))
    same = report.same
    assert same is not None
    assert same.controls > 0
    assert same.error is not None
    assert same.error_ci95 is not None
    low, high = same.error_ci95
    assert 0 <= low <= same.error <= high <= 1
    recorded = (read_corpus(tmp_path / "corpus.jsonl").manifest.extra or {})["recorded"]
    assert recorded["same_judge"] | {"prompt": "", "error_ci95": []} == {
        "rung": "haiku", "model": HAIKU, "prompt": "", "controls": same.controls, "apart": same.apart,
        "together": same.together, "error": same.error, "error_ci95": [],
    }  # fmt: skip
    replies = [r for i in made(tmp_path) for rung in i.replies.values() for r in rung.every]
    assert report.spent == same.cost + sum(round((r.cost_usd or 0) * 1e9) for r in replies)


def test_answers_that_items_share_are_grouped_once(corpus: Corpus, record: Record, emulate: Emulate) -> None:
    """Also where they are asked about at once: items with one input, whose answers are often the same."""
    first = corpus.items[0]
    same = tuple(structs.replace(first, id=f"i{n}", group=None, split=None, replies={}) for n in range(12))
    emulator = emulate()
    report = record(emulator, inputs=Inputs(same), policy=sampled({"haiku": 2}, judge=True), concurrency=12)
    asked = Counter(
        str(request.body["messages"])
        for request in emulator.requests
        if "groups" in str(request.body.get("output_config", ""))
    )
    assert set(asked.values()) == {1}
    assert report.same is not None
    assert report.same.groupings == len(asked)


def test_a_recording_of_a_recording_is_the_same(record: Record, emulate: Emulate, tmp_path: Path) -> None:
    """The emulator answers from a corpus with samples; asked again the same way, it gives the same corpus."""
    policy = sampled({"haiku": 4, "sonnet": 3}, ("steps", "doubt", "confidence_first"))
    record(emulate(), policy=policy)
    first = read_corpus(tmp_path / "corpus.jsonl")
    with Killer(first) as emulator:
        record(emulator, policy=policy, target=tmp_path / "again.jsonl")
    assert read_corpus(tmp_path / "again.jsonl").items == first.items


def test_the_cap_holds_for_samples_and_groupings(record: Record, emulate: Emulate) -> None:
    """Raised step by step, no call is paid twice, and the cap is passed by one call at most."""
    emulator, calls, policy = emulate(), 0, sampled({"haiku": 4}, judge=True)
    for cap in range(100_000, 30_000_000, 700_000):
        report = record(emulator, policy=policy, cap=cap, concurrency=2)
        calls += report.calls
        assert report.spent <= cap + report.overshoot
        if report.is_final:
            break
    assert report.is_final
    assert emulator.billed.replies == calls
    assert report.same is not None
    assert calls == 4 * 6 + report.same.groupings


def test_grading_again_keeps_samples_and_groups(
    record: Record, emulate: Emulate, tmp_path: Path, corpus: Corpus
) -> None:
    """Without a call, and without the options that they were recorded with."""
    emulator = emulate()
    record(emulator, policy=sampled({"haiku": 4}, ("answer_first", "confidence_first"), judge=True))
    before, told = made(tmp_path), read_corpus(tmp_path / "corpus.jsonl").manifest.extra
    assert record(emulator, grader="exact").calls == 0
    after = read_corpus(tmp_path / "corpus.jsonl")
    assert after.manifest.grader == "exact"
    assert after.manifest.extra == told
    for item, was in zip(after.items, before, strict=True):
        assert item.replies["haiku"].groups == was.replies["haiku"].groups
        for sample, old in zip(item.replies["haiku"].every, was.replies["haiku"].every, strict=True):
            assert sample.score == float(sample.answer == item.expected)
            blank = {"score": None, "samples": None}
            assert structs.replace(sample, **blank) == structs.replace(old, **blank)


def test_another_models_vote_is_asked_at_its_endpoint_and_priced_as_its_own(
    record: Record, emulate: Emulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key, its address, its price; the ladder's own samples stay where they are."""
    emulator, other = emulate(), emulate()
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    raw = POLICY.model_dump(by_alias=True, exclude_unset=True)
    vote = {"model": "opus", "name": "guest", "price": {"input": 3, "output": 7}, "base_url": other.base_url,
            "api_key_env": "OTHER_KEY"}  # fmt: skip
    raw["ladder"][0]["samples"] = {"max": 2, "agree": 2, "variants": ["confidence_first", vote | {"model": "guest-1"}]}
    other.answers.models = (*other.answers.models, "guest-1")
    record(emulator, policy=Policy.model_validate(raw))
    assert {request.body["model"] for request in other.requests} == {"guest-1"}
    assert len(other.requests) == 4
    for item in made(tmp_path):
        own, guest = item.replies["haiku"].every
        assert (own.variant, guest.variant) == ("confidence_first", "guest")
        assert guest.cost_usd == pytest.approx(100 * 3e-6 + 10 * 7e-6)


def test_the_command_tells_what_it_asks_and_what_came_of_it(emulate: Emulate, tmp_path: Path, corpus: Corpus) -> None:
    """How many calls there are to make, before them; the samples, the judge's errors and its money, after them."""
    write_corpus(tmp_path / "inputs.jsonl", corpus.manifest, corpus.items)
    (tmp_path / "policy.yaml").write_text(YAML, encoding="utf-8")
    ran = Here(tmp_path, emulate(), "inputs.jsonl", "--policy", "policy.yaml", "--samples", "haiku=3", "--same", "judge",
               "-o", "c.jsonl")  # fmt: skip
    out, err = (" ".join(text.split()) for text in ran.communicate(timeout=60))
    assert ran.returncode == 0
    assert "cascade: asks haiku 3 times an item: 20 calls to make, judgements aside" in err
    assert "samples: haiku 3" in out
    assert "answers grouped by meaning by haiku (claude-haiku-5-5):" in out
    assert "95 % interval" in out
