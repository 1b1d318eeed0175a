"""A rung is a rung: the same model answers alike, whichever vendor's API it is asked through."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from cascade import AllRungsFailed, Answer, CascadeError
from cascade.core.trail import Step
from cascade.corpora import Corpus, Item, RecordedReply
from cascade.emulator import Emulator
from tests.live.conftest import HAIKU, Asking, Driver, Emulate, corpus
from tests.live.vendors.conftest import CLIMBS, LUNA, VENDORS, at_home, mixed

CHANCE = random.Random(15)
ANSWERS = ["yes", "no – nö", 'a "quoted"\nline\\', "", " \n", None, "中文"]
NUMBERS = [None, 0.0, 0.25, 0.7999999999999999, 0.8, 1.0]


def drawn() -> RecordedReply:
    """Any reply that a corpus may hold, with what it was billed."""
    usage = {
        "input_tokens": CHANCE.randrange(5_000), "output_tokens": CHANCE.randrange(500),
        "cache_read_input_tokens": CHANCE.randrange(3_000), "cache_creation_input_tokens": CHANCE.choice([0, 700]),
    }  # fmt: skip
    return RecordedReply(CHANCE.choice(NUMBERS), CHANCE.choice(ANSWERS), 1.0, usage=usage)


def random_corpus(items: int) -> Corpus:
    """Items for all three rungs."""
    return corpus(
        *(Item(f"t{n}", f"text {n}", {rung: drawn() for rung in VENDORS}) for n in range(items)), models=VENDORS
    )


def outcome(driver: Driver, text: str) -> tuple[Any, ...]:
    """What came of a request: its steps, or the error's, without what two runs never share."""
    answer: Answer | None = None
    try:
        answer = driver.ask(text)
        steps = answer.steps
    except AllRungsFailed as error:
        steps = error.steps
    shipped = (
        None if answer is None else (answer.text, answer.rung, answer.degraded, answer.confidence, answer.cost_nanousd)
    )
    return shipped, tuple(map(comparable, steps))


def comparable(step: Step) -> tuple[Any, ...]:
    """A step without its time and ids. A failure's status is the vendor's own, and so is what else it says of a message."""
    message = step.verdict.message
    if message is not None:
        is_plain = message.content == ({"type": "text", "text": step.verdict.text},)
        message = None if is_plain and step.rung != "top" else replace(message, id="", more={})
    verdict = replace(step.verdict, detail=step.verdict.detail.partition(",")[0], message=message)
    return step.rung, step.model, verdict, step.reason, step.usage, step.cost_nanousd, step.attempts


def test_a_corpus_has_the_same_outcomes_through_either_api(
    asking: Asking, emulate: Emulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty random items: texts, verdicts, reasons, usage with cached tokens, and the money to the nano-dollar."""
    source = random_corpus(40)
    there, here = emulate(source), emulate(source)
    at_home(there, monkeypatch)
    ours, theirs = asking(mixed("openai"), there), asking(mixed("anthropic"), here)
    outcomes = [(outcome(ours, str(item.input)), outcome(theirs, str(item.input))) for item in source.items]
    assert [one for one, _ in outcomes] == [other for _, other in outcomes]
    paths = {request.path for request in there.requests if request.body["model"] == LUNA}
    assert paths == {"/v1/chat/completions"}
    rungs = {shipped[1] for (shipped, _), _ in outcomes if shipped is not None}
    assert rungs == {"haiku", "middle", "top"}, "each rung ships something, or little was compared"


FAULTS = [
    "rate_limit,retry_after=0.001", "spend_cap", "overloaded", "server_error", "unavailable", "context_overflow_400", "reset",
    "cut", "truncated_json", "prose", "bad_confidence", "refusal", "empty", "unknown_stop", "thinking", "trickle,delay_s=0.001",
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_the_same_verdict_through_either_api(
    asking: Asking, emulate: Emulate, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Retried alike, climbed alike, billed alike; in the middle of the ladder."""
    faults = f"{fault},model={LUNA}"
    there, here = emulate(CLIMBS, faults), emulate(CLIMBS, faults)
    at_home(there, monkeypatch)
    ours, theirs = asking(mixed("openai"), there), asking(mixed("anthropic"), here)
    for text in ("middle", "top"):
        assert without_words(outcome(ours, text)) == without_words(outcome(theirs, text))
    assert there.requests_by_model == here.requests_by_model


def without_words(made: tuple[Any, ...]) -> tuple[Any, ...]:
    """A refusal has words of its own vendor."""
    shipped, steps = made
    return shipped, tuple(
        (*step[:2], replace(step[2], message=None) if step[2].kind == "refused" else step[2], *step[3:])
        for step in steps
    )


def test_a_reply_without_usage_is_billed_at_the_most_it_may_cost(
    asking: Asking, emulate: Emulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And marked as an estimate: the other API may write to its cache unasked, so that price counts."""
    emulator = at_home(emulate(CLIMBS, f"no_usage,model={LUNA}"), monkeypatch)
    step = asking(mixed("openai"), emulator).ask("middle").steps[1]
    assert step.usage.is_estimate
    assert step.usage.cache_write_1h > 0
    assert step.usage.output_tokens == bound_of_output(emulator)


def bound_of_output(emulator: Emulator) -> int:
    """What the last request allowed."""
    (asked,) = [request.body for request in emulator.requests if request.body["model"] == LUNA]
    return asked["max_completion_tokens"]


@pytest.mark.parametrize(("status", "fault"), [(401, "stream_unauthorized")])
def test_the_callers_fault_is_raised_at_once(
    asking: Asking, emulate: Emulate, monkeypatch: pytest.MonkeyPatch, status: int, fault: str
) -> None:
    """A wrong key of the other vendor is not climbed past."""
    emulator = at_home(emulate(CLIMBS, f"{fault},model={LUNA}"), monkeypatch)
    with pytest.raises(CascadeError, match=r"HTTP 401"):
        asking(mixed("openai"), emulator).ask("middle")
    assert dict(emulator.requests_by_model) == {HAIKU: 1, LUNA: 1}
