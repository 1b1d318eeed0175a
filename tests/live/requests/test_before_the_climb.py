"""What is found out before anything is paid, and what a driver leaves behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import weakref
from typing import Any

import pytest

import cascade
from cascade import Cascade, ConfigurationError, MissingKey, RequestError
from cascade.emulator import Emulator
from tests.live.conftest import HAIKU, Asking, Emulate, ladder
from tests.warm import WarmPython

from .test_credentials import ask, with_endpoint


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_key_that_a_later_rung_lacks_is_told_before_the_first_is_paid(
    way: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sonnet's key is missing: Haiku is not asked."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
    policy = with_endpoint(ladder(), 1, base_url=emulator.base_url, api_key_env="KEY_OF_SONNET")
    with pytest.raises(MissingKey, match="rung sonnet"):
        ask(way, policy)
    assert emulator.requests == ()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"deadline_s": "30"}, "deadline_s"),
        ({"deadline_s": float("inf")}, "deadline_s"),
        ({"deadline_s": float("nan")}, "deadline_s"),
        ({"deadline_s": 1e12}, "deadline_s"),
        ({"deadline_s": True}, "deadline_s"),
        ({"max_tokens": "30"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"response_model": {"type": "object"}}, "response_model"),
        ({"flags": "vip"}, "flags"),
        ({"system": 5}, "system"),
    ],
)
def test_a_bad_argument_is_a_request_error(
    asking: Asking, emulator: Emulator, arguments: dict[str, Any], says: str
) -> None:
    """One line that names the argument; nothing is sent."""
    with pytest.raises(RequestError, match=f"^{says}: "):
        asking(ladder(), emulator).ask("sure", **arguments)
    assert emulator.requests == ()


def test_more_than_a_model_can_answer_with_is_refused_before_anything_is_sent(
    asking: Asking, emulator: Emulator
) -> None:
    """The error names the rung, its model and the maximum; also where only a rung above the first has it."""
    with pytest.raises(RequestError, match=rf"max_tokens: 1000000000 .* rung haiku.* {HAIKU} .*128000"):
        asking(ladder(), emulator).ask("sure", max_tokens=10**9)
    first, second, top = ladder().ladder
    above = ladder().model_copy(
        update={"ladder": (first, second.model_copy(update={"model": "claude-haiku-4-5"}), top)}
    )
    with pytest.raises(RequestError, match=r"max_tokens: 64001 .* rung sonnet.* 64000"):
        asking(above, emulator).ask("sure", max_tokens=64_001)
    assert emulator.requests == ()


def test_citations_cannot_climb(asking: Asking, emulator: Emulator) -> None:
    """They do not go with the triage's JSON format; those inside a tool's result are found too."""
    document = {"type": "document", "source": {}, "citations": {"enabled": True}}
    cited = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [document]}]}
    with pytest.raises(RequestError, match="citations"):
        asking(ladder(), emulator).ask([cited])
    assert emulator.requests == ()


def test_a_models_thinking_is_not_given_to_another(asking: Asking, emulator: Emulator) -> None:
    """Thinking blocks are bound to their model: the history is sent without them."""
    thought = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]}
    turn = {"role": "user", "content": "sure"}
    assert asking(ladder(), emulator).ask([turn, thought, turn]).text == "haiku's"


def test_loops_are_let_go(emulate: Emulate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that calls asyncio.run again and again keeps none of its loops."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulate().base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
    policy = ladder()
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def once() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        assert (await cascade.aask("sure", policy=policy)).rung == "haiku"

    for _ in range(5):
        asyncio.run(once())
    gc.collect()
    assert [loop() for loop in loops[:-1]] == [None] * 4


_FORK = """
import os, sys, threading
import cascade
from cascade.engine.api import _shared

held = threading.Event()
done = threading.Event()

def hold():
    with _shared._lock:
        held.set()
        done.wait(30)

thread = threading.Thread(target=hold, daemon=True)
thread.start()
held.wait(30)
child = os.fork()
if child == 0:
    answer = cascade.ask("sure")
    os._exit(0 if answer.rung == "haiku" else 1)
_, status = os.waitpid(child, 0)
done.set()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_child_is_not_caught_in_its_parents_locks(emulate: Emulate, warm_python: WarmPython) -> None:
    """Forked while another thread holds a lock, the child answers all the same."""
    environment = {"ANTHROPIC_BASE_URL": emulate().base_url, "ANTHROPIC_API_KEY": "test", "HOME": "/nonexistent"}
    subprocess.run([warm_python.python, "-c", _FORK], env=environment, check=True, timeout=60)


def test_a_trip_to_one_endpoint_needs_no_key_of_another(emulator: Emulator) -> None:
    """A ladder whose every rung has its own keyless endpoint asks for no key at all."""
    policy = ladder()
    for number in range(3):
        policy = with_endpoint(policy, number, base_url=emulator.base_url)
    with Cascade(policy) as driver:
        assert driver.ask("sure").model == HAIKU


@pytest.mark.parametrize(
    ("options", "told"),
    [({"ledger": False}, 'ledger: False .*"off"'), ({"state": 5}, "state: int ")],
)
def test_what_is_no_address_is_refused(options: dict[str, Any], told: str) -> None:
    """`ledger=False` is a guess that anyone makes, and no file called False."""
    with pytest.raises(ConfigurationError, match=told):
        Cascade(ladder(), **options)


@pytest.mark.parametrize("metadata", ["x", {1: "x"}, {"a": ["x"]}, {"b": None}, ["customer"]])
def test_metadata_are_texts(asking: Asking, emulator: Emulator, metadata: Any) -> None:
    """Nothing is made a text that is none: the books would be wrong."""
    with pytest.raises(RequestError, match=r"^metadata: "):
        asking(ladder(), emulator).ask("sure", metadata=metadata)
