"""Connections: many loops, threads, tasks and processes on one ladder; clients of all platforms."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.lib.bedrock import AnthropicBedrock, AsyncAnthropicBedrock
from anthropic.lib.vertex import AnthropicVertex, AsyncAnthropicVertex

import cascade
from cascade import AsyncCascade, Cascade, Policy, PolicyError
from cascade.corpora import Item
from cascade.emulator import Emulator
from tests.live.conftest import COST, MODELS, Emulate, Script, corpus, ladder, message_body, reply, verdict
from tests.warm import WarmPython

MANY = 64


@pytest.fixture(autouse=True)
def environment(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers make their own clients of this, as they do for most users."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test")


def test_one_async_ladder_serves_several_event_loops() -> None:
    """Across asyncio.run calls, without "Event loop is closed" and without a connection left open."""
    driver = AsyncCascade(ladder())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = [asyncio.run(driver.ask("unsure")) for _ in range(4)]
        gc.collect()
    assert [str(answer) for answer in answers] == ["sonnet's"] * 4


def test_aask_serves_several_event_loops() -> None:
    """The shared driver of a policy does too."""
    policy = ladder(name="aask")
    assert [str(asyncio.run(cascade.aask("sure", policy=policy))) for _ in range(3)] == ["haiku's"] * 3


def test_two_loops_at_once_have_a_client_each() -> None:
    """Loops in threads of their own, one driver, many requests in each."""
    driver = AsyncCascade(ladder())

    async def several() -> list[str]:
        return [str(answer) for answer in await asyncio.gather(*(driver.ask("hard") for _ in range(8)))]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: asyncio.run(several()), range(4)))
    assert results == [["opus's"] * 8] * 4


def many(count: int) -> tuple[Any, list[str]]:
    """A corpus whose every item has answers of its own, a third of them for each rung; and its texts."""
    confidences = [(0.9, 0.9), (0.1, 0.9), (0.1, 0.1)]
    items = [
        Item(
            f"q{n}",
            f"q{n}",
            {
                "haiku": reply(confidences[n % 3][0], f"h{n}"),
                "sonnet": reply(confidences[n % 3][1], f"s{n}"),
                "opus": reply(None, f"o{n}"),
            },
        )
        for n in range(count)
    ]
    return corpus(*items), [item.id for item in items]


def expected(count: int) -> list[str]:
    """What `many` is to be answered."""
    return [f"{'hso'[n % 3]}{n}" for n in range(count)]


def test_many_tasks_on_one_ladder_get_their_own_answers(emulate: Emulate, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 at once, each its own text, rung and cost."""
    source, texts = many(MANY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulate(source).base_url)

    async def scene() -> list[cascade.Answer]:
        async with AsyncCascade(ladder()) as driver:
            return await asyncio.gather(*(driver.ask(text) for text in texts))

    answers = asyncio.run(scene())
    assert [str(answer) for answer in answers] == expected(MANY)
    climbs = [COST["haiku"], COST["haiku"] + COST["sonnet"], sum(COST.values())]
    assert [answer.cost_nanousd for answer in answers] == [climbs[n % 3] for n in range(MANY)]
    assert len({answer.request_id for answer in answers}) == MANY


def test_many_threads_on_one_ladder_get_their_own_answers(emulate: Emulate, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 threads, the guard on, the client made by whoever comes first."""
    source, texts = many(96)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulate(source).base_url)
    with Cascade(ladder(storm_guard={"rate": 0.9})) as driver, ThreadPoolExecutor(16) as pool:
        assert [str(answer) for answer in pool.map(driver.ask, texts)] == expected(96)


FORKED = """
import os, sys, warnings
import cascade

warnings.simplefilter("ignore", cascade.UncertifiedWarning)

driver = cascade.Cascade(cascade.load_policy(sys.argv[1]))
print(driver.ask("hard"), flush=True)
child = os.fork()
text = str(driver.ask("hard"))
if child == 0:
    os.write(1, f"child {text}\\n".encode())
    os._exit(0)
_, status = os.waitpid(child, 0)
print("parent", text, status, driver.ask("sure"), flush=True)
"""


def test_a_forked_child_opens_connections_of_its_own(
    emulator: Emulator, tmp_path: Any, warm_python: WarmPython
) -> None:
    """Parent and child ask at the same time on a ladder that has open connections, and get whole answers."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(ladder().model_dump_json(exclude_unset=True))
    done = subprocess.run(
        [warm_python.python, "-c", FORKED, str(policy)], capture_output=True, text=True, timeout=60, check=False
    )
    lines = done.stdout.splitlines()
    assert (lines[0], sorted(lines[1:])) == ("opus's", ["child opus's", "parent opus's 0 haiku's"])
    assert done.stderr == ""


def test_a_given_client_stays_open(emulator: Emulator) -> None:
    """It is its owner's to close; what we made ourselves is closed, and made again when it is wanted."""
    with anthropic.Anthropic() as client:
        with Cascade(ladder(), client=client) as driver:
            driver.ask("sure")
        assert client.is_closed() is False
        assert str(Cascade(ladder(), client=client).ask("sure")) == "haiku's"
    own = Cascade(ladder())
    for _ in range(2):
        assert str(own.ask("sure")) == "haiku's"
        own.close()


def test_a_given_async_client_stays_open(emulator: Emulator) -> None:
    """The same, awaited."""

    async def scene() -> None:
        async with anthropic.AsyncAnthropic() as client:
            async with AsyncCascade(ladder(), client=client) as driver:
                await driver.ask("sure")
            assert client.is_closed() is False
            assert str(await AsyncCascade(ladder(), client=client).ask("sure")) == "haiku's"
        own = AsyncCascade(ladder())
        for _ in range(2):
            assert str(await own.ask("sure")) == "haiku's"
            await own.aclose()

    asyncio.run(scene())


def left_open() -> anthropic.AsyncAnthropic:
    """A client that outlives its loop; it keeps no connection that the next test would have to close."""
    limits = httpx2.Limits(max_keepalive_connections=0)
    return anthropic.AsyncAnthropic(http_client=anthropic.DefaultAsyncHttpxClient(limits=limits))


def test_a_given_async_client_serves_one_event_loop(emulator: Emulator) -> None:
    """Its connections die with their loop: in a second one it is refused before anything is sent, by every driver."""
    client = left_open()
    driver = AsyncCascade(ladder(), client=client)
    assert [str(asyncio.run(driver.ask("sure")))] == ["haiku's"]
    for again in (driver, AsyncCascade(ladder(), client=client)):
        with pytest.raises(cascade.ConfigurationError, match="used in another event loop"):
            asyncio.run(again.ask("sure"))
    assert len(emulator.requests) == 1

    async def scene() -> list[str]:
        async with anthropic.AsyncAnthropic() as fresh:
            driver = AsyncCascade(ladder(), client=fresh)
            return [str(await driver.ask("sure")) for _ in range(2)]

    assert asyncio.run(scene()) == ["haiku's"] * 2


def ask_closed() -> None:
    """Ask by a client that is closed."""
    client = anthropic.Anthropic()
    client.close()
    Cascade(ladder(), client=client).ask("sure")


def ask_closed_async() -> None:
    """The same, awaited."""

    async def scene() -> None:
        client = anthropic.AsyncAnthropic()
        await client.close()
        await AsyncCascade(ladder(), client=client).ask("sure")

    asyncio.run(scene())


@pytest.mark.parametrize("way", [ask_closed, ask_closed_async])
def test_a_given_client_that_is_closed_is_refused(emulator: Emulator, way: Callable[[], None]) -> None:
    """Nothing can be sent with it: that is not a connection that broke, and no rung is tried."""
    with pytest.raises(cascade.ConfigurationError, match="Anthropic is closed"):
        way()
    assert len(emulator.requests) == 0


def test_a_client_that_nobody_used_yet_may_go_to_any_loop(emulator: Emulator) -> None:
    """A request that is refused before it is sent does not tie the client to its loop."""
    driver = AsyncCascade(ladder(), client=left_open())
    with pytest.raises(cascade.RequestError):
        asyncio.run(driver.ask("  "))
    assert str(asyncio.run(driver.ask("sure"))) == "haiku's"


def test_a_given_clients_own_retries_are_switched_off(script: Script) -> None:
    """Only our policy retries: three attempts, not three times three; and the client itself is left as it was."""
    endpoint = script(*[(500, {}, {})] * 3, (200, {}, message_body(verdict(0.9, "s"))))
    with anthropic.Anthropic(base_url=endpoint.base_url, max_retries=2) as client:
        answer = Cascade(ladder(), client=client).ask("sure")
        assert client.max_retries == 2
    assert (answer.rung, endpoint.requests) == ("sonnet", 4)


PLATFORMS = {
    "bedrock": (
        {rung: f"us.anthropic.{model}-20251001-v1:0" for rung, model in MODELS.items()},
        {"api_key": "test", "aws_region": "us-east-1"},
        "/model/{}/invoke",
    ),
    "vertex": (
        {rung: f"{model}@20251001" for rung, model in MODELS.items()},
        {"access_token": "test", "project_id": "p", "region": "us-east5"},
        "/projects/p/locations/us-east5/publishers/anthropic/models/{}:rawPredict",
    ),
}
CLIENTS: dict[tuple[str, str], Any] = {
    ("bedrock", "sync"): AnthropicBedrock,
    ("bedrock", "async"): AsyncAnthropicBedrock,
    ("vertex", "sync"): AnthropicVertex,
    ("vertex", "async"): AsyncAnthropicVertex,
}


def platform_ladder(models: dict[str, str]) -> Policy:
    """The ladder by a platform's names."""
    rungs = [{**rung.model_dump(exclude_unset=True), "model": models[rung.rung]} for rung in ladder().ladder]
    return Policy.model_validate({**ladder().model_dump(exclude_unset=True), "ladder": rungs})


@pytest.mark.parametrize(("platform", "way"), CLIENTS)
def test_a_platforms_client_climbs_the_same_ladder(platform: str, way: str, script: Script) -> None:
    """Bedrock's and Vertex's clients, names and paths; prices are the platform's."""
    models, options, path = PLATFORMS[platform]
    endpoint = script(*[(200, {}, message_body(verdict(0.1, "hm")))] * 2, (200, {}, message_body("top")))
    policy, client = platform_ladder(models), CLIENTS[platform, way](base_url=endpoint.base_url, **options)
    if way == "sync":
        with client:
            answer = Cascade(policy, client=client).ask("sure")
    else:

        async def scene() -> cascade.Answer:
            async with client:
                return await AsyncCascade(policy, client=client).ask("sure")

        answer = asyncio.run(scene())
    more = {"bedrock": 1.1, "vertex": 1}  # in a region Bedrock takes a tenth more than Anthropic
    assert (str(answer), answer.cost_nanousd) == ("top", round(sum(COST.values()) * more[platform]))
    assert [step.model for step in answer.steps] == list(models.values())
    assert endpoint.paths == [path.format(model) for model in models.values()]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_ladders_checks_know_a_platforms_names(platform: str) -> None:
    """A ladder that jumps to Opus is refused by whatever names it does."""
    models, _, _ = PLATFORMS[platform]
    with pytest.raises(ValueError, match="past Sonnet"):
        platform_ladder({**models, "sonnet": models["opus"]})
    with pytest.raises(PolicyError, match="no price"):
        Cascade(platform_ladder({rung: f"{platform}-model-{rung}" for rung in models}))


@pytest.mark.skipif(find_spec("botocore") is not None, reason="botocore is installed")
def test_a_platforms_missing_package_is_told_in_one_line() -> None:
    """Signing needs a package that only Bedrock's users have: no traceback of the SDK's inside."""
    client = AnthropicBedrock(aws_access_key="a", aws_secret_key="b", aws_region="us-east-1")
    with pytest.raises(cascade.ConfigurationError, match=r"^client: [^\n]*botocore[^\n]*$"):
        Cascade(platform_ladder(PLATFORMS["bedrock"][0]), client=client).ask("sure")
