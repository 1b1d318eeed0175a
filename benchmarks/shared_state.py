"""Many processes on one Redis: `python benchmarks/shared_state.py [--processes 8] [--concurrency 16] [--quick]`.

Processes ask the emulator on loopback, with the storm guard and a `reject` budget of 1.00 USD in one redis-server, which
this starts on a free port. Tested: the emulator's own bill never exceeds the budget; the guard trips once and releases once
for all processes; and both again with Redis killed (SIGKILL) and restarted empty in the middle. Replies and their usage are
synthetic. Exits with 1 if any of this does not hold. If Redis takes more than 50 ms on a busy machine, processes continue
on their own for a second (state_down), and events of their own guards are marked so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Self

from cascade import BudgetExceeded, Cascade
from cascade.core import prices
from cascade.core.messages import Usage
from cascade.core.policy import Policy
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply
from cascade.corpora.items import Corpus, RecordedUsage
from cascade.emulator import Emulator
from cascade.emulator.server import Tally
from cascade.policy.binding import bind_policy

LIMIT_USD = 1.0
MODELS = {"haiku": "claude-haiku-5-5", "sonnet": "claude-sonnet-5-5", "opus": "claude-opus-5-5"}
INPUT = 300
OUTPUT = {"haiku": 400, "sonnet": 700, "opus": 900}  # tokens; max_tokens is 1024
WAIT_S = 120.0


def main() -> int:
    """Run the benchmark, and print its results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--concurrency", type=int, default=16, help="asks at a time, each process")
    parser.add_argument("--quick", action="store_true", help="3 processes, 4 asks at a time")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(*given.worker)
        return 0
    processes, concurrency = (3, 4) if given.quick else (given.processes, given.concurrency)
    faults: list[str] = []
    with Stage(processes, concurrency) as stage:
        print(f"{processes} processes × {concurrency} concurrent asks, one Redis; synthetic replies")
        for broken in (False, True):
            name = "Redis killed and restarted empty in the middle" if broken else "Redis stays"
            spending = stage.spend(broken=broken)
            print(f"\n{name}\n  budget {LIMIT_USD:.2f} USD: {spending}")
            faults += spending.faults
            storm = stage.storm(broken=broken)
            print(f"  guard: {storm}")
            faults += storm.faults
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    return 1 if faults else 0


class Results(dict[str, Any]):
    """Figures of a scene, and the faults under `wrong`."""

    @property
    def faults(self) -> list[str]:
        """One line each."""
        return list(self.get("wrong", ()))

    def __str__(self) -> str:
        return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in self.items() if key != "wrong")


class Redis:
    """redis-server on a free port, without persistence."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        binary = shutil.which("redis-server")
        if binary is None:
            sys.exit("redis-server is not installed (on Debian: apt-get install redis-server)")
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", tempfile.gettempdir())
        self._process = subprocess.Popen((binary, *where), stdout=subprocess.DEVNULL)
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as asked:
                    asked.sendall(b"PING\r\n")
                    if asked.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                time.sleep(0.02)
        sys.exit("redis-server does not answer")

    def kill(self) -> None:
        """SIGKILL."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


class Worker:
    """A process that asks, controlled by lines on its stdin."""

    def __init__(self, base_url: str, redis: str, home: str) -> None:
        self._process = subprocess.Popen(
            (sys.executable, __file__, "--worker", base_url, redis),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "CASCADE_HOME": home},
        )  # fmt: skip

    def tell(self, **what: Any) -> None:
        """Give it something to do."""
        assert self._process.stdin is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)

    def done(self) -> dict[str, Any]:
        """What came of it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with {self._process.wait()}")
        return json.loads(line)

    def end(self) -> None:
        """End it in good order."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(WAIT_S)


class Stage:
    """One Redis, one emulator, and the workers."""

    def __init__(self, processes: int, concurrency: int) -> None:
        self._closing = ExitStack()
        self._concurrency = concurrency
        self.emulator = self._closing.enter_context(Emulator(corpus()))
        self.redis = Redis()
        self._closing.callback(self.redis.kill)
        home = self._closing.enter_context(tempfile.TemporaryDirectory())
        self.workers = [Worker(self.emulator.base_url, self.redis.url, home) for _ in range(processes)]
        for worker in self.workers:
            self._closing.callback(worker.end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def all(self, **what: Any) -> list[dict[str, Any]]:
        """Have every worker do it at once."""
        for worker in self.workers:
            worker.tell(**what)
        return [worker.done() for worker in self.workers]

    def billed_usd(self) -> float:
        """What the emulator has billed, by its own tally: every reply of a model has the same usage."""
        plan, billed = bind_policy(policy("prices")), 0
        for rung, rates in zip(plan.policy.ladder, plan.rates, strict=True):
            tally = self.emulator.billed.models.get(rung.model, Tally())
            one = Usage(input_tokens=INPUT, output_tokens=OUTPUT[rung.rung])
            number = tally.replies + tally.broken_off
            assert tally.usage.output_tokens == number * one.output_tokens
            billed += number * prices.cost(rates, one)  # not of the sum: a long prompt has a price of its own
        return billed / 1e9

    def spend(self, *, broken: bool) -> Results:
        """All ask until nobody is let in any more."""
        name = f"spend-{'broken' if broken else 'whole'}"
        before = self.billed_usd()
        self.all(do="open", policy={"name": name, "budget": {"daily_usd": LIMIT_USD, "on_exhausted": "reject"}})
        breaking = threading.Thread(target=self._break, args=(lambda: self.billed_usd() - before > LIMIT_USD * 0.4,))
        if broken:
            breaking.start()
        done = self.all(do="spend", concurrency=self._concurrency, patience_s=7.0 if broken else 2.0)
        if broken:
            breaking.join()
        billed, answered = self.billed_usd() - before, sum(one["cost"] for one in done) / 1e9
        results = Results(
            billed_usd=round(billed, 6), in_answers_usd=round(answered, 6), answers=sum(one["answers"] for one in done),
            refused=sum(one["refused"] for one in done), events=events(done),
        )  # fmt: skip
        results["wrong"] = [f"{name}: {what}" for what, bad in (
            (f"{billed} USD were billed", billed > LIMIT_USD),
            (f"{answered} USD in answers", answered > billed + 1e-9),
            (f"only {billed} USD could be spent", billed < LIMIT_USD * 0.5),
        ) if bad]  # fmt: skip
        return results

    def _break(self, when: Callable[[], bool]) -> None:
        until = time.monotonic() + WAIT_S
        while not when() and time.monotonic() < until:
            time.sleep(0.005)
        self.redis.kill()
        time.sleep(0.3)
        self.redis.start()

    def storm(self, *, broken: bool) -> Results:
        """Unsure replies until the guard trips, sure ones until it releases; each event occurs once, and applies to all."""
        guard = {"rate": 0.35, "window": 500, "min_samples": 100, "dwell_s": 0.0}
        self.all(do="open", policy={"name": f"storm-{'broken' if broken else 'whole'}", "storm_guard": guard})
        few = {"do": "ask", "concurrency": self._concurrency}
        if broken:
            self.all(**few, sure=False, times=20)
            self.redis.kill()
            self.all(**few, sure=True, times=1)  # each notices, and goes on alone
            self.redis.start()
            time.sleep(1.2)
            self.all(**few, sure=True, times=1)  # each finds it again
        tripped = self.all(**few, sure=False, times=20)
        under = self.all(**few, sure=True, times=1)
        released = self.all(**few, sure=True, times=-(-300 // len(self.workers)))
        after = self.all(**few, sure=True, times=1)
        results = Results(
            tripping=events(tripped), acting_on_it=sum(one["stormed"] for one in under), releasing=events(released),
            stormed_after=sum(one["stormed"] for one in after),
        )  # fmt: skip
        results["wrong"] = [f"guard, {'broken' if broken else 'whole'}: {what}" for what, bad in (
            ("it did not trip once", events(tripped).get("storm_tripped") != 1),
            ("not all act on it", any(one["stormed"] != 1 for one in under)),
            ("it did not release once", events(released).get("storm_released") != 1),
            ("not all are released", any(one["stormed"] for one in after)),
        ) if bad]  # fmt: skip
        return results


def events(done: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Sum the workers' counts."""
    counted = Counter(event for one in done for event in one["events"])
    return {name: count for name, count in sorted(counted.items()) if name not in ("uncertified", "budget_alert")}


def policy(name: str, **more: Any) -> Policy:
    """Three rungs, 1024 tokens each."""
    ladder: list[dict[str, Any]] = [
        {"rung": rung, "model": model, "max_tokens": 1024, "threshold": 0.8} for rung, model in MODELS.items()
    ]
    del ladder[-1]["threshold"]
    return Policy.model_validate({"version": 1, "name": name, "ladder": ladder, "ledger": "off", **more})


def corpus(items: int = 20) -> Corpus:
    """Sure items, which Haiku answers, and unsure ones, which climb one rung; one in ten of those climbs to the top."""
    made: list[Item] = []
    for number in range(items):
        for sure in (True, False):
            confidence = {"haiku": 0.95 if sure else 0.4, "sonnet": 0.5 if number % 10 == 0 else 0.9, "opus": None}
            replies = {
                rung: RecordedReply(
                    confidence=confidence[rung],
                    answer="done",
                    score=1.0,
                    usage=RecordedUsage(input_tokens=INPUT, output_tokens=OUTPUT[rung]),
                )
                for rung in MODELS
            }
            made.append(Item(id=f"{sure}-{number}", input=text(sure, number), replies=replies))
    ladder = tuple(LadderEntry(rung=rung, model=model) for rung, model in MODELS.items())
    return Corpus(Manifest(name="shared", ladder=ladder, synthetic=True), tuple(made))


def text(sure: bool, number: int) -> str:
    """An item's input."""
    return f"{'plain' if sure else 'hard'} question {number}"


class Asking:
    """Inside a worker: one driver at a time, and the counts of its asks."""

    def __init__(self, base_url: str, redis: str) -> None:
        import anthropic  # noqa: PLC0415 - only workers ask

        self._client = anthropic.Anthropic(base_url=base_url, api_key="none", max_retries=0)
        self._redis, self._lock = redis, threading.Lock()
        self._driver: Cascade | None = None
        self._counts: Counter[str] = Counter()

    def open(self, wanted: dict[str, Any]) -> None:
        """Take up a policy."""
        self.close()
        self._driver = Cascade(policy(**wanted["policy"]), client=self._client, state=self._redis)

    def close(self) -> None:
        """Let go of it."""
        if self._driver is not None:
            self._driver.close()

    def do(self, wanted: dict[str, Any]) -> dict[str, int]:
        """What a line on stdin says; counts of what came of it, and the cost in nano-USD."""
        self._counts = Counter(answers=0, cost=0, refused=0, stormed=0)
        if wanted["do"] == "open":
            self.open(wanted)
            return dict(self._counts)
        with ThreadPoolExecutor(wanted["concurrency"]) as pool:
            if wanted["do"] == "spend":
                list(pool.map(lambda first: self._spend(first, wanted["patience_s"]), range(wanted["concurrency"])))
            else:
                list(pool.map(lambda number: self._ask(wanted["sure"], number), range(wanted["times"])))
        return dict(self._counts)

    def _ask(self, sure: bool, number: int) -> bool:
        assert self._driver is not None
        try:
            answer = self._driver.ask(text(sure, number % 20))
        except BudgetExceeded as error:
            with self._lock:
                self._counts.update(refused=1, cost=sum(step.cost_nanousd for step in error.steps))
            return False
        with self._lock:
            self._counts.update(answers=1, cost=answer.cost_nanousd, stormed=answer.steps[0].reason == "storm")
        return True

    def _spend(self, number: int, patience_s: float) -> None:
        refused_since: float | None = None
        while refused_since is None or time.monotonic() - refused_since < patience_s:
            if self._ask(number % 2 == 0, number):
                refused_since = None
            else:
                refused_since = refused_since or time.monotonic()
                time.sleep(0.05)
            number += 1


def work(base_url: str, redis: str) -> None:
    """A worker: runs each command line from stdin, and answers each with a line."""
    import structlog  # noqa: PLC0415 - only workers listen

    seen: list[str] = []

    def note(_: Any, __: str, event: Any) -> Any:
        seen.append(event["event"] + (" alone" if event.get("alone") else ""))
        raise structlog.DropEvent

    structlog.configure(processors=[note])
    asking = Asking(base_url, redis)
    for line in sys.stdin:
        counts = asking.do(json.loads(line))
        print(json.dumps({**counts, "events": seen}), flush=True)
        seen.clear()
    asking.close()


if __name__ == "__main__":
    sys.exit(main())
