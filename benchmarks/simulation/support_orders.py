"""Texts of the support scenario's order tickets: one tool call, or several steps.

The right answer is the call (or the plan of calls) that a tool-using desk would make, as one line of text, so that it
can be compared exactly. Wrong ones are the slips that are seen: two digits swapped, the old address, the wrong reason,
a step left out, the orders mixed up, the discount forgotten.
"""

from __future__ import annotations

from collections.abc import Callable

from .draws import Draws
from .replies import Ticket
from .support_voice import ABOUT_AN_ORDER, MONTHS, PRODUCTS, dress

__all__ = ["ask_multi_step", "ask_single_tool", "draw_order", "euros"]

_STREETS = ("Linden Row", "Quarry Lane", "Station Road", "Weaver Street", "Orchard Way", "Tollgate Hill", "Canal Side")
_TOWNS = ("Harrowby", "Elmstead", "Port Calder", "Winfold", "Marlbeck", "Ostenby", "Greyford", "Nether Sall")
_REASONS = {
    "damaged": ("arrived with a crack", "came out of the box broken", "has a big dent"),
    "wrong_item": ("is in the wrong colour", "is not the model I ordered", "was swapped for something else"),
    "late": ("came a week after the promised day", "arrived too late for the birthday", "was nine days late"),
    "defective": ("does not switch on", "stopped working after a day", "makes a noise and then gives up"),
}


def draw_order(draws: Draws) -> str:
    """A made-up order number."""
    return f"W-{draws.between(102_345, 987_654)}"


def euros(cents: int) -> str:
    """An amount as the shop writes it, e.g. `39.90`."""
    return f"{cents // 100}.{cents % 100:02d}"


def ask_single_tool(draws: Draws) -> Ticket:
    """One intent that takes one tool call: order status, refund of one order, change of address."""
    return draws.pick(_SINGLE)(draws)


def ask_multi_step(draws: Draws) -> Ticket:
    """A request that takes several calls in order, or a question back because it is ambiguous."""
    return draws.pick(_MULTI)(draws)


def _misread(order: str, draws: Draws) -> str:
    """The order number with two neighbouring digits that differ swapped; with its last digit changed if none do."""
    digits = list(order)
    places = [place for place in range(2, len(digits) - 1) if digits[place] != digits[place + 1]]
    if places:
        place = draws.pick(places)
        digits[place], digits[place + 1] = digits[place + 1], digits[place]
    else:
        digits[-1] = str((int(digits[-1]) + 1) % 10)
    return "".join(digits)


def _price(draws: Draws) -> int:
    """A price in cents that ends in 90, 95 or 00."""
    return draws.between(12, 240) * 100 + draws.pick((90, 95, 0))


def _date(draws: Draws) -> str:
    return f"{draws.between(1, 28)} {draws.pick(MONTHS)}"


def _address(draws: Draws) -> str:
    return f"{draws.between(1, 140)} {draws.pick(_STREETS)}, {draws.between(10_001, 98_999)} {draws.pick(_TOWNS)}"


def _status(draws: Draws) -> Ticket:
    order, earlier = draw_order(draws), draw_order(draws)
    product, day = draws.pick(PRODUCTS), _date(draws)
    ask = draws.pick((
        f"Where is my order {order}? I was promised the {product} for {day}.",
        f"Could you check what is going on with {order}? The tracking page has not moved since {day}.",
        f"Any news about the {product}, order number {order}?",
        f"My earlier order {earlier} came on time, but {order} has not arrived. Where is it?",
        f"Has {order} left your warehouse yet?",
        f"I need to know when {order} will be delivered, I am away from {day} on.",
        f"What is the status of the {product} I ordered on {day}? Number {order}.",
        f"The courier says nobody was in. Please look up {order} for me.",
        f"I'm still waiting for the {product}. The confirmation says {order}, sent after {earlier}.",
    ))  # fmt: skip
    wrong = (
        f'order_status(order="{_misread(order, draws)}")',
        f'cancel_order(order="{order}")',
        f'resend(order="{order}")',
    )
    return Ticket(dress(ask, draws, ABOUT_AN_ORDER), f'order_status(order="{order}")', wrong)


def _refund(draws: Draws) -> Ticket:
    order, earlier, price = draw_order(draws), draw_order(draws), euros(_price(draws))
    product, reason = draws.pick(PRODUCTS), draws.pick(tuple(_REASONS))
    what = draws.pick(_REASONS[reason])
    ask = draws.pick((
        f"The {product} from order {order} {what}. I want my {price} EUR back.",
        f"Please refund {order} ({price} EUR): the {product} {what}.",
        f"I'd like a refund. The {product} {what}. Order {order}, {price} EUR.",
        f"Order {order}: the {product} {what}. No replacement please, just the {price} EUR.",
        f"You sent {order} instead of repairing {earlier}, and now this {product} {what} as well. Refund the {price} EUR.",
        f"How do I get {price} EUR back for {order}? The {product} {what}.",
        f"I paid {price} EUR for the {product} (order {order}) and it {what}. Money back, please.",
    ))  # fmt: skip
    other = draws.pick([name for name in _REASONS if name != reason])
    wrong = (
        f'refund_order(order="{order}", amount="{price}", reason="{other}")',
        f'refund_order(order="{_misread(order, draws)}", amount="{price}", reason="{reason}")',
        f'send_replacement(order="{order}", reason="{reason}")',
    )
    return Ticket(
        dress(ask, draws, ABOUT_AN_ORDER), f'refund_order(order="{order}", amount="{price}", reason="{reason}")', wrong
    )


def _move(draws: Draws) -> Ticket:
    order, old, new = draw_order(draws), _address(draws), _address(draws)
    day = _date(draws)
    ask = draws.pick((
        f"I have moved. Please send {order} to {new}, not to {old}.",
        f"Wrong address on {order}! It should be {new}. You have {old}.",
        f"Can you change the delivery address of {order}? From {old} to {new}, please.",
        f"We move house on {day}. Old: {old}. New: {new}. It is about order {order}.",
        f"I'm staying with my sister, so {order} must go to {new} instead of {old}.",
        f"Please deliver {order} to my office, {new}; nobody is at {old} during the day.",
    ))  # fmt: skip
    wrong = (
        f'change_address(order="{order}", to="{old}")',
        f'change_address(order="{_misread(order, draws)}", to="{new}")',
        f'change_profile_address(to="{new}")',
    )
    return Ticket(dress(ask, draws, ABOUT_AN_ORDER), f'change_address(order="{order}", to="{new}")', wrong)


def _two_orders(draws: Draws) -> Ticket:
    broken, missing = draw_order(draws), draw_order(draws)
    product, other, price = draws.pick(PRODUCTS), draws.pick(PRODUCTS), euros(_price(draws))
    ask = draws.pick((
        (f"Two things. {missing} never came, and the {product} from {broken} is broken. Refund the {price} EUR for the "
        f"broken one and tell me where the other is. I do not want both cancelled."),
        (f"I have {broken} and {missing} open with you. The first ({product}, {price} EUR) came in pieces and I want the "
        f"money. The second ({other}) is still on its way, or so I hope: please check."),
        (f"Please look up {missing} first. Then refund {price} EUR for {broken}, the {product} is damaged. The {other} "
        f"in {missing} I still want."),
    ))  # fmt: skip
    status, refund = f'order_status("{missing}")', f'refund_order("{broken}", {price}, damaged)'
    first, second = (status, refund) if ask.startswith("Please look up") else (refund, status)
    wrong = (
        f'1. refund_order("{missing}", {price}, damaged) 2. order_status("{broken}")',
        f"1. {refund}",
        f"1. {refund} 2. refund_order(\"{missing}\", {price}, late)",
    )  # fmt: skip
    return Ticket(dress(ask, draws, ABOUT_AN_ORDER), f"1. {first} 2. {second}", wrong)


def _which_order(draws: Draws) -> Ticket:
    one, two, product = draw_order(draws), draw_order(draws), draws.pick(PRODUCTS)
    ask = draws.pick((
        f"Cancel the {product} please. I ordered it twice by accident, {one} and {two}, and one of them was meant to stay.",
        f"I want to send the {product} back. There were two of them, in {one} and in {two}. One is fine.",
        f"One of my orders {one} and {two} has the wrong {product}. Please take it back and refund it.",
        f"You charged me for {one} and for {two}. One {product} is enough, sort it out please.",
    ))  # fmt: skip
    wrong = (f'cancel_order("{one}")', f'cancel_order("{two}")', f'1. cancel_order("{one}") 2. cancel_order("{two}")')
    return Ticket(
        dress(ask, draws, ABOUT_AN_ORDER),
        f"Ask which one is meant, {one} or {two}, before anything is cancelled.",
        wrong,
    )


def _part_return(draws: Draws) -> Ticket:
    order, off = draw_order(draws), draws.pick((10, 20, 25))
    # Ints multiples of 20 EUR: any of the discounts then leaves whole euros.
    prices = [draws.between(1, 9) * 2000 for _ in range(3)]
    things = draws.shuffled(PRODUCTS)[:3]
    listed = ", ".join(f"the {thing} for {euros(price)}" for thing, price in zip(things, prices, strict=True))
    ask = draws.pick((
        (f"Order {order} had {listed}, all {off} % off with my voucher. I sent back the {things[0]} and the {things[1]}. "
        f"How much do I get?"),
        f"I keep only the {things[2]} from {order}. In the order were {listed}, less {off} % voucher. Refund the rest.",
        (f"Please work out my refund for {order}: {listed}. The voucher took {off} % off everything. The {things[0]} and "
        f"the {things[1]} go back, the {things[2]} stays."),
    ))  # fmt: skip
    back = prices[0] + prices[1]
    paid = back * (100 - off) // 100
    amounts = (back, sum(prices) * (100 - off) // 100, back - off * 100, prices[0] * (100 - off) // 100)
    wrong = tuple(f'refund_order("{order}", {euros(amount)}, returned)' for amount in amounts if amount != paid)
    return Ticket(dress(ask, draws, ABOUT_AN_ORDER), f'refund_order("{order}", {euros(paid)}, returned)', wrong)


def _deadline(draws: Draws) -> Ticket:
    order, new, day, product = draw_order(draws), _address(draws), _date(draws), draws.pick(PRODUCTS)
    ask = draws.pick((
        f"If {order} can be here by {day}, send it to {new}. If not, cancel it, I will buy the {product} elsewhere.",
        (f"The {product} ({order}) is a present for {day}. Only if it makes it: please deliver to {new}. Otherwise I do "
        f"not need it any more."),
        f"I leave on {day}. Check whether {order} comes before that; if it does, redirect it to {new}, else call it off.",
    ))  # fmt: skip
    move, cancel = f'change_address("{order}", "{new}")', f'cancel_order("{order}")'
    wrong = (
        f"1. {move} 2. {cancel}",
        f"1. {move}",
        f'1. order_status("{order}") 2. by {day}: {cancel}; else: {move}',
    )
    return Ticket(
        dress(ask, draws, ABOUT_AN_ORDER), f'1. order_status("{order}") 2. by {day}: {move}; else: {cancel}', wrong
    )


_Maker = Callable[[Draws], Ticket]
_SINGLE: tuple[_Maker, ...] = (_status, _refund, _move)
_MULTI: tuple[_Maker, ...] = (_two_orders, _which_order, _part_return, _deadline)
