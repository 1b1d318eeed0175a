"""A batch run that is killed (kill -9) in every phase: `python benchmarks/batch_killed.py [--items N]`.

A process drives a run of a synthetic corpus through the emulator's batch endpoint, which lets requests expire and fail. It is
killed at one phase after the other, and started again. Compared with the live climb of the same inputs (without a storm guard):

- the outcomes are equal, and so is each item's trail of models; the spend is half
- nothing was answered and billed twice at the endpoint, and what it billed is what the run says it cost
- the ledger is sound, and has each item once, at the run's cost
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cascade import Cascade
from cascade.batch.calls import BatchLimits
from cascade.claude import connect
from cascade.core.trail import Answer
from cascade.corpora.reading import read_corpus
from cascade.emulator import Emulator
from cascade.hooks import Begun, Calling, Ended
from cascade.ledger.opening import flush_writers, open_reader
from cascade.ledger.verifying.verification import verify

PHASES = (
    "create:1",  # the first batch is about to be sent
    "created:1",  # it was created, its id is not known yet
    "list:1",  # it is being looked for
    "poll:1",  # it is under way
    "read:1",  # its results begin to come
    "page:1",  # results are stored, and none of them is climbed with
    "ledger:3",  # items are on their way to the ledger
    "written:2",  # they are on it, and the run does not know
    "create:1",  # the next batch is about to be sent
    "created:2",
    "read:2",
    "created:1",
    "written:5",
)
"""Where a process is killed, and at the how-maniest time it comes there."""

FAULTS = "expired=0.15;overloaded=0.1,on=items;slow_end,polls=1"
CORPUS = Path(__file__).parent / "corpora" / "history.jsonl.gz"

_POLICY = """version: 1
name: batch
ladder:
  - {rung: haiku,  model: claude-haiku-5-5,  threshold: 0.80, max_tokens: 1024, thinking: disabled}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 4096, effort: low}
  - {rung: opus,   model: claude-opus-5-5,   max_tokens: 8192}
deadline_s: 3600
"""

Start = Callable[[list[str], dict[str, str]], "tuple[subprocess.Popen[str], int]"]
"""Starts a Python with arguments and an environment. Returns the process, and the id that is to be killed."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run showed. `faults`: what is wrong, in words. Money in nano-USD."""

    items: int
    killed: int
    batches: int
    spent: int
    live: int
    shipped: dict[str, int]
    faults: tuple[str, ...] = ()


@dataclass
class _Kill:
    """Ends this process when it comes to a phase for the nth time."""

    phase: str
    nth: int
    seen: Counter[str] = field(default_factory=Counter[str])

    def at(self, phase: str) -> None:
        """It has come there."""
        self.seen[phase] += 1
        if phase == self.phase and self.seen[phase] == self.nth:
            os.kill(os.getpid(), signal.SIGKILL)

    def request(self, request: Any) -> None:
        """A request is about to be sent."""
        if request.method == "POST":
            self.at("create")

    def response(self, response: Any) -> None:
        """The headers of a response have come, and its body is not read."""
        path, method = response.request.url.path, response.request.method
        last = path.rpartition("/")[2]
        self.at(
            "created" if method == "POST" else "read" if last == "results" else "list" if last == "batches" else "poll"
        )

    def begin(self, begun: Begun) -> _Kill:  # noqa: ARG002 - as the protocol
        """As a hook, after the ledger's."""
        return self

    def calling(self, call: Calling) -> None:
        """As a hook."""

    def ended(self, end: Ended) -> Future[None]:  # noqa: ARG002
        """As a hook: the request's entries are with the ledger's writer."""
        self.at("ledger")
        return _Written(self)


class _Written(Future[None]):
    """Writes the ledger, and comes to the phase after that."""

    def __init__(self, kill: _Kill) -> None:
        super().__init__()
        self._kill = kill

    def result(self, timeout: float | None = None) -> None:  # noqa: ARG002 - as its base
        """Done when it is asked for."""
        if self._kill.phase == "written":
            flush_writers()
        self._kill.at("written")


def child(order: dict[str, Any]) -> None:
    """Drive the run, until it is killed or done."""
    import anthropic  # noqa: PLC0415 - for the child only

    phase, _, nth = order["phase"].partition(":")
    kill = _Kill(phase, int(nth or 0))
    http = anthropic.DefaultHttpxClient(event_hooks={"request": [kill.request], "response": [kill.response]})
    client = anthropic.Anthropic(base_url=order["base_url"], api_key="test", max_retries=0, http_client=http)
    inputs = json.loads(Path(order["inputs"]).read_text())
    limits = BatchLimits(max_requests=order["max_requests"], attempts=50, poll_s=0.02, settle_s=0.1)

    def on_progress(_: object) -> None:
        kill.at("page")

    with Cascade(order["policy"], client=client, hooks=[kill]) as driver:
        driver.batch(inputs, run="killed", limits=limits, on_progress=on_progress).drive()
    print("done", flush=True)


def run(
    home: Path,
    *,
    items: int,
    max_requests: int,
    phases: Sequence[str] = PHASES,
    start: Start | None = None,
) -> Result:
    """Kill a run at each phase in turn, let it end, and compare. `home`: an empty folder."""
    given = {
        json.dumps(item.input): item.input for item in read_corpus(CORPUS).items
    }  # the same prompt twice would be paid twice
    texts: list[Any] = list(given.values())[:items]
    policy = str(home / "policy.yaml")
    Path(policy).write_text(_POLICY)
    inputs = home / "inputs.json"
    inputs.write_text(json.dumps(texts))
    killed, faults = 0, list[str]()
    os.environ["CASCADE_HOME"] = str(home)
    with Emulator(CORPUS, faults=FAULTS) as emulator:
        for phase in (*phases, ""):
            order = {
                "base_url": emulator.base_url, "phase": phase, "inputs": str(inputs), "policy": policy, "max_requests": max_requests,
            }  # fmt: skip
            ended = _drive(order, home, start or _start)
            killed += ended == -signal.SIGKILL
            if ended not in (0, -signal.SIGKILL):
                faults.append(f"at {phase or 'the end'} the process ended with {ended}")
        paid, billed, batches = dict(emulator.batches.paid), emulator.batches.billed, _batches(emulator)
    with (
        Emulator(CORPUS) as emulator,
        connect(emulator.base_url, "test") as client,
        Cascade(policy, client=client, ledger="off") as driver,
    ):
        run_of = driver.batch(run="killed")
        ended_as = list(run_of)
        counts = run_of.counts
        live = [driver.ask(text) for text in texts]
    faults += _compare(ended_as, live)
    if counts.done != len(texts):
        faults.append(f"{counts.done} of {len(texts)} items are done")
    if twice := sum(count - 1 for count in paid.values()):
        faults.append(f"{twice} calls were paid twice")
    calls = sum(len(answer.steps) for answer in live)
    if len(paid) != calls or billed.replies != calls:
        faults.append(
            f"the endpoint billed {billed.replies} replies to {len(paid)} prompts, the live climb has {calls} calls"
        )
    spent, of_live = counts.cost, sum(answer.cost_nanousd for answer in live)
    if 2 * spent != of_live:
        faults.append(f"spent {spent / 1e9} USD, and the live climb {of_live / 1e9}")
    faults += _read_ledger(home / "ledger.db", len(texts), spent)
    return Result(len(texts), killed, batches, spent, of_live, counts.by_rung, tuple(faults))


def _drive(order: dict[str, Any], home: Path, start: Start) -> int:
    environment = {**os.environ, "CASCADE_HOME": str(home), "PYTHONPATH": str(Path(__file__).parent.parent)}
    process, _ = start([str(Path(__file__)), "--child", json.dumps(order)], environment)
    process.communicate()
    return process.returncode


def _start(arguments: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, text=True)
    return process, process.pid


def _batches(emulator: Emulator) -> int:
    with connect(emulator.base_url, "test") as client:
        return sum(1 for _ in client.messages.batches.list(limit=100))


def _compare(ended: Sequence[object], live: Sequence[Answer[Any]]) -> Iterator[str]:
    for number, (one, other) in enumerate(zip(ended, live, strict=True)):
        if not isinstance(one, Answer) or _fields(one) != _fields(other):
            yield f"item {number} ended as {one!r}, and live as {other!r}"


def _fields(answer: Answer[Any]) -> tuple[object, ...]:
    steps = [(step.rung, step.verdict.kind, step.verdict.confidence, step.reason, step.usage) for step in answer.steps]
    return answer.text, answer.rung, answer.confidence, answer.degraded, answer.abstained, steps


def _read_ledger(path: Path, items: int, spent: int) -> Iterator[str]:
    with _reader(path) as reader:
        report = verify(reader)
        if report.findings:
            yield f"the ledger is not sound: {report.findings[:3]}"
        ended = Counter(entry.request for entry in reader.entries() if entry.kind == "outcome")
        costs = sum(json.loads(entry.body)["cost"] for entry in reader.entries() if entry.kind == "outcome")
    if set(ended.values()) != {1} or len(ended) != items:
        yield f"the ledger has {sum(ended.values())} outcomes of {len(ended)} items, and there are {items}"
    if costs != spent:
        yield f"the ledger says {costs}, and the run {spent}"


@contextmanager
def _reader(path: Path) -> Iterator[Any]:
    reader = open_reader(path)
    try:
        yield reader
    finally:
        reader.close()


def main() -> None:
    """Run it, and print what it showed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=2_000, help="inputs (default 2,000)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(json.loads(options.child))
        return
    with tempfile.TemporaryDirectory() as home:
        result = run(Path(home), items=options.items, max_requests=300)
    print(
        f"{result.items} items (synthetic), {result.batches} batches, killed {result.killed} times;"
        f" shipped {', '.join(f'{rung} {count}' for rung, count in result.shipped.items())}"
    )
    print(
        f"spent {result.spent / 1e9:.6f} USD, the live climb {result.live / 1e9:.6f}: a ratio of {result.spent / result.live:.4f}"
    )
    print(
        "; ".join(result.faults)
        or "outcomes equal, nothing lost, nothing paid twice, the ledger is sound and has each item once"
    )
    sys.exit(bool(result.faults))


if __name__ == "__main__":
    main()
