"""Other people's clients of the Messages API, each in a venv of its own, and the gateway between them and the emulator.

`make clients` installs the Python packages under .cache/clients, `make npm-sdk` the npm SDK under .cache/npm-sdk. Without them
these tests are skipped; where CASCADE_TESTS_REQUIRE names `clients` or `npm-sdk` they fail.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cascade.emulator import Emulator, ScriptedReply
from tests.servers import absent

HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
CLIMBING = "claude-cascade-default"

_ROOT = Path(__file__).resolve().parents[2]
_SCRIPTS = Path(__file__).resolve().parent / "scripts"
_CLIENTS = _ROOT / ".cache" / "clients"
_NPM_SDK = _ROOT / ".cache" / "npm-sdk"
_START_S = 60.0
_RUN_S = 120.0
_ORDER = {"number": "A-17", "count": 2}
_ANSWER = "It is mild in Paris: 14 degrees."


def script(body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
    """What the models say.

    Asked about the weather they call its tool; with its result Haiku answers with little confidence, and the others well. They
    read an order into whatever form is asked for; Haiku gives it to the next rung where it can, by the tool for that.
    """
    tools = {tool["name"]: tool for tool in body.get("tools", ())}
    last = body["messages"][-1]["content"]
    results = [block for block in last if block["type"] == "tool_result"] if isinstance(last, list) else []
    is_haiku = body["model"] == HAIKU
    if wanted := [name for name in tools if "count" in tools[name]["input_schema"].get("properties", {})]:
        if is_haiku and "cascade_escalate" in tools:
            return _call("cascade_escalate", {"reason": "the number may be a date"})
        number = "B-17" if any(block.get("is_error") for block in results) else "A-17"
        return _call(wanted[0], {**_ORDER, "number": number})
    if "get_weather" in tools and not results:
        return _call("get_weather", {"city": "Paris"})
    if is_haiku and results:
        return _text("Haiku's guess", 0.4)
    if "count" in json.dumps([body.get("system"), body.get("output_config")]):
        return _text(json.dumps(_ORDER), 0.9)
    return _text(_ANSWER, 0.9)


def _call(name: str, values: Mapping[str, Any]) -> ScriptedReply:
    return ScriptedReply([{"type": "tool_use", "name": name, "input": values}])


def _text(text: str, confidence: float) -> ScriptedReply:
    return ScriptedReply([{"type": "text", "text": text}], confidence=confidence)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """The Messages API, played by `script`."""
    with Emulator(script=script) as running:
        yield running


class Asked:
    """The models that an emulator was asked for a message since the last look, in order."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._seen = len(emulator.requests)

    def __call__(self) -> list[str]:
        """Those since it was made, or since the last call."""
        requests = self._emulator.requests[self._seen :]
        self._seen += len(requests)
        return [request.body["model"] for request in requests if request.path.partition("?")[0] == "/v1/messages"]


@dataclass(frozen=True)
class Gateway:
    """`cascade serve` in a process of its own."""

    base_url: str
    emulator: Emulator


@pytest.fixture(scope="module")
def gateway(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway in front of the emulator; requests for Opus climb by a route."""
    home = tmp_path_factory.mktemp("gateway")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "cascade", "serve", "--policy", "default", "--port", str(port)]
    environment = {**os.environ, "CASCADE_HOME": str(home), "ANTHROPIC_API_KEY": "upstream-key"}
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(
            [*command, "--upstream", emulator.base_url, "--route", "claude-opus-*=default"],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        ) as process,
    ):  # fmt: skip
        try:
            _wait_for(port, process, home / "log")
            yield Gateway(f"http://127.0.0.1:{port}", emulator)
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"the gateway did not start: {log.read_text(errors='replace')[-2000:]}")


def run_python(client: str, base_url: str, model: str, *cases: str) -> dict[str, Any]:
    """Run cases of scripts/use_CLIENT.py in that client's venv; what each printed."""
    python = _CLIENTS / client.replace("_", "-") / "bin" / "python"
    if not python.is_file():
        absent("clients", f"{client} is not installed under .cache/clients (make clients)")
    return _run([str(python), str(_SCRIPTS / f"use_{client}.py"), base_url, model, "callers-key", *cases])


def run_npm_sdk(base_url: str, model: str, *cases: str) -> dict[str, Any]:
    """Run cases of scripts/use_npm_sdk.mjs; what each printed."""
    node = shutil.which("node")
    if node is None or not (_NPM_SDK / "node_modules" / "@anthropic-ai" / "sdk").is_dir():
        absent("npm-sdk", "the npm SDK is not installed under .cache/npm-sdk (make npm-sdk, needs npm)")
    return _run([node, str(_SCRIPTS / "use_npm_sdk.mjs"), str(_NPM_SDK), base_url, model, "callers-key", *cases])


def _run(command: list[str]) -> dict[str, Any]:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_RUN_S, check=False
    )
    if done.returncode:
        pytest.fail(f"{Path(command[1]).name}: {done.stdout[-1000:]}{done.stderr[-3000:]}", pytrace=False)
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    return {case.pop("case"): case for case in printed}
