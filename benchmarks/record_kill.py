"""Kill `cascade record` with SIGKILL at random moments and resume it: no reply is lost, and none is paid twice.

    python benchmarks/record_kill.py [--kills 20] [--items 120] [--concurrency 4] [--seed 0]

Records part of the synthetic support corpus from the emulator, over a socket, with faults (429, 529, 500, resets) and a
latency per token. Each run is killed at a random moment within its first calls; the last run finishes. The corpus must
equal that of an undisturbed run, byte for byte; no call whose reply is in the journal may be repeated; and each reply
paid beyond one per call must have been in flight at a kill. Exits with 1 if any of this does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from cascade.corpora import Corpus, read_corpus, text_of, write_corpus
from cascade.emulator import Emulator
from cascade.policy.loading import load_policy
from cascade.policy.shipped import shipped

FAULTS = "rate_limit=0.05,overloaded=0.05,server_error=0.05,reset=0.05,retry_after=0.02"
LATENCY_S = 0.0005  # per token: a reply takes about 5 to 30 ms, so that calls are in flight at a kill
FAILED_ITEMS = 4  # the command's exit code
WITHIN_S = 0.2  # a kill comes within this time after a run's first call


class Watched(Emulator):
    """Counts calls by model and text, and kills a process some time after its first call."""

    def __init__(self, corpus: Corpus, **options: Any) -> None:
        super().__init__(corpus, **options)
        self.asked: Counter[tuple[str, str]] = Counter()
        self._armed: threading.Timer | None = None

    def arm(self, process: subprocess.Popen[str], delay_s: float) -> None:
        """Kill `process` this long after the next call."""
        self._armed = threading.Timer(delay_s, lambda: os.kill(process.pid, signal.SIGKILL))

    def note(self, request: Any) -> None:
        """Count a call."""
        super().note(request)
        self.asked[request.body["model"], text_of(request.body["messages"])] += 1
        timer, self._armed = self._armed, None
        if timer is not None:
            timer.start()


def main() -> int:
    """Run the benchmark, and print its results."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("kills", 20), ("items", 120), ("concurrency", 4), ("seed", 0)):
        options.add_argument(f"--{name}", type=int, default=default)
    given = options.parse_args()
    chance, corpus = random.Random(given.seed), different_inputs(given.items)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_corpus(home / "inputs.jsonl", corpus.manifest, corpus.items)
        with Watched(corpus, faults=FAULTS, seed=given.seed, token_latency_s=LATENCY_S) as emulator:
            kills, repeated = kill_again_and_again(home, emulator, corpus, given.kills, given.concurrency, chance)
            paid = emulator.billed.replies
        with Watched(corpus) as calm:
            start(home, calm, "calm.jsonl", given.concurrency).communicate()
        same = (home / "killed.jsonl").read_bytes() == (home / "calm.jsonl").read_bytes()
        equal = read_corpus(home / "killed.jsonl").items == corpus.items
    calls = 3 * given.items
    print(
        f"synthetic support corpus: {given.items} items, {calls} calls, {given.concurrency} items at a time, {FAULTS}"
    )
    print(f"killed {kills} times (of {given.kills} runs)")
    print(
        f"replies paid: {paid}; beyond one per call: {paid - calls}, in flight at a kill at most {kills * given.concurrency}"
    )
    print(f"calls repeated although their reply was in the journal: {repeated}")
    print(f"the corpus equals that of an undisturbed run, byte for byte: {same}; equals its source: {equal}")
    return 0 if same and equal and not repeated and 0 <= paid - calls <= kills * given.concurrency else 1


def different_inputs(items: int) -> Corpus:
    """Items of the support corpus with distinct inputs, by which the emulator finds their replies.

    The few with a triage reply without a confidence are left out: live it is malformed, and its text is not kept.
    """
    path = shipped("corpora", "support")
    assert path is not None
    whole = read_corpus(path)
    sound = [i for i in whole.items if all(r.confidence is not None for n, r in i.replies.items() if n != "opus")]
    chosen = tuple({text_of(item.input): item for item in reversed(sound)}.values())[::-1][:items]
    return Corpus(replace(whole.manifest, items=len(chosen)), chosen)


def kill_again_and_again(
    home: Path, emulator: Watched, corpus: Corpus, kills: int, concurrency: int, chance: random.Random
) -> tuple[int, int]:
    """The number of runs killed before their end, and of calls repeated although their reply was known.

    An item whose call the faults hit at each attempt is asked again by the next run.
    """
    done = repeated = number = 0
    names = {rung.rung: rung.model for rung in load_policy("default").ladder}
    texts = {item.id: text_of(item.input) for item in corpus.items}
    while True:
        known = {(names[ask], texts[item]) for item, ask in journalled(home)}
        before = {call: emulator.asked[call] for call in known}
        process = start(home, emulator, "killed.jsonl", concurrency)
        if number < kills:
            emulator.arm(process, chance.uniform(0, WITHIN_S))
        _, err = process.communicate()
        repeated += sum(emulator.asked[call] - count for call, count in before.items())
        if process.returncode == 0:
            break
        assert process.returncode in (-signal.SIGKILL, FAILED_ITEMS), err
        done += process.returncode == -signal.SIGKILL
        number += 1
    return done, repeated


def start(home: Path, emulator: Emulator, target: str, concurrency: int) -> subprocess.Popen[str]:
    """Start `cascade record` in `home`."""
    command = ["record", "inputs.jsonl", "-o", target, "-p", "default", "--concurrency", str(concurrency)]
    environment = {**os.environ, "ANTHROPIC_BASE_URL": emulator.base_url, "ANTHROPIC_API_KEY": "emulator"}
    return subprocess.Popen(
        [sys.executable, "-m", "cascade.cli", *command],
        cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def journalled(home: Path) -> list[tuple[str, str]]:
    """(item, rung) of every reply in the journal."""
    path = home / "killed.jsonl.journal"
    whole = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [json.loads(line) for line in whole[: whole.rfind("\n") + 1].splitlines()[1:]]
    return [(line["item"], line["ask"]) for line in lines if "verdict" in line]


if __name__ == "__main__":
    sys.exit(main())
