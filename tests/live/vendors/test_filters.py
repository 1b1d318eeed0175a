"""What ends a call before a model has read it: a vendor's filter, an address that is none."""

from __future__ import annotations

import pytest

from cascade.core.errors import ConfigurationError, UpstreamRejected
from cascade.emulator import Emulator
from tests.live.conftest import SONNET, Script
from tests.live.vendors.conftest import mixed
from tests.live.vendors.test_calls import ask, asked_of


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("content_filter", "The response was filtered due to the prompt triggering the content management policy."),
        ("invalid_prompt", "Invalid prompt: your prompt was flagged as potentially violating our usage policy."),
    ],
)
def test_a_filter_before_the_model_refuses_as_the_model_does(
    script: Script, both: Emulator, way: str, code: str, message: str
) -> None:
    """By its form it is an error of the request; it climbs all the same, and nothing was billed."""
    body = {"error": {"message": message, "type": "invalid_request_error", "param": "prompt", "code": code}}
    there = script((400, {"x-request-id": "req_1"}, body))
    policy = mixed()
    rung = policy.ladder[1].model_copy(update={"base_url": f"{there.base_url}/v1"})
    policy = policy.model_copy(update={"ladder": (policy.ladder[0], rung, policy.ladder[2])})
    assert ask(way, policy) == "sonnet's"
    assert there.requests == 1
    assert len(asked_of(both, SONNET)) == 1


def test_a_prompt_that_is_invalid_is_the_callers_fault(script: Script, both: Emulator) -> None:
    """The same code without a word of a policy."""
    body = {"error": {"message": "Invalid prompt: empty.", "type": "invalid_request_error", "code": "invalid_prompt"}}
    policy = mixed()
    rung = policy.ladder[1].model_copy(update={"base_url": f"{script((400, {}, body)).base_url}/v1"})
    with pytest.raises(UpstreamRejected, match="Invalid prompt: empty"):
        ask("sync", policy.model_copy(update={"ladder": (policy.ladder[0], rung, policy.ladder[2])}))
    assert asked_of(both, SONNET) == []


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("at", [0, 1])
def test_an_address_that_is_none_is_told_with_its_rung(both: Emulator, way: str, at: int) -> None:
    """Before anything is sent, whoever the vendor is."""
    policy = mixed()
    ladder = list(policy.ladder)
    ladder[at] = ladder[at].model_copy(update={"base_url": "http://127.0.0.1:port/v1"})
    with pytest.raises(ConfigurationError, match=rf"^rung {ladder[at].rung}: the address of its endpoint is not valid"):
        ask(way, policy.model_copy(update={"ladder": tuple(ladder)}))
    assert both.requests == ()
