"""The emulator answers a rung that is asked more than once: each request gets the next recorded sample of its variant."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cascade import Answer, Cascade, Policy
from cascade.core.grouping import build_judge_prompt, read_groups
from cascade.core.messages import Reply, Request, Usage
from cascade.core.policy import Samples, Variant
from cascade.core.policy.samples import Same
from cascade.core.prompts.triage import KEYS
from cascade.core.triage import build_prompt
from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply
from cascade.emulator import Emulator
from cascade.policy.binding import bind_policy
from cascade.replay import replay_item

from .conftest import HAIKU, SONNET, reply

POLICY = Policy.model_validate(
    {
        "version": 1,
        "name": "votes",
        "ladder": [
            {"rung": "haiku", "model": HAIKU, "max_tokens": 500, "samples": {"max": 2, "agree": 2}},
            {"rung": "sonnet", "model": SONNET, "max_tokens": 500},
        ],
    }
)
NAMED = reply(
    0.9, "c1", variant="confidence_first",
    samples=(
        reply(0.8, "s1", variant="steps"),
        reply(0.7, "c2", variant="confidence_first"),
        reply(0.6, "s2", variant="steps"),
        reply(0.5, "p1", variant="gpt-x/steps"),
        reply(0.5, "t1", variant="terse"),
        reply(0.4, "p2", variant="gpt-x/steps"),
    ),
)  # fmt: skip
UNNAMED = reply(0.9, "u1", samples=(reply(0.8, "u2"), reply(0.7, "u3")))
CORPUS = Corpus(
    Manifest("small", (LadderEntry("haiku", HAIKU), LadderEntry("sonnet", SONNET))),
    (
        Item("1", "named", {"haiku": NAMED, "sonnet": reply(None, "top")}),
        Item("2", "unnamed", {"haiku": UNNAMED, "sonnet": reply(None, "top")}),
        Item("3", "twice", {"haiku": UNNAMED}),
        Item("4", "twice", {"haiku": reply(0.1, "v1")}),
    ),
)


class Asking:
    """The real SDK, and an emulator over the small corpus."""

    def __init__(self, emulator: Emulator, client: anthropic.Anthropic) -> None:
        self.emulator, self._client = emulator, client

    def told(self, text: str, variant: str | Variant | None = None, model: str | None = None) -> dict[str, Any]:
        """The verdict on a text, asked for as the first rung asks for it, with a variant of triage."""
        asked = Variant(prompt=variant) if isinstance(variant, str) else variant
        prompt = build_prompt(POLICY, 0, Request(({"role": "user", "content": text},)), asked)
        message = self._send(prompt, model)
        return json.loads(message)

    def _send(self, prompt: Any, model: str | None = None) -> str:
        message = self._client.messages.create(
            model=model or prompt.rung.model,
            max_tokens=500,
            messages=list(prompt.messages),
            system=list(prompt.system),
            output_config={"format": {"type": "json_schema", "schema": prompt.schema}},
        )
        (block,) = message.content
        assert block.type == "text"
        return block.text

    def grouped(self, *answers: str) -> str:
        """What the judge of a vote replies about these answers."""
        return self._send(build_judge_prompt(POLICY, Request(({"role": "user", "content": "named"},)), answers))

    def answers(self, count: int, *how: Any) -> list[str]:
        """The answers of so many equal requests."""
        return [self.told(*how)["answer"] for _ in range(count)]


@pytest.fixture
def asking() -> Iterator[Asking]:
    """An emulator, and the SDK pointed at it."""
    with (
        Emulator(CORPUS) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0, timeout=20) as client,
    ):
        yield Asking(emulator, client)


def test_each_variant_gets_its_own_samples_in_turn(asking: Asking) -> None:
    """The n-th request with a variant meets its n-th recorded sample, then they start again; variants count alone."""
    assert asking.answers(3, "named", "steps") == ["s1", "s2", "s1"]
    assert asking.answers(3, "named", "confidence_first") == ["c1", "c2", "c1"]
    assert asking.answers(4, "unnamed") == ["u1", "u2", "u3", "u1"]
    assert asking.answers(5, "twice") == ["u1", "u2", "u3", "v1", "u1"]
    assert asking.emulator.answers.fallbacks == {}


def test_after_a_reset_the_first_sample_comes_first(asking: Asking) -> None:
    """While it runs, and from another thread."""
    assert asking.answers(2, "unnamed") == ["u1", "u2"]
    asking.emulator.answers.reset()
    assert asking.answers(2, "unnamed") == ["u1", "u2"]


def test_requests_at_once_get_different_samples(asking: Asking) -> None:
    """Three equal requests on three connections: each recorded sample once."""
    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(lambda _: asking.told("unnamed")["answer"], range(3)))
    assert sorted(told) == ["u1", "u2", "u3"]


def test_a_panels_model_answers_with_its_votes(asking: Asking) -> None:
    """A model that is on no rung, but whose votes were recorded as "model/prompt"; other texts it does not know."""
    assert asking.answers(3, "named", "steps", "gpt-x") == ["p1", "p2", "p1"]
    assert asking.emulator.answers.models == (HAIKU, SONNET, "gpt-x")
    with pytest.raises(anthropic.NotFoundError, match="no reply was recorded"):
        asking.told("unnamed", "steps", "gpt-x")


def test_a_prompt_of_ones_own_is_recognised_by_its_text(asking: Asking) -> None:
    """Once the emulator knows it; until then it is taken for the policy's own."""
    terse = Variant(name="terse", prompt="Be terse.")
    assert asking.answers(2, "named", terse) == ["c1", "c1"]
    asking.emulator.answers.recognise({"terse": "Be terse."})
    assert asking.answers(2, "named", terse) == ["t1", "t1"]
    assert asking.emulator.answers.fallbacks == {(HAIKU, "prompt"): 2}


def test_a_variant_that_was_not_recorded_gets_sample_0_and_that_is_said_once(
    asking: Asking, caplog: pytest.LogCaptureFixture
) -> None:
    """Again and again sample 0; or the samples without a name, where there are some."""
    with caplog.at_level(logging.WARNING, "cascade"):
        assert asking.answers(3, "named", "doubt") == ["c1", "c1", "c1"]
        assert asking.answers(2, "unnamed", "doubt") == ["u1", "u2"]
    assert asking.emulator.answers.fallbacks == {(HAIKU, "doubt"): 5}
    (said,) = [record.getMessage() for record in caplog.records]
    assert "no sample of this variant was recorded" in said
    assert "variant='doubt'" in said


@pytest.mark.parametrize("order", list(KEYS))
def test_the_verdict_has_the_variants_keys_in_their_order(asking: Asking, order: str) -> None:
    """What a corpus holds nothing of is filled with a short text that says so, or null."""
    told = asking.told("named", order)
    assert tuple(told) == KEYS[order]
    assert all(value is None or isinstance(value, str) for key, value in told.items() if key != "confidence")


def test_the_judge_groups_answers_by_their_words_and_numbers(asking: Asking) -> None:
    """Case, white space and punctuation do not count; every answer is in one group, in the order of the answers."""
    answers = ["It is 42.", "41", "it is  42", "!", "?", "41."]
    said = asking.grouped(*answers)
    assert json.loads(said) == {"groups": [[1, 3], [2, 6], [4], [5]]}
    assert read_groups(Reply(said, "end_turn", Usage()), len(answers)).kind == "answered"


def test_a_vote_on_free_text_is_settled_live(asking: Asking) -> None:
    """The library asks twice, then the judge: two answers that differ in form alone ship."""
    first, second = reply(0.9, "On its way!"), reply(0.9, "on its way")
    item = Item(
        "1", "where?", {"haiku": RecordedReply(0.9, first.answer, samples=(second,)), "sonnet": reply(None, "top")}
    )
    judged = Samples(max=2, agree=2, same=Same(kind="judge"))
    policy = POLICY.model_copy(
        update={"ladder": (POLICY.ladder[0].model_copy(update={"samples": judged}), POLICY.ladder[1])}
    )
    with Emulator(Corpus(CORPUS.manifest, (item,))) as emulator:
        client = anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0)
        with client, Cascade(policy, client=client) as cascade:
            answer = cascade.ask("where?")
    assert (answer.text, answer.rung, answer.steps[0].verdict.source) == ("On its way!", "haiku", "agreement")
    assert [sample.is_judge for sample in answer.steps[0].samples] == [False, False, True]


VARIANTS = ["confidence_first", "steps", "answer_first", "doubt", "panel"]
REPLIES = st.builds(
    RecordedReply,
    confidence=st.sampled_from([None, 0.3, 0.8, 1.0]),
    answer=st.sampled_from(["yes", "Yes.", "no", "", None]),
    usage=st.builds(lambda n: {"input_tokens": n, "output_tokens": 2 * n}, st.integers(0, 5_000)),
)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Policy, Corpus]:
    """Two sampled rungs below a top, and items with a sample for every one that can be asked for."""
    rungs: list[dict[str, Any]] = [
        {"rung": f"r{n}", "model": f"model-{n}", "max_tokens": 100, "price": {"input": "0.1", "output": "0.5"}}
        for n in range(3)
    ]
    names: dict[str, list[str | None]] = {"r2": [None]}
    for rung in rungs[:2]:
        most = draw(st.integers(2, 5))
        panel = {"model": f"of-{rung['rung']}", "prompt": "steps", "price": {"input": "1", "output": "2"}}
        drawn = draw(st.lists(st.sampled_from(VARIANTS), max_size=3, unique=True))
        variants = [panel if name == "panel" else name for name in drawn]
        samples = {"max": most, "agree": draw(st.integers(2, most)), "variants": variants}
        rung["samples"] = {**samples, "same": draw(st.sampled_from(["exact", "normalized"]))}
        rung.update(draw(st.sampled_from([{}, {"threshold": 0.8}])))
        labels = [Variant.model_validate(one).label("") for one in variants] or [None]
        names[rung["rung"]] = [labels[n % len(labels)] for n in range(most)]
    policy = Policy.model_validate({"version": 1, "name": "drawn", "ladder": rungs, "exhausted": "abstain"})
    items: list[Item] = []
    for number in range(draw(st.integers(1, 3))):
        replies: dict[str, RecordedReply] = {}
        for rung, wanted in names.items():
            first, *further = [replace(draw(REPLIES), variant=name) for name in wanted]
            replies[rung] = replace(first, samples=tuple(further) or None)
        items.append(Item(str(number), f"text {number}", replies))
    ladder = tuple(LadderEntry(rung["rung"], rung["model"]) for rung in rungs)
    return policy, Corpus(Manifest("drawn", ladder), tuple(items))


def tell(answer: Answer) -> list[Any]:
    """The trail, sample by sample."""
    return [
        (step.rung, step.reason, step.cost_nanousd, step.verdict.text, step.verdict.confidence,
         [(one.number, one.variant, one.verdict.kind, one.verdict.text, one.cost_nanousd) for one in step.samples])
        for step in answer.steps
    ]  # fmt: skip


@settings(max_examples=25)
@given(scene=scenes())
def test_live_votes_on_the_emulator_are_replayed_votes(scene: tuple[Policy, Corpus]) -> None:
    """Whatever ladder, variants, panel and samples: the same trail, sample by sample, to the nano-USD."""
    policy, corpus = scene
    plan = bind_policy(policy)
    with Emulator(corpus) as emulator:
        client = anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0)
        with client, Cascade(policy, client=client) as cascade:
            for item in corpus.items:
                live, replayed = cascade.ask(str(item.input)), replay_item(plan, item, cost_of="policy")
                event(f"steps: {len(live.steps)}, samples: {len(live.steps[0].samples)}")
                assert tell(live) == tell(replayed)
        assert emulator.answers.fallbacks == {}
