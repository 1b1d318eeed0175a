"""Texts of the support scenario's routine questions, and of the payment outage.

Wrenhaven is a made-up shop with made-up goods, prices and rules. Each question is a table from what is asked about to
the true answer; a wrong reply states the answer to another row, which is how a model without the table goes astray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .replies import Ticket
from .support_voice import ABOUT_THE_OUTAGE, ABOUT_THE_SHOP, Voice, dress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .draws import Draws

__all__ = ["ask_about_outage", "ask_routine"]


@dataclass(frozen=True, slots=True)
class Question:
    """Ways to ask, a table {what is asked about: the answer}, and the sentence that answers."""

    asks: tuple[str, ...]
    facts: Mapping[str, str]
    reply: str

    def draw(self, draws: Draws, voice: Voice) -> Ticket:
        """One ticket that asks about one row of the table."""
        subject = draws.pick(tuple(self.facts))
        ask = dress(draws.pick(self.asks).format(x=subject), draws, voice)
        true = self.facts[subject]
        others = dict.fromkeys(value for value in self.facts.values() if value != true)
        wrong = tuple(self.reply.format(x=subject, y=other) for other in others)
        return Ticket(ask, self.reply.format(x=subject, y=true), wrong)


def ask_routine(draws: Draws) -> Ticket:
    """A short question that one line of the shop's rules answers."""
    return draws.pick(_QUESTIONS).draw(draws, ABOUT_THE_SHOP)


def ask_about_outage(draws: Draws) -> Ticket:
    """A question of the day the payments failed; its answer stands in the status notice, which haiku does not grasp."""
    return draws.pick(_OUTAGE).draw(draws, ABOUT_THE_OUTAGE)


_QUESTIONS = (
    Question(
        (
            "How much is shipping to {x}?",
            "What do you charge for standard delivery to {x}?",
            "Do you deliver to {x}, and what would that cost me?",
            "I live in {x} now. What are the delivery costs?",
            "Could you tell me the postage for a normal parcel to {x}?",
        ),
        {
            "Austria": "4.90 EUR", "France": "5.90 EUR", "Norway": "14.50 EUR", "Portugal": "7.90 EUR",
            "Ireland": "8.50 EUR", "Poland": "6.20 EUR", "Denmark": "6.90 EUR", "Malta": "12.90 EUR",
        },
        "Standard delivery to {x} costs {y}.",
    ),
    Question(
        (
            "How long does {x} take?",
            "If I choose {x}, when will my parcel be here?",
            "What is the usual time for {x}?",
            "Is {x} any quicker than the others? How many days?",
            "I need to plan: how many days should I count for {x}?",
        ),
        {
            "standard delivery": "3 to 5 working days", "express delivery": "1 working day",
            "pick-up point delivery": "2 to 4 working days", "two-man delivery": "10 to 14 working days",
            "letter-box delivery": "4 to 6 working days", "climate-neutral delivery": "5 to 7 working days",
        },
        "With {x} your parcel takes {y}.",
    ),
    Question(
        (
            "How long can I return {x}?",
            "What is the return window for {x}?",
            "Until when may {x} be sent back?",
            "Can {x} be returned, and for how long?",
            "I changed my mind about {x}. How many days do I have?",
        ),
        {
            "shoes": "30 days", "headphones": "14 days", "mattresses": "100 nights", "unopened cosmetics": "21 days",
            "furniture": "45 days", "sale items": "10 days", "bicycles": "28 days",
        },
        "You can return {x} within {y} of delivery.",
    ),
    Question(
        (
            "What guarantee do you give on {x}?",
            "How many years of warranty are there on {x}?",
            "Is there a warranty on {x} and how long is it?",
            "How long is the guarantee for {x}, please?",
        ),
        {
            "kettles": "3 years", "suitcases": "10 years", "desk lamps": "5 years", "coffee grinders": "2 years",
            "tents": "4 years", "pan sets": "25 years",
        },
        "The warranty on {x} is {y}.",
    ),
    Question(
        (
            "When does the {x} close on Saturdays?",
            "Until what time is the {x} open on a Saturday?",
            "What are the Saturday closing hours of the {x}?",
            "I'd like to visit the {x} this Saturday. When do you shut?",
        ),
        {
            "Old Harbour store": "18:00", "Mill Street store": "20:00", "Station Arcade store": "22:00",
            "Riverside outlet": "16:00", "Castle Gate store": "19:00",
        },
        "On Saturdays the {x} closes at {y}.",
    ),
    Question(
        (
            "How do I clean the {x}?",
            "What is the right way to care for the {x}?",
            "Can the {x} be washed, and how?",
            "There is a stain on my {x}. How may I clean it?",
            "The label of my {x} has come off. What did it say about washing?",
        ),
        {
            "Haldor raincoat": "wash at 30 °C on a gentle cycle", "Nimbra duvet": "wash at 60 °C and tumble dry on low",
            "Wickley floor rug": "vacuum only and have it dry-cleaned", "Tolland yoga mat": "wipe with vinegar and water",
            "Brackwell backpack": "wash by hand in cold water", "Ferrowick pan set": "rinse by hand without detergent",
        },
        "To clean the {x}: {y}.",
    ),
    Question(
        (
            "Can I pay with {x}?",
            "Do you take {x}?",
            "Is payment by {x} possible, and does it cost extra?",
            "I'd like to use {x} at the checkout. Does that work?",
        ),
        {
            "a credit card": "yes, at no charge", "bank transfer": "yes, with 2 % off", "cash on delivery": "yes, for 6.50 EUR",
            "a cheque": "no", "monthly instalments": "yes, from 150 EUR", "an invoice": "yes, up to 400 EUR",
        },
        "Paying with {x}: {y}.",
    ),
    Question(
        (
            "How long is {x} valid?",
            "When does {x} expire?",
            "Is there a time limit on {x}?",
            "I found {x} in a drawer. How long do these last?",
        ),
        {
            "a gift card": "36 months", "a welcome voucher": "30 days", "a birthday voucher": "14 days",
            "a repair credit": "12 months", "a price-match note": "7 days",
        },
        "From its date of issue, {x} is valid for {y}.",
    ),
    Question(
        (
            "Where do I find {x} in my account?",
            "How can I get to {x}?",
            "Which menu has {x}?",
            "I can't find {x} any more. Where did you put it?",
            "Where on the site is {x}?",
        ),
        {
            "my invoices": "Orders > Documents", "the newsletter settings": "Profile > Messages",
            "my saved addresses": "Profile > Addresses", "the return label": "Orders > Returns",
            "my loyalty points": "Benefits > Points", "two-step sign-in": "Profile > Security",
        },
        "You find it under {y}.",
    ),
    Question(
        (
            "When will the {x} be back in stock?",
            "The {x} is sold out. Do you know when it returns?",
            "Is there a date for the next delivery of the {x}?",
            "I have been waiting for the {x}. When can it be ordered again?",
        ),
        {
            "Tarnby kettle": "in week 14", "Mossgate tent": "in week 19", "Vintry wine rack": "in week 22",
            "Larkhill bike helmet": "in week 11", "Ashby wall clock": "none, it is discontinued",
        },
        "Next delivery of the {x}: {y}.",
    ),
    Question(
        (
            "What does assembly of {x} cost?",
            "Can somebody build up {x} for me, and for how much?",
            "How much is the assembly service for {x}?",
            "I am not good with tools. What do you take for putting together {x}?",
        ),
        {
            "a wardrobe": "79 EUR", "a bed": "59 EUR", "a desk": "39 EUR", "an armchair": "19 EUR",
            "a wall unit": "99 EUR", "a garden shed": "249 EUR",
        },
        "Assembly of {x} costs {y}.",
    ),
    Question(
        (
            "How late can I order on {x} and still have it leave the same day?",
            "What is the cut-off for same-day dispatch on {x}?",
            "Until when must I order on {x} so that it ships that day?",
            "I want to order on {x}. By what time, for dispatch on the same day?",
        ),
        {
            "a Monday": "15:00", "a Friday": "13:00", "a Saturday": "10:00", "the day before a holiday": "12:00",
            "a Wednesday": "16:00",
        },
        "On {x} orders placed by {y} leave the same day.",
    ),
    Question(
        (
            "How many points do I need for {x}?",
            "What does it take to reach {x}?",
            "From how many points on do I get {x}?",
            "I have been a customer for years. How many points is {x}?",
        ),
        {
            "silver status": "400 points", "gold status": "1,200 points", "free express delivery": "250 points",
            "the birthday hamper": "600 points", "a workshop seat": "900 points",
        },
        "You need {y} for {x}.",
    ),
    Question(
        (
            "What is the {x} made of?",
            "Which material is used for the {x}?",
            "I have allergies. What is in the {x}?",
            "Could you tell me the material of the {x}?",
        ),
        {
            "Nimbra duvet": "cotton with a lyocell filling", "Wickley floor rug": "undyed wool on jute",
            "Tolland yoga mat": "natural rubber", "Haldor raincoat": "recycled polyester",
            "Sablefin suitcase": "polycarbonate", "Brackwell backpack": "waxed canvas",
        },
        "The {x} is made of {y}.",
    ),
    Question(
        (
            "What does it cost if you take away my old {x}?",
            "I'd like you to collect an old {x}. What is the fee?",
            "Do you take back an old {x} when you deliver the new one, and for how much?",
            "How much is the removal of an old {x}?",
        ),
        {"mattress": "15 EUR", "sofa": "45 EUR", "fridge": "0 EUR", "wardrobe": "35 EUR", "lamp": "2 EUR"},
        "Taking away an old {x} costs {y}.",
    ),
)  # fmt: skip

# What each way of paying meets during the outage, and what the status notice tells customers to do.
_NOTICE = {
    "card": "no charge was taken; the hold lapses within 3 days",
    "instalments": "the plan was not opened; order again after the all-clear",
    "gift card": "the balance is safe; it shows again after the all-clear",
    "bank transfer": "not affected; the order is confirmed within the hour",
    "invoice": "the order stands; the invoice follows by post",
}
_OUTAGE = (
    Question(
        (
            "Your checkout rejects my {x} payment with error E-41. Is it me or you?",
            "I tried three times to pay by {x} and the page hangs. What happens to my order now?",
            "Paid by {x} an hour ago, no confirmation. Was I charged?",
            "The app says 'payment service unavailable' when I choose {x}. What should I do?",
            "I see a pending amount from my {x} payment but no order. Please explain.",
            "Is something wrong with paying by {x} today? Error E-41 all morning.",
        ),
        _NOTICE,
        "Payment outage, {x}: {y}.",
    ),
    Question(
        (
            "I pressed 'pay' twice, by {x}, because nothing happened. Do I pay twice?",
            "Checkout broke in the middle of my {x} payment. Did my order go through?",
            "My {x} payment has been spinning for ten minutes. Should I close the window?",
            "Payment by {x} failed, then the basket was empty. Are my things gone?",
            "What is this E-41 when I pay by {x}, and will you still send my order?",
        ),
        _NOTICE,
        "Payment outage, {x}: {y}.",
    ),
)
