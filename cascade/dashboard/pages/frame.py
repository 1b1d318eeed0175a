"""What is around a page: whose it is, which period and policy it shows, and what needs somebody's attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal
from urllib.parse import urlencode

from cascade.dashboard.pages.texts import moment, percent, usd
from cascade.dashboard.values import Overview

__all__ = ["SPANS", "Choice", "Concern", "Frame", "concerns"]

SPANS: Final = (("24h", "24 h"), ("7d", "7 days"), ("30d", "30 days"))
"""The periods that the pages offer: as `--since` writes them, and as people do."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the reader chose. `start` and `end`: of a period that is not one of `SPANS` ("": none); `policy` "": all."""

    since: str = "24h"
    start: str = ""
    end: str = ""
    policy: str = ""

    def link(self, path: str, **more: str) -> str:
        """The address of a page that shows the same period; `more`: its own parameters."""
        own = {"from": self.start, "to": self.end} if self.start else {"since": self.since}
        given = {name: value for name, value in {**own, "policy": self.policy, **more}.items() if value}
        return f"{path}?{urlencode(given)}"

    def of(self, policy: str) -> Choice:
        """The same period of another policy."""
        return replace(self, policy=policy)


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page is told. `viewer`: whose key it is ("": nobody had to log in); `csrf`: "" without a login.

    `policies`: that can be chosen; `label`: the period in words; `version`: of the ledger, when the page was made ("": the page stays as it is).
    """

    ledger: str
    made_at: float
    choice: Choice = Choice()
    label: str = ""
    policies: tuple[str, ...] = ()
    viewer: str = ""
    csrf: str = ""
    may_switch: bool = False
    version: str = ""
    page: Literal["overview", "modes", "other"] = "other"


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that somebody should look at. `target`: the id of the section that says more."""

    level: Literal["alarm", "alert"]
    text: str
    target: str


def concerns(found: Overview) -> Sequence[Concern]:
    """What the figures say that needs attention, the worst first."""
    listed: list[Concern] = []
    for one in found.episodes:
        if one.until is None:
            what = f"{one.rung} fails" if one.what == "errors" else f"Storm: {one.task} at {one.rung}"
            did = "failed" if one.what == "errors" else "escalated"
            text = f"{what} since {moment(one.since)}, {percent(one.rate)} {did} (limit {percent(one.limit)})"
            listed.append(Concern("alarm", text, "escalations"))
    for audit in found.audits:
        if audit.state in ("alarmed", "drifting"):
            level: Literal["alarm", "alert"] = "alarm" if audit.state == "alarmed" else "alert"
            listed.append(Concern(level, f"Audit of {audit.policy}: {audit.text}", "audits"))
    for budget in found.budgets:
        if budget.state != "ok":
            whose = f", {budget.scope} {budget.value or '(none)'}" if budget.scope != "policy" else ""
            text = f"{budget.span.capitalize()} budget of {budget.policy}{whose}: {usd(budget.spent)} of {usd(budget.limit)}, {percent(budget.share, 0)}"
            listed.append(Concern("alarm" if budget.state == "exhausted" else "alert", text, "budgets"))
    return sorted(listed, key=lambda one: one.level != "alarm")
