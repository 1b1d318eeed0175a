"""Texts of the coding scenario where a mistake goes wrong quietly: designs, changes in many places, trust boundaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .coding_voice import COLLECTIONS, MODULES, NOUNS, name, names, spread
from .replies import Ticket

if TYPE_CHECKING:
    from .draws import Draws

__all__ = ["ask_architecture", "ask_cross_cutting", "ask_trust_boundary"]

_CHOICES = {
    "keep one database and put a cache before it": (
        "{x} is read {many} times for each write, readers may be a minute behind, and we are {few} developers"
    ),
    "split the writes off into a queue": (
        "{x} arrives in bursts of {many} a second for a few minutes a day, and nobody waits for the result"
    ),
    "one table, partitioned by month": (
        "{x} grows by {many},000 rows a day, is asked for by date only, and is deleted after {few} months"
    ),
    "keep it one process and measure first": (
        "{x} takes {many} ms, the target is a second, and {few} developers have to keep it running"
    ),
    "an append-only log with a view built from it": (
        "every change of {x} must be explained to an auditor {few} years later, and {many} people change it"
    ),
}


def ask_architecture(draws: Draws) -> Ticket:
    """A design question whose answer follows from what is said of the load."""
    choice = draws.pick(tuple(_CHOICES))
    facts = _CHOICES[choice].format(x=f"{draws.pick(NOUNS)} data", many=draws.between(20, 900), few=draws.between(2, 9))
    ask = draws.pick(
        (
            "We discuss the architecture of our {m} service. {f}. What would you build? One line.",
            "System design question for {m}: {f}. Which way, in one line?",
            "I am writing the design doc for {m}. {f}. What should it recommend, in one line?",
            "Should {m} become a microservice, or what else? {f}. One line, please.",
            "Help with the data model of {m}: {f}. What do you advise, in one line?",
        )
    )
    text = ask.format(m=draws.pick(MODULES), f=facts[0].upper() + facts[1:])
    return Ticket(text, choice, tuple(other for other in _CHOICES if other != choice))


def ask_cross_cutting(draws: Draws) -> Ticket:
    """Which files a change in many places touches: those that use the name, under whatever alias."""
    old, new, third = names(draws, 3)
    files = spread(draws, MODULES, draws.between(5, 7))
    home, *users = files
    uses = [
        f"{users[0]}.py: from {home} import {old}",
        f"{users[1]}.py: import {home}\n{users[1]}.py: {home}.{old}({draws.pick(COLLECTIONS)})",
        f"{users[2]}.py: from {home} import {old} as {third}",
        *(f"{user}.py: from {home} import {third}_all" for user in users[3:]),
    ]
    ask = draws.pick(
        (
            f"We rename `{old}` of {home}.py to `{new}` across the repository. Which files must change?",
            f"I want to replace `{old}` by `{new}` everywhere. Which files have to be touched?",
            f"Refactor: `{old}` in {home}.py becomes `{new}` for all callers. List the files that change.",
        )
    )
    form = "Names only, sorted, comma-separated."
    told = [f"{file}.py" for file in sorted((home, *users[:3]))]
    every = [f"{file}.py" for file in sorted(files)]
    wrong = tuple(
        ", ".join(wrong)
        for wrong in (
            [file for file in told if file != f"{home}.py"],
            [file for file in told if file != f"{users[2]}.py"],
            every if every != told else told[1:],
        )
    )
    text = f"{ask} {form}\n\n{home}.py: def {old}({draws.pick(COLLECTIONS)}):\n" + "\n".join(draws.shuffled(uses))
    return Ticket(text, ", ".join(told), wrong)


_FLAWS = {
    "the comparison leaks its time: use hmac.compare_digest": "    return request.token == stored_token({x})",
    "the {x} of any user is given out: check whose it is": "    return {v}.find(request.query['{x}_id'])",
    "the query is put together from user text: use parameters": (
        "    return db.run(\"select * from {x} where owner = '\" + request.query['owner'] + \"'\")"
    ),
    "the path may leave the folder: resolve it and check its parent": (
        "    return open('/srv/{x}/' + request.query['file']).read()"
    ),
    "no flaw: the {x} is looked up by the session's own user": (
        "    return {v}.find_for(request.session.user_id, request.query['{x}_id'])"
    ),
}


def ask_trust_boundary(draws: Draws) -> Ticket:
    """Ask what is wrong with a handler, where somebody gains from a mistake."""
    flaw = draws.pick(tuple(_FLAWS))
    thing, things, function = draws.pick(NOUNS), draws.pick(COLLECTIONS), name(draws)
    code = f"@route('/{thing}', login=True)\ndef {function}(request):\n" + _FLAWS[flaw].format(x=thing, v=things)
    ask = draws.pick(
        (
            "Is this endpoint safe to put behind our login? The worst flaw in one line, or 'no flaw'.",
            f"Security review of `{function}`, please: one line, the worst finding, or say there is none.",
            "Can a user with a valid session exploit this? One line.",
            "Please check the access control of this handler and name the worst flaw, if there is one.",
            "We got a vulnerability report about this endpoint. What is it about, if it is right? One line.",
        )
    )
    wrong = tuple(other.format(x=thing) for other in _FLAWS if other != flaw)
    return Ticket(f"{ask}\n\n{code}", flaw.format(x=thing), wrong)
