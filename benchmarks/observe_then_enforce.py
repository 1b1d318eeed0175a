"""Observe, calibrate on the observations, enforce: `python benchmarks/observe_then_enforce.py [--items N]`.

Synthetic support tickets, on the emulator. With `mode: observe` the baseline answers, and every request is also sent to the
ladder. Then `record --from-ledger` and `calibrate --write`; the calibrated policy answers half of the customers, and the other
half is the holdout, on which `costs` measures the saving. It is compared with the true saving, from a replay of every
ticket. Finally `mode off` must be in force on the next request. Exits with 1 if any of this does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic

from cascade import Answer, AsyncCascade, load_policy
from cascade.corpora import Item, read_corpus
from cascade.emulator import Emulator
from cascade.policy.binding import bind_policy
from cascade.policy.shipped import find_corpus
from cascade.replay import replay_item

AT_A_TIME = 32

Command = Callable[..., Any]
POLICY = """\
version: 1
name: desk
ladder:
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 1024, thinking: disabled}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 2048, effort: low}
  - {rung: opus, model: claude-opus-5-5, max_tokens: 4096}
mode: observe
observe: {sample: 1.0, daily_usd: null, concurrency: 64}
rollout: {percent: 50, by: customer}
ledger: {content: true}
"""


@dataclass(frozen=True, slots=True)
class Found:
    """The results. Money in USD per request; `saved`: the measured saving and its interval."""

    arms: tuple[Counter[str], Counter[str]]
    corpus_items: int
    certified: bool
    saved: tuple[float, float, float]
    truth: float
    after_off: str

    @property
    def faults(self) -> tuple[str, ...]:
        """The claims that do not hold."""
        low, high = self.saved[1:]
        checks = {
            "the baseline did not answer all observed requests": self.arms[0].keys() != {"observe"},
            "no certificate from the observed requests": not self.certified,
            "the rollout does not have both arms": self.arms[1].keys() != {"cascade", "holdout"},
            "the true saving is outside the interval": not low <= self.truth <= high,
            "mode off was not in force on the next request": self.after_off != "bypass",
        }
        return tuple(fault for fault, failed in checks.items() if failed)


def run(items: Sequence[Item], emulator: Emulator, folder: Path, command: Command) -> Found:
    """Run every step in `folder`. `command` runs `cascade … --json` and returns its output."""
    path = folder / "desk.yaml"
    path.write_text(POLICY, encoding="utf-8")
    with _home(folder):
        observed = asyncio.run(_ask(path, items, emulator))
        corpus = folder / "observed.jsonl"
        recorded = command("record", "--from-ledger", "", "-o", str(corpus), "-p", str(path), "--grader", "exact")
        chosen = command(
            "calibrate", str(corpus), "-p", str(path), "--loss", "disagreement", "--max-risk", "0.15",
            "--write", str(path), "--force",
        )  # fmt: skip
        command("mode", "enforce", "--policy", "desk")
        answered = asyncio.run(_ask(path, items, emulator))
        costs = command("costs", "--since", "1d", "--policy", "desk")
        command("mode", "off", "--policy", "desk")
        (last,) = asyncio.run(_ask(path, items[:1], emulator))
    saving = costs["saved"]
    return Found(
        (Counter(one.arm for one in observed), Counter(one.arm for one in answered)), recorded["complete"],
        bool(chosen["feasible"] and chosen["certificate"]), _per_request(saving), _truth(path, items), last.arm,
    )  # fmt: skip


async def _ask(path: Path, items: Sequence[Item], emulator: Emulator) -> list[Answer]:
    """Ask every item of a driver with this policy, AT_A_TIME at once."""
    slots = asyncio.Semaphore(AT_A_TIME)
    async with (
        anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="test", max_retries=0) as client,
        AsyncCascade(path, client=client) as driver,
    ):

        async def one(item: Item) -> Answer:
            async with slots:
                named = {"customer": item.group or item.id, "workflow": "desk"}
                return await driver.ask(item.input, task=item.task, metadata=named)

        return await asyncio.gather(*map(one, items))


def _truth(path: Path, items: Sequence[Item]) -> float:
    """The true saving per request against the baseline over all items, in USD at list prices."""
    plan = bind_policy(load_policy(path))
    climbed = sum(replay_item(plan, item, cost_of="policy").cost_nanousd for item in items)
    alone = sum((item.replies["opus"].cost_usd or 0.0) for item in items)
    return (alone - climbed / 1e9) / len(items)


def _per_request(saving: dict[str, Any]) -> tuple[float, float, float]:
    """The measured saving and its interval, in USD per request. Exits if it was not measured."""
    if saving["basis"] != "holdout":
        raise SystemExit(f"the saving was not measured: {saving}")
    low, high = saving["saved_usd_ci95"]
    requests: int = saving["requests"]
    return saving["saved_usd"] / requests, low / requests, high / requests


def in_a_process(*arguments: str) -> Any:
    """Run a command in a process of its own, with --json."""
    done = subprocess.run(
        [sys.executable, "-m", "cascade", *arguments, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"cascade {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    """Set CASCADE_HOME to a folder in `folder`."""
    before = os.environ.get("CASCADE_HOME")
    os.environ["CASCADE_HOME"] = str(folder / "home")
    try:
        yield
    finally:
        if before is None:
            del os.environ["CASCADE_HOME"]
        else:
            os.environ["CASCADE_HOME"] = before


def main() -> None:
    """Run the benchmark, and print its results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=2400, help="tickets (default and most: 2,400)")
    count: int = parser.parse_args().items
    source = find_corpus("history")
    items = read_corpus(source).items[:count]
    with tempfile.TemporaryDirectory() as folder, Emulator(source) as emulator:
        found = run(items, emulator, Path(folder), in_a_process)
    saved, low, high = found.saved
    print(
        f"synthetic: {len(items)} tickets; observed: {dict(found.arms[0])}, {found.corpus_items} of them in the corpus"
    )
    print(
        f"calibrated on them (disagreement with the baseline <= 0.15): {'certified' if found.certified else 'not certified'}"
    )
    print(f"enforced on half of the customers: {dict(sorted(found.arms[1].items()))}")
    print(
        f"saved per request, measured on the holdout: {saved:.6f} USD (95%: {low:.6f} to {high:.6f}); true saving: {found.truth:.6f}"
    )
    print(f"after `cascade mode off` the next request is: {found.after_off}")
    if found.faults:
        raise SystemExit("; ".join(found.faults))


if __name__ == "__main__":
    main()
