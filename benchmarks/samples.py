"""What asking a rung several times costs beyond its calls: `python benchmarks/samples.py [--pairs N] [--items N]`.

overhead    `ask` with a vote of five samples over five bare calls of the driver, in interleaved pairs, by sample
beyond      the time of such an `ask` beyond that of its own calls, by sample; and what a further sample adds to an `ask` that
            makes one call, in interleaved pairs
at_once     five samples at the same time over the slowest of the calls, at an endpoint that takes a fixed time
replay      votes of 1e6 items × 5 samples × 3 rungs, and the climbs that follow, vectorised, from memory

The endpoints are other processes on the loopback, so that their work is not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import numpy as np

from cascade import AsyncCascade, Cascade, Policy
from cascade.claude import Claude
from cascade.core.messages import Request
from cascade.core.requests import read_messages
from cascade.core.triage import build_prompt
from cascade.corpora import LadderEntry, Manifest
from cascade.replay.columns import Columns, MappedColumns, RungColumns
from cascade.replay.mapping import mapping_of
from cascade.replay.sampled import put_to_vote
from cascade.replay.vectorised import evaluate
from cascade.replay.votes import SampleColumns

_SAMPLES = 5
_DELAY_S = 0.1

# An endpoint that answers every request with the same message, after a fixed time.
_SERVER = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

delay = float(sys.argv[1])
text = json.dumps({"confidence": 0.9, "answer": "It left our warehouse this morning."})
body = json.dumps({
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-5-5", "stop_reason": "end_turn",
    "stop_sequence": None, "content": [{"type": "text", "text": text}], "usage": {"input_tokens": 300, "output_tokens": 40},
}).encode()

class Handler(BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(delay)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(f"http://127.0.0.1:{server.server_port}", flush=True)
import threading
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=300, help="pairs of votes (default 300)")
    parser.add_argument("--items", type=int, default=1_000_000, help="items to replay (default 1,000,000)")
    options = parser.parse_args()
    with _endpoint(0.0) as base_url:
        low, middle, high = _overhead(base_url, options.pairs)
        vote, further = _beyond(base_url, options.pairs)
    print(
        f"beyond its own calls: {vote * 1e3:.3f} ms a sample of a vote, {further * 1e3:.3f} ms each further sample (medians)"
    )
    print(
        f"overhead over bare calls: {middle * 1e3:.3f} ms a sample [{low * 1e3:.3f}, {high * 1e3:.3f}]"
        f" ({options.pairs} interleaved pairs of {_SAMPLES} samples; median and quartiles)"
    )
    with _endpoint(_DELAY_S) as base_url:
        for way, ratio in (("sync", _at_once(base_url)), ("async", asyncio.run(_at_once_async(base_url)))):
            print(
                f"at_once: {_SAMPLES}, {way}: {ratio:.3f} × the slowest single call (medians of 15, {_DELAY_S} s a call)"
            )
    _replay(options.items)


def _policy(**samples: Any) -> Policy:
    votes: dict[str, Any] = {"max": _SAMPLES, "agree": _SAMPLES, **samples}
    return Policy.model_validate(
        {
            "version": 1, "name": "votes",
            "ladder": [
                {"rung": "haiku", "model": "claude-haiku-5-5", "max_tokens": 500, "thinking": "disabled", "samples": votes},
                {"rung": "sonnet", "model": "claude-sonnet-5-5", "max_tokens": 500},
            ],
        }
    )  # fmt: skip


@contextmanager
def _endpoint(delay_s: float) -> Iterator[str]:
    command = [sys.executable, "-c", _SERVER, str(delay_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _overhead(base_url: str, pairs: int) -> tuple[float, ...]:
    """Quartiles of (a vote less its calls, made by the driver's own client), divided by the samples; in seconds."""
    policy = _policy()
    prompt = build_prompt(policy, 0, Request(read_messages("Where is my order?")))
    with (
        anthropic.Anthropic(base_url=base_url, api_key="none", max_retries=0) as ours,
        anthropic.Anthropic(base_url=base_url, api_key="none", max_retries=0) as theirs,
        Cascade(policy, client=ours, ledger="off") as driver,
    ):
        bare = Claude(policy.retry, theirs, clock=time.monotonic, chance=random.Random(0))

        def ask() -> None:
            assert len(driver.ask("Where is my order?").steps[0].samples) == _SAMPLES

        def calls() -> None:
            for _ in range(_SAMPLES):
                bare.call(prompt, time.monotonic() + 60)

        for _ in range(10):
            ask()
            calls()
        differences: list[float] = []
        for number in range(pairs):  # A B, B A, …: the order favours neither
            if number % 2:
                asked, called = _seconds(ask), _seconds(calls)
            else:
                called, asked = _seconds(calls), _seconds(ask)
            differences.append((asked - called) / _SAMPLES)
    return tuple(statistics.quantiles(differences, n=4))


def _beyond(base_url: str, pairs: int) -> tuple[float, float]:
    """Seconds beyond the calls: by sample of a vote; and of each further sample, over an `ask` that makes one call. Medians."""
    once = _policy().model_dump(exclude_unset=True)
    del once["ladder"][0]["samples"]
    once["ladder"][0]["threshold"], once["name"] = 0.0, "once"
    with (
        anthropic.Anthropic(base_url=base_url, api_key="none", max_retries=0) as client,
        Cascade(_policy(), client=client, ledger="off") as voting,
        Cascade(Policy.model_validate(once), client=client, ledger="off") as asking,
    ):
        votes: list[float] = []
        further: list[float] = []
        for number in range(pairs + 10):
            vote, single = _own_time(voting), _own_time(asking)
            if number >= 10:
                votes.append(vote / _SAMPLES)
                further.append((vote - single) / (_SAMPLES - 1))
    return statistics.median(votes), statistics.median(further)


def _own_time(driver: Cascade) -> float:
    """The time of one request less that of its calls."""
    started = time.perf_counter()
    answer = driver.ask("Where is my order?")
    return time.perf_counter() - started - sum(step.latency_s for step in answer.steps)


def _at_once(base_url: str) -> float:
    with anthropic.Anthropic(base_url=base_url, api_key="none", max_retries=0) as client:
        driver = Cascade(_policy(at_once=_SAMPLES), client=client, ledger="off")
        driver.ask("warm up")
        return statistics.median(_ratio(driver.ask("Where is my order?")) for _ in range(15))


async def _at_once_async(base_url: str) -> float:
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key="none", max_retries=0) as client:
        driver = AsyncCascade(_policy(at_once=_SAMPLES), client=client, ledger="off")
        await driver.ask("warm up")
        return statistics.median([_ratio(await driver.ask("Where is my order?")) for _ in range(15)])


def _ratio(answer: Any) -> float:
    """The time of the whole request over that of its slowest call."""
    return answer.latency_s / max(sample.latency_s for sample in answer.steps[0].samples)


def _replay(items: int) -> None:
    """Random samples of three rungs below the top, as columns; the policy asks each for four of five."""
    names = ("r0", "r1", "r2", "top")
    votes = {"max": _SAMPLES, "agree": 4}
    ladder: list[dict[str, Any]] = [
        {"rung": name, "model": name, "max_tokens": 100, "price": {"input": 1, "output": 1}, "samples": votes}
        for name in names[:-1]
    ]
    ladder.append({"rung": "top", "model": "top", "max_tokens": 100, "price": {"input": 1, "output": 1}})
    policy = Policy.model_validate({"version": 1, "name": "replayed", "ladder": ladder})
    manifest = Manifest("random", tuple(LadderEntry(name, name) for name in names), synthetic=True)
    columns, mapped = _columns(items, names, manifest, policy)
    times = [_seconds(lambda: evaluate(columns, put_to_vote(columns, mapped))) for _ in range(5)]
    voted = put_to_vote(columns, mapped)
    alone = min(_seconds(lambda: put_to_vote(columns, mapped)) for _ in range(3))
    outcomes = evaluate(columns, voted)
    shares = ", ".join(f"{name} {np.mean(outcomes.shipped == place):.2f}" for place, name in enumerate(names))
    print(
        f"replay of {items:,} items × {_SAMPLES} samples × 3 rungs: {min(times):.2f} s at best, {statistics.median(times):.2f} s"
        f" the median of {len(times)} (the votes alone {alone:.2f} s; shipped by {shares})"
    )


def _columns(n: int, names: tuple[str, ...], manifest: Manifest, policy: Policy) -> tuple[Columns, MappedColumns]:
    chance = np.random.default_rng(0)
    confidence, score, cost = chance.random(n).round(2), np.ones(n), np.full(n, 1_000, np.int64)
    answered = np.ones(n, np.int8)
    rungs = {name: RungColumns(confidence, score, cost, answered) for name in names}
    columns = Columns(
        "memory", manifest, [""] * n, np.arange(n, dtype=np.int32), np.arange(n, dtype=np.int32), np.full(n, np.nan), rungs
    )  # fmt: skip

    def samples() -> SampleColumns:
        right = chance.random(n)
        # An answer is the common one with a probability of its item's own, so that some votes agree and others do not.
        keys = tuple(
            np.where(chance.random(n) < right, 0, chance.integers(1, 4, n)).astype(np.int32) for _ in range(_SAMPLES)
        )
        states = tuple((chance.random(n) < 0.03).astype(np.int8) for _ in range(_SAMPLES))
        reports = tuple(chance.random(n).round(2) for _ in range(_SAMPLES))
        scores = tuple((key == 0).astype(np.float64) for key in keys)
        prompts = tuple(np.zeros(n, np.int32) for _ in range(_SAMPLES))
        costs = tuple(chance.integers(500, 2_000, n) for _ in range(_SAMPLES))
        return SampleColumns(("confidence_first",), prompts, states, {"normalized": keys}, reports, scores, costs)

    mapped = MappedColumns(
        mapping_of(policy, manifest), ("other",), np.zeros(n, np.int32), None, (None,) * len(names),
        (cost,) * len(names), (confidence,) * len(names), samples=(*(samples() for _ in names[:-1]), None),
        alone_cost=(cost,) * len(names),
    )  # fmt: skip
    return columns, mapped


if __name__ == "__main__":
    main()
