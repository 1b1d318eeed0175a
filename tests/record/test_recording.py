"""A recording is what was answered: recorded from an emulator, a corpus comes out as it went in."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import pytest
from msgspec import structs

from cascade.core.errors import ConfigurationError, CorpusError
from cascade.core.policy.model import Triage
from cascade.corpora import Corpus, Item, RecordedReply, read_corpus
from cascade.policy.binding import bind_policy
from cascade.recording.calls import make_recording_plan
from cascade.recording.inputs import Inputs, read_inputs
from cascade.recording.progress import Report, Settings
from cascade.recording.recorder import Recorder
from cascade.replay import replay_item
from cascade.replay.driver import request_of

from .conftest import HAIKU, OPUS, POLICY, SONNET, Killer, Record

Emulate = Callable[..., Killer]


def test_a_corpus_recorded_from_itself_is_the_same(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """Confidence, answer, usage, cost at list prices, score by `exact`, and all the item's own keys come out again."""
    emulator = emulate(corpus)
    report = record(emulator)
    made = read_corpus(tmp_path / "corpus.jsonl")
    assert made.items == corpus.items
    assert made.manifest.ladder == corpus.manifest.ladder
    assert (made.manifest.grader, made.manifest.synthetic, made.manifest.items) == ("exact", True, 12)
    assert made.manifest.extra is not None
    told = made.manifest.extra["recorded"]
    assert (told["policy"], told["baseline"]) == ("quick", {"model": OPUS, "rung": "opus"})
    assert set(told) == {"policy", "baseline", "hashes"}
    assert emulator.billed.replies == report.calls == 36
    assert report.is_final
    assert not report.failed
    assert not report.ungraded
    cost = sum(round((reply.cost_usd or 0) * 1e9) for item in corpus.items for reply in item.replies.values())
    assert report.spent == cost
    assert not list(tmp_path.glob("*.journal"))


@pytest.mark.parametrize(
    "faults",
    [
        "rate_limit=0.2,overloaded=0.2,retry_after=0.01",
        "reset=0.2,server_error=0.2",
        "cut=0.3",
        "thinking=0.5",
    ],
)
@pytest.mark.parametrize("concurrency", [1, 8])
def test_faults_leave_no_mark(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path, faults: str, concurrency: int
) -> None:
    """429, 529, resets, 500 and bodies cut off are retried as live, and the corpus is the same."""
    emulator = emulate(corpus, faults=faults)
    report = record(emulator, concurrency=concurrency)
    assert report.is_final
    assert read_corpus(tmp_path / "corpus.jsonl").items == corpus.items
    if "thinking" not in faults:
        assert len(emulator.requests) > 36


def test_a_usage_that_was_not_said_is_marked_in_the_corpus(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """Its tokens and its cost are a bound, and whoever reads the corpus again reads them as an estimate."""
    record(emulate(corpus, faults=f"no_usage,model={OPUS}"))
    for item in read_corpus(tmp_path / "corpus.jsonl").items:
        assert [reply.tokens.is_estimate for reply in item.replies.values()] == [False, False, True]
        assert (item.replies["opus"].usage or {})["estimate"] is True


def test_a_rung_is_asked_as_it_is_live(corpus: Corpus, record: Record, emulate: Emulate) -> None:
    """Below the top by triage, the last one plainly; and never with a threshold."""
    emulator = emulate(corpus)
    record(emulator)
    for request in emulator.requests:
        body: dict[str, Any] = request.body
        assert ("format" in body.get("output_config", {})) is (body["model"] != OPUS)
        assert ("system" in body) is (body["model"] != OPUS)
        assert "0.8" not in str(body.get("system"))


@pytest.mark.parametrize("system", ["You are the desk.", [{"type": "text", "text": "You are the desk."}]])
def test_an_items_system_prompt_is_sent_to_everybody_and_kept(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path, system: Any
) -> None:
    """First of all to a rung that is asked by triage, alone to one that is asked plainly; a replay asks the same."""
    items = tuple(structs.replace(item, replies={}, extra={"system": system}) for item in corpus.items)
    emulator = emulate(corpus)
    record(emulator, inputs=Inputs(items), grader="exact", baseline="sonnet")
    block = {"type": "text", "text": "You are the desk."}
    for request in emulator.requests:
        said, is_triage = request.body["system"], "format" in request.body.get("output_config", {})
        assert (said[0] == block and len(said) == 2) if is_triage else said == system
    assert len(emulator.requests) == 48
    for item in read_corpus(tmp_path / "corpus.jsonl").items:
        assert (item.extra or {})["system"] == system
        asked = make_recording_plan(POLICY).respondents[0].prompt(request_of(item))
        assert asked.system is not None
        assert asked.system[0] == block


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [("truncated_json", "truncated"), ("refusal", "refused"), ("prose", "malformed"), ("bad_confidence", "malformed"),
     ("context_overflow", "overflow"), ("context_overflow_400", "overflow")],
)  # fmt: skip
def test_a_reply_that_is_no_answer_is_recorded_as_one(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path, fault: str, verdict: str
) -> None:
    """Its verdict stands beside it, it scores 0 as an abstained one does, it is paid, and a replay never ships it."""
    emulator = emulate(corpus, faults=f"{fault},model={HAIKU}")
    report = record(emulator)
    made = read_corpus(tmp_path / "corpus.jsonl")
    assert report.is_final
    for item in made.items:
        reply = item.replies["haiku"]
        assert (reply.answer, reply.score, reply.extra) == (None, 0.0, {"verdict": verdict})
        assert (reply.cost_usd == 0) is (fault == "context_overflow_400")
        assert replay_item(bind_policy(POLICY), item).rung != "haiku"


@pytest.mark.parametrize("order", ["confidence_first", "answer_first"])
def test_a_truncated_reply_keeps_the_confidence_that_it_began_with(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path, order: str
) -> None:
    """Early stop decides on it before the end comes. A reply that would have said it last has none."""
    policy = POLICY.model_copy(update={"triage": Triage(order=order)})  # pyright: ignore[reportArgumentType]
    long = [
        structs.replace(
            one, replies={**one.replies, "haiku": structs.replace(one.replies["haiku"], answer="well " * 30)}
        )
        for one in corpus.items
    ]
    record(emulate(replace(corpus, items=tuple(long)), faults=f"truncated_json,model={HAIKU}"), policy=policy)
    said = [item.replies["haiku"].confidence for item in read_corpus(tmp_path / "corpus.jsonl").items]
    meant = [item.replies["haiku"].confidence for item in corpus.items]
    known = [pair for pair in zip(said, meant, strict=True) if pair[0] is not None]
    assert all(one == other for one, other in known)
    assert bool(known) == (order == "confidence_first")


def test_only_some_rungs_may_be_asked_and_the_top_is_always(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """`--rungs haiku` leaves Sonnet out; the last rung stays, for every climb may end there."""
    emulator = emulate(corpus)
    record(emulator, rungs=("haiku",))
    made = read_corpus(tmp_path / "corpus.jsonl")
    assert made.manifest.rungs == ("haiku", "opus")
    assert SONNET not in emulator.billed.models
    assert [item.replies["opus"] for item in made.items] == [item.replies["opus"] for item in corpus.items]


def test_another_baseline_stands_beside_the_ladder(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """It is asked plainly, graded, and kept under the item's own key, where a replay does not look."""
    emulator = emulate(corpus)
    report = record(emulator, baseline="sonnet")
    made = read_corpus(tmp_path / "corpus.jsonl")
    assert report.calls == 48
    assert made.manifest.rungs == ("haiku", "sonnet", "opus")
    assert made.manifest.extra is not None
    assert made.manifest.extra["recorded"]["baseline"] == {"model": SONNET, "rung": None}
    plan = bind_policy(POLICY)
    for item, before in zip(made.items, corpus.items, strict=True):
        assert item.extra is not None
        kept = item.extra["baseline"]
        assert set(kept) == {"answer", "score", "usage", "cost_usd"}
        assert kept["score"] == float(kept["answer"] == item.expected)
        assert item.replies.keys() == before.replies.keys()
        assert replay_item(plan, item).steps == replay_item(plan, before).steps
    plain = [r for r in emulator.requests if r.body["model"] == SONNET and "system" not in r.body]
    assert len(plain) == 12


def test_the_top_rungs_model_as_baseline_is_asked_once(corpus: Corpus, record: Record, emulate: Emulate) -> None:
    """Its plain reply is both."""
    assert record(emulate(corpus), baseline=OPUS).calls == 36


def test_ungraded_is_told_and_never_a_zero(corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path) -> None:
    """An item without an expected answer is recorded with null scores, and named."""
    items = tuple(
        structs.replace(item, replies={}, expected=None if n == 5 else item.expected)
        for n, item in enumerate(corpus.items)
    )
    report = record(emulate(corpus), inputs=Inputs(items), grader="exact")
    made = read_corpus(tmp_path / "corpus.jsonl")
    assert [(item, rung) for item, rung, _ in report.ungraded] == [("i-5", r) for r in ("haiku", "sonnet", "opus")]
    assert {reason for _, _, reason in report.ungraded} == {"the item has no expected answer"}
    assert [reply.score for reply in made.items[5].replies.values()] == [None] * 3
    assert all(reply.score is not None for n in range(12) if n != 5 for reply in made.items[n].replies.values())
    assert report.is_final


def test_without_a_grader_nothing_is_scored(corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path) -> None:
    """Scores are null, and the report says why; but a declined answer is worth nothing by any grader."""
    items = tuple(structs.replace(item, replies={}) for item in corpus.items)
    report = record(emulate(corpus), inputs=Inputs(items))
    assert report.grader is None
    assert len(report.ungraded) == 35
    scores = [r.score for item in read_corpus(tmp_path / "corpus.jsonl").items for r in item.replies.values()]
    assert scores.count(None) == 35


def test_a_call_that_fails_leaves_its_item_out_until_it_is_made(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """The item is named with its reason, the others are in the corpus; the next run asks only what is missing."""
    emulator = emulate(corpus, faults=f"overloaded,model={SONNET},after=3,times=36")
    report = record(emulator, concurrency=1)
    assert report.failed == {f"i-{n}": "sonnet: overloaded, HTTP 529" for n in (3, 4, 5)}
    made = read_corpus(tmp_path / "corpus.jsonl")
    assert made.items == tuple(item for item in corpus.items if item.id not in report.failed)
    assert made.manifest.extra is not None
    assert made.manifest.extra["recorded"]["missing"] == 3
    assert (report.is_final, report.stop) == (False, None)
    again = record(emulator, concurrency=1)
    assert (again.calls, again.reused, again.is_final) == (3, 33, True)
    assert read_corpus(tmp_path / "corpus.jsonl").items == corpus.items
    assert emulator.billed.replies == 36


def test_an_outage_stops_the_run(corpus: Corpus, record: Record, emulate: Emulate) -> None:
    """Ten failed calls in a row: no use in asking on."""
    emulator = emulate(corpus, faults="overloaded")
    report = record(emulator, concurrency=1)
    assert report.stop is not None
    assert report.stop.kind == "outage"
    assert len(emulator.requests) == 10 * 12


def test_an_endpoint_that_is_not_there_stops_the_run_at_once(corpus: Corpus, record: Record, emulate: Emulate) -> None:
    """No other item would find it: one call, and the message names its address."""
    emulator = emulate(corpus)
    emulator.stop()
    report = record(emulator, concurrency=1)
    assert report.stop is not None
    assert (report.stop.kind, report.calls) == ("outage", 1)
    assert report.stop.message == (
        f"haiku: unreachable, {emulator.base_url}: connection refused; check the endpoint: `cascade doctor`"
    )


@pytest.mark.parametrize("fault", ["spend_cap"])
def test_an_account_that_is_used_up_stops_the_run(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path, fault: str
) -> None:
    """The first refusal that no other input would escape ends it; what was paid is kept."""
    emulator = emulate(corpus, faults=f"{fault},after=7")
    report = record(emulator, concurrency=1)
    assert report.stop is not None
    assert report.stop.kind == "refused"
    assert len(emulator.requests) == 8
    assert len(read_corpus(tmp_path / "corpus.jsonl").items) == 2
    emulator.faults = None
    assert record(emulator).is_final
    assert emulator.billed.replies == 36


def test_a_model_that_is_not_there_stops_the_run(corpus: Corpus, record: Record, emulate: Emulate) -> None:
    """404 is the configuration's fault: one call, not one an item."""
    ladder = replace(corpus.manifest, ladder=corpus.manifest.ladder[1:])
    items = tuple(
        structs.replace(i, replies={r: v for r, v in i.replies.items() if r != "haiku"}) for i in corpus.items
    )
    emulator = emulate(Corpus(ladder, items))
    report = record(emulator, concurrency=1)
    assert report.stop is not None
    assert "haiku: rejected, HTTP 404" in report.stop.message
    assert len(emulator.requests) == 1


def test_a_corpus_that_is_there_is_not_written_over(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """Without a journal beside it, it is somebody's finished work: nothing is asked."""
    emulator = emulate(corpus)
    record(emulator)
    before = (tmp_path / "corpus.jsonl").read_bytes()
    with pytest.raises(CorpusError, match=r"corpus\.jsonl: it exists already"):
        record(emulator)
    assert (tmp_path / "corpus.jsonl").read_bytes() == before
    assert emulator.billed.replies == 36


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"rungs": ("haiku", "fable")}, "no rung 'fable' on the ladder"),
        ({"baseline": "claude-nothing-1"}, "there is no price"),
        ({"grader": "exactly"}, "none called 'exactly'"),
        ({"grader": "judge:fable"}, "fable"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_paid(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path, options: dict[str, Any], why: str
) -> None:
    """One line, no call."""
    emulator = emulate(corpus)
    with pytest.raises(ConfigurationError, match=why):
        record(emulator, **options)
    assert not emulator.requests
    assert not (tmp_path / "corpus.jsonl").exists()


def test_each_call_may_take_the_whole_deadline(corpus: Corpus, emulate: Emulate, source: Path, tmp_path: Path) -> None:
    """A recording is no climb: on a clock that leaves no item time for two calls, all three are answered."""
    hours = itertools.count(0.0, 3600.0)  # an hour passes whenever somebody looks
    policy = POLICY.model_copy(update={"deadline_s": 3 * 3600.0})

    async def go() -> Report:
        settings = Settings(policy, tmp_path / "corpus.jsonl")
        async with anthropic.AsyncAnthropic(base_url=emulate(corpus).base_url, api_key="test") as client:
            return await Recorder.open(settings, read_inputs(source), client=client, clock=lambda: next(hours)).run()

    report = asyncio.run(go())
    assert (report.is_final, report.failed) == (True, {})
    assert report.seconds > 36 * policy.deadline_s
    assert read_corpus(tmp_path / "corpus.jsonl").items == corpus.items


def test_gzip_is_recorded_as_well(corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path) -> None:
    """The target's name says how it is written."""
    record(emulate(corpus), target=tmp_path / "corpus.jsonl.gz")
    assert read_corpus(tmp_path / "corpus.jsonl.gz").items == corpus.items


def test_streamed_replies_that_break_off_are_counted_as_live(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path
) -> None:
    """What an attempt was billed before it broke off is part of the reply's cost: as a live step counts it."""
    values = POLICY.model_dump(by_alias=True, exclude_unset=True)
    values["ladder"] = [*values["ladder"][:2], values["ladder"][2] | {"max_tokens": 30_000}]
    emulator = emulate(corpus, faults=f"cut,model={OPUS},times=1")
    report = record(emulator, policy=type(POLICY).model_validate(values), concurrency=1)
    made = read_corpus(tmp_path / "corpus.jsonl").items
    first: RecordedReply = made[0].replies["opus"]
    whole: RecordedReply = corpus.items[0].replies["opus"]
    assert emulator.billed.broken_off == 1
    assert first.tokens.input_tokens == 2 * whole.tokens.input_tokens
    assert first.cost_usd is not None
    assert whole.cost_usd is not None
    assert first.cost_usd > whole.cost_usd
    assert made[1:] == corpus.items[1:]
    assert report.spent == sum(round((r.cost_usd or 0) * 1e9) for i in made for r in i.replies.values())


def test_an_items_own_keys_named_as_ours_do_not_collide(
    record: Record, emulate: Emulate, corpus: Corpus, tmp_path: Path
) -> None:
    """A `baseline` of an earlier recording does not outlive it."""
    item: Item = structs.replace(corpus.items[0], replies={}, extra={"level": 0})
    record(emulate(corpus), inputs=Inputs((item,)), baseline="sonnet", grader="exact")
    record(emulate(corpus), inputs=_reread(tmp_path), grader="exact", target=tmp_path / "again.jsonl")
    assert read_corpus(tmp_path / "again.jsonl").items[0].extra == {"level": 0}


def _reread(folder: Path) -> Inputs:
    return read_inputs(folder / "corpus.jsonl")
