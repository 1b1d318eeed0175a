"""Who is asked in a recording, and how: every rung as it is asked live, and the baseline plainly.

Below the top a rung is asked by triage, the last one plainly. Where the baseline is the top rung's model, its plain
reply is the top rung's reply: it is asked once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.core import prices
from cascade.core.errors import ConfigurationError
from cascade.core.messages import Failure, Reply, Request, Usage
from cascade.core.parsing import Repair
from cascade.core.policy import Policy, Rung
from cascade.core.suggestions import did_you_mean
from cascade.core.trail import Verdict
from cascade.core.triage import Prompt, build_prompt, read_reply, wants_triage
from cascade.corpora.items import NOT_RECORDED, LadderEntry, RecordedReply
from cascade.policy.plans import baseline_rung, make_plan
from cascade.policy.pricing import NoPrice, rates_of

__all__ = [
    "BASELINE",
    "Asked",
    "Roster",
    "cost_of",
    "entry_of",
    "make_roster",
    "plainly",
    "reply_of_entry",
    "usage_fields",
]

BASELINE = "@baseline"
"""What a journal calls the baseline where it is asked by itself; no rung can have this name."""

_NOT_SHAPING = {"threshold", "timeout_s", "price", "discount", "api_key_env"}  # may change: the replies stay the same


@dataclass(frozen=True, slots=True)
class Asked:
    """One model that every input is put to: the rung at `index` of `policy`, as that ladder asks it."""

    name: str
    policy: Policy
    index: int
    rates: prices.Rates
    repair: Repair | None = None

    @property
    def rung(self) -> Rung:
        """The rung, or the baseline as one."""
        return self.policy.ladder[self.index]

    @property
    def triage(self) -> bool:
        """Whether it is asked for its confidence."""
        return wants_triage(self.policy, self.index)

    def prompt(self, request: Request) -> Prompt:
        """What it is asked, exactly as live."""
        return build_prompt(self.policy, self.index, request)

    def read(self, reply: Reply, *, structured: bool = False) -> Verdict:
        """What is made of its reply, exactly as live."""
        return read_reply(reply, triage=self.triage, structured=structured, repair=self.repair)


@dataclass(frozen=True, slots=True)
class Roster:
    """All who are asked, in the order they are asked in. `baseline` names the one whose plain answer is the baseline."""

    asked: tuple[Asked, ...]
    baseline: str

    @property
    def ladder(self) -> tuple[LadderEntry, ...]:
        """The rungs, as the corpus's manifest names them."""
        return tuple(LadderEntry(one.name, one.rung.model) for one in self.asked if one.name != BASELINE)

    def head(self) -> dict[str, str]:
        """Hashes of all that shapes the replies; thresholds, prices, keys and time-outs may change."""
        by_name = {one.name: _shape(one) for one in self.asked}
        baseline = [self.baseline, by_name.pop(BASELINE, None)]
        triage = self.asked[0].policy.triage.model_dump()
        return {"ladder": _hash([by_name, triage]), "baseline": _hash(baseline)}


def make_roster(policy: Policy, rungs: tuple[str, ...] = (), baseline: str | None = None) -> Roster:
    """Who is asked under a policy. `rungs`: only these, and the top one, at which every climb may end; none: all.

    `baseline`: a rung's name or a model; None: the top rung. Raises PolicyError where the policy cannot be used,
    ConfigurationError for a rung that is not on the ladder and a baseline without a price.
    """
    plan = make_plan(policy)
    names = [rung.rung for rung in policy.ladder]
    for rung in rungs:
        if rung not in names:
            meant = did_you_mean(rung, names)
            raise ConfigurationError(
                f"--rungs: there is no rung {rung!r} on the ladder ({meant}it has {', '.join(names)})"
            )
    asked = tuple(
        Asked(rung.rung, policy, index, plan.rates[index], plan.repair)
        for index, rung in enumerate(policy.ladder)
        if not rungs or rung.rung in rungs or index == policy.top
    )
    top = policy.ladder[policy.top]
    if baseline is None or baseline in (top.rung, top.model):
        return Roster(asked, top.rung)
    return Roster((*asked, _plain(policy, baseline, BASELINE, plan.repair)), BASELINE)


def plainly(policy: Policy, rung: str, name: str) -> Asked:
    """The rung, or model, asked plainly, without triage, whatever its place; with the top's max_tokens for a model."""
    return _plain(policy, rung, name, make_plan(policy).repair)


def _plain(policy: Policy, wanted: str, name: str, repair: Repair | None) -> Asked:
    try:
        rung = baseline_rung(policy, wanted)
        rates = rates_of(rung)
    except (NoPrice, ValueError) as problem:
        what = str(problem).splitlines()[0]
        raise ConfigurationError(f"{wanted}: {what} (use a rung's name, or a model that has a price)") from None
    # A ladder with it at the top: the top is asked plainly. It never decides anything, so no invariant is asked of it.
    return Asked(name, policy.model_copy(update={"ladder": (*policy.ladder, rung)}), policy.top + 1, rates, repair)


def cost_of(asked: Asked, outcome: Reply | Failure) -> int:
    """What a call cost, in nano-USD, attempts that broke off included: as a live step counts it."""
    return prices.total(asked.rates, outcome.billed)


def entry_of(asked: Asked, item: str, outcome: Reply | Failure) -> dict[str, Any]:
    """A reply, or a context window that was too small, as a line of the journal."""
    verdict = asked.read(outcome) if isinstance(outcome, Reply) else Verdict("overflow", detail="context window")
    return {
        "item": item,
        "ask": asked.name,
        "verdict": verdict.kind,
        "confidence": verdict.confidence,
        "answer": verdict.text,
        "usage": usage_fields(sum(outcome.spent, outcome.usage)),
        "cost": cost_of(asked, outcome),
    }


def reply_of_entry(entry: Mapping[str, Any], score: float | None) -> RecordedReply:
    """A line of the journal as the corpus has it. No answer: the verdict's kind stands beside it."""
    kind = entry["verdict"]
    told = None if kind in ("answered", "declined") else {"verdict": kind}
    answer = entry["answer"]
    assert answer is not NOT_RECORDED
    return RecordedReply(
        entry["confidence"], answer, score, entry["usage"], entry["cost"] / 1e9, extra=told
    )  # fmt: skip


def usage_fields(usage: Usage) -> dict[str, Any]:
    """Tokens under the API's own names; what is zero is left out, but for the two that always are there.

    `"estimate": true` marks tokens that the endpoint did not say.
    """
    told: dict[str, Any] = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    if usage.cache_read:
        told["cache_read_input_tokens"] = usage.cache_read
    if written := usage.cache_write_5m + usage.cache_write_1h:
        told["cache_creation_input_tokens"] = written
        told["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        }
    if usage.thinking_tokens:
        told["output_tokens_details"] = {"thinking_tokens": usage.thinking_tokens}
    if usage.is_estimate:
        told["estimate"] = True
    return told


def _shape(one: Asked) -> list[Any]:
    return [one.triage, one.rung.model_dump(mode="json", exclude=_NOT_SHAPING)]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
