"""Real input: recorded questions asked live through the SDK are answered as the pure rule says of the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascade import AllRungsFailed, Answer, Policy
from cascade.corpora import Corpus, Item, open_corpus, read_corpus
from cascade.policy.binding import bind_policy
from cascade.replay import replay_item
from tests.live.conftest import Asking, Emulate

ASKED = 300
NANO, MINI, FULL = "gpt-4.1-nano", "gpt-4.1-mini", "gpt-4.1"


def policy(**more: Any) -> Policy:
    """A ladder that names its models and their prices; no storm guard."""
    return Policy.model_validate(
        {
            "version": 1,
            "name": "gpt41",
            "ladder": [
                {"rung": NANO, "model": NANO, "max_tokens": 1024, "threshold": 0.9, "price": {"input": "0.10", "output": "0.40"}},
                {"rung": MINI, "model": MINI, "max_tokens": 1024, "threshold": 0.9, "price": {"input": "0.40", "output": "1.60"}},
                {"rung": FULL, "model": FULL, "max_tokens": 1024, "price": {"input": "2", "output": "8"}},
            ],
            **more,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def recorded(real_corpus: Callable[[str], Path]) -> Corpus:
    """The recorded corpus, whole: repeats are told apart over all of it."""
    return read_corpus(real_corpus("mmlupro-gpt41"))


def unique(corpus: Corpus, count: int) -> list[Item]:
    """The first items whose input occurs once in the corpus."""
    often = Counter(str(item.input) for item in corpus.items)
    return [item for item in corpus.items if often[str(item.input)] == 1][:count]


def tell(outcome: Answer | AllRungsFailed) -> tuple[Any, ...]:
    """What must be equal."""
    trail = [(step.rung, step.reason, step.cost_nanousd, step.verdict.failed_checks) for step in outcome.steps]
    if isinstance(outcome, AllRungsFailed):
        return ("raised", trail)
    return (
        outcome.rung,
        outcome.text,
        outcome.confidence,
        outcome.cost_nanousd,
        outcome.degraded,
        outcome.usage,
        trail,
    )


def outcome_of(ask: Callable[[], Answer]) -> tuple[Any, ...]:
    """What came of asking."""
    try:
        return tell(ask())
    except AllRungsFailed as error:
        return tell(error)


def test_recorded_questions_are_answered_live_as_the_rule_says(
    asking: Asking, emulate: Emulate, recorded: Corpus
) -> None:
    """Rung, text, confidence below the top, and cost (recorded usage at the policy's prices) of 300 items."""
    items, plan = unique(recorded, ASKED), bind_policy(policy())
    assert len(items) == ASKED
    driver = asking(policy(), emulate(recorded))
    live = [outcome_of(lambda item=item: driver.ask(item.input, task=item.task)) for item in items]
    pure = [outcome_of(lambda item=item: replay_item(plan, item, cost_of="policy")) for item in items]
    assert live == pure
    shipped = Counter(told[0] for told in live)
    assert shipped == Counter(told[0] for told in pure)
    assert all(shipped[rung] > 0 for rung in (NANO, MINI, FULL))


def test_recorded_answers_that_are_empty_are_treated_alike(asking: Asking, emulate: Emulate, recorded: Corpus) -> None:
    """Items with an empty record at the top: the best held goes out, marked, or it is an error, live as in the replay."""
    empty = [item for item in unique(recorded, len(recorded.items)) if item.reply(FULL).answer == ""]
    assert len(empty) >= 10
    plan, driver = bind_policy(policy()), asking(policy(), emulate(recorded))
    live = [outcome_of(lambda item=item: driver.ask(item.input, task=item.task)) for item in empty]
    pure = [outcome_of(lambda item=item: replay_item(plan, item, cost_of="policy")) for item in empty]
    assert live == pure
    ends = Counter("raised" if told[0] == "raised" else told[4] for told in live)
    assert ends["raised"] > 0
    assert ends["check_failed"] > 0


def test_the_corpus_is_the_one_that_the_policy_is_for(real_corpus: Callable[[str], Path]) -> None:
    """Guards the two above: rungs and models are those of the manifest."""
    with open_corpus(real_corpus("mmlupro-gpt41")) as reader:
        assert [(entry.rung, entry.name) for entry in reader.manifest.ladder] == [
            (rung.rung, rung.model) for rung in policy().ladder
        ]
