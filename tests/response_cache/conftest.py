"""A policy with a response cache at work over loopback; a loaded machine is no failure, so stores are waited for patiently."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cascade import Cascade, Policy
from cascade.emulator import Emulator
from cascade.emulator.scripting import ScriptedReply
from tests.live.conftest import (  # noqa: F401 - fixtures
    _no_credentials,
    asking,
    connections,
    emulate,
    ladder,
    script,
)

PATIENT_S = 60.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request gives the store up because the machine is busy."""
    monkeypatch.setattr("cascade.response_cache.cache.WAIT_S", PATIENT_S)
    monkeypatch.setattr("cascade.response_cache.sqlite_store._BUSY_S", PATIENT_S)


def echo(body: dict[str, Any], _headers: Mapping[str, str]) -> ScriptedReply:
    """An answer that tells what was asked, in a few words: no two prompts have the same one."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    tools = "+".join(tool["name"] for tool in body.get("tools") or ())
    system = "short" if "Be short." in json.dumps(body.get("system")) else ""
    return ScriptedReply([{"type": "text", "text": f"{digest[:12]} {tools} {system} END of it"}], confidence=0.9)


def cached(**more: Any) -> Policy:
    """A policy that caches every request; `more` are keys of the policy."""
    return ladder(**{"cache": {"requests": "all"}, **more})


@pytest.fixture
def echoing() -> Iterator[Emulator]:
    """An emulator that answers with `echo`."""
    with Emulator(script=echo) as emulator:
        yield emulator


Drive = Callable[..., Cascade]


@pytest.fixture
def drive(echoing: Emulator, tmp_path: Path) -> Iterator[Drive]:
    """Make sync drivers of a policy on the echoing emulator, that share a store."""
    with ExitStack() as stack:

        def make(policy: Policy, **options: Any) -> Cascade:
            client = stack.enter_context(anthropic.Anthropic(api_key="test", base_url=echoing.base_url))
            options.setdefault("cache", tmp_path / "answers.sqlite3")
            return stack.enter_context(Cascade(policy, client=client, **options))

        yield make
