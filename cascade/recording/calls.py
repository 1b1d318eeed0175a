"""Which models a recording calls, with which prompts, and how their replies are stored.

Each rung gets the prompt it gets live: triage below the top rung, a plain prompt on the top rung. The baseline gets a
plain prompt. If the baseline is the top rung's model, the top rung's reply serves as the baseline's.
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
from cascade.core.policy import Policy, Rung
from cascade.core.text.parsing import Repair
from cascade.core.text.suggestions import did_you_mean
from cascade.core.trail import Verdict
from cascade.core.triage import Prompt, build_prompt, read_reply, wants_triage
from cascade.corpora.items import NOT_RECORDED, LadderEntry, RecordedReply
from cascade.policy.plans import baseline_rung, make_plan
from cascade.policy.pricing import NoPrice, rates_of

__all__ = [
    "BASELINE",
    "RecordingPlan",
    "Respondent",
    "call_cost",
    "journal_entry",
    "make_recording_plan",
    "plain_respondent",
    "reply_from_entry",
    "usage_fields",
]

BASELINE = "@baseline"
"""The baseline's name in a journal, if it is not the top rung. No rung can have this name."""

_NOT_SHAPING = {"threshold", "timeout_s", "price", "discount", "api_key_env"}  # settings that do not change a reply


@dataclass(frozen=True, slots=True)
class Respondent:
    """A model that answers every input: the rung at `index` of `policy`'s ladder. `name` stands in the journal."""

    name: str
    policy: Policy
    index: int
    rates: prices.Rates
    repair: Repair | None = None

    @property
    def rung(self) -> Rung:
        """The rung; a baseline that is not on the ladder is given as one."""
        return self.policy.ladder[self.index]

    @property
    def triage(self) -> bool:
        """Whether its prompt asks for a confidence."""
        return wants_triage(self.policy, self.index)

    def prompt(self, request: Request) -> Prompt:
        """The prompt for a request, exactly as live."""
        return build_prompt(self.policy, self.index, request)

    def read(self, reply: Reply, *, structured: bool = False) -> Verdict:
        """The verdict on a reply, exactly as live."""
        return read_reply(reply, triage=self.triage, structured=structured, repair=self.repair)


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """The respondents in call order. `baseline`: the name of the one whose answer is the baseline's."""

    respondents: tuple[Respondent, ...]
    baseline: str

    @property
    def ladder(self) -> tuple[LadderEntry, ...]:
        """The rungs, as the corpus's manifest names them."""
        return tuple(LadderEntry(one.name, one.rung.model) for one in self.respondents if one.name != BASELINE)

    def find(self, name: str) -> Respondent:
        """The respondent of this name; there must be one."""
        return next(one for one in self.respondents if one.name == name)

    def hashes(self) -> dict[str, str]:
        """Hashes of all settings that change a reply: not of thresholds, prices, keys and timeouts."""
        by_name = {one.name: _hashed_settings(one) for one in self.respondents}
        baseline = [self.baseline, by_name.pop(BASELINE, None)]
        triage = self.respondents[0].policy.triage.model_dump()
        return {"ladder": _hash([by_name, triage]), "baseline": _hash(baseline)}


def make_recording_plan(policy: Policy, rungs: tuple[str, ...] = (), baseline: str | None = None) -> RecordingPlan:
    """The respondents of a policy. `rungs`: only these and the top rung; empty: the whole ladder.

    `baseline`: a rung's name or a model; None: the top rung. Raises PolicyError if the policy cannot be used,
    ConfigurationError for a rung that is not on the ladder or a baseline without a price.
    """
    plan = make_plan(policy)
    names = [rung.rung for rung in policy.ladder]
    for rung in rungs:
        if rung not in names:
            hint = f"{did_you_mean(rung, names)}it has {', '.join(names)}"
            raise ConfigurationError(f"--rungs: there is no rung {rung!r} on the ladder ({hint})")
    respondents = tuple(
        Respondent(rung.rung, policy, index, plan.rates[index], plan.repair)
        for index, rung in enumerate(policy.ladder)
        if not rungs or rung.rung in rungs or index == policy.top
    )
    top = policy.ladder[policy.top]
    if baseline is None or baseline in (top.rung, top.model):
        return RecordingPlan(respondents, top.rung)
    return RecordingPlan((*respondents, _plain(policy, baseline, BASELINE, plan.repair)), BASELINE)


def plain_respondent(policy: Policy, rung: str, name: str) -> Respondent:
    """A rung or a model with a plain prompt, whatever its place. A model gets the top rung's max_tokens."""
    return _plain(policy, rung, name, make_plan(policy).repair)


def _plain(policy: Policy, wanted: str, name: str, repair: Repair | None) -> Respondent:
    try:
        rung = baseline_rung(policy, wanted)
        rates = rates_of(rung)
    except (NoPrice, ValueError) as problem:
        message = str(problem).splitlines()[0]
        raise ConfigurationError(f"{wanted}: {message} (use a rung's name, or a model that has a price)") from None
    # The top rung of a ladder gets a plain prompt. This ladder decides nothing, so it need not be a valid one.
    return Respondent(name, policy.model_copy(update={"ladder": (*policy.ladder, rung)}), policy.top + 1, rates, repair)


def call_cost(respondent: Respondent, outcome: Reply | Failure) -> int:
    """The cost of a call in nano-USD, broken-off attempts included: as a live step counts it."""
    return prices.total(respondent.rates, outcome.billed)


def journal_entry(respondent: Respondent, item: str, outcome: Reply | Failure) -> dict[str, Any]:
    """A reply, or an overflowing context window, as a line of the journal."""
    verdict = respondent.read(outcome) if isinstance(outcome, Reply) else Verdict("overflow", detail="context window")
    return {
        "item": item,
        "ask": respondent.name,
        "verdict": verdict.kind,
        "confidence": verdict.confidence,
        "answer": verdict.text,
        "usage": usage_fields(sum(outcome.spent, outcome.usage)),
        "cost": call_cost(respondent, outcome),
    }


def reply_from_entry(entry: Mapping[str, Any], score: float | None) -> RecordedReply:
    """A journal line as a corpus reply. The verdict is kept if there is neither an answer nor a decline."""
    kind = entry["verdict"]
    extra = None if kind in ("answered", "declined") else {"verdict": kind}
    answer = entry["answer"]
    assert answer is not NOT_RECORDED
    return RecordedReply(entry["confidence"], answer, score, entry["usage"], entry["cost"] / 1e9, extra=extra)


def usage_fields(usage: Usage) -> dict[str, Any]:
    """Tokens under the API's names. Zero counts are left out, except input_tokens and output_tokens.

    `"estimate": true` marks token counts that the endpoint did not report.
    """
    fields: dict[str, Any] = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    if usage.cache_read:
        fields["cache_read_input_tokens"] = usage.cache_read
    if written := usage.cache_write_5m + usage.cache_write_1h:
        fields["cache_creation_input_tokens"] = written
        fields["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        }
    if usage.thinking_tokens:
        fields["output_tokens_details"] = {"thinking_tokens": usage.thinking_tokens}
    if usage.is_estimate:
        fields["estimate"] = True
    return fields


def _hashed_settings(one: Respondent) -> list[Any]:
    return [one.triage, one.rung.model_dump(mode="json", exclude=_NOT_SHAPING)]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
