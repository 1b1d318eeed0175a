"""Control items of a judge: pairs of answers whose relation is known. A judge that errs on them is not believed.

The pairs are built in, simple and of several domains: who reads them sees at once what is right. So they find a judge that always
agrees, always disagrees, guesses, or replies in prose; they do not measure how a good judge fares on hard cases. Some further items
of known agreement are made of the traffic: a shadow answer beside itself, with other line breaks and blank lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cascade.core.control_items import FEWEST, KEEP_S, MOST_WRONG, SHARE, Tally
from cascade.core.modes import share_of
from cascade.core.policy import Policy
from cascade.core.prompts.audit_judge import RUBRIC
from cascade.corpora.grading import judge_rung
from cascade.ledger.audit import AuditTables, Control, Relation

__all__ = [
    "ControlItem",
    "Standing",
    "control_due",
    "first_controls",
    "judge_id",
    "judge_standing",
    "known_controls",
    "restated",
    "withheld_judges",
]

_SAID: dict[Relation | None, bool] = {"agree": True, "disagree": False}


@dataclass(frozen=True, slots=True)
class ControlItem:
    """A question, a reference, and an answer of which it is known whether it agrees with it."""

    question: object
    reference: str
    answer: str
    is_right: bool


_PAIRS: tuple[tuple[str, str, str, str], ...] = (  # question, reference, an answer that agrees, one that does not
    (
        "When is the library open on Saturdays?",
        "On Saturdays the library is open from 10 am to 4 pm.",
        "You can visit between 10:00 and 16:00 on a Saturday.",
        "The library is closed on Saturdays.",
    ),
    (
        "How many grams are in 2.5 kilograms?",
        "2.5 kilograms are 2,500 grams.",
        "That is 2500 g.",
        "2.5 kilograms are 250 grams.",
    ),
    (
        "May I take my bicycle on the evening train?",
        "Yes, after 7 pm bicycles travel free of charge.",
        "You may, and it costs nothing once it is past 19:00.",
        "No, bicycles are not allowed on any train in the evening.",
    ),
    (
        "Which planet is closest to the Sun?",
        "Mercury is the planet closest to the Sun.",
        "It's Mercury.",
        "Venus is the planet closest to the Sun.",
    ),
    (
        "My order arrived damaged. What should I do?",
        "Send us a photo within 14 days and we will replace the item at no cost.",
        "Please email a picture of the damage in the next two weeks; the replacement is free.",
        "Damaged items cannot be replaced or refunded. Please order again.",
    ),
    (
        "Does this loop end? for i in range(3): print(i)",
        "Yes. It prints 0, 1 and 2, and then ends.",
        "It does: three numbers are printed, from 0 to 2, and the loop is over.",
        "No, it prints numbers for ever.",
    ),
    (
        "Is water denser as ice or as a liquid?",
        "Liquid water is denser, which is why ice floats.",
        "As a liquid. Ice is less dense, so it floats.",
        "Ice is denser than liquid water.",
    ),
    (
        "How long should eggs boil to be hard?",
        "About ten minutes.",
        "Leave them in boiling water for roughly 10 min.",
        "Thirty seconds are enough.",
    ),
)


def judge_id(policy: Policy, judge: str) -> str:
    """The name under which a judge's control items are kept: another model, other settings or another rubric are another judge.

    The plain name for a rung that is not on the ladder: all its items count.
    """
    rung = next((one for one in policy.ladder if one.rung == judge_rung(judge)), None)
    if rung is None:
        return judge
    what = repr((rung.model, rung.effort, rung.thinking, RUBRIC))
    return f"{judge}#{hashlib.sha256(what.encode()).hexdigest()[:12]}"


def known_controls(policy: Policy, tables: AuditTables, now: float) -> tuple[Control, ...]:
    """The control items of the judges as they are now, oldest first, by the judges' plain names. `now`: Unix seconds. Raises LedgerDown."""
    found = tables.controls(policy.name, since=now - KEEP_S)
    named = ((one, one.judge.partition("#")[0]) for one in found)
    plain = ((one, name) for one, name in named if judge_rung(name) is not None)  # the reviewer of plans is no judge
    return tuple(replace(one, judge=name) for one, name in plain if judge_id(policy, name) in (one.judge, name))


def first_controls() -> tuple[ControlItem, ...]:
    """The built-in items, right and wrong ones in turn."""
    return tuple(
        ControlItem(question, reference, answer, is_right)
        for question, reference, same, other in _PAIRS
        for answer, is_right in ((same, True), (other, False))
    )


def restated(question: object, shadow: str) -> ControlItem:
    """An item of known agreement: an answer beside itself, with other line breaks and blank lines around it."""
    return ControlItem(question, shadow, "\n\n" + "\r\n".join(shadow.splitlines()) + "\n", is_right=True)


def control_due(
    controls: Sequence[Control], judge: str, restatement: ControlItem, request: str, *, follows: bool
) -> ControlItem | None:
    """The control item to be asked before this judge judges a request; None if none is due.

    Its first ones are built-in, until there are enough. Then one accompanies a tenth of the requests, by a hash of their ids, a third
    of them the `restatement` of the request's shadow answer. `follows`: another item came before it, for this request.
    """
    own = [one for one in controls if one.judge == judge]
    items = first_controls()
    missing = [item for item in items if sum(one.is_right is item.is_right for one in own) < FEWEST // 2]
    if missing:
        return missing[len(own) % len(missing)]
    share = share_of("audit:control", request)
    if follows or share >= SHARE:
        return None
    which = int(share / SHARE * 3)
    if which == 2:
        return restatement
    return [item for item in items if item.is_right is (which == 1)][len(own) % len(_PAIRS)]


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a judge is believed. `controls`: how many count.

    `false_agree`: the share of the known disagreements that it called agreement; `false_disagree`: the other way round.
    `unusable`: the share of all without a usable word; the items are clear, so "cannot tell" is none. None without any.
    `why`: in words, why it is not believed; "" if it is. `is_tested`: enough of them count to decide it.
    """

    controls: int
    false_agree: float | None
    false_disagree: float | None
    unusable: float | None
    is_believed: bool
    why: str
    is_tested: bool


def judge_standing(controls: Sequence[Control], judge: str) -> Standing:
    """How a judge stands ("judge:opus"), by its newest control items. `controls`: oldest first, other judges' among them."""
    own = [one for one in controls if one.judge == judge]
    tally = Tally.of((one.is_right, _SAID.get(one.relation)) for one in own)
    agree, disagree = _share(tally.wrong_accepted, tally.wrong), _share(tally.right_rejected, tally.right)
    unusable = _share(tally.unusable, tally.items)
    faults: list[str] = []
    if not tally.is_enough:
        faults.append(
            f"it was tested on {tally.right} right and {tally.wrong} wrong control items, {FEWEST // 2} of each are needed"
        )
    else:
        if (agree or 0) > MOST_WRONG:
            faults.append(f"it agrees with {agree:.0%} of the answers that are known to be wrong")
        if (disagree or 0) > MOST_WRONG:
            faults.append(f"it disagrees with {disagree:.0%} of the answers that are known to be right")
        if (unusable or 0) > MOST_WRONG:
            faults.append(f"of {unusable:.0%} of the control items it says nothing usable")
    return Standing(tally.items, agree, disagree, unusable, not faults, "; ".join(faults), tally.is_enough)


def withheld_judges(controls: Sequence[Control], judges: Iterable[str] = ()) -> dict[str, str]:
    """Which judges are not believed, and why: of those that were tested, and of `judges`."""
    standings = {
        judge: judge_standing(controls, judge) for judge in dict.fromkeys((*judges, *(one.judge for one in controls)))
    }
    return {judge: standing.why for judge, standing in standings.items() if not standing.is_believed}


def _share(count: int, n: int) -> float | None:
    return count / n if n else None
