"""Texts of the coding scenario that ask to read code with care: reviews, and refactorings within one function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .coding_voice import COLLECTIONS, NOUNS, name
from .replies import Ticket

if TYPE_CHECKING:
    from .draws import Draws

__all__ = ["ask_refactor", "ask_review"]

_VERDICTS = {
    "off by one": "line 3: the range stops one short, the last {x} is never looked at",
    "shared default": "line 1: the default list is shared between calls, {x} of earlier calls come back",
    "lost remainder": "line 4: // drops the remainder, the last {x} are lost",
    "changed while read": "line 3: {x} is changed while it is walked through, every second one is skipped",
    "fine": "no bug: it does what its name says for every {x}",
}


def ask_review(draws: Draws) -> Ticket:
    """Ask whether there is a bug in a function, and on which line."""
    function, things, thing = name(draws), draws.pick(COLLECTIONS), draws.pick(NOUNS)
    limit = draws.between(2, 60)
    code = {
        "off by one": (
            f"def {function}({things}):\n    found = []\n    for place in range(len({things}) - 1):\n"
            f"        if {things}[place].{thing} > {limit}:\n            found.append(place)\n    return found"
        ),
        "shared default": (
            f"def {function}({things}, found=[]):\n    for one in {things}:\n        if one.{thing} > {limit}:\n"
            f"            found.append(one)\n    return found"
        ),
        "lost remainder": (
            f"def {function}({things}):\n    size = {limit}\n    parts = []\n    for part in range(len({things}) // size):\n"
            f"        parts.append({things}[part * size : (part + 1) * size])\n    return parts"
        ),
        "changed while read": (
            f"def {function}({things}):\n    # drop what is too large\n    for one in {things}:\n"
            f"        if one.{thing} > {limit}:\n            {things}.remove(one)\n    return {things}"
        ),
        "fine": (
            f"def {function}({things}):\n    found = []\n    for place, one in enumerate({things}):\n"
            f"        if one.{thing} > {limit}:\n            found.append(place)\n    return found"
        ),
    }
    bug = draws.pick(tuple(code))
    ask = draws.pick(
        (
            "Is there a bug in this function? Name the line and what goes wrong, or say that there is none.",
            f"Review `{function}` before I merge it. One finding at most, with its line.",
            f"A test of `{function}` fails now and then. What is wrong with it, if anything?",
            "What would you flag in this diff? The worst thing only, with its line; if it is fine, say so.",
            f"My colleague says that `{function}` is broken. Is it? Where?",
        )
    )
    wrong = tuple(told.format(x=things) for kind, told in _VERDICTS.items() if kind != bug)
    return Ticket(f"{ask}\n\n{code[bug]}", _VERDICTS[bug].format(x=things), wrong)


def ask_refactor(draws: Draws) -> Ticket:
    """One function, shorter, that still does the same."""
    function, things, thing, limit = name(draws), draws.pick(COLLECTIONS), draws.pick(NOUNS), draws.between(2, 90)
    first, kept = f"def {function}({things}):\n", f"one.{thing} for one in {things} if one.{thing} > {limit}"
    loop = f"    for one in {things}:\n        if one.{thing} > {limit}:\n"
    before, after, wrong = draws.pick((
        (
            f"{first}    found = []\n{loop}            found.append(one.{thing})\n    return found",
            f"{first}    return [{kept}]",
            (f"{first}    return ({kept})", f"{first}    return [one for one in {things} if one.{thing} > {limit}]",
             f"{first}    return [{kept.replace('>', '>=')}]"),
        ),
        (
            f"{first}    total = 0\n{loop}            total = total + one.{thing}\n    return total",
            f"{first}    return sum({kept})",
            (f"{first}    return sum(one.{thing} for one in {things})", f"{first}    return len([{kept}])",
             f"{first}    return sum({kept.replace('>', '>=')})"),
        ),
        (
            f"{first}{loop}            return True\n    return False",
            f"{first}    return any(one.{thing} > {limit} for one in {things})",
            (f"{first}    return all(one.{thing} > {limit} for one in {things})",
             f"{first}    return any({things}) > {limit}",
             f"{first}    return any({kept})"),
        ),
    ))  # fmt: skip
    ask = draws.pick(
        (
            "Make this function shorter without changing what it returns:",
            "Simplify this, one expression if you can; the behaviour must stay the same:",
            f"Rewrite `{function}` as idiomatic Python, same result for every input:",
            "Turn this loop into one expression. Nothing else may change:",
        )
    )
    return Ticket(f"{ask}\n\n{before}", after, wrong)
