"""Which models a recording calls, with which prompts, and how their replies are stored.

Each rung gets the prompt it gets live: triage below the top rung, a plain prompt on the top rung. A rung with `samples` gets
the prompt of each of its samples' variants in turn, all of them: a recording is never curtailed. The baseline gets a plain
prompt. If the baseline is the top rung's model, the top rung's reply serves as the baseline's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cascade.core import prices
from cascade.core.bound_policy import BoundPolicy
from cascade.core.context import every_prepare, summarisers
from cascade.core.errors import ConfigurationError
from cascade.core.messages import Failure, Reply, Request, Usage
from cascade.core.policy import OTHER, Policy, Rung, Variant
from cascade.core.policy.ladder import asked_as
from cascade.core.text.envelope import EnvelopeReader
from cascade.core.text.parsing import Repair
from cascade.core.text.suggestions import did_you_mean
from cascade.core.trail import Verdict
from cascade.core.triage import Prompt, build_prompt, triage_name, wants_triage
from cascade.core.verdicts import read_reply
from cascade.core.verification import Verifier
from cascade.corpora.items import NOT_RECORDED, LadderEntry, RecordedReply
from cascade.policy.binding import baseline_rung, bind_policy
from cascade.policy.pricing import NoPrice, rates_of
from cascade.recording.samples import SampleId, prompt_hash, samples_of
from cascade.replay.reviews import gates_at, has_reviews, refuse_voted_reviews

__all__ = [
    "BASELINE",
    "EntryOf",
    "Key",
    "RecordingPlan",
    "Respondent",
    "call_cost",
    "entry_key",
    "journal_entry",
    "make_recording_plan",
    "plain_respondent",
    "reply_from_entry",
    "usage_fields",
]

BASELINE = "@baseline"
"""The baseline's name in a journal, if it is not the top rung. No rung can have this name."""

# Settings that do not change a reply. Each sample's prompt has a hash of its own.
_NOT_SHAPING = {"threshold", "timeout_s", "price", "discount", "api_key_env", "samples"}

Key = tuple[str | int, ...]
"""What a journal finds a reply by: the item and the respondent, and of a sample its variant, number and prompt's hash."""

EntryOf = Callable[[Reply | Failure, int], dict[str, Any]]
"""Turns an outcome and its cost, in nano-USD, into a line of the journal. Of the failures it gets overflows only."""


@dataclass(frozen=True, slots=True)
class Respondent:
    """A model that answers inputs: the rung at `index` of `policy`'s ladder. `name` stands in the journal.

    `sample`: which of the rung's samples, None for a rung that is asked once. `variant`: how it is asked; None for a sample
    that an earlier command recorded, and this one does not ask for. `must_fit`: a prompt that overflows its context window is a
    failure, as of a judge. `is_judged`: a judge groups the samples' answers.
    """

    name: str
    policy: Policy
    index: int
    rates: prices.Rates
    repair: Repair | None = None
    sample: SampleId | None = None
    variant: Variant | None = None
    must_fit: bool = False
    is_judged: bool = False

    @property
    def rung(self) -> Rung:
        """The rung as it is asked; a baseline that is not on the ladder is given as one."""
        rung = self.policy.ladder[self.index]
        return rung if self.variant is None else asked_as(rung, self.variant)

    @property
    def label(self) -> str:
        """Its name for people."""
        name, sample = self.name.removeprefix("@"), self.sample
        return name if sample is None or sample.is_plain else f"{name}, {sample.variant} {sample.nth + 1}"

    def key(self, item: str) -> Key:
        """What the journal finds its reply to an item by."""
        sample = self.sample
        if sample is None or sample.is_plain:
            return item, self.name
        return item, self.name, sample.variant, sample.nth, sample.prompt

    @property
    def triage(self) -> bool:
        """Whether its prompt asks for a confidence."""
        return wants_triage(self.policy, self.index)

    def prompt(self, request: Request) -> Prompt:
        """The prompt for a request, exactly as live."""
        return build_prompt(self.policy, self.index, request, self.variant)

    def read(self, reply: Reply, *, structured: bool = False) -> Verdict:
        """The verdict on a reply, exactly as live."""
        in_vote = self.sample is not None
        return read_reply(reply, triage=self.triage, structured=structured, repair=self.repair, in_vote=in_vote)


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """The respondents in call order. `baseline`: the name of the one whose answer is the baseline's.

    `plan`: the policy's. `samples`: by task and rung the samples in the order in which they are asked, for the rungs that
    are asked more than once. `asks_reviews`: whether answers are reviewed, where the policy has a review gate.
    """

    respondents: tuple[Respondent, ...]
    baseline: str
    plan: BoundPolicy
    samples: Mapping[tuple[str, str], tuple[Respondent, ...]] = field(
        default_factory=dict[tuple[str, str], "tuple[Respondent, ...]"]
    )
    asks_reviews: bool = True

    @property
    def has_reviews(self) -> bool:
        """Whether answers are reviewed."""
        return self.asks_reviews and has_reviews(self.plan)

    def reviewer_of(self, task: str, respondent: Respondent) -> int | None:
        """The index of the rung that reviews a rung's answers to this task; None if none does, or if that is not recorded."""
        gate = gates_at(self.plan, task, respondent.index) if self.asks_reviews else None
        if gate is None or respondent.name == BASELINE:
            return None
        return gate[0] if any(one.name != BASELINE and one.index == gate[0] for one in self.respondents) else None

    @property
    def ladder(self) -> tuple[LadderEntry, ...]:
        """The rungs, as the corpus's manifest names them."""
        return tuple(LadderEntry(one.name, one.rung.model) for one in self.respondents if one.name != BASELINE)

    def find(self, name: str) -> Respondent:
        """The respondent of this name; there must be one."""
        return next(one for one in self.respondents if one.name == name)

    def samples_for(self, task: str, respondent: Respondent) -> tuple[Respondent, ...]:
        """The samples of a rung for a request of this task; empty if it is asked once, as a baseline is."""
        listed = any(one.name == task for one in self.plan.policy.tasks)
        return self.samples.get((task if listed else OTHER, respondent.name), ())

    @property
    def verifiers(self) -> tuple[Verifier, ...]:
        """The external checks of all tasks."""
        return (*self.plan.shared_verifiers, *(one for many in self.plan.verifiers.values() for one in many))

    @property
    def prompts(self) -> dict[str, str]:
        """The hash of each variant's prompt, by its name; empty without samples."""
        return {one.sample.variant: one.sample.prompt for many in self.samples.values() for one in many if one.sample}

    def hashes(self) -> dict[str, str]:
        """Hashes of all settings that change a reply: not of thresholds, prices, keys and timeouts."""
        by_name = {one.name: _hashed_settings(one) for one in self.respondents}
        baseline = [self.baseline, by_name.pop(BASELINE, None)]
        triage = self.respondents[0].policy.triage.model_dump()
        return {"ladder": _hash([by_name, triage, *_trims(self.plan.policy)]), "baseline": _hash(baseline)}


def make_recording_plan(policy: Policy, rungs: tuple[str, ...] = (), baseline: str | None = None) -> RecordingPlan:
    """The respondents of a policy. `rungs`: only these and the top rung; empty: the whole ladder.

    `baseline`: a rung's name or a model; None: the top rung. Raises PolicyError if the policy cannot be used,
    ConfigurationError for a rung that is not on the ladder or a baseline without a price.
    """
    plan = bind_policy(policy)
    refuse_voted_reviews(plan)
    if summarisers(policy):
        hint = "record with a copy of the policy without it; a replay takes no notice of `prepare`"
        raise ConfigurationError(f"prepare: a recording has no place for summaries ({hint})")
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
    samples = _sampled(plan, respondents)
    top = policy.ladder[policy.top]
    if baseline is None or baseline in (top.rung, top.model):
        return RecordingPlan(respondents, top.rung, plan, samples)
    separate = _plain(policy, baseline, BASELINE, plan.repair)
    return RecordingPlan((*respondents, separate), BASELINE, plan, samples)


def _sampled(plan: BoundPolicy, respondents: tuple[Respondent, ...]) -> dict[tuple[str, str], tuple[Respondent, ...]]:
    policy = plan.policy
    found: dict[tuple[str, str], tuple[Respondent, ...]] = {}
    prompts = {triage_name(policy): prompt_hash(policy, 0, Variant())}
    for task in (OTHER, *(task.name for task in policy.tasks)):
        for one in respondents:
            samples = policy.route(task).samples[one.index]
            if samples is None or one.index == policy.top:
                continue
            base = replace(one, is_judged=samples.same.kind == "judge")
            found[task, one.name] = tuple(
                replace(base, sample=sample, variant=variant, rates=plan.rates_of(one.index, variant))
                for sample, variant in samples_of(policy, one.index, samples)
            )
            for asked in found[task, one.name]:
                assert asked.sample is not None
                name, prompt = asked.sample.variant, asked.sample.prompt
                if prompts.setdefault(name, prompt) != prompt:
                    hint = "a corpus names each prompt: give one of them another `name`"
                    raise ConfigurationError(f"two different variants are named {name!r} ({hint})")
    return found


def plain_respondent(policy: Policy, rung: str, name: str) -> Respondent:
    """A rung or a model with a plain prompt, whatever its place. A model gets the top rung's max_tokens."""
    return _plain(policy, rung, name, bind_policy(policy).repair)


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
    confidence = verdict.confidence
    if verdict.kind not in ("answered", "declined") and isinstance(outcome, Reply) and respondent.triage:
        confidence = _begun_with(outcome)
    return {
        **entry_key(item, respondent),
        "verdict": verdict.kind,
        "confidence": confidence,
        "answer": verdict.text,
        "usage": usage_fields(sum(outcome.spent, outcome.usage)),
        "cost": call_cost(respondent, outcome),
    }


def _begun_with(reply: Reply) -> float | None:
    """The confidence that a reply began with which ended badly: early stop decides on it, so a replay needs it."""
    reader = EnvelopeReader()
    reader.feed(reply.text)
    return reader.head.confidence if reader.head is not None else None


def entry_key(item: str, respondent: Respondent) -> dict[str, Any]:
    """The fields of a journal line that say whose reply it is."""
    fields: dict[str, Any] = {"item": item, "ask": respondent.name}
    sample = respondent.sample
    if sample is not None and not sample.is_plain:
        fields |= {"variant": sample.variant, "n": sample.nth, "prompt": sample.prompt}
    return fields


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
    settings = one.rung.model_dump(mode="json", exclude=_NOT_SHAPING)
    if settings.get("provider") == "anthropic":  # there was no other when journals and corpora first had this hash
        del settings["provider"]
    return [one.triage, settings]


def _trims(policy: Policy) -> list[Any]:
    """How the conversations are shortened, by task; nothing where they are not."""
    every = {OTHER: policy.prepare, **{task.name: task.prepare for task in policy.tasks}}
    found = {name: prepare.model_dump(mode="json") for name, prepare in every.items() if prepare is not None}
    return [found] if every_prepare(policy) else []


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
