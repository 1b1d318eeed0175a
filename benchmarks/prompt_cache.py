"""What `prompt_cache: auto` saves, and where it loses: `python benchmarks/prompt_cache.py [--conversations N] [--seed N]`.

Synthetic and seeded. Conversations of several kinds climb the default ladder; their prompts are those that the engine builds and marks,
billed by the emulator's model of the API's cache on a simulated clock, at list prices. No network. An escalation is drawn at random
(30 % to Sonnet, of these 20 % to Opus). Output tokens cost the same with and without, and are counted in both.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cascade.claude.wire import parameters
from cascade.core.messages import Request, Usage
from cascade.core.prices import cost
from cascade.core.triage import build_prompt
from cascade.emulator.caching import PromptCache, prompt_tokens
from cascade.engine.prompt_marks import PromptIntervals, PromptMarks
from cascade.policy.loading import load_policy
from cascade.policy.pricing import rates_of

_CLIMBS = (0.30, 0.20)
_WORDS = "the order was sent on monday and the parcel is on its way to the customer "


@dataclass(frozen=True, slots=True)
class Workload:
    """Conversations of one kind. Tokens of the system, the tools, a user's turn and an answer; `pause_s`: the median between turns.

    `gap_s`: the mean between the starts of conversations. `turns`: the mean number. `loop`: the user's turns are tool results.
    """

    name: str
    system: int
    tools: int
    user: int
    answer: int
    turns: int
    pause_s: float
    gap_s: float
    loop: bool = False
    own_system: bool = False


WORKLOADS = (
    Workload("chat, a minute between turns", 1_200, 0, 60, 250, 6, 60, 90),
    Workload("chat, 2 turns", 1_200, 0, 60, 250, 2, 60, 90),
    Workload("agent loops, 15 s", 1_500, 3_000, 800, 120, 15, 15, 600, loop=True),
    Workload("mail, 25 minutes between turns", 1_200, 0, 300, 400, 4, 1_500, 3_000),
    Workload("mail, 3 hours between turns", 1_200, 0, 300, 400, 4, 10_800, 20_000),
    Workload("single requests, one system, every 30 s", 1_200, 0, 300, 250, 1, 60, 30),
    Workload("single requests, one system, every 40 minutes", 1_200, 0, 300, 250, 1, 60, 2_400),
    Workload("single requests, short system, every 30 s", 100, 0, 300, 250, 1, 60, 30),
    Workload("a long document and a question or two on it", 100, 0, 4_000, 250, 2, 60, 600),
    Workload("pairs of turns, 6 hours between the pairs", 3_000, 0, 60, 250, 2, 120, 21_600),
    Workload("single requests, each its own system", 1_200, 0, 300, 250, 1, 60, 30, own_system=True),
)


def main() -> None:
    """Simulate, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--conversations", type=int, default=200, help="of each kind (default 200)")
    parser.add_argument("--seed", type=int, default=15)
    given = parser.parse_args()
    print(
        f"synthetic, {given.conversations} conversations of each kind, seed {given.seed}; USD at list prices, all rungs"
    )
    print(f"{'workload':46} {'off':>10} {'auto':>10} {'saved':>8}   hit rate (read / read + written) by rung")
    for workload in WORKLOADS:
        off, _ = simulate(workload, given.conversations, given.seed, auto=False)
        auto, used = simulate(workload, given.conversations, given.seed, auto=True)
        rates = ", ".join(f"{rung} {_hits(usage)}" for rung, usage in used.items())
        print(f"{workload.name:46} {off / 1e9:10.4f} {auto / 1e9:10.4f} {1 - auto / off:8.1%}   {rates}")


def simulate(workload: Workload, conversations: int, seed: int, *, auto: bool) -> tuple[int, dict[str, Usage]]:
    """Nano-USD of all conversations, and the usage of each rung."""
    policy = load_policy("default", environment={})
    now = [0.0]
    cache = PromptCache(lambda: now[0])
    intervals = PromptIntervals(lambda: now[0]) if auto else None
    spent, used = 0, {rung.rung: Usage() for rung in policy.ladder}
    for now[0], request, answer, top in sorted(_requests(workload, conversations, seed), key=lambda one: one[0]):
        marks = PromptMarks(intervals)
        for index in range(top + 1):
            prompt = marks.mark(build_prompt(policy, index, request), request)
            params = json.loads(json.dumps(parameters(prompt)))
            usage = cache.bill(prompt.rung.model, params, Usage(prompt_tokens(params), answer))
            spent += cost(rates_of(prompt.rung), usage)
            used[prompt.rung.rung] += usage
    return spent, used


def _requests(workload: Workload, conversations: int, seed: int) -> Iterator[tuple[float, Request, int, int]]:
    """Every turn: when, what is asked, the answer's tokens, and the rung that it ends at."""
    chance, begins = random.Random(seed), 0.0
    tool: dict[str, Any] = {
        "name": "look",
        "description": _text(chance, workload.tools),
        "input_schema": {"type": "object"},
    }
    tools = (tool,) if workload.tools else ()
    shared = _text(chance, workload.system)
    for _ in range(conversations):
        begins += chance.expovariate(1 / workload.gap_s)
        at, messages = begins, list[dict[str, Any]]()
        system = _text(chance, workload.system) if workload.own_system else shared
        turns = 1 if workload.turns == 1 else max(1, round(chance.expovariate(1 / workload.turns)))
        for turn in range(turns):
            words: Any = _text(chance, workload.user)
            if workload.loop and turn:
                words = [{"type": "tool_result", "tool_use_id": f"toolu_{turn - 1}", "content": words}]
            messages.append({"role": "user", "content": words})
            top = 0 if chance.random() >= _CLIMBS[0] else 1 if chance.random() >= _CLIMBS[1] else 2
            yield at, Request(tuple(messages), system=system, tools=tools), workload.answer, top
            said: list[dict[str, Any]] = [{"type": "text", "text": _text(chance, workload.answer)}]
            if workload.loop:
                said.append({"type": "tool_use", "id": f"toolu_{turn}", "name": "look", "input": {"q": "order"}})
            messages.append({"role": "assistant", "content": said})
            at += chance.lognormvariate(0, 0.5) * workload.pause_s


def _text(chance: random.Random, tokens: int) -> str:
    """Words of so many tokens, at four characters each; no two texts begin alike."""
    mark = f"{chance.getrandbits(64):016x} "
    return (mark + _WORDS * (tokens * 4 // len(_WORDS) + 1))[: max(20, 4 * tokens)]


def _hits(usage: Usage) -> str:
    sought = usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
    return f"{usage.cache_read / sought:.0%}" if sought else "-"


if __name__ == "__main__":
    main()
