"""What early decisions save: `python benchmarks/early.py`.

An emulator writes one token every few milliseconds. Haiku is not sure, Sonnet is. Each pair asks once with `early_stop` and once
without, in turn. Printed are the output tokens billed on the rung that is left, and how much less time the whole takes, beside the
time that the tokens take that were not written.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

from cascade import Cascade, UncertifiedWarning
from cascade.claude import connect
from cascade.core.policy import Policy
from cascade.emulator import Emulator, ScriptedReply

TOKEN_S = 0.005
ANSWER = "It left our warehouse this morning. " * 20  # about 180 tokens
LADDER = [
    {"rung": "haiku", "model": "claude-haiku-5-5", "threshold": 0.8, "max_tokens": 1024, "thinking": "disabled"},
    {"rung": "sonnet", "model": "claude-sonnet-5-5", "threshold": 0.8, "max_tokens": 4096},
    {"rung": "opus", "model": "claude-opus-5-5", "max_tokens": 8192},
]


def reply(body: dict[str, object], _: object) -> ScriptedReply:
    """What a rung says: the first one is not sure of it."""
    sure = 0.95 if body["model"] != "claude-haiku-5-5" else 0.3
    return ScriptedReply([{"type": "text", "text": ANSWER}], confidence=sure)


def main() -> None:
    """Run the pairs, and print what they took."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--pairs", type=int, default=10)
    pairs = options.parse_args().pairs
    warnings.simplefilter("ignore", UncertifiedWarning)  # its thresholds are not what is measured
    policies = [
        Policy.model_validate({"version": 1, "name": f"early-{early}", "ladder": LADDER, "early_stop": early})
        for early in (True, False)
    ]
    tokens: dict[bool, list[int]] = {True: [], False: []}
    saved: list[float] = []
    with Emulator((), script=reply, token_latency_s=TOKEN_S) as emulator:
        client = connect(emulator.base_url, "none")
        drivers = [Cascade(policy, client=client, ledger="off") for policy in policies]
        for driver in drivers:
            driver.ask("warm")
        for number in range(pairs):
            took: list[float] = []
            for driver in drivers:
                began = time.perf_counter()
                answer = driver.ask(f"question {number}")
                took.append(time.perf_counter() - began)
                assert [step.rung for step in answer.steps] == ["haiku", "sonnet"]
                tokens[driver.policy.early_stop].append(answer.steps[0].usage.output_tokens)
            saved.append(took[1] - took[0])
        for driver in drivers:
            driver.close()
    early, whole = max(tokens[True]), min(tokens[False])
    expected = (whole - early) * TOKEN_S
    print(f"output tokens billed on the rung that is left: at most {early} with early stop, {whole} without")
    print(f"time saved, median of {pairs} pairs: {statistics.median(saved) * 1e3:.0f} ms", end="")
    print(f"; {whole - early} tokens at {TOKEN_S * 1e3:.0f} ms take {expected * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
