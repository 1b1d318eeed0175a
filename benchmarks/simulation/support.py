"""Scenario `support`: the customer-service desk of Wrenhaven, a shop that does not exist.

Assumptions, each a constant below; none was measured:

- 1,200 requests: 60 % `routine` (a short question that one line of the rules answers), 25 % `single_tool` (order
  status, refund of one order, change of address), 10 % `multi_step` (several calls, or a question back), 5 %
  `long_transcript` (a conversation that was escalated before). The shares are exact, over all items and over the first 600,
  so that the demo, which takes those, sees the mix that is claimed. The order within each half is random.
- Arrivals are Poisson, one request per 2 s on average.
- A request belongs to one of 700 customers, drawn evenly: some write more than once. `group` is the customer.
- Each rung's accuracy and share of unsure replies depends on the task alone (PROFILES). Over all: about .78, .90 and
  .95 right for haiku, sonnet, opus, while haiku says .86 on average.
- Haiku's reply is recorded four times, once with each triage prompt (`samples.py`); sample 1 is what it was before there were
  any. How they agree is fitted to measured data; that it holds for this task is assumed.
- One storm: requests 265 to 339 fall into a payment outage. Their routine questions are about it, and haiku, which
  does not grasp the status notice, is unsure of nine in ten and right in half (OUTAGE). All other tasks go on as before.
  The outage is over at request 340, at once; from there to request 600 the routine questions are the usual ones.
- No two inputs are the same, and neither are any two last user turns (the emulator finds an item by that text).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from .draws import Draws
from .replies import Item, Profile, Ticket, answer_all, draw_new
from .samples import NOTES as ABOUT_SAMPLES
from .support_orders import ask_multi_step, ask_single_tool
from .support_routine import ask_about_outage, ask_routine
from .support_threads import ask_long_transcript

__all__ = [
    "ASK",
    "HALF",
    "MEAN_GAP_S",
    "NOTES",
    "OUTAGE",
    "PROFILES",
    "STORM",
    "draw_tasks",
    "last_turn",
    "simulate_support",
]

ITEMS = 1_200
HALVES = 2  # the mix is exact in each
HALF = ITEMS // HALVES
MIX = {"routine": 0.60, "single_tool": 0.25, "multi_step": 0.10, "long_transcript": 0.05}
MEAN_GAP_S = 2.0
CUSTOMERS = 700
STORM = range(265, 340)  # places of the items that arrive during the outage

NOTES = (
    "made by `python benchmarks/simulate.py support`; every figure is an assumption of that file, none was measured; "
    f"items {STORM.start}-{STORM.stop - 1} fall into a payment outage (the storm); {ABOUT_SAMPLES}; single-model baselines are approximated from the same replies"
)

_Profiles = Mapping[str, Profile]
PROFILES: Mapping[str, _Profiles] = {
    "routine": {"haiku": Profile(0.865, 0.13), "sonnet": Profile(0.935, 0.05), "opus": Profile(0.97)},
    "single_tool": {"haiku": Profile(0.79, 0.20), "sonnet": Profile(0.91, 0.08), "opus": Profile(0.96)},
    "multi_step": {"haiku": Profile(0.57, 0.31), "sonnet": Profile(0.78, 0.14), "opus": Profile(0.88)},
    "long_transcript": {"haiku": Profile(0.60, 0.35), "sonnet": Profile(0.80, 0.16), "opus": Profile(0.90)},
}
OUTAGE: _Profiles = {"haiku": Profile(0.50, 0.90), "sonnet": Profile(0.88, 0.10), "opus": Profile(0.95)}

ASK: Mapping[str, Callable[[Draws], Ticket]] = {
    "routine": ask_routine,
    "single_tool": ask_single_tool,
    "multi_step": ask_multi_step,
    "long_transcript": ask_long_transcript,
}


def simulate_support(seed: int) -> list[Item]:
    """The items of the scenario, in order of arrival."""
    return arrivals(seed, "s-{:04d}", ("customer-{:03d}", CUSTOMERS), HALVES, STORM, set())


def arrivals(
    seed: int, name: str, customers: tuple[str, int], halves: int, storm: Container[int], seen: set[str]
) -> list[Item]:
    """`halves` shifts of tickets. `storm`: places in the outage; `seen`: texts that may not come again, added to."""
    texts, outcomes, traffic = Draws(seed, "texts"), Draws(seed, "outcomes"), Draws(seed, "traffic")
    again = Draws(seed, "samples")
    items: list[Item] = []
    at = 0.0
    for place, task in enumerate(draw_tasks(traffic, halves)):
        in_outage = task == "routine" and place in storm
        ticket = draw_new(ask_about_outage if in_outage else ASK[task], texts, seen)
        at += traffic.gap(MEAN_GAP_S)
        items.append({
            "id": name.format(place),
            "task": task,
            "group": customers[0].format(traffic.below(customers[1])),
            "split": None,
            "at": round(at, 2),
            "input": ticket.input,
            "expected": ticket.expected,
            "replies": answer_all(ticket, OUTAGE if in_outage else PROFILES[task], outcomes, again=again),
        })  # fmt: skip
    return items


def draw_tasks(draws: Draws, halves: int) -> list[str]:
    """The task of each place: the mix is exact in each run of HALF, its order random."""
    half = [task for task, share in MIX.items() for _ in range(round(HALF * share))]
    return [task for _ in range(halves) for task in draws.shuffled(half)]


def last_turn(item: Item) -> str:
    """The text of an item's last user turn."""
    asked = item["input"]
    return asked if isinstance(asked, str) else asked[-1]["content"]
