"""The processes of the gateway's benchmark: the endpoint, the load, our gateway, and the peers in venvs of their own.

    with started(upstream()) as endpoint, started(cascade_gateway(endpoint.url)) as gateway: …

The peers are installed by pip under .cache/peers when they are first asked for; `Unavailable` says why one is not there.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

__all__ = [
    "MODEL",
    "Command",
    "Load",
    "Running",
    "Unavailable",
    "bare_handler",
    "cascade_gateway",
    "firstpass",
    "litellm",
    "redis",
    "started",
    "upstream",
    "version_of",
]

MODEL = "claude-haiku-5-5"
_HERE = Path(__file__).resolve().parent
_PEERS = _HERE.parent / ".cache" / "peers"
_PACKAGES = {"litellm": "litellm[proxy]", "firstpass": "firstpass"}
_START_S = 300.0  # LiteLLM takes twenty seconds on a quiet machine, and minutes on a busy one

# Handlers that make the call and nothing else, by the SDK and outside it: what any gateway on uvicorn costs at least.
_BARE = """
import sys, aiohttp, anthropic, pydantic_core, uvicorn

endpoint, port, kind = sys.argv[1:]

async def call_sdk(body):
    message = await client.messages.create(**pydantic_core.from_json(body))
    return pydantic_core.to_json(message)

async def relay(body):
    async with client.post(endpoint + "/v1/messages", data=body, headers={"content-type": "application/json"}) as response:
        return await response.read()

async def app(scope, receive, send):
    global client
    if client is None:
        client = aiohttp.ClientSession() if kind == "relay" else anthropic.AsyncAnthropic(
            base_url=endpoint, api_key="none", max_retries=0, http_client=anthropic.DefaultAioHttpClient())
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    reply = await (relay if kind == "relay" else call_sdk)(body) if body else b"{}"
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})

client = None
uvicorn.run(app, host="127.0.0.1", port=int(port), access_log=False, log_level="error", lifespan="off")
"""


class Unavailable(Exception):
    """A peer that cannot be had here."""


@dataclass(frozen=True)
class Command:
    """How to start a server. `ready`: the path that answers when it is up; empty: it takes connections; None: it prints its address."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    port: int = 0
    ready: str | None = None


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    name: str
    url: str
    process: subprocess.Popen[str]

    def pids(self) -> list[int]:
        """The process and all that it started."""
        found = [self.process.pid]
        for one in found:
            with suppress(OSError):
                for task in Path(f"/proc/{one}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        return found

    def cpu_s(self) -> float:
        """Seconds of processor time that it and its children have taken, by the scheduler's own count (nanoseconds)."""
        total = 0
        for pid in self.pids():
            with suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory_mb(self) -> float:
        """Resident memory of it and its children."""
        total = 0
        for pid in self.pids():
            with suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return total * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def started(command: Command) -> Iterator[Running]:
    """Run a server for as long as the block; its folder and home are its own. RuntimeError with its last words if it ends."""
    folder = Path(tempfile.mkdtemp(prefix="cascade-gateway-bench-"))
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "CASCADE_HOME": str(folder), **command.environment}
    log = folder / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command.argv,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if command.ready is None else errors,
            stderr=errors,
            text=True,
        )
    try:
        if command.ready is None:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
        else:
            url = f"http://127.0.0.1:{command.port}"
            _wait_for(command, process, log)
        if not url:
            raise RuntimeError(f"{command.name} did not start: {log.read_text()[-1500:]}")
        yield Running(command.name, url, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        if command.ready is not None:
            process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(command: Command, process: subprocess.Popen[str], log: Path) -> None:
    until = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            if not command.ready:
                socket.create_connection(("127.0.0.1", command.port), timeout=5).close()
                return
            with urlopen(f"http://127.0.0.1:{command.port}{command.ready}", timeout=5):
                return
        except HTTPError:  # it answers
            return
        except (URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"{command.name} does not answer: {log.read_text(errors='replace')[-1500:]}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def upstream(token_ms: float = 0.0, hold_s: float = 0.0) -> Command:
    """The endpoint of `gateway_upstream`."""
    script = str(_HERE / "gateway_upstream.py")
    return Command("endpoint", (sys.executable, script, "--token-ms", str(token_ms), "--hold-s", str(hold_s)))


def bare_handler(endpoint: str, kind: Literal["sdk", "relay"]) -> Command:
    """The smallest gateway that calls by the SDK, or relays the bytes by aiohttp."""
    port = _free_port()
    return Command(f"bare {kind}", (sys.executable, "-c", _BARE, endpoint, str(port), kind), {}, port, "/")


def cascade_gateway(endpoint: str, workers: int = 1, state: str | None = None) -> Command:
    """Our gateway, with the shipped policy; its ledger is on, `durability: batched` as it comes."""
    port = _free_port()
    argv = (
        sys.executable,
        "-m",
        "cascade",
        "serve",
        "--policy",
        "default",
        "--port",
        str(port),
        "--upstream",
        endpoint,
    )
    if workers > 1:
        argv += ("--workers", str(workers))
    if state:
        argv += ("--state", state)
    return Command(f"cascade, {workers} worker(s)", argv, {"ANTHROPIC_API_KEY": "none"}, port, "/healthz")


def redis() -> Command:
    """A shared state for several workers. Unavailable without redis-server."""
    program, port = shutil.which("redis-server"), _free_port()
    if program is None:
        raise Unavailable("redis-server is not installed: several workers of cascade need one")
    options = ("--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no")
    return Command("redis", (program, *options), {}, port, "")


def litellm(endpoint: str, workers: int = 1) -> Command:
    """LiteLLM's proxy, as peers/litellm.yaml says and without all that it can leave out."""
    port = _free_port()
    program = _peer("litellm") / "litellm"
    argv = (str(program), "--config", str(_HERE / "peers" / "litellm.yaml"), "--host", "127.0.0.1")
    environment = {
        "UPSTREAM": endpoint,
        "ANTHROPIC_API_BASE": endpoint,  # of its pass-through
        "ANTHROPIC_API_KEY": "none",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # the list in the package, not one from the network
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # no key: nothing to check
        "DISABLE_ADMIN_UI": "True",
        "NO_DOCS": "True",
    }
    more = ("--port", str(port), "--num_workers", str(workers))
    return Command(f"litellm, {workers} worker(s)", argv + more, environment, port, "/health/liveliness")


def firstpass(endpoint: str) -> Command:
    """firstpass, as peers/firstpass.toml says; it is one process with a thread for each core."""
    port = _free_port()
    program = _peer("firstpass") / "firstpass-proxy"
    environment = {
        "FIRSTPASS_BIND": f"127.0.0.1:{port}",
        "FIRSTPASS_MODE": "enforce",
        "FIRSTPASS_CONFIG": str(_HERE / "peers" / "firstpass.toml"),
        "FIRSTPASS_UPSTREAM_ANTHROPIC": endpoint,
        "ANTHROPIC_API_KEY": "none",
        "RUST_LOG": "error",
    }
    return Command("firstpass", (str(program),), environment, port, "/healthz")


def _peer(name: str) -> Path:
    """The folder of a peer's programs; its venv is made when it is not there."""
    folder, package = _PEERS / name, _PACKAGES[name]
    done = folder / ".ready"
    if not done.is_file():
        print(f"installing {package} into {folder.relative_to(_HERE.parent)} (once) ...", file=sys.stderr)
        python = folder / "bin" / "python"
        for argv in (
            (sys.executable, "-m", "venv", "--clear", str(folder)),
            (str(python), "-m", "pip", "install", "--quiet", package),
        ):
            made = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if made.returncode:
                said = (made.stderr or made.stdout).strip().splitlines()
                raise Unavailable(f"{package} could not be installed: {said[-1] if said else made.returncode}")
        done.touch()
    return folder / "bin"


def version_of(name: str) -> str:
    """The version of a peer that is installed."""
    code = f"import importlib.metadata; print(importlib.metadata.version({name!r}))"
    argv = (str(_PEERS / name / "bin" / "python"), "-c", code)
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


class Load:
    """The process of `gateway_load`: a context manager; each call is one of its jobs."""

    def __enter__(self) -> Self:
        argv = (sys.executable, str(_HERE / "gateway_load.py"))
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def __call__(self, do: str, **job: Any) -> Any:
        """Have a job done. RuntimeError when it fails (its traceback is on standard error)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"do": do, **job}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load ended during {do}")
        return json.loads(line)


if __name__ == "__main__":  # install the peers, and say which they are
    for peer in _PACKAGES:
        _peer(peer)
        print(peer, version_of(peer))
