"""Gateways on loopback, whose endpoint is the emulator or a scripted one; and the real SDK, pointed at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cascade.emulator import Emulator
from cascade.gateway.settings import GatewaySettings
from tests.emulator.conftest import CORPUS
from tests.gateway.serving import Endpoint, Gateway, Piece, policy_file

KEY = "the gateway's own key"


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    """What is opened in it is closed when the test ends."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def start(stack: ExitStack, tmp_path: Path) -> Callable[..., Gateway]:
    """Start a gateway before an endpoint: `start(endpoint.base_url, workers=…)`."""

    def begin(upstream: str, **options: Any) -> Gateway:
        options.setdefault("ledger", str(tmp_path / "ledger.db"))
        if "policies" not in options:
            options["policies"] = (str(policy_file(tmp_path)),)
        return stack.enter_context(Gateway(GatewaySettings(upstream=upstream, port=0, **options)))

    return begin


@pytest.fixture
def endpoint(stack: ExitStack) -> Callable[..., Endpoint]:
    """Start a scripted endpoint."""

    def begin(*pieces: Piece) -> Endpoint:
        return stack.enter_context(Endpoint(*pieces))

    return begin


@pytest.fixture
def emulate(stack: ExitStack) -> Callable[..., Emulator]:
    """Start an emulator over the small corpus of the emulator's own tests."""
    return lambda **options: stack.enter_context(Emulator(CORPUS, **options))


@pytest.fixture
def sdk(stack: ExitStack) -> Callable[..., anthropic.Anthropic]:
    """The real SDK, pointed at a gateway, without retries of its own."""

    def make(gateway: Gateway, **options: Any) -> anthropic.Anthropic:
        options.setdefault("api_key", "caller")
        client = anthropic.Anthropic(base_url=gateway.base_url, max_retries=0, timeout=20, **options)
        return stack.enter_context(client)

    return make
