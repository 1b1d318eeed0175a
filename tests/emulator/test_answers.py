from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import anthropic
import pytest
from anthropic.types import Message, ModelInfo, RawMessageStreamEvent
from pydantic import BaseModel, TypeAdapter

from cascade import Cascade
from cascade.core.errors import ConfigurationError, CorpusError
from cascade.core.messages import Usage
from cascade.corpora import Corpus, read_corpus, text_of
from cascade.emulator import Emulator

from .conftest import CORPUS, HAIKU, SONNET, TRIAGE, asking


def text_in(message: Message) -> str:
    """The text that a reader of the message sees."""
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_triage_request_gets_the_recorded_verdict(client: anthropic.Anthropic) -> None:
    """ApiRequest for confidence and answer, it tells both as JSON, with the recorded usage."""
    message = client.messages.create(**asking(output_config=TRIAGE))
    assert text_in(message) == '{"confidence": 0.9, "answer": "yes – ja"}'
    assert (message.stop_reason, message.model) == ("end_turn", HAIKU)
    assert Usage.from_api(message.usage.to_dict()) == Usage(100, 20)


def test_the_verdict_keeps_the_order_of_the_schema(client: anthropic.Anthropic) -> None:
    """Properties come in the schema's order, those that are required before those that are not."""
    schema = TRIAGE["format"]["schema"]
    turned = {**schema, "properties": dict(reversed(schema["properties"].items()))}
    for changed, order in ((turned, ["answer", "confidence"]), ({**turned, "required": ["confidence"]}, None)):
        form = {"format": {"type": "json_schema", "schema": changed}}
        told = json.loads(text_in(client.messages.create(**asking(output_config=form))))
        assert list(told) == (order or ["confidence", "answer"])


@pytest.mark.parametrize(
    ("text", "model", "triage", "plain"),
    [
        ("plain", SONNET, {"answer": "sure"}, "sure"),
        ("declined", HAIKU, {"confidence": 0.2, "answer": None}, None),
        ("declined", SONNET, {"confidence": 0.5, "answer": ""}, None),
        ("object", HAIKU, {"confidence": 0.8, "answer": {"city": "Zürich", "n": [1, 2]}}, '{"city": "Zürich", "n": [1, 2]}'),
        ("listed", HAIKU, {"confidence": 0.8, "answer": "from a list"}, "from a list"),
        ("plain", "local", {"confidence": 1, "answer": "l"}, "l"),
    ],
)  # fmt: skip
def test_what_was_recorded_is_told_as_it_was_asked_for(
    client: anthropic.Anthropic, text: str, model: str, triage: object, plain: str | None
) -> None:
    """As a verdict: a missing confidence is left out, a declined answer is null. Plainly: nothing to say is no block."""
    verdict = client.messages.create(**asking(text, model, output_config=TRIAGE))
    assert json.loads(text_in(verdict)) == triage
    answer = client.messages.create(**asking(text, model))
    assert [block.to_dict()["text"] for block in answer.content] == ([plain] if plain else [])


def test_the_text_is_that_of_the_last_user_turn(client: anthropic.Anthropic) -> None:
    """Earlier turns and the system prompt do not matter, nor whether the text is a string or a block."""
    turns: list[Any] = [
        {"role": "user", "content": "declined"},
        {"role": "assistant", "content": "well"},
        {"role": "user", "content": [{"type": "text", "text": "plain", "cache_control": {"type": "ephemeral"}}]},
    ]
    message = client.messages.create(model=HAIKU, max_tokens=9, system="be brief", messages=turns)
    assert text_in(message) == "yes – ja"


def test_repeats_of_an_input_come_in_corpus_order_for_each_model(client: anthropic.Anthropic) -> None:
    """The k-th ask meets the k-th repeat that this model has, then it starts again; models count for themselves."""
    haiku = [text_in(client.messages.create(**asking("again"))) for _ in range(5)]
    sonnet = [text_in(client.messages.create(**asking("again", SONNET))) for _ in range(3)]
    assert haiku == ["first", "second", "third", "first", "second"]
    assert sonnet == ["s1", "s3", "s1"]


@pytest.mark.parametrize(
    ("text", "model", "told"),
    [
        (
            "x" * 90,
            HAIKU,
            f"no reply was recorded for model '{HAIKU}', last user turn '{'x' * 80}'… (searched 10",
        ),
        ("object", SONNET, f"no reply was recorded for model '{SONNET}', last user turn 'object' (searched 10"),
        ("silent", HAIKU, "the text of the reply was not recorded for model"),
        ("plain", "claude-opus-5-5", f"model: claude-opus-5-5 (the corpus has {HAIKU}, {SONNET}, local;"),
    ],
)
def test_no_match_is_a_404_that_says_what_was_sought(
    emulator: Emulator, client: anthropic.Anthropic, text: str, model: str, told: str
) -> None:
    """It never guesses: the error names the model, the text's beginning and how much was looked through."""
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(**asking(text, model))
    assert caught.value.type == "not_found_error"
    assert told in (caught.value.api_message or "")
    assert "`cascade emulate --any`" in (caught.value.api_message or "")
    assert emulator.billed.replies == 0


def test_cache_usage_and_billing_agree(emulator: Emulator, client: anthropic.Anthropic) -> None:
    """The client, reading JSON or a stream, and the emulator's own books come to the same tokens."""
    whole = client.messages.create(**asking("cached"))
    with client.messages.stream(**asking("cached")) as stream:
        streamed = stream.get_final_message()
    expected = Usage(11, 7, cache_write_5m=20, cache_write_1h=40, cache_read=500)
    assert Usage.from_api(whole.usage.to_dict()) == Usage.from_api(streamed.usage.to_dict()) == expected
    assert emulator.billed.models[HAIKU].usage == emulator.billed.usage == expected + expected
    assert emulator.billed.replies == 2


def test_usage_that_was_not_recorded_is_estimated(client: anthropic.Anthropic) -> None:
    """Four characters are a token, going in and coming out."""
    usage = client.messages.create(**asking("unpriced", system="s" * 92)).usage
    assert (usage.input_tokens, usage.output_tokens) == ((92 + len("unpriced")) // 4, 10)


def test_a_stream_adds_up_to_the_same_message(client: anthropic.Anthropic) -> None:
    """The SDK's own accumulation of the events equals the JSON reply, but for its id; empty content included."""
    for parameters in (asking(output_config=TRIAGE), asking("declined"), asking("object"), asking("cached")):
        whole = client.messages.create(**parameters).to_dict()
        with client.messages.stream(**parameters) as stream:
            streamed = stream.get_final_message().to_dict()
        assert {**streamed, "id": 0} == {**whole, "id": 0}


def test_a_stream_has_the_events_of_the_api(client: anthropic.Anthropic) -> None:
    """Event by event, validated by the SDK's own types: start with usage, ping, deltas, stop, cumulative usage."""
    with client.messages.with_streaming_response.create(**asking(output_config=TRIAGE), stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = list(response.iter_lines())
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [line.removeprefix("event: ") for line in lines if line.startswith("event: ")] == [e["type"] for e in events]
    deltas = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(deltas) == '{"confidence": 0.9, "answer": "yes – ja"}'
    assert [event["type"] for event in events if event["type"] != "content_block_delta"] == [
        "message_start", "ping", "content_block_start", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert events[0]["message"]["usage"]["output_tokens"] == 1
    assert events[-2]["usage"]["output_tokens"] == 20
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    for event in events:
        if event["type"] != "ping":
            adapter.validate_python(event)


def test_models_are_listed_with_what_they_can(client: anthropic.Anthropic) -> None:
    """The corpus's models, as the SDK's ModelInfo: capabilities by the table of rules, null where nothing is known."""
    models = {model.id: ModelInfo.model_validate(model.to_dict()) for model in client.models.list(limit=2)}
    assert list(models) == [HAIKU, SONNET, "local"]
    haiku, sonnet = models[HAIKU].capabilities, models[SONNET].capabilities
    assert haiku
    assert sonnet
    assert (haiku.thinking.types.disabled.supported, sonnet.thinking.types.disabled.supported) == (True, False)
    assert sonnet.effort.xhigh
    assert sonnet.effort.xhigh.supported
    assert models["local"].capabilities is None
    assert client.models.retrieve(HAIKU).lifecycle == "active"
    assert [model.id for model in client.models.list(before_id="local", limit=1)][-1:] == [HAIKU]
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude-opus-5-5")


def test_tokens_are_counted_without_being_billed(emulator: Emulator, client: anthropic.Anthropic) -> None:
    """count_tokens estimates, takes the fields that it has, and costs nothing."""
    count = client.messages.count_tokens(model=HAIKU, messages=[{"role": "user", "content": "x" * 400}])
    assert count.input_tokens == 100
    assert emulator.billed.replies == 0
    with pytest.raises(anthropic.BadRequestError, match="max_tokens: Extra inputs are not permitted"):
        client.messages.count_tokens(
            model=HAIKU, messages=[{"role": "user", "content": "x"}], extra_body={"max_tokens": 9}
        )


def test_requests_are_recorded_without_credentials(emulator: Emulator, client: anthropic.Anthropic) -> None:
    """Path, headers and body of what was asked can be read; no key is among them."""
    client.beta.messages.create(**asking(), betas=["x-1"])
    (seen,) = emulator.requests
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/messages", asking())
    assert seen.headers["anthropic-beta"] == "x-1"
    assert "test" not in seen.headers.values()
    assert "Bearer test" not in seen.headers.values()


def test_several_corpora_answer_side_by_side(tmp_path: Path, emulate: Callable[..., Emulator]) -> None:
    """Corpora, and paths of corpora, are put together; without any, or with a broken one, it does not start."""
    manifest = CORPUS.manifest
    with pytest.raises(ConfigurationError, match="there is nothing to answer from"):
        Emulator([])
    with pytest.raises(CorpusError, match="cannot be read"):
        Emulator(tmp_path / "none.jsonl")
    halves = [Corpus(manifest, CORPUS.items[:1]), Corpus(manifest, CORPUS.items[1:])]
    with (
        Emulator(halves) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="t", max_retries=0) as client,
    ):
        assert text_in(client.messages.create(**asking("plain"))) == "yes – ja"
        assert text_in(client.messages.create(**asking("listed"))) == "from a list"


def test_a_real_corpus_is_answered_as_it_was_recorded(real_corpus: Callable[[str], Path]) -> None:
    """The first hundred inputs that occur once, asked of all rungs: text, confidence and usage are the recorded ones."""
    corpus = read_corpus(real_corpus("mmlupro-gpt41"))
    times = Counter(text_of(item.input) for item in corpus.items)
    once = [item for item in corpus.items if times[text_of(item.input)] == 1][:100]
    with (
        Emulator(corpus) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="t", max_retries=0) as client,
    ):
        for item in once:
            for rung in corpus.manifest.rungs:
                message = client.messages.create(**asking(item.input, rung, output_config=TRIAGE))
                recorded = item.reply(rung)
                told = json.loads(text_in(message))
                assert (told.get("confidence"), told["answer"]) == (recorded.confidence, recorded.answer)
                assert Usage.from_api(message.usage.to_dict()) == recorded.tokens
        assert emulator.billed.replies == 300


@pytest.mark.parametrize("model", [HAIKU, "a-model-of-our-own"])
def test_what_is_not_known_gets_a_canned_answer_where_that_is_wanted(model: str) -> None:
    """It says what it is, and costs what its length does; what is recorded is answered as recorded."""
    with (
        Emulator(CORPUS, canned=True) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0) as client,
    ):
        plain = client.messages.create(**asking("What is the capital of France?", model))
        triaged = client.messages.create(**asking("What is the capital of France?", model, output_config=TRIAGE))
        client.models.retrieve(model)
        recorded = client.messages.create(**asking("plain"))
    text = text_in(plain)
    assert text == f"[canned answer] The emulator has no recorded reply of {model} to this text."
    assert json.loads(text_in(triaged)) == {"confidence": 0.9, "answer": text}
    assert (plain.usage.input_tokens, plain.usage.output_tokens) == (
        len("What is the capital of France?") // 4,
        len(text) // 4,
    )
    assert "canned" not in text_in(recorded)


def test_a_canned_answer_fits_the_callers_schema() -> None:
    """Nested, optional, of an enum, by reference: the class that asked reads it."""

    class Line(BaseModel):
        name: str
        count: int | None

    class Order(BaseModel):
        kind: Literal["new", "old"]
        first: Line
        lines: list[Line]
        price: float
        paid: bool
        note: str = ""

    with (
        Emulator(CORPUS, canned=True) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0) as client,
    ):
        order = Cascade("default", client=client, ledger="off").ask("What did I order?", response_model=Order)
        schema = anthropic.transform_schema(Order)
        form: Any = {"format": {"type": "json_schema", "schema": schema}}
        bare = client.messages.create(**asking("What did I order?", output_config=form))
    assert isinstance(order.data, Order)
    assert order.data == Order.model_validate_json(text_in(bare))
    assert (order.data.kind, order.data.lines, order.data.first.count) == ("new", [], 0)
    assert order.data.first.name.startswith("[canned answer]")


def test_an_emulator_without_a_corpus_gives_canned_answers_or_nothing() -> None:
    """Only what nothing could be answered from is refused."""
    with pytest.raises(ConfigurationError, match="nothing to answer from"):
        Emulator([])
    with Emulator([], canned=True) as emulator:
        assert emulator.answers.models == ()
