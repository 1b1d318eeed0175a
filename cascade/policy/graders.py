"""The names of graders that a policy gives its audit, and what is wrong with them here. `corpora.grading` grades by them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from cascade.core.policy import Fault, Policy
from cascade.core.text.suggestions import did_you_mean
from cascade.policy.budgets import import_function
from cascade.policy.patterns import compile_exact

__all__ = ["GRADERS", "grader_faults", "judge_rung", "tolerance_of", "unusable_grader"]

GRADERS = (
    "exact", "normalized", "choice", "numeric", "contains", "pattern", "json_subset", "module:function", "judge",
)  # fmt: skip
"""The names, for help texts."""

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")


def judge_rung(name: str) -> str | None:
    """The rung in a judge's name ("" for the default rung); None if `name` is not a judge."""
    kind, _, rung = name.partition(":")
    return rung if kind == "judge" else None


def tolerance_of(option: str) -> tuple[Decimal, bool]:
    """What follows `numeric:`, and whether it is relative. Raises ValueError if it is not a number of 0 or more."""
    relative = option.endswith("%")
    try:
        tolerance = Decimal(option.removesuffix("%") or "0") / (100 if relative else 1)
    except InvalidOperation:
        tolerance = Decimal(-1)
    if not tolerance.is_finite() or tolerance < 0:
        raise ValueError(f"its tolerance {option[:40]!r} is not a number")
    return tolerance, relative


def unusable_grader(name: str) -> tuple[str, str] | None:
    """Why a grader that is no judge cannot be used here, and what to do; None if it can. Imports the module of `module:function`."""
    kind, _, option = name.partition(":")
    try:
        if kind == "numeric":
            tolerance_of(option)
        elif kind == "pattern" and option:
            compile_exact(option)
        elif kind not in GRADERS and _FUNCTION.match(name):
            import_function(name)
        elif name not in GRADERS:
            meant = did_you_mean(kind, [one.partition(":")[0] for one in GRADERS])
            return f"there is none called {name[:80]!r}", f"{meant}there are {', '.join(GRADERS)}"
    except ValueError as problem:
        if kind == "numeric":
            return str(problem), "as in numeric:0.01"
        return f"its pattern cannot be used: {problem}", "use RE2 syntax"
    except LookupError as problem:
        return str(problem), "name a function as module:function, in a module that can be imported"
    return None


def grader_faults(policy: Policy) -> Iterator[Fault]:
    """The audit's graders that cannot be used on this machine or on this ladder: the policy's and those of its tasks."""
    names = [rung.rung for rung in policy.ladder]
    own = None if policy.audit is None else policy.audit.grader
    given: list[tuple[tuple[str | int, ...], str | None]] = [(("audit", "grader"), own)]
    given += [(("tasks", number, "grader"), task.grader) for number, task in enumerate(policy.tasks)]
    for at, name in given:
        rung = None if name is None else judge_rung(name)
        if rung and rung not in names:
            yield Fault(
                at,
                f"there is no rung {rung!r} on the ladder",
                f"use judge, or judge:RUNG with one of {', '.join(names)}",
            )
        elif name is not None and rung is None and (unusable := unusable_grader(name)) is not None:
            yield Fault(at, *unusable)
