"""Reviews of simulated answers: what a rung above says of each answer of the rungs below it.

- **Verdict**: a right answer is accepted with probability ACCEPTS_RIGHT, a wrong one with ACCEPTS_WRONG, whatever its difficulty and
  the confidence. Assumed: no measured data stand behind it. A real reviewer shares the answering rung's trouble with an item, so it
  is rather told too good here. UNUSABLE of the replies are no review.
- **Usage**: input = RULES_TOKENS + what the rung's own prompt has without the triage rules + characters of the answer / 4; output =
  VERDICT_TOKENS. No thinking tokens.

They are drawn from a stream of their own, and so change nothing else of a corpus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .draws import Draws
from .replies import CHARACTERS_PER_TOKEN, LADDER, TRIAGE_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .replies import Item

__all__ = ["add_reviews"]

ACCEPTS_RIGHT = 0.95
ACCEPTS_WRONG = 0.30
UNUSABLE = 0.005
RULES_TOKENS = 230
VERDICT_TOKENS = 35


def add_reviews(items: Sequence[Item], reviewer: str, seed: int) -> None:
    """Add to every answer of a rung below `reviewer` what that rung says of it."""
    draws = Draws(seed, "reviews")
    names = [rung.name for rung in LADDER]
    place = names.index(reviewer)
    rung = LADDER[place]
    for item in items:
        for name in names[:place]:
            reply = item["replies"][name]
            if reply["answer"] is None:
                continue
            accepted = draws.chance(ACCEPTS_RIGHT if reply["score"] >= 0.5 else ACCEPTS_WRONG)
            read = RULES_TOKENS + reply["usage"]["input_tokens"] - TRIAGE_TOKENS
            read += len(reply["answer"]) // CHARACTERS_PER_TOKEN
            cost = read * rung.input_price + VERDICT_TOKENS * rung.output_price
            reply["review"] = {
                "rung": reviewer,
                "accepted": None if draws.chance(UNUSABLE) else accepted,
                "usage": {"input_tokens": read, "output_tokens": VERDICT_TOKENS},
                "cost_usd": cost / 1e9,
            }
