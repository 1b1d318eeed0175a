"""The arguments of `ask`: what readers and editors are shown, what reaches the API, and what is refused with a way out."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

import pytest
from anthropic.resources.beta.messages import Messages as BetaMessages
from anthropic.resources.messages import Messages

import cascade
from cascade import AskOptions, AsyncCascade, Cascade, RequestError
from cascade.emulator import Emulator
from tests.live.conftest import Asking, ladder

from .test_requests import bodies

EVERYONE: tuple[Callable[..., Any], ...] = (cascade.ask, cascade.aask, Cascade.ask, AsyncCascade.ask)
OPTIONS = ["system", "task", "checks", "flags", "metadata", "max_tokens", "deadline_s", "cache", "session"]
OURS = {"prompt", "policy", "response_model", *OPTIONS}
OF_THE_API = {
    name
    for create in (Messages.create, BetaMessages.create)
    for name in inspect.signature(typing.get_overloads(create)[0]).parameters
} - {"self"}


@pytest.mark.parametrize("function", EVERYONE)
def test_the_signature_names_every_argument(function: Callable[..., Any]) -> None:
    """For `help`, `inspect` and what builds on them; they are written once, in AskOptions."""
    parameters = inspect.signature(function).parameters
    named = [name for name in parameters if name not in ("self", "prompt", "policy", "response_model")]
    assert named == list(AskOptions.__annotations__) == OPTIONS
    assert parameters["prompt"].default is inspect.Parameter.empty
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in named)
    assert all(parameters[name].default is None for name in named)


def test_the_documentation_says_what_every_argument_is_for() -> None:
    """A line each, in the one docstring to which the others point."""
    lines = (inspect.getdoc(cascade.ask) or "").splitlines()
    assert {name for name in OURS if any(line.startswith(f"`{name}`: ") for line in lines)} == OURS
    assert "cascade.ask" in (Cascade.ask.__doc__ or "")


def test_what_is_none_was_not_given(asking: Asking, emulator: Emulator) -> None:
    """Whoever wraps `ask` hands on what he has."""
    assert asking(ladder(), emulator).ask("sure", **dict.fromkeys(OPTIONS)).text == "haiku's"


@pytest.mark.parametrize(
    ("keyword", "way"),
    [
        ("messages", "first argument"),
        ("model", "policy="),
        ("timeout", "deadline_s="),
        ("thinking", "policy"),
        ("effort", "policy"),
        ("output_config", "response_model="),
        ("response_format", "response_model="),
        ("extra_headers", "default_headers"),
        ("cache_control", "block"),
        ("client", "Cascade(client="),
        ("ledger", "Cascade(ledger="),
        ("user_id", "metadata="),
        ("tools", "Cascade().messages.create"),
        ("tool_choice", "Cascade().messages.create"),
        ("stream", "Cascade().messages.stream"),
        ("stop_sequences", "Cascade().messages.create"),
        ("temperature", "not available"),
        ("top_p", "not available"),
        ("policy", "Cascade(policy)"),
        ("sytem", "did you mean system?"),
        ("deadline", "did you mean deadline_s?"),
        ("max_token", "did you mean max_tokens?"),
        ("promt", "did you mean prompt?"),
        ("temprature", "did you mean temperature?: not available"),
        (
            "qqq",
            "it has cache, checks, deadline_s, flags, max_tokens, metadata, prompt, response_model, session, system, task",
        ),
    ],
)
def test_a_keyword_that_is_none_of_ours_is_refused_with_the_way_to_do_it(
    asking: Asking, emulator: Emulator, keyword: str, way: str
) -> None:
    """Before anything is asked; and with whatever value, for nothing is silently dropped."""
    driver = asking(ladder(), emulator)
    for value in (None, "x"):
        with pytest.raises(RequestError) as refused:
            driver.ask("sure", **{keyword: value})
        assert str(refused.value).startswith(f"{keyword}: ")
        assert way in str(refused.value)
    assert emulator.requests == ()


def test_what_messages_create_takes_is_ours_too_or_is_answered(emulator: Emulator) -> None:
    """Each of its arguments, the SDK's own list of them; none is said to be no argument at all."""
    with Cascade(ladder()) as driver:
        for name in sorted(OF_THE_API - OURS):
            with pytest.raises(RequestError) as refused:
                driver.ask("sure", **{name: "x"})  # type: ignore[call-overload]
            assert "no such argument" not in str(refused.value)
    assert emulator.requests == ()


def test_all_such_keywords_are_named_at_once_and_a_prompt_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is moved over from `messages.create` as it stands."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
    asked: Any = cascade.ask
    with pytest.raises(RequestError, match=r"^model: .*; messages: .*; temperature: "):
        asked(model="claude", max_tokens=10, messages=[{"role": "user", "content": "hi"}], temperature=0.5)
    with pytest.raises(RequestError, match=r"^prompt: "):
        asked()


def test_a_users_id_reaches_the_api_and_the_rest_of_the_metadata_does_not(asking: Asking, emulator: Emulator) -> None:
    """On every rung; the answer keeps all of it."""
    driver = asking(ladder(), emulator)
    given = {"user_id": "u-17", "customer": "c-1"}
    answer = driver.ask("hard", metadata=given)
    assert [body["metadata"] for body in bodies(emulator)] == [{"user_id": "u-17"}] * 3
    assert answer.metadata == given
    driver.ask("sure", metadata={"customer": "c-1"})
    assert "metadata" not in bodies(emulator)[-1]
