"""Texts of the storm scenario's three episodes, at the same made-up shop as the support scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .support_routine import Question
from .support_voice import ABOUT_THE_SHOP

if TYPE_CHECKING:
    from .draws import Draws
    from .replies import Ticket

__all__ = ["ask_about_customs", "ask_about_points"]


def ask_about_points(draws: Draws) -> Ticket:
    """A question about the new points programme, which the rules haiku was given do not know yet."""
    return draws.pick(_POINTS).draw(draws, ABOUT_THE_SHOP)


def ask_about_customs(draws: Draws) -> Ticket:
    """A question about the customs rules that changed overnight; sonnet's rules are out of date too."""
    return draws.pick(_CUSTOMS).draw(draws, ABOUT_THE_SHOP)


_EARNED = {
    "a parcel order": "1 point per euro",
    "an order of furniture": "2 points per euro",
    "a product review": "15 points",
    "a referred friend": "250 points",
    "a gift card": "no points",
    "a return": "the points are taken back",
    "a birthday": "100 points",
}
_POINTS = (
    Question(
        (
            "I read about Wren Points in your newsletter. What do I get for {x}?",
            "How many Wren Points are there for {x}?",
            "Do I earn Wren Points for {x}? How many?",
            "The app shows nothing in my Wren Points for {x}. What should be there?",
            "Is it true that {x} counts for the new points programme?",
        ),
        _EARNED,
        "Wren Points for {x}: {y}.",
    ),
    Question(
        (
            "I'd like to spend my Wren Points. What happens to the points of {x}?",
            "What does the small print of Wren Points say about {x}?",
            "My neighbour says the points programme treats {x} differently now. How?",
        ),
        _EARNED,
        "Wren Points for {x}: {y}.",
    ),
)

_DUTIES = {
    "Norway": "25 % import tax, prepaid by us below 3,000 NOK",
    "Switzerland": "8.1 % import tax, paid on delivery above 62 CHF",
    "the United Kingdom": "20 % VAT, prepaid by us below 135 GBP",
    "Serbia": "20 % import tax, paid on delivery",
    "Iceland": "24 % import tax, paid on delivery",
    "Turkey": "30 % flat duty, paid on delivery",
    "the Faroe Islands": "25 % import tax, paid on delivery",
}
_CUSTOMS = (
    Question(
        (
            "Since Monday's change: what customs charges do I pay on a parcel to {x}?",
            "The courier wants money for my parcel to {x}. Are the new customs rules right?",
            "What are the import taxes to {x} under the new rules?",
            "Customs in {x} stopped my order. What do I owe, and to whom?",
            "Do you still prepay the customs for {x}? I heard it changed this week.",
            "I am about to order to {x}. What will customs add as of now?",
        ),
        _DUTIES,
        "Customs for {x}: {y}.",
    ),
)
