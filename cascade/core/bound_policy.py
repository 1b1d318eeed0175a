"""A policy, ready to run: its prices, signals and checks, bound. `policy.binding` makes it; `core.climb` runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cascade.core import prices
from cascade.core.messages import Block, Request
from cascade.core.policy import OTHER, Policy, Rung, Variant
from cascade.core.policy.certificate import UNCERTIFIED, Escalation
from cascade.core.prompts import form, tools
from cascade.core.sameness import KeyOf
from cascade.core.signals import Signals
from cascade.core.text.parsing import Repair
from cascade.core.tools import InputTest, bind_tools
from cascade.core.verification import Verifier

__all__ = ["Accept", "BoundCheck", "BoundPolicy", "Checks", "ReviewGate", "with_own_words"]

Accept = Callable[[str], Any]
"""Turns an answer's JSON text into the caller's type; raises, usually ValueError, if it does not fit."""


@dataclass(frozen=True, slots=True)
class BoundCheck:
    """A check, ready to be called with the answer's text. Only True passes.

    `by_first`: every answer passes it that has a first visible character.
    """

    name: str
    test: Callable[[str], object]
    by_first: bool = False


@dataclass(frozen=True, slots=True)
class Checks:
    """What an answer must pass: functions, called here, and verifiers, run by the driver.

    `accept`: parses the answer into the caller's type. `tools`: by name, the test of a tool call's input, see `core.tools`.
    """

    functions: tuple[BoundCheck, ...] = ()
    verifiers: tuple[Verifier, ...] = ()
    accept: Accept | None = None
    tools: Mapping[str, InputTest | None] = field(default_factory=dict[str, "InputTest | None"])


@dataclass(frozen=True, slots=True)
class ReviewGate:
    """Answers of the rungs below the one at `index` that would ship at a confidence under `below` are read by it first."""

    index: int
    rung: str
    below: float

    @property
    def name(self) -> str:
        """Its name on the trail, among the checks."""
        return f"review:{self.rung}"


@dataclass(frozen=True, slots=True)
class BoundPolicy:
    """A policy, ready to run.

    `rates`: prices by rung index. `checks`: by task, besides `shared_checks`; `verifiers` likewise. `repair`: the parser
    for broken JSON, if one is installed. `certificate`: the text that answers carry. `stale`: the parts of the policy that
    changed since it was certified. `escalation`: the certified escalation rates, for the storm guard. `panel`: the prices
    of variants that name another model. `keys`: by `samples.same` as text, the function that compares answers.
    `reviews`: by task, the review that takes the place of `shared_review`.
    `auxiliaries`: the rungs beside the ladder that summarise, by name, with their prices. `batch`: its prices are those of batches.
    `epoch`: names what decides, for the audit: rates are of one epoch. `ratchet`: how many steps the thresholds were ratcheted.
    `prompts`: by task, and `other`, the versions of the words in which its requests may be asked, by role;
    `plan_prompts`: of the planner, the executor and the reviewer, if the policy plans. `compile_schema`: makes the test of a tool's input from its JSON schema; raises ValueError for an unusable one.
    """

    policy: Policy
    rates: tuple[prices.Rates, ...]
    signals: Signals
    checks: Mapping[str, tuple[BoundCheck, ...]]
    shared_checks: tuple[BoundCheck, ...]
    repair: Repair | None = None
    certificate: str = UNCERTIFIED
    stale: tuple[str, ...] = ()
    escalation: Escalation = field(default_factory=Escalation)
    verifiers: Mapping[str, tuple[Verifier, ...]] = field(default_factory=dict[str, "tuple[Verifier, ...]"])
    shared_verifiers: tuple[Verifier, ...] = ()
    panel: Mapping[Variant, prices.Rates] = field(default_factory=dict[Variant, prices.Rates])
    keys: Mapping[str, KeyOf] = field(default_factory=dict[str, KeyOf])
    compile_schema: Callable[[Any], InputTest] = lambda _: bool
    epoch: str = ""
    ratchet: int = 0
    reviews: Mapping[str, ReviewGate] = field(default_factory=dict[str, ReviewGate])
    shared_review: ReviewGate | None = None
    auxiliaries: Mapping[str, tuple[Rung, prices.Rates]] = field(default_factory=dict[str, "tuple[Rung, prices.Rates]"])
    batch: bool = False
    prompts: Mapping[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    plan_prompts: Mapping[str, str] = field(default_factory=dict[str, str])

    def review_of(self, task: str) -> ReviewGate | None:
        """The review of a task's answers: its own, else the policy's, else None."""
        return self.reviews.get(task, self.shared_review)

    def prompts_for(self, task: str, request: Request) -> dict[str, str]:
        """The versions of the words in which this request may be asked, by role. A request that is passed on as it is: none."""
        if request.raw is not None:
            return {}
        return with_own_words(self.prompts.get(task) or self.prompts.get(OTHER) or {}, request)

    def checks_for(
        self,
        task: str,
        more: tuple[BoundCheck, ...] = (),
        accept: Accept | None = None,
        tools: Sequence[Block] = (),
    ) -> Checks:
        """The checks of a task's answers, with the caller's own. Raises RequestError for a tool whose schema cannot be used."""
        return Checks(
            (*self.shared_checks, *self.checks.get(task, ()), *more),
            (*self.shared_verifiers, *self.verifiers.get(task, ())),
            accept,
            bind_tools(tools, self.compile_schema) if tools else {},
        )

    def rates_of(self, index: int, variant: Variant | None) -> prices.Rates:
        """The prices of a call of the rung at `index`, as this variant asks it."""
        return self.rates[index] if variant is None or variant.model is None else self.panel[variant]


def with_own_words(roles: dict[str, str], request: Request) -> dict[str, str]:
    """These roles, and those in which a request is asked for what it brings: tools, and a schema that the API cannot enforce."""
    if request.tools:
        roles = {**roles, "tools": tools.VERSION}
    return roles if request.prompt_schema is None else {**roles, "form": form.VERSION}
