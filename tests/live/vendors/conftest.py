"""A ladder with another vendor's rung, and the emulator as both vendors' endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cascade import Policy
from cascade.emulator import Emulator
from tests.live.conftest import HAIKU, QUICK, SONNET, Asking, Driver, Emulate, Endpoint, corpus, item, reply

LUNA = "gpt-6-luna"
PRICE = {"input": "0.1", "output": "0.5", "cache_read": "0.01", "cache_write": "0.125"}
VENDORS = {"haiku": HAIKU, "sonnet": LUNA, "opus": SONNET}
"""The models of the corpora's three rungs, another vendor's in the middle. There is no Opus: it is never reached past Sonnet."""


def mixed(provider: str = "openai", *, top: str = "anthropic", threshold: float = 0.8, **more: Any) -> Policy:
    """Haiku, a model in the middle, and one at the top; the last two at these providers and at one price."""
    rungs = [
        {"rung": "haiku", "model": HAIKU, "threshold": 0.8, "thinking": "disabled"},
        {"rung": "middle", "model": LUNA, "threshold": threshold, "price": PRICE, "provider": provider},
        {"rung": "top", "model": SONNET if top == "anthropic" else LUNA, "price": PRICE, "provider": top},
    ]
    rungs = [{"max_tokens": 500, **rung} for rung in rungs]
    return Policy.model_validate({"version": 1, "name": "mixed", "ladder": rungs, "retry": QUICK, **more})


CLIMBS = corpus(
    item("middle", reply(0.5, "haiku's"), reply(0.9, "luna's"), reply(None, "sonnet's")),
    item("top", reply(0.5, "haiku's"), reply(0.6, "luna's"), reply(None, "sonnet's")),
    models=VENDORS,
)


@pytest.fixture
def asking(asking: Asking) -> Iterator[Asking]:
    """Make drivers of one way, which are closed when the test ends."""
    made: list[Driver] = []

    def make(policy: Policy, endpoint: Endpoint, **options: Any) -> Driver:
        made.append(asking(policy, endpoint, **options))
        return made[-1]

    yield make
    for driver in made:
        driver.close()


@pytest.fixture
def both(emulate: Emulate, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """An emulator over CLIMBS that both vendors' clients find in the environment."""
    return at_home(emulate(CLIMBS, keep_requests=100), monkeypatch)


def at_home(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The same, as the endpoint that the environment names, with a key of each vendor."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-anthropic")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{emulator.base_url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-openai")
    return emulator
