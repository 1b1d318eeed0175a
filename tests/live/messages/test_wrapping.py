"""`cascade.wrap`: a client of the SDK whose messages climb, and which is the client's equal in all else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

import cascade
from cascade import Cascade
from cascade.core.errors import ConfigurationError, RequestError
from cascade.emulator import Emulator
from tests.live.conftest import HAIKU, OPUS, Connections, ladder

from .conftest import BASE, saying, text

ASKED: dict[str, Any] = {**BASE, "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """Everybody is sure, and says which model they are."""
    with Emulator((), script=lambda body, _: saying(text(body["model"]))) as running:
        yield running


@pytest.fixture
def client(emulator: Emulator, connections: Connections) -> anthropic.Anthropic:
    """The SDK's own client."""
    return connections.sync_one.with_options(base_url=emulator.base_url)


@pytest.fixture
def wrapped(client: anthropic.Anthropic) -> Any:
    """It, wrapped."""
    return cascade.wrap(client, ladder(), ledger="off")


def test_only_its_messages_climb(client: anthropic.Anthropic, wrapped: Any) -> None:
    """The client itself, and what else it has, ask the model that is named."""
    message = wrapped.messages.create(**ASKED)
    assert (message.content[0].text, message.cascade.rung) == (HAIKU, "haiku")
    assert client.messages.create(**ASKED).content[0].to_dict()["text"] == OPUS
    assert wrapped.beta.messages.create(**ASKED).content[0].text == OPUS
    assert type(wrapped.messages) is not type(client.messages)


def test_it_is_a_client_of_the_same_class_and_options(client: anthropic.Anthropic, wrapped: Any) -> None:
    """Libraries look at that."""
    assert type(wrapped) is anthropic.Anthropic
    assert (wrapped.base_url, wrapped.api_key) == (client.base_url, client.api_key)
    assert wrapped.models.list().data == client.models.list().data


def test_clients_made_of_it_climb_too(wrapped: Any) -> None:
    """On the same policy, ledger and state, with the options that were changed."""
    for made in (
        wrapped.with_options(timeout=7),
        wrapped.copy(default_headers={"x-team": "a"}),
        wrapped.with_middleware(),
    ):
        assert made.messages.create(**ASKED).cascade.rung == "haiku"
        assert made.cascade.policy is wrapped.cascade.policy
    assert wrapped.with_options(timeout=7).timeout == 7


def test_options_of_a_copy_reach_the_api(emulator: Emulator, wrapped: Any) -> None:
    """Its calls are made by the copy."""
    wrapped.with_options(default_headers={"x-team": "a"}).messages.create(**ASKED)
    wrapped.messages.create(**ASKED)
    assert [seen.headers.get("x-team") for seen in emulator.requests] == ["a", None]


def test_raw_responses_are_refused(wrapped: Any) -> None:
    """A climb has several, so none of them is its own."""
    with pytest.raises(RequestError, match="with_raw_response: not available"):
        wrapped.with_raw_response.messages.create(**ASKED)


def test_an_async_client_climbs_in_its_loop(emulator: Emulator, connections: Connections) -> None:
    """`await` and streams, as before."""
    client = connections.async_one.with_options(base_url=emulator.base_url)
    wrapped: Any = cascade.wrap(client, ladder(), ledger="off")

    async def talk() -> None:
        message = await wrapped.messages.create(**ASKED)
        assert (message.content[0].text, message.cascade.rung) == (HAIKU, "haiku")
        async with wrapped.messages.stream(**ASKED) as stream:
            assert "".join([piece async for piece in stream.text_stream]) == HAIKU
        assert (await wrapped.with_options(timeout=7).messages.create(**ASKED)).cascade.rung == "haiku"
        assert (await wrapped.beta.messages.create(**ASKED)).content[0].text == OPUS

    connections.runner.run(talk())


def test_closing_it_closes_the_driver_and_the_client(emulator: Emulator) -> None:
    """As a context manager, too: nothing stays open."""
    client = anthropic.Anthropic(base_url=emulator.base_url, api_key="k")
    with cascade.wrap(client, ladder(), ledger="off") as wrapped:
        assert wrapped.messages.create(**ASKED).content[0].to_dict()["text"] == HAIKU
    assert client.is_closed()


def test_closing_an_async_one_closes_both(emulator: Emulator, connections: Connections) -> None:
    """In its loop."""
    client = anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="k")

    async def talk() -> None:
        async with cascade.wrap(client, ladder(), ledger="off") as wrapped:
            await wrapped.messages.create(**ASKED)

    connections.runner.run(talk())
    assert client.is_closed()


def test_it_is_wrapped_once(wrapped: Any) -> None:
    """A climb of climbs would pay each rung several times."""
    for again in (lambda: cascade.wrap(wrapped, ladder()), lambda: Cascade(ladder(), client=wrapped, ledger="off")):
        with pytest.raises(ConfigurationError, match="wrapped"):
            again()


def test_what_is_no_client_of_the_sdk_is_refused() -> None:
    """By its type's name."""
    with pytest.raises(ConfigurationError, match="str is not a client"):
        cascade.wrap("client")
