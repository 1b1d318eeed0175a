"""How the customers of the support scenario write: names, goods, greetings, side remarks. All of it is made up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .draws import Draws

__all__ = ["ABOUT_AN_ORDER", "ABOUT_THE_OUTAGE", "ABOUT_THE_SHOP", "MONTHS", "NAMES", "PRODUCTS", "Voice", "dress"]

NAMES = (
    "Ada", "Bram", "Carla", "Dario", "Elif", "Femke", "Goran", "Hanne", "Ivo", "Jelka", "Kofi", "Lena", "Milan", "Nadia",
    "Oskar", "Petra", "Quinn", "Rosa", "Sami", "Tilda", "Umar", "Vera", "Wanda", "Xenia", "Yusuf", "Zora",
)  # fmt: skip
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October")
PRODUCTS = (
    "Tarnby kettle", "Fenlow desk lamp", "Ostrel armchair", "Pebblo speaker", "Brackwell backpack", "Haldor raincoat",
    "Nimbra duvet", "Corvane headphones", "Sablefin suitcase", "Dunmere coffee grinder", "Larkhill bike helmet",
    "Quillan fountain pen", "Mossgate tent", "Ferrowick pan set", "Ashby wall clock", "Tolland yoga mat",
    "Vintry wine rack", "Wickley floor rug",
)  # fmt: skip

_GREETINGS = (
    "", "", "", "Hi, ", "Hello, ", "Hi there! ", "Good morning, ", "Good evening, ", "Hey, ", "Dear Wrenhaven team, ",
    "Hello, it's {name}. ", "Hi, {name} here. ",
)  # fmt: skip
_CLOSES = (
    "", "", "", " Thanks!", " Thank you, {name}", " Many thanks in advance.", " Cheers, {name}", " Best, {name}",
    " A short answer is fine.", " Thanks for your help, {name}", " Kind regards, {name}", " Looking forward to your reply.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Voice:
    """The openings and side remarks that go with one kind of ticket."""

    openings: tuple[str, ...]
    remarks: tuple[str, ...]


ABOUT_THE_SHOP = Voice(
    (*_GREETINGS, "Quick question: ", "Before I order: ", "I could not find it on the website: ", "My partner asks: "),
    (
        "", "", "", "",
        " The page does not say.",
        " It is for a present on {day} {month}.",
        " I was told something else on the phone on {day} {month}.",
        " I also have the {product} in my basket, if that matters.",
        " My last order was the {product}, back in {month}.",
        " I want to decide before {day} {month}.",
        " A friend with the {product} could not tell me either.",
    ),
)  # fmt: skip
ABOUT_AN_ORDER = Voice(
    (*_GREETINGS, "A request: ", "To whom it may concern, ", "Sorry to bother you, "),
    (
        "", "", "", "",
        " I wrote to you about this on {day} {month} already.",
        " Please confirm by e-mail.",
        " You can call me until {day} {month}.",
        " The {product} I bought in {month} came without any trouble.",
        " It was meant as a present.",
        " I am out of the country from {day} {month}.",
    ),
)  # fmt: skip
ABOUT_THE_OUTAGE = Voice(
    (*_GREETINGS, "Help! ", "Urgent: "),
    (
        "", "", "",
        " It is about the {product}.",
        " I need the {product} by {day} {month}.",
        " My account says 'since {day} {month}', so I am no new customer.",
        " The same thing happened on my phone.",
        " There is nothing about it on your start page.",
        " My basket: the {product}, nothing else.",
    ),
)  # fmt: skip


def dress(ask: str, draws: Draws, voice: Voice) -> str:
    """The bare request with a greeting, a side remark and a close, as people write."""
    opening, remark, close = draws.pick(voice.openings), draws.pick(voice.remarks), draws.pick(_CLOSES)
    # In the middle of a sentence it goes on in lower case, "I" and order numbers aside.
    if opening.endswith((", ", ": ")) and not ask.startswith(("I ", "I'", "W-")):
        ask = ask[0].lower() + ask[1:]
    slots = {
        "name": draws.pick(NAMES),
        "product": draws.pick(PRODUCTS),
        "day": draws.between(1, 28),
        "month": draws.pick(MONTHS),
    }
    return opening.format(**slots) + ask + remark.format(**slots) + close.format(**slots)
