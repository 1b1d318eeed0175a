"""Scenario `coding`: requests to a coding assistant, by developers of repositories that do not exist.

Assumptions, each a constant below; none was measured:

- 1,200 requests in the shares of MIX, exact over all items, in a random order. Tasks are named as in
  `policies/coding.yaml` where it has a row for them, and their texts are ones its signals choose; `review` and
  `refactor` (within one function) have no row there.
- A request belongs to one of 80 repositories, drawn evenly. `group` is the repository: its code resembles itself.
- Arrivals are Poisson, one request per 20 s on average. There is no storm.
- Each rung's accuracy and share of unsure replies depends on the task alone (PROFILES). Mechanical work is easy for all
  rungs; reviews, designs and changes in many places are not, and there haiku is far more often wrong than unsure:
  confidence alone does not find these mistakes, floors do. That gap is the point of the scenario, and assumed.
- Inputs are short (one function, some lines): real coding requests carry whole files. So costs are told too low.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .coding_design import ask_architecture, ask_cross_cutting, ask_trust_boundary
from .coding_mechanical import ask_extraction, ask_lint, ask_reformat, ask_rename, ask_translate
from .coding_reading import ask_refactor, ask_review
from .draws import Draws
from .replies import Item, Profile, Ticket, answer_all, draw_new

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["NOTES", "simulate_coding"]

ITEMS = 1_200
MEAN_GAP_S = 20.0
REPOSITORIES = 80
SYSTEM_TOKENS = 900  # the assistant's own system prompt

NOTES = (
    "made by `python benchmarks/simulate.py coding`; every figure is an assumption of that file, none was measured; "
    "single-model baselines are approximated from the same replies"
)

MIX: Mapping[str, float] = {
    "extraction": 0.12, "reformat": 0.10, "lint": 0.12, "rename": 0.08, "translate": 0.06, "review": 0.20,
    "refactor": 0.10, "cross_cutting": 0.05, "architecture": 0.08, "trust_boundary": 0.09,
}  # fmt: skip

PROFILES: Mapping[str, Mapping[str, Profile]] = {
    "extraction": {"haiku": Profile(0.93, 0.07), "sonnet": Profile(0.97, 0.03), "opus": Profile(0.985)},
    "reformat": {"haiku": Profile(0.92, 0.06), "sonnet": Profile(0.97, 0.03), "opus": Profile(0.985)},
    "lint": {"haiku": Profile(0.90, 0.09), "sonnet": Profile(0.96, 0.04), "opus": Profile(0.98)},
    "rename": {"haiku": Profile(0.93, 0.05), "sonnet": Profile(0.98, 0.02), "opus": Profile(0.99)},
    "translate": {"haiku": Profile(0.90, 0.12), "sonnet": Profile(0.96, 0.05), "opus": Profile(0.975)},
    "review": {"haiku": Profile(0.62, 0.21), "sonnet": Profile(0.81, 0.12), "opus": Profile(0.89)},
    "refactor": {"haiku": Profile(0.72, 0.17), "sonnet": Profile(0.87, 0.08), "opus": Profile(0.93)},
    "cross_cutting": {"haiku": Profile(0.48, 0.24), "sonnet": Profile(0.75, 0.14), "opus": Profile(0.87)},
    "architecture": {"haiku": Profile(0.52, 0.22), "sonnet": Profile(0.77, 0.13), "opus": Profile(0.88)},
    "trust_boundary": {"haiku": Profile(0.50, 0.20), "sonnet": Profile(0.75, 0.12), "opus": Profile(0.87)},
}

_ASK: Mapping[str, Callable[[Draws], Ticket]] = {
    "extraction": ask_extraction, "reformat": ask_reformat, "lint": ask_lint, "rename": ask_rename,
    "translate": ask_translate, "review": ask_review, "refactor": ask_refactor, "cross_cutting": ask_cross_cutting,
    "architecture": ask_architecture, "trust_boundary": ask_trust_boundary,
}  # fmt: skip


def simulate_coding(seed: int) -> list[Item]:
    """The items of the scenario, in order of arrival."""
    texts, outcomes, traffic = Draws(seed, "texts"), Draws(seed, "outcomes"), Draws(seed, "traffic")
    tasks = traffic.shuffled([task for task, share in MIX.items() for _ in range(round(ITEMS * share))])
    items: list[Item] = []
    seen: set[str] = set()
    at = 0.0
    for place, task in enumerate(tasks):
        ticket = draw_new(_ASK[task], texts, seen)
        at += traffic.gap(MEAN_GAP_S)
        items.append({
            "id": f"c-{place:04d}",
            "task": task,
            "group": f"repository-{traffic.below(REPOSITORIES):02d}",
            "split": None,
            "at": round(at, 2),
            "input": ticket.input,
            "expected": ticket.expected,
            "replies": answer_all(ticket, PROFILES[task], outcomes, SYSTEM_TOKENS),
        })  # fmt: skip
    return items
