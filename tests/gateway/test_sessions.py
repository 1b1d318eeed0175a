"""Sessions through the gateway: a header names one, and a key's session is that key's own."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cascade.budgets.gate import bound_of
from cascade.core.parameters import read_parameters
from cascade.core.policy import Policy
from cascade.core.prompts.session import DECIDED
from cascade.core.triage import build_prompt
from cascade.emulator import Emulator
from cascade.engine.planning.sessions import keep_decided
from cascade.engine.runtime import Runtime, RuntimeOptions
from cascade.gateway.keys.ring import KeyRing
from cascade.ledger.gateway import GatewayTables
from cascade.policy.binding import bind_policy
from cascade.policy.loading import load_policy
from tests.core.planning.finished_runs import finished_run
from tests.gateway.serving import Gateway, policy_file
from tests.gateway.test_climbing import asked, script

SESSION = {"x-cascade-session": "conv-17"}
PLANS = "plan: {reviewer: haiku, planner: haiku}\nledger: {content: true}\n"


@pytest.fixture
def emulator(emulate: Callable[..., Emulator]) -> Emulator:
    """An emulator that plays the script of the climbs."""
    return emulate(script=script, keep_requests=100)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A policy with plans, whose ledger keeps texts."""
    path = policy_file(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + PLANS, encoding="utf-8")
    return path


def decide(policy: Policy, **who: str) -> None:
    """A run has ended, in this process: it shares its memory with the gateway."""
    assert keep_decided(Runtime(policy, RuntimeOptions(ledger="off")), "conv-17", who, finished_run()) is None


def told(emulator: Emulator) -> list[bool]:
    """Of each request that came in, whether it was told what was decided."""
    head = DECIDED.removesuffix("{decided}")
    return [any(block["text"].startswith(head) for block in one.body.get("system") or ()) for one in emulator.requests]


def test_a_session_is_told_what_its_run_decided_by_the_header_and_no_other_key_is(
    start: Callable[..., Gateway],
    emulator: Emulator,
    sdk: Callable[..., anthropic.Anthropic],
    path: Path,
    tmp_path: Path,
) -> None:
    """The run names the key's id, which no caller of the gateway can choose; within the key the user, too."""
    ring = KeyRing(GatewayTables(str(tmp_path / "ledger.db")))
    mine, key = ring.create("mine", daily_usd=Decimal(1))
    other, _ = ring.create("other")
    decide(load_policy(path), key=key.id, user_id="ann")
    gateway = start(emulator.base_url, policies=(str(path),))

    def ask(token: str, user: str, headers: dict[str, str]) -> None:
        more: dict[str, Any] = {"metadata": {"user_id": user}, "extra_headers": headers}
        sdk(gateway, api_key=token).messages.create(**asked("easy"), **more)

    ask(mine, "ann", SESSION)
    ask(mine, "ann", {})
    ask(mine, "bob", SESSION)
    ask(other, "ann", SESSION)
    ask(other, "ann", {**SESSION, "x-cascade-metadata-key": key.id})
    with sdk(gateway, api_key=mine).messages.stream(
        **asked("hard"), metadata={"user_id": "ann"}, extra_headers=SESSION
    ) as stream:
        stream.until_done()
    assert told(emulator) == [True, False, False, False, False, True, True]
    gateway.stop()
    versions = ["session" in record.request.prompts for record in gateway.records()]
    assert versions == [True, False, False, False, False, True]


def test_a_keys_budget_is_not_overspent_by_what_is_told(
    start: Callable[..., Gateway],
    emulator: Emulator,
    sdk: Callable[..., anthropic.Anthropic],
    path: Path,
    tmp_path: Path,
) -> None:
    """It must have room for the longest that can be told, before anything is asked; and no more than that without a session."""
    policy, request = load_policy(path), read_parameters(asked("easy"))
    plan = bind_policy(policy)
    bound = sum(bound_of(plan.rates[index], build_prompt(policy, index, request), 1) for index in range(2))
    ring = KeyRing(GatewayTables(str(tmp_path / "ledger.db")))
    tokens = [ring.create(name, daily_usd=Decimal(bound + 1_000_000) / 10**9)[0] for name in ("one", "two")]
    client, other = (sdk(start(emulator.base_url, policies=(str(path),)), api_key=token) for token in tokens)
    client.messages.create(**asked("easy"))
    with pytest.raises(anthropic.RateLimitError, match="the daily budget"):
        other.messages.create(**asked("easy"), extra_headers=SESSION)
    assert len(emulator.requests) == 1


def test_without_keys_the_user_alone_names_whose_session_it_is(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., anthropic.Anthropic], path: Path
) -> None:
    """As in the library."""
    decide(load_policy(path), user_id="ann")
    client = sdk(start(emulator.base_url, policies=(str(path),)))
    for user in ("ann", "bob"):
        client.messages.create(**asked("easy"), metadata={"user_id": user}, extra_headers=SESSION)
    assert told(emulator) == [True, False]
