"""The whole library at work over loopback: policies and corpora built in code, the emulator, both ways to ask."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from contextvars import copy_context
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, Self

import anthropic
import pytest

from cascade import Answer, AsyncCascade, Cascade, Plan, Policy, Result
from cascade.core.policy import Retry
from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply
from cascade.emulator import Emulator
from cascade.engine.arguments import Arguments

HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
MODELS = {"haiku": HAIKU, "sonnet": SONNET, "opus": OPUS}
USAGE = {"input_tokens": 100, "output_tokens": 20}
# At the list prices of the three models, in nano-USD: what one reply of USAGE costs.
COST = {"haiku": 100 * 100 + 20 * 500, "sonnet": 100 * 2_000 + 20 * 10_000, "opus": 100 * 4_000 + 20 * 20_000}
QUICK = Retry(attempts=3, max_wait_s=0.001)


def reply(confidence: float | None, answer: Any, **more: Any) -> RecordedReply:
    """A recorded reply; it costs COST of its rung, if no other usage is given."""
    more.setdefault("usage", USAGE)
    return RecordedReply(confidence, answer, 1.0, **more)


def corpus(*items: Item, models: Mapping[str, str] = MODELS) -> Corpus:
    """A corpus in memory."""
    return Corpus(Manifest("live", tuple(LadderEntry(rung, model) for rung, model in models.items())), items)


def item(text: str, *replies: RecordedReply) -> Item:
    """An item whose id is its text, with the replies of Haiku, Sonnet and Opus in this order."""
    return Item(text, text, dict(zip(MODELS, replies, strict=False)))


CORPUS = corpus(
    item("sure", reply(0.9, "haiku's"), reply(0.9, "sonnet's"), reply(None, "opus's")),
    item("unsure", reply(0.5, "haiku's"), reply(0.9, "sonnet's"), reply(None, "opus's")),
    item("hard", reply(0.5, "haiku's"), reply(0.6, "sonnet's"), reply(None, "opus's")),
    item("declined", reply(0.9, None), reply(0.9, None), reply(None, "opus's")),
    item("empty", reply(0.99, ""), reply(0.99, " \n"), reply(None, "opus's")),
    item("void", reply(0.99, ""), reply(0.99, ""), reply(None, "")),
    item("void above", reply(0.5, "haiku's"), reply(0.99, ""), reply(None, "")),
)


def ladder(*, thresholds: tuple[float, ...] = (0.8, 0.8), max_tokens: int = 500, **more: Any) -> Policy:
    """A policy of the three models; Haiku does not think. `more` are keys of the policy."""
    rungs: list[dict[str, Any]] = [
        {"rung": "haiku", "model": HAIKU, "threshold": thresholds[0], "thinking": "disabled"},
        {"rung": "sonnet", "model": SONNET, "threshold": thresholds[1]},
        {"rung": "opus", "model": OPUS},
    ]
    rungs = [{"max_tokens": max_tokens, **rung} for rung in rungs]
    return Policy.model_validate({"version": 1, "name": "live", "ladder": rungs, "retry": QUICK, **more})


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """What time it is."""
        return self.now


class Connections:
    """One client of each kind, and a loop for the async one: to make them anew for each test would take most of the time."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.sync_one = anthropic.Anthropic(api_key="test")
        self.async_one = anthropic.AsyncAnthropic(api_key="test")

    def close(self) -> None:
        """Close the clients, then the loop."""
        self.sync_one.close()
        self.runner.run(self.async_one.close())
        self.runner.close()


class Driver:
    """A policy at work on an endpoint, asked the sync or the async way."""

    def __init__(self, way: str, connections: Connections, policy: Policy, base_url: str, **options: Any) -> None:
        self._way, self._runner = way, connections.runner
        options.setdefault("chance", random.Random(0))
        if way == "sync":
            self._sync = Cascade(policy, client=connections.sync_one.with_options(base_url=base_url), **options)
        else:
            client = connections.async_one.with_options(base_url=base_url)
            self._async = AsyncCascade(policy, client=client, **options)

    def ask(self, prompt: Any, **more: Any) -> Answer:
        """Ask, and wait for the answer."""
        if self._way == "sync":
            return self._sync.ask(prompt, **more)
        return self._runner.run(self._async.ask(prompt, **more), context=copy_context())

    def respond(self, arguments: Arguments) -> Answer:
        """Answer a request that has been read, and wait for the answer."""
        if self._way == "sync":
            return self._sync.respond(arguments)
        return self._runner.run(self._async.respond(arguments), context=copy_context())

    def plan(self, goal: Any, **more: Any) -> Plan:
        """Plan a goal, and wait for the plan."""
        if self._way == "sync":
            return self._sync.plan(goal, **more)
        return self._runner.run(self._async.plan(goal, **more), context=copy_context())

    def run(self, plan: Any, **more: Any) -> Result:
        """Run a plan, and wait for its result."""
        if self._way == "sync":
            return self._sync.run(plan, **more)
        return self._runner.run(self._async.run(plan, **more), context=copy_context())

    def report_outcome(self, *given: Any, **more: Any) -> None:
        """Report whether an answer was right."""
        if self._way == "sync":
            self._sync.report_outcome(*given, **more)
        else:
            self._runner.run(self._async.report_outcome(*given, **more))

    def close(self) -> None:
        """Close the clients that it made for endpoints of their own."""
        if self._way == "sync":
            self._sync.close()
        else:
            self._runner.run(self._async.aclose())


class Asking(Protocol):
    """Make a driver: `asking(policy, endpoint)`."""

    def __call__(self, policy: Policy, endpoint: Endpoint, **options: Any) -> Driver:
        """A driver of the policy."""
        ...


class Endpoint(Protocol):
    """What can be asked."""

    @property
    def base_url(self) -> str:
        """Where it listens, without `/v1`."""
        ...


@pytest.fixture(scope="session")
def connections() -> Iterator[Connections]:
    """The clients of all drivers."""
    both = Connections()
    yield both
    both.close()


@pytest.fixture(params=["sync", "async"])
def asking(request: pytest.FixtureRequest, connections: Connections) -> Asking:
    """Make drivers of one way: each test runs both ways."""

    def make(policy: Policy, endpoint: Endpoint, **options: Any) -> Driver:
        return Driver(request.param, connections, policy, endpoint.base_url, **options)

    return make


Emulate = Callable[..., Emulator]


@pytest.fixture
def emulate() -> Iterator[Emulate]:
    """Start emulators, over CORPUS if over nothing else; they stop when the test ends."""
    with ExitStack() as stack:

        def start(source: Any = CORPUS, faults: Any = None, **options: Any) -> Emulator:
            return stack.enter_context(Emulator(source, faults=faults, **options))

        yield start


@pytest.fixture
def emulator(emulate: Emulate) -> Emulator:
    """A running emulator over CORPUS."""
    return emulate()


class Scripted:
    """An endpoint that gives these responses in turn, the last one for ever: for what the emulator does not say.

    Each is (status, headers, body); with the header x-endless the body comes again and again. `requests` counts,
    `models` tells which models were asked, `paths` where, `keys` with which credentials.
    """

    def __init__(self, *responses: tuple[int, Mapping[str, str], object]) -> None:
        self.models: list[str] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self._gone = threading.Event()
        script, models, paths, keys, gone = list(responses), self.models, self.paths, self.keys, self._gone

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status, headers, value = script[min(len(models), len(script) - 1)]
                models.append(asked.get("model", ""))  # a platform has it in the path
                paths.append(self.path)
                keys.append(self.headers["authorization"])
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for name, text in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(body)
                while "x-endless" in headers and not gone.wait(0.01):  # a piece now and then, until the client goes
                    self.wfile.write(body)

            def handle(self) -> None:
                with suppress(ConnectionError):
                    super().handle()

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def requests(self) -> int:
        """How many requests came in."""
        return len(self.models)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._gone.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


Script = Callable[..., Scripted]


@pytest.fixture
def script() -> Iterator[Script]:
    """Start scripted endpoints; they stop when the test ends."""
    with ExitStack() as stack:
        yield lambda *responses: stack.enter_context(Scripted(*responses))


def error_body(kind: str, message: str = "no", **more: Any) -> dict[str, Any]:
    """An error in the API's shape."""
    return {"type": "error", "error": {"type": kind, "message": message, **more}}


def message_body(text: str = "fine", **more: Any) -> dict[str, Any]:
    """A message in the API's shape."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": HAIKU,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
        **more,
    }


def verdict(confidence: object, answer: object) -> str:
    """The text of a triage reply."""
    return json.dumps({"confidence": confidence, "answer": answer})


def reasons(answer: Answer) -> list[str | None]:
    """Why each step did not ship, None for the one that did."""
    return [step.reason for step in answer.steps]


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """No test may find this machine's keys, profiles or endpoints."""
    for name in (
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_CUSTOM_HEADERS",
        "ANTHROPIC_PROFILE",
        "OPENAI_API_KEY",
        "OPENAI_ADMIN_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_CUSTOM_HEADERS",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "CASCADE_POLICY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
