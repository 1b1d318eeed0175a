"""Keys and clients: what is missing or does not fit is one clear line, before anything is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import pytest

import cascade
from cascade import AsyncCascade, Cascade, ConfigurationError, MissingKey
from cascade.core.policy import Policy
from cascade.emulator import Emulator
from tests.live.conftest import HAIKU, SONNET, Emulate, Script, ladder, message_body, verdict


def ask(way: str, policy: Policy, text: str = "sure", **options: Any) -> str:
    """Ask once, by a driver that makes its own client of the environment."""
    if way == "sync":
        with Cascade(policy, **options) as driver:
            return str(driver.ask(text))

    async def scene() -> str:
        async with AsyncCascade(policy, **options) as driver:
            return str(await driver.ask(text))

    return asyncio.run(scene())


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_missing_key_is_told_in_one_line(way: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What, and what to do; nothing was sent."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.base_url)
    with pytest.raises(MissingKey, match=r"^no API key: set ANTHROPIC_API_KEY [^\n]*$"):
        ask(way, ladder())
    assert emulator.requests == ()


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_key_that_is_set_later_is_found(way: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook: the same ladder, asked again after the error, answers."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.base_url)
    policy = ladder(name=f"later-{way}")

    async def aask_twice() -> str:
        with pytest.raises(MissingKey):
            await cascade.aask("sure", policy=policy)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
        return str(await cascade.aask("sure", policy=policy))

    def ask_twice() -> str:
        with pytest.raises(MissingKey):
            cascade.ask("sure", policy=policy)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
        return str(cascade.ask("sure", policy=policy))

    assert (ask_twice() if way == "sync" else asyncio.run(aask_twice())) == "haiku's"


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_rungs_own_key_that_is_missing_is_named(way: str, emulator: Emulator) -> None:
    """The rung, and the variable that it names."""
    policy = with_endpoint(ladder(), 0, base_url=emulator.base_url, api_key_env="KEY_OF_HAIKU")
    with pytest.raises(MissingKey, match=r"^rung haiku: [^\n]*KEY_OF_HAIKU is not set[^\n]*$"):
        ask(way, policy)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_rung_goes_to_its_own_endpoint_with_its_own_key(
    way: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two endpoints on one ladder; neither sees the other's key."""
    there = script((200, {}, message_body(verdict(0.1, "hm"))))
    here = script((200, {}, message_body(verdict(0.9, "here"))))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", here.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-here")
    monkeypatch.setenv("KEY_OF_HAIKU", "key-there")
    policy = with_endpoint(ladder(), 0, base_url=there.base_url, api_key_env="KEY_OF_HAIKU")
    assert ask(way, policy) == "here"
    assert (there.models, here.models) == ([HAIKU], [SONNET])
    assert (there.keys, here.keys) == (["Bearer key-there"], ["Bearer key-here"])


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_rungs_own_endpoint_is_not_sent_the_environments_key(
    way: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is Anthropic's: a stranger's endpoint gets a key only where the policy names one."""
    there = script((200, {}, message_body(verdict(0.9, "there"))))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-anthropic")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-anthropic")
    assert ask(way, with_endpoint(ladder(), 0, base_url=there.base_url)) == "there"
    assert there.keys
    assert "of-anthropic" not in str(there.keys)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_given_client_serves_the_rungs_without_an_endpoint_only(
    way: str, emulate: Emulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rung that names its endpoint is not sent to the given client's."""
    here, there = emulate(), emulate()
    monkeypatch.setenv("KEY_OF_HAIKU", "key-there")
    policy = with_endpoint(ladder(), 0, base_url=there.base_url, api_key_env="KEY_OF_HAIKU")
    if way == "sync":
        with (
            anthropic.Anthropic(base_url=here.base_url, api_key="test") as client,
            Cascade(policy, client=client) as one,
        ):
            assert str(one.ask("unsure")) == "sonnet's"
    else:

        async def scene() -> str:
            reach = anthropic.AsyncAnthropic(base_url=here.base_url, api_key="test")
            async with reach as client, AsyncCascade(policy, client=client) as one:
                return str(await one.ask("unsure"))

        assert asyncio.run(scene()) == "sonnet's"
    assert [len(here.requests), len(there.requests)] == [1, 1]


@pytest.mark.parametrize(
    ("driver", "client", "hint"),
    [(Cascade, anthropic.AsyncAnthropic, "AsyncCascade"), (AsyncCascade, anthropic.Anthropic, "Cascade")],
)
def test_a_client_of_the_other_kind_is_refused(driver: Any, client: Any, hint: str) -> None:
    """At construction, with the class that it fits."""
    with pytest.raises(ConfigurationError, match=rf"^client: {client.__name__} .*\(use it with {hint}\)$"):
        driver(ladder(), client=client(api_key="test"))


@pytest.mark.parametrize("driver", [Cascade, AsyncCascade])
@pytest.mark.parametrize("client", ["sk-ant-123", object(), anthropic.Anthropic])
def test_what_is_no_client_is_refused_and_not_quoted(driver: Any, client: Any) -> None:
    """Least of all where it is a key."""
    with pytest.raises(ConfigurationError, match="is not a client of the anthropic SDK") as caught:
        driver(ladder(), client=client)
    assert "123" not in str(caught.value)


def with_endpoint(policy: Policy, index: int, **more: Any) -> Policy:
    """The policy with these keys on the rung at `index`."""
    rungs = [rung.model_dump(exclude_unset=True) for rung in policy.ladder]
    rungs[index] |= more
    return Policy.model_validate({**policy.model_dump(exclude_unset=True), "ladder": rungs})
