"""The overhead of `ask` over the bare SDK call: `python benchmarks/overhead.py [--pairs N]`.

Each pair is one `Cascade.ask` and one bare `messages.create` with the same parameters, interleaved, each over its own
loopback connection to the emulator, which runs in another process. Reported are the median of the paired differences and
its quartiles; single times on a noisy machine mean little. `decide` and the imports are measured separately.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anthropic

from cascade import Cascade
from cascade.claude.wire import parameters
from cascade.core.decision import Situation, decide
from cascade.core.messages import Request
from cascade.core.policy import Policy
from cascade.core.requests import read_messages
from cascade.core.trail import Step, Verdict
from cascade.core.triage import build_prompt
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, write_corpus
from cascade.corpora.items import RecordedUsage
from cascade.policy.loading import load_policy

SIZES = (1_000, 10_000, 100_000)
_FILLER = "The customer wrote that the parcel had not arrived, and asked us whether we could find it. "

_SERVER = """
import sys
from cascade.emulator import Emulator
with Emulator(sys.argv[1]) as emulator:
    print(emulator.base_url, flush=True)
    sys.stdin.read()
"""


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=600, help="pairs for each prompt size (default 600)")
    pairs: int = parser.parse_args().pairs
    policy = load_policy("default", environment={})
    print(f"{pairs} interleaved pairs a size; medians, with the quartiles of the paired difference")
    print("prompt        ask ms   bare ms   difference ms   [quartiles]")
    medians: dict[int, float] = {}
    with _emulator(policy) as base_url:
        for size in SIZES:
            asks, bares = _measure(policy, base_url, size, pairs)
            differences = sorted(ask - bare for ask, bare in zip(asks, bares, strict=True))
            low, middle, high = statistics.quantiles(differences, n=4)
            medians[size] = middle
            print(
                f"{size / 1000:>5.0f} KB  {statistics.median(asks) * 1e3:>9.3f} {statistics.median(bares) * 1e3:>9.3f}"
                f" {middle * 1e3:>15.3f}   [{low * 1e3:.3f}, {high * 1e3:.3f}]"
            )
    print(f"100 KB over 1 KB: {medians[100_000] / medians[1_000]:.2f}")
    print(f"decide: {_decide_us(policy):.2f} µs")
    ours, theirs = _import_s("cascade"), _import_s("anthropic")
    with_ask = _import_s("cascade.engine")
    print(f"import cascade: {ours:.3f} s; import cascade.engine: {with_ask:.3f} s; import anthropic: {theirs:.3f} s")
    print(f"cascade over anthropic: {ours / theirs:.3f}; cascade.engine over anthropic: {with_ask / theirs:.3f}")


def _text(size: int) -> str:
    return (_FILLER * (size // len(_FILLER) + 1))[:size]


@contextmanager
def _emulator(policy: Policy) -> Iterator[str]:
    """The emulator in another process, so that its work is not measured; Haiku answers every request."""
    entries = tuple(LadderEntry(rung.rung, rung.model) for rung in policy.ladder)
    usage: RecordedUsage = {"input_tokens": 300, "output_tokens": 40}
    answer = "It left our warehouse this morning and arrives on Thursday." * 2
    items = tuple(
        Item(f"size-{size}", _text(size), {policy.ladder[0].rung: RecordedReply(0.95, answer, 1.0, usage)})
        for size in SIZES
    )
    folder = Path(__file__).parent / ".cache"
    folder.mkdir(exist_ok=True)
    path = folder / "overhead.jsonl"
    write_corpus(path, Manifest("overhead", entries, synthetic=True), items)
    command = [sys.executable, "-c", _SERVER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


def _measure(policy: Policy, base_url: str, size: int, pairs: int) -> tuple[list[float], list[float]]:
    prompt = _text(size)
    bare_parameters = parameters(build_prompt(policy, 0, Request(read_messages(prompt))))
    with (
        anthropic.Anthropic(base_url=base_url, api_key="none", max_retries=0) as ours,
        anthropic.Anthropic(base_url=base_url, api_key="none", max_retries=0) as theirs,
    ):
        driver = Cascade(policy, client=ours)

        def ask() -> None:
            assert driver.ask(prompt).attempts == 1

        def bare() -> None:
            message = theirs.messages.create(**bare_parameters, timeout=60.0)
            assert message.stop_reason == "end_turn"

        for _ in range(20):
            ask()
            bare()
        asks: list[float] = []
        bares: list[float] = []
        for number in range(pairs):  # A B, B A, …: the order favours neither
            order = ((ask, asks), (bare, bares)) if number % 2 else ((bare, bares), (ask, asks))
            for call, times in order:
                times.append(_seconds(call))
    return asks, bares


def _seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _decide_us(policy: Policy) -> float:
    trail = (Step(0, "haiku", "claude-haiku-5-5", Verdict("answered", 0.5, "self_reported", "text")),)
    situation, n = Situation(), 20_000
    return min(timeit.repeat(lambda: decide(policy, "other", trail, situation), number=n, repeat=5)) / n * 1e6


def _import_s(module: str) -> float:
    """The median of seven fresh interpreters, less an empty one's."""

    def run(code: str) -> float:
        return _seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True) and None)

    return statistics.median(run(f"import {module}") - run("pass") for _ in range(7))


if __name__ == "__main__":
    main()
