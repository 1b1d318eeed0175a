"""Time that runs out, and people who no longer want to wait: the climb stops, and what it leaves behind works on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time

import anthropic
import pytest

from cascade import AsyncCascade, DeadlineExceeded, RequestError
from cascade.emulator import Emulator
from tests.live.conftest import COST, HAIKU, OPUS, SONNET, Asking, Emulate, Script, ladder, reasons
from tests.warm import WarmPython

SLACK_S = 1.5  # what a busy machine may add: less than any reply of a slow server takes by itself
SLOW = "trickle,delay_s=0.05"  # a reply takes some five seconds
LONG = 30_000  # max_tokens: above this replies are streamed
# It never ends, but never is silent either: no time-out of a single read would notice.
ENDLESS = (200, {"x-endless": "1", "content-length": "1000000", "content-type": "application/json"}, b" ")
ENDLESS_STREAM = (
    200,
    {"x-endless": "1", "content-length": "1000000", "content-type": "text/event-stream"},
    b'event: message_delta\ndata: {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 5}}\n\n',
)


@pytest.mark.parametrize("fault", ["timeout", SLOW])
@pytest.mark.parametrize("max_tokens", [500, LONG], ids=["whole", "streamed"])
def test_the_deadline_stops_a_climb_that_has_nothing(
    asking: Asking, emulate: Emulate, fault: str, max_tokens: int
) -> None:
    """A server that is silent, and one that says a little now and then: within the bound, with the trail."""
    driver = asking(ladder(max_tokens=max_tokens), emulate(faults=fault))
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="raise deadline_s") as caught:
        driver.ask("sure", deadline_s=0.4)
    assert 0.4 <= time.monotonic() - started < 0.4 + SLACK_S
    assert {step.verdict.detail for step in caught.value.steps} == {"timeout"}


@pytest.mark.parametrize(
    ("max_tokens", "response"), [(500, ENDLESS), (LONG, ENDLESS_STREAM)], ids=["whole", "streamed"]
)
def test_a_body_that_never_ends_is_no_way_round_the_deadline(
    asking: Asking, script: Script, max_tokens: int, response: tuple[int, dict[str, str], bytes]
) -> None:
    """Every rung has its share of the time, and none more than that."""
    driver = asking(ladder(max_tokens=max_tokens), script(response))
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught:
        driver.ask("sure", deadline_s=0.4)
    assert 0.4 <= time.monotonic() - started < 0.4 + SLACK_S
    assert [step.rung for step in caught.value.steps] == ["haiku", "sonnet", "opus"]


@pytest.mark.parametrize("fault", ["timeout", SLOW])
def test_the_deadline_ships_the_best_held(asking: Asking, emulate: Emulate, fault: str) -> None:
    """What was held goes out, marked `deadline`, and the bound holds."""
    emulator = emulate(faults=f"{fault},model={SONNET};{fault},model={OPUS}")
    answer = asking(ladder(deadline_s=0.4), emulator).ask("unsure")
    assert (answer.text, answer.rung, answer.degraded) == ("haiku's", "haiku", "deadline")
    assert 0.4 <= answer.latency_s < 0.4 + SLACK_S
    assert answer.steps[0].cost_nanousd == answer.cost_nanousd == COST["haiku"]


def test_a_rung_that_hangs_leaves_half_the_time_to_those_above(asking: Asking, emulate: Emulate) -> None:
    """Haiku takes its half and no more; Sonnet answers in time."""
    answer = asking(ladder(), emulate(faults=f"timeout,model={HAIKU}")).ask("sure", deadline_s=0.6)
    assert (answer.text, answer.degraded, reasons(answer)) == ("sonnet's", None, ["error", None])
    assert 0.3 <= answer.latency_s < 0.3 + SLACK_S
    assert 0.3 <= answer.steps[0].latency_s <= answer.latency_s


def test_a_deadline_is_for_the_whole_climb(asking: Asking, emulate: Emulate) -> None:
    """Slow rungs one after the other share it: each step's time adds up to no more."""
    emulator = emulate(token_latency_s=0.02)  # 20 tokens, 0.4 s a reply
    answer = asking(ladder(), emulator).ask("hard", deadline_s=1.2)
    assert answer.degraded == "deadline"
    assert answer.latency_s < 1.2 + SLACK_S


INTERRUPTED = """
import asyncio, sys, warnings
import anthropic
from cascade import AsyncCascade, Cascade, UncertifiedWarning, load_policy

warnings.simplefilter("ignore", UncertifiedWarning)

async def ask_async(ladder, text):
    return await ladder.ask(text)

def ask(text):
    return asyncio.run(ask_async(waiting, text)) if sys.argv[1] == "async" else waiting.ask(text)

waiting = (AsyncCascade if sys.argv[1] == "async" else Cascade)(load_policy(sys.argv[2]))
print(ask("sure"))
try:
    ask("sure")
except KeyboardInterrupt:
    print("interrupted")
print(ask("sure"))
"""


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("max_tokens", [500, LONG], ids=["whole", "streamed"])
def test_ctrl_c_stops_a_climb_at_once(
    emulate: Emulate, tmp_path: object, warm_python: WarmPython, way: str, max_tokens: int
) -> None:
    """KeyboardInterrupt comes through while a rung hangs, is not retried, and the ladder answers the next request."""
    emulator = emulate(faults="timeout,after=1,times=1")  # the second request is never answered
    policy = f"{tmp_path}/policy.yaml"
    with open(policy, "w", encoding="utf-8") as file:  # noqa: PTH123 - JSON is YAML
        file.write(ladder(max_tokens=max_tokens).model_dump_json(exclude_unset=True))
    environment = {**os.environ, "ANTHROPIC_API_KEY": "test", "ANTHROPIC_BASE_URL": emulator.base_url}
    command = [warm_python.python, "-c", INTERRUPTED, way, policy]
    with subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True) as child:
        until = time.monotonic() + 60
        while len(emulator.requests) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        try:
            done = child.communicate(timeout=60)
        finally:
            child.kill()
    assert done == ("haiku's\ninterrupted\nhaiku's\n", "")
    assert len(emulator.requests) == 3


def test_cancelling_the_task_stops_the_climb(emulate: Emulate) -> None:
    """CancelledError comes through, the server sees the connection go, and the next request is answered."""
    emulator = emulate(faults="timeout,times=1")

    async def scene() -> str:
        async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="test") as client:
            cascade = AsyncCascade(ladder(), client=client)
            task = asyncio.create_task(cascade.ask("sure"))
            async with asyncio.timeout(10):
                while not emulator.requests:  # noqa: ASYNC110 - it comes from another thread
                    await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return str(await cascade.ask("sure"))

    assert asyncio.run(scene()) == "haiku's"
    assert len(emulator.requests) == 2
    assert emulator.billed.replies == 1


def test_a_callers_own_time_limit_is_theirs(emulate: Emulate) -> None:
    """asyncio.timeout around `ask` raises TimeoutError to the caller; we do not take it for a rung's."""
    emulator = emulate(faults="timeout")

    async def scene() -> None:
        async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="test") as client:
            async with asyncio.timeout(0.2):
                await AsyncCascade(ladder(), client=client).ask("sure")

    with pytest.raises(TimeoutError):
        asyncio.run(scene())
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("deadline_s", [0, -1, float("nan")])
def test_a_deadline_that_is_none_is_refused(asking: Asking, emulator: Emulator, deadline_s: float) -> None:
    """Before anything is asked."""
    with pytest.raises(RequestError, match=r"deadline_s: "):
        asking(ladder(), emulator).ask("sure", deadline_s=deadline_s)
    assert emulator.requests == ()
