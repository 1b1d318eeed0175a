"""Texts of the support scenario's long transcripts: conversations that went wrong before they reached this desk.

Half are lists of messages, half one pasted thread. All hold an earlier escalation or an angry customer, and end on a
turn whose right answer needs what was promised many turns earlier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .replies import Message, Ticket, Turns
from .support_orders import draw_order, euros
from .support_voice import MONTHS, NAMES, PRODUCTS

if TYPE_CHECKING:
    from .draws import Draws

__all__ = ["ask_long_transcript"]

_EXCHANGES = (8, 12)  # answers of the desk, each followed by a turn of the customer

_CUSTOMER: tuple[str, ...] = (
    "I have now explained this four times to four different people. Does nobody read what I wrote before?",
    "That is not what I was told last week. Your colleague {colleague} said in so many words that it was being sorted out.",
    "I am really disappointed. I have been a customer for six years and this is how a simple complaint is handled.",
    "Please do not send me another link to the help pages. I have read them all, and my case is not on them.",
    "I attached the pictures twice. If your system loses them, that is hardly my fault, is it?",
    "I called the hotline, waited forty minutes and then the line went dead. I am losing patience here.",
    "I keep every e-mail of yours in a folder. There are eleven by now, and not one of them answers my question.",
    "With respect, 'we are looking into it' is what you wrote on three occasions. What has been found so far?",
    "This is unacceptable. I want somebody who may decide something, not another apology.",
    "I did everything on your list: order number, photographs, proof of payment. What else can there be?",
    "My bank knows nothing of it either. So which of you is not telling me the truth?",
    "In the meantime I had to borrow one from a friend, because we use it every single day.",
    "If I do not hear anything useful by Friday I shall dispute the payment with my card company.",
    "I asked for a supervisor in my second message. It was promised, and again nothing happened.",
)
_DESK: tuple[str, ...] = (
    "I am very sorry for the trouble. Could you please tell me the order number once more, so that I can find the case?",
    "Thank you for your patience. I have passed your message on to the department in charge and added a note.",
    "I understand that this is frustrating. Our records show the case as open; there is no decision on it as yet.",
    "Thank you for the details. We would need the photographs once more, as the upload seems to have failed.",
    "I see that my colleague has been in touch already. Please allow another two working days for an answer.",
    "I apologise for the repeated questions. Each of our teams has its own list, and yours moved between two of them.",
    "As a gesture I can offer you free delivery on your next order. Would that be of help to you?",
    "I have asked the warehouse. As a rule these inquiries take up to eight working days, sometimes a little longer.",
    "I have marked your case as urgent and asked the team lead to look at it. You will hear from us.",
    "Unfortunately I cannot see any payment details from here, they are kept in a different system.",
    "You are right, that should have been noted. I have corrected the entry, and your case goes on from there.",
    "The hotline is very busy at present, I am sorry for the wait. In writing we can usually help sooner.",
)


@dataclass(frozen=True, slots=True)
class Case:
    """How a thread begins, what the desk promised in it, how it ends, the right next action and the slips."""

    openings: tuple[str, ...]
    promise: str
    last: str
    expected: str
    wrong: tuple[str, ...]


_CASES = (
    Case(
        (
            (
                "On {day} {month} I sent back the {product} from order {order}, with the label you gave me. It was signed for "
                "at your warehouse. The {price} EUR have not come back, and everybody I write to begins from the beginning."
            ),
            (
                "Order {order}, {product}, {price} EUR: returned on {day} {month}, received by you, never refunded. This is my "
                "third complaint, and I was assured that the second would be the last."
            ),
        ),
        "I have good news: the refund of {price} EUR for {order} was approved today. It will reach you by {later} {month} at "
        "the latest. Should it not, our refunds team has to release it by hand; I cannot do that myself.",
        "It is well past {later} {month} and there is still no money. Order {order}, in case you need it again. What now?",
        "Apologise; escalate {order} to the refunds team to release {price} EUR, promised by {later} {month}.",
        (
            "Apologise; refund_order({order}, {price}).",
            "Apologise; ask for two more working days on {order}.",
            "Apologise; ask again for the photographs of {order}.",
        ),
    ),
    Case(
        (
            (
                "I ordered the {product} on {day} {month}, number {order}, and paid {price} EUR. The box was torn open and a part "
                "was missing. I sent photographs the same evening and was told somebody would call me. Nobody did."
            ),
            (
                "The {product} from {order} ({price} EUR) reached me on {day} {month} with a scratch from end to end. It can be "
                "used, but I did not pay the full price for that. My first message was passed on and then forgotten."
            ),
        ),
        "I have spoken to the team lead: you may choose between a replacement of the {product} and {half} EUR off the price, "
        "whichever suits you. Just tell us, and it will be done without further questions.",
        "Fine, then I take the second of the two things you offered me for {order}, and that had better be the end of it.",
        "Apologise; refund_order({order}, {half}) as the agreed reduction; close the case.",
        (
            "Apologise; send_replacement({order}); close the case.",
            "Apologise; refund_order({order}, {price}); close the case.",
            "Apologise; offer the choice for {order} once more.",
        ),
    ),
    Case(
        (
            (
                "This is about order {order}, the {product} for {price} EUR. Delivery was announced for {day} {month} and I took a "
                "day off for it. Nothing came, the tracking says 'delivered', and my neighbours have not seen it either."
            ),
            (
                "You have sent the {product} twice now, order {order}, {price} EUR, and twice it got lost, the last time on {day} "
                "{month}. My complaint was escalated once already, and I hear nothing but excuses."
            ),
        ),
        "The carrier has confirmed that {order} was lost. Because it was sent twice already, a third parcel needs the "
        "approval of a supervisor, who will call you. I have noted the number you gave me.",
        "So will I ever get the {product} from {order}? I do not want the money, I want what I ordered. And nobody has called.",
        "Apologise; hand {order} to a supervisor to approve a third parcel and call the customer today.",
        (
            "Apologise; send_replacement({order}).",
            "Apologise; refund_order({order}, {price}).",
            "Apologise; open a new inquiry with the carrier on {order}.",
        ),
    ),
)


def ask_long_transcript(draws: Draws) -> Ticket:
    """A long conversation with a complaint, given as a list of messages or as one pasted thread."""
    cents, day = draws.between(40, 300) * 100, draws.between(1, 14)
    agent, colleague = draws.shuffled(NAMES)[:2]
    slots = {
        "order": draw_order(draws), "product": draws.pick(PRODUCTS), "colleague": colleague, "day": str(day),
        "later": str(day + draws.between(7, 14)), "month": draws.pick(MONTHS), "price": euros(cents), "half": euros(cents // 2),
    }  # fmt: skip
    case = draws.pick(_CASES)
    exchanges = draws.between(*_EXCHANGES)
    theirs, ours = draws.shuffled(_CUSTOMER)[:exchanges], draws.shuffled(_DESK)[:exchanges]
    # The promise stands in the first half, where it is easily lost; the last word is the customer's request.
    ours[draws.between(1, exchanges // 2)] = case.promise
    theirs[-1] = case.last
    turns = [draws.pick(case.openings)]
    for answer, reaction in zip(ours, theirs, strict=True):
        turns += [answer, reaction]
    texts = [turn.format(**slots) for turn in turns]
    rendered = _as_messages(texts) if draws.chance(0.5) else _as_thread(texts, slots["order"], agent)
    return Ticket(rendered, case.expected.format(**slots), tuple(slip.format(**slots) for slip in case.wrong))


def _as_messages(texts: list[str]) -> Turns:
    roles = ("user", "assistant")
    return [Message(role=roles[place % 2], content=text) for place, text in enumerate(texts)]


def _as_thread(texts: list[str], order: str, agent: str) -> str:
    speakers = ("Customer", f"Wrenhaven ({agent})")
    lines = [f"{speakers[place % 2]}: {text}" for place, text in enumerate(texts)]
    return f"Escalated a second time. Thread on {order} below, please answer the last message.\n\n" + "\n\n".join(lines)
