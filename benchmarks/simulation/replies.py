"""What each rung replies: right or wrong, how sure it says it is, and what it costs.

The model of one item. All of it is assumed; its aim is what is known of verbalized confidence: clumped, overconfident,
and a poor ranking of right and wrong.

- **Difficulty** d ~ N(0, 1) is the item's and is shared by all rungs. A rung's own trouble with the item is
  z = sqrt(SHARED) d + sqrt(1 - SHARED) e, e ~ N(0, 1) its own. It is right iff z is below the quantile of its accuracy
  in this profile. So errors are correlated up the ladder, and now and then a lower rung is right where the top is wrong.
- **Confidence** is made from s = -insight z + sqrt(1 - insight²) e', again N(0, 1): `insight` is how much a rung knows
  of its own trouble, and sets the AUROC (not its accuracy). The quantile of s picks a level: the `unsure` share of a
  profile says a level below 0.80 (LOW), the rest a level at or above it (HIGH). Levels clump: 85, 90 and 95 % hold
  nearly all of HIGH. The levels do not look at the accuracy, hence the overconfidence.
- **Declined** (`"answer": null`): the lowest DECLINED share of a profile's unsure replies, on rungs below the top.
- **No number** (`"confidence": null`): by chance, `mute` per rung; always on the top rung, which answers plainly.
- **Usage**: input = SYSTEM_TOKENS (the shop's rules; a scenario may have its own) + characters of the input / 4, + TRIAGE_TOKENS below the top;
  output = characters of the answer / 4, + ENVELOPE_TOKENS below the top. No thinking tokens and no prompt cache: real
  upper rungs think, so their cost is rather told too low here than too high.
- **Further samples** of haiku, with the other triage prompts, in the scenarios that have them: `samples.py`. They are made after
  the first one, from a stream of their own, and so change nothing of it. Each is as accurate as the first before `samples.py`
  makes some items stuck. `steps` and `doubt` write notes first, and pay for them.
- **Cost**: usage at list prices (November 2026), whole nano-USD per token, so that no rounding enters.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NotRequired, TypedDict

from .draws import STANDARD_NORMAL, Draws
from .samples import VARIANTS, First, Sample, further_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "LADDER",
    "SHARED",
    "Item",
    "Message",
    "Profile",
    "Reply",
    "Rung",
    "Ticket",
    "Turns",
    "Usage",
    "answer_all",
    "draw_new",
]

SHARED = 0.55  # share of a rung's trouble that is the item's own difficulty
DECLINED = 0.07  # share of the unsure replies that give no answer
TRIAGE_TOKENS = 250  # the triage rules, in the prompt of every rung below the top
ENVELOPE_TOKENS = 14  # {"confidence": 0.95, "answer": "…"}
SYSTEM_TOKENS = 420  # the shop's own system prompt
# By variant: further tokens of the rules, and the notes that are written before the answer (from, to).
MORE_RULES = {"steps": 33, "doubt": 42}
NOTES_TOKENS = {"steps": (40, 100), "doubt": (25, 60)}
CHARACTERS_PER_TOKEN = 4

# Level -> weight within its half, from the least to the most sure.
LOW = {0.2: 1, 0.3: 2, 0.4: 3, 0.5: 5, 0.6: 14, 0.65: 12, 0.7: 26, 0.75: 31, 0.78: 6}
HIGH = {0.8: 1, 0.85: 22, 0.88: 1, 0.9: 34, 0.92: 1, 0.95: 39, 0.98: 2}


class Usage(TypedDict):
    """Tokens, as the Messages API counts them."""

    input_tokens: int
    output_tokens: int


class Review(TypedDict):
    """What a rung above said of an answer, in the corpus's words."""

    rung: str
    accepted: bool | None
    usage: Usage
    cost_usd: float


class Reply(TypedDict):
    """What one rung replied, in the corpus's words. `variant`: its triage prompt; `samples`: the further ones."""

    confidence: float | None
    answer: str | None
    score: float
    usage: Usage
    cost_usd: float
    variant: NotRequired[str]
    samples: NotRequired[list[Reply]]
    review: NotRequired[Review]


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


Turns = list[Message]


class Item(TypedDict):
    """One line of a corpus."""

    id: str
    task: str
    group: str
    split: None
    at: float
    input: str | Turns
    expected: str
    replies: dict[str, Reply]


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request as text: its input, the right answer, and plausible wrong ones (each differs from `expected`)."""

    input: str | Turns
    expected: str
    wrong: tuple[str, ...]

    @property
    def last_turn(self) -> str:
        """The text of the last user turn, by which the emulator finds the item."""
        return self.input if isinstance(self.input, str) else self.input[-1]["content"]

    @property
    def characters(self) -> int:
        """Length of all turns together."""
        return len(self.input) if isinstance(self.input, str) else sum(len(turn["content"]) for turn in self.input)


@dataclass(frozen=True, slots=True)
class Rung:
    """One model of the ladder. Prices in nano-USD per token; `insight` 0..1; `mute`: share of replies with no number."""

    name: str
    model: str
    input_price: int
    output_price: int
    insight: float = 0.0
    mute: float = 0.0
    is_top: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """How a rung does on one kind of request: share right, and share of replies that say less than 0.80."""

    accuracy: float
    unsure: float = 0.0


LADDER = (
    Rung("haiku", "claude-haiku-5-5", 100, 500, insight=0.38, mute=0.008),
    Rung("sonnet", "claude-sonnet-5-5", 2_000, 10_000, insight=0.51, mute=0.004),
    Rung("opus", "claude-opus-5-5", 4_000, 20_000, is_top=True),
)


def answer_all(
    ticket: Ticket,
    profiles: Mapping[str, Profile],
    draws: Draws,
    system_tokens: int = SYSTEM_TOKENS,
    again: Draws | None = None,
) -> dict[str, Reply]:
    """Every rung's reply to one ticket; `profiles` by the rung's name, `system_tokens` of the scenario's own prompt.

    `again`: the stream of the first rung's further samples, one with each other triage prompt; None: it is asked once.
    """
    difficulty, replies = draws.normal(), dict[str, Reply]()
    for place, rung in enumerate(LADDER):
        profile, asked_again = profiles[rung.name], again if place == 0 else None
        replies[rung.name] = _ask(ticket, (rung, profile), (difficulty, system_tokens), draws, asked_again)
    return replies


def _ask(ticket: Ticket, by: tuple[Rung, Profile], item: tuple[float, int], draws: Draws, again: Draws | None) -> Reply:
    rung, (difficulty, system_tokens) = by[0], item
    # Every draw is made whether it is needed or not: the next item's chance must not hang on this item's luck.
    own, noise = draws.normal(), draws.normal()
    mute, slip = draws.chance(rung.mute), draws.pick(ticket.wrong)
    reply = _reply(ticket, by, Sample(_trouble(difficulty, own), noise, slip), mute, system_tokens)
    if again is None:
        return reply
    is_wrong = reply["answer"] not in (None, ticket.expected)
    others = further_samples(
        First(difficulty, own, noise, slip, is_wrong), ticket.wrong, len(VARIANTS) - 1, SHARED, again
    )
    samples: list[Reply] = []
    reply["variant"], reply["samples"] = VARIANTS[0], samples
    for variant, sample in zip(VARIANTS[1:], others, strict=True):
        notes = again.between(*NOTES_TOKENS[variant]) if variant in NOTES_TOKENS else 0
        more = _reply(ticket, by, sample, again.chance(rung.mute), system_tokens + MORE_RULES.get(variant, 0), notes)
        more["variant"] = variant
        samples.append(more)
    return reply


def _trouble(difficulty: float, own: float) -> float:
    return math.sqrt(SHARED) * difficulty + math.sqrt(1 - SHARED) * own


def _reply(
    ticket: Ticket, by: tuple[Rung, Profile], sample: Sample, mute: bool, system_tokens: int, notes: int = 0
) -> Reply:
    """One sample as a reply. `notes`: tokens written before the answer."""
    rung, profile = by
    sureness = -rung.insight * sample.trouble + math.sqrt(1 - rung.insight**2) * sample.noise
    place = STANDARD_NORMAL.cdf(sureness)
    declined = not rung.is_top and place < profile.unsure * DECLINED
    right = not (declined or sample.stuck) and sample.trouble < STANDARD_NORMAL.inv_cdf(profile.accuracy)
    answer = None if declined else ticket.expected if right else sample.slip
    usage = _usage(ticket, rung, answer, system_tokens, notes)
    cost = usage["input_tokens"] * rung.input_price + usage["output_tokens"] * rung.output_price
    return {
        "confidence": None if rung.is_top or mute else _level(place, profile.unsure),
        "answer": answer,
        "score": 1.0 if right else 0.0,
        "usage": usage,
        "cost_usd": cost / 1_000_000_000,
    }


def _level(place: float, unsure: float) -> float:
    """The confidence said at quantile `place`, 0..1, by a rung whose lowest `unsure` share is below 0.80."""
    if place < unsure:
        return _at(LOW, place / unsure)
    return _at(HIGH, (place - unsure) / (1 - unsure))


def _at(weights: Mapping[float, int], quantile: float) -> float:
    levels: Sequence[float] = tuple(weights)
    bounds = tuple(accumulate(weights.values()))
    return levels[min(bisect_right(bounds, quantile * bounds[-1]), len(levels) - 1)]


def _usage(ticket: Ticket, rung: Rung, answer: str | None, system_tokens: int, notes: int) -> Usage:
    # -(-a // b) rounds up without floats.
    words_in = -(-ticket.characters // CHARACTERS_PER_TOKEN)
    words_out = -(-len(answer or "") // CHARACTERS_PER_TOKEN)
    triage, envelope = (0, 0) if rung.is_top else (TRIAGE_TOKENS, ENVELOPE_TOKENS)
    return {"input_tokens": system_tokens + triage + words_in, "output_tokens": max(1, words_out + envelope + notes)}


def draw_new(ask: Callable[[Draws], Ticket], draws: Draws, seen: set[str]) -> Ticket:
    """A ticket whose last turn nobody had before; `seen` learns it."""
    while True:
        ticket = ask(draws)
        if ticket.last_turn not in seen:
            seen.add(ticket.last_turn)
            return ticket
