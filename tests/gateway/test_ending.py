"""How a gateway ends: what runs is finished, or cancelled and recorded; nothing is left behind. And workers, as processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cascade.core.errors import ConfigurationError, MissingKey
from cascade.emulator import Emulator
from cascade.gateway.server import bind, check_settings
from cascade.gateway.settings import GatewaySettings, Limits, Route, parse_route, upstream_of
from cascade.ledger.opening import open_reader
from cascade.ledger.requests import gather
from tests.cli.conftest import Run
from tests.cli.within import run
from tests.gateway.serving import Endpoint, Gateway, chunk, json_response, policy_file, received, sse_response
from tests.gateway.test_climbing import asked, script
from tests.gateway.test_keys import wait_until
from tests.gateway.test_relay import ANSWER, CLAUDE_CODE_BODY, START, post

__all__ = ["run"]


def test_at_its_end_running_requests_are_answered_and_no_new_ones_taken(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """Those of keep-alive connections too, which close after their response."""
    go = threading.Event()
    upstream = endpoint(lambda: go.wait(20), json_response(ANSWER))
    gateway = start(upstream.base_url)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(post(CLAUDE_CODE_BODY, {}, close=False))
        assert upstream.arrived.acquire(timeout=20)
        ending = threading.Thread(target=gateway.stop)
        ending.start()
        wait_until(lambda: not accepts(gateway.port))
        go.set()
        response = received(connection)
    ending.join(20)
    assert response.startswith(b"HTTP/1.1 200 ")
    assert response.endswith(ANSWER)
    assert [record.outcome is not None and record.outcome.resolved for record in gateway.records()] == [True]


def accepts(port: int) -> bool:
    """Whether anybody listens at the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionError:
        return False
    return True


@pytest.mark.parametrize("climbs", [False, True])
def test_what_does_not_end_in_time_is_cancelled_and_recorded(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint], climbs: bool
) -> None:
    """Its connection to the endpoint is closed; the row says what is known of its cost."""
    never = threading.Event()
    head, first, *_ = sse_response(START)
    pieces = () if climbs else (head, first)
    upstream = endpoint(*pieces, lambda: never.wait(20))
    gateway = start(upstream.base_url, limits=Limits(grace_s=0.1))
    body = json.dumps(asked()).encode() if climbs else CLAUDE_CODE_BODY
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(post(body, {}, close=False, target="/v1/messages"))
        assert upstream.arrived.acquire(timeout=20)
        seen = b""
        while not climbs and START not in seen:
            seen += connection.recv(65536)
        gateway.stop()
    assert upstream.exchanges[0].gone.wait(20)
    never.set()
    (record,) = gateway.records()
    assert record.outcome is not None
    assert record.outcome.error == "cancelled"
    if not climbs:
        assert (record.steps[0][1].input_tokens, record.steps[0][1].is_estimate) == (1000, True)


@contextmanager
def serving(folder: Path, *arguments: str, upstream: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`cascade serve` as a process, and its address."""
    environment = {**os.environ, "ANTHROPIC_API_KEY": "k", "CASCADE_HOME": str(folder), "PYTHONWARNINGS": "ignore"}
    environment["ANTHROPIC_BASE_URL"] = "http://127.0.0.1:1"  # the gateway's own address, as its callers set it
    command = [
        sys.executable, "-m", "cascade", "serve", "--port", "0", "--upstream", upstream, "--json",
        "--policy", str(policy_file(folder)), "--ledger", str(folder / "ledger.db"), *arguments,
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr is not None else ""
            yield process, json.loads(line)["base_url"]
        finally:
            process.kill()


def fetch(url: str, body: dict[str, Any] | None = None, timeout: float = 30) -> dict[str, Any]:
    """A response's JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"anthropic-version": "2023-06-01", "content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        return json.loads(response.read())


def test_sigterm_under_load_loses_nothing(tmp_path: Path, emulate: Callable[..., Emulator]) -> None:
    """Each request that was answered is on the ledger, each that was billed too; the command's exit code is 0."""
    emulator = emulate(script=script, token_latency_s=0.002)
    answered: list[str] = []
    with serving(tmp_path, upstream=emulator.base_url) as (process, base_url):

        def load(model: str) -> None:
            try:
                while True:
                    answered.append(fetch(f"{base_url}/v1/messages", asked("hard", model=model))["id"])
            except OSError:  # it has ended
                return

        models = ["claude-cascade-small", "claude-sonnet-5-5"] * 3
        threads = [threading.Thread(target=load, args=(model,)) for model in models]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answered) >= 12, 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        for thread in threads:
            thread.join(30)
    reader = open_reader(str(tmp_path / "ledger.db"))
    records = list(gather(reader))
    reader.close()
    resolved = [record for record in records if record.outcome is not None and record.outcome.resolved]
    assert len(resolved) >= len(answered)
    assert all(record.outcome is not None for record in records)
    assert sum(len(record.steps) for record in records) >= emulator.billed.replies


def test_workers_share_what_they_know(tmp_path: Path, emulate: Callable[..., Emulator], redis_server: Any) -> None:
    """Two processes behind one address: whichever is asked knows the other's answers, and SIGTERM ends both."""
    emulator = emulate(script=script)
    arguments = ("--workers", "2", "--state", redis_server.url)
    with serving(tmp_path, *arguments, upstream=emulator.base_url) as (process, base_url):
        wait_until(lambda: is_up(base_url), 6)
        pids: set[int] = set()

        def both() -> bool:
            with ThreadPoolExecutor(8) as together:  # one at a time, the first worker might take them all
                pids.update(found["pid"] for found in together.map(fetch, [f"{base_url}/healthz"] * 16))
            return len(pids) == 2

        wait_until(both, 6)
        assert fetch(f"{base_url}/v1/messages", asked("hard"))["model"] == "claude-sonnet-5-5"
        with urllib.request.urlopen(f"{base_url}/metrics", timeout=30) as response:  # of both, whichever answers
            metrics = response.read().decode()
        assert 'cascade_requests_total{arm="cascade",outcome="answered",policy="small",task="other"} 1.0' in metrics
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 3)


def is_up(base_url: str) -> bool:
    """Whether it answers."""
    try:
        return fetch(f"{base_url}/healthz", timeout=5)["status"] in ("ok", "degraded")
    except OSError:
        return False


def test_several_workers_need_a_shared_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets and tool loops would be each worker's own."""
    monkeypatch.delenv("CASCADE_STATE", raising=False)
    settings = GatewaySettings(workers=2, ledger=str(tmp_path / "l.db"))
    with pytest.raises(ConfigurationError, match=r"--workers 2: .*--state redis://"):
        check_settings(settings)
    monkeypatch.setenv("CASCADE_STATE", "redis://127.0.0.1:6379/0")
    check_settings(settings)


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """In one line, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = GatewaySettings(port=other.getsockname()[1], ledger=str(tmp_path / "l.db"))
        with pytest.raises(ConfigurationError, match=r"cannot listen on 127\.0\.0\.1:\d+: .*--port"):
            bind(settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--route", "claude-opus"), "--route 'claude-opus': write PATTERN=POLICY"),
        (("--route", "claude-opus-*=nope", "--upstream", "http://127.0.0.1:1"), "no such policy is served"),
        (("--upstream", "api.anthropic.com"), "--upstream: this is not an endpoint's address"),
        (("--upstream", "https://user:secret@host"), "--upstream: this is not an endpoint's address"),
        (("--policy", "nope", "--upstream", "http://127.0.0.1:1"), "there is no policy 'nope'"),
        (("--host", "0.0.0.0"), "without keys anybody could spend your money"),
        (("--workers", "2"), "needs a shared state"),
        (
            ("--policy", "default", "--policy", "default", "--upstream", "http://127.0.0.1:1"),
            "this file is given twice",
        ),
    ],
)
def test_what_it_cannot_be_started_with_is_told_in_one_line(
    run: Run, arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    """With exit code 2, before anything listens for long."""
    ended = run(
        "serve", "--port", "0", "--ledger", str(tmp_path / "l.db"), *arguments, environment={"ANTHROPIC_API_KEY": "k"}
    )
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert "secret" not in ended.err


@pytest.mark.parametrize("arguments", [(), ("--workers", "2", "--state", "redis://127.0.0.1:1/0")])
def test_without_credentials_it_does_not_say_that_it_serves(
    run: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """With several workers it is found out before any of them starts; `--json` holds for the error, too."""
    plain, as_json = (
        run("serve", "--port", "0", "--ledger", str(tmp_path / "l.db"), *arguments, *more, environment={})
        for more in ((), ("--json",))
    )
    assert (plain.code, plain.out, plain.err.count("\n")) == (2, "", 1)
    assert plain.err.startswith("cascade: ANTHROPIC_API_KEY is not set")
    assert (as_json.code, as_json.out) == (2, "")
    assert "ANTHROPIC_API_KEY is not set" in json.dumps(json.loads(as_json.err))


_LOSES_ITS_POLICY = """
import sys
from pathlib import Path
from cascade.core.errors import ConfigurationError
from cascade.gateway.server import bind, run_gateway
from cascade.gateway.settings import GatewaySettings

folder = Path(sys.argv[1])
settings = GatewaySettings(
    (str(folder / "small.yaml"),), port=0, workers=2, state=sys.argv[2], ledger=str(folder / "l.db")
)
try:
    run_gateway(settings, bind(settings), lambda models: (folder / "small.yaml").unlink())
except ConfigurationError as problem:
    sys.exit(str(problem))
"""


def test_a_worker_that_cannot_start_ends_the_gateway_with_an_error(tmp_path: Path, redis_server: Any) -> None:
    """Here the policy's file is removed between the check and the workers' start."""
    policy_file(tmp_path)
    environment = {**os.environ, "ANTHROPIC_API_KEY": "k", "CASCADE_HOME": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", _LOSES_ITS_POLICY, str(tmp_path), redis_server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 1
    assert "a worker could not start" in done.stderr


def test_without_a_key_of_its_own_it_says_what_to_do(
    start: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set one, or let the callers' own go upstream."""
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(MissingKey, match=r"ANTHROPIC_API_KEY .*--auth forward"):
        start("http://127.0.0.1:1")


def test_the_endpoint_s_address_is_never_the_callers_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """They set it to the gateway's own address, and it would call itself."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:8484")
    monkeypatch.delenv("CASCADE_UPSTREAM", raising=False)
    assert upstream_of(None) == "https://api.anthropic.com"
    monkeypatch.setenv("CASCADE_UPSTREAM", "https://eu.example/v1/")
    assert upstream_of(None) == "https://eu.example"
    assert upstream_of("http://localhost:9/") == "http://localhost:9"


def test_settings_reach_the_workers_as_they_are() -> None:
    """As JSON, and back."""
    settings = GatewaySettings(("a", "b"), (parse_route("claude-*=a"),), limits=Limits(body=5))
    assert settings.routes == (Route("claude-*", "a"),)
    assert GatewaySettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_a_caller_that_stops_in_the_middle_of_its_body_leaves_nothing(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """No request goes upstream, and none is recorded: nothing was asked yet."""
    upstream = endpoint(json_response(ANSWER))
    gateway = start(upstream.base_url)
    for part in (
        b"POST /v1/mess",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 900\r\n\r\n{",
        chunk(b"{"),
    ):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
            connection.sendall(part)
    assert gateway.send(post(CLAUDE_CODE_BODY, {})).startswith(b"HTTP/1.1 200 ")
    gateway.stop()
    assert len(upstream.exchanges) == len(gateway.records()) == 1


def test_its_extra_brings_what_the_command_needs() -> None:
    """The command line, and the check of schemas: with the bounds of their own extras."""
    root = Path(__file__).resolve().parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {*extras["cli"], *extras["schema"]} <= set(extras["gateway"])


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "aiohttp"])
def test_without_its_extra_it_says_what_to_install(module: str) -> None:
    """In one line."""
    code = f"import sys; sys.modules[{module!r}] = None; from cascade.cli import run_command; sys.exit(run_command(['serve']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "cascade: the gateway needs an optional dependency (pip install 'cascade-ladder[gateway]')\n"
