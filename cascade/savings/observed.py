"""What a ledger shows: what the ladder saved and by what, and the shares that a projection needs.

The sums do not hold it, so entries are read one by one. A request is counted if the ladder answered it (arms `cascade`,
`batch` and `executor`) or the response cache did (`cache`). What planned and reviewed runs, and climbs that repeated a subtask, are money without a request. The reference is what the baseline alone would have cost, live and uncached, for
the tokens of the prompt and of the shipped answer: `Outcome.estimate` is the same, but at the top rung's own cached tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Final

from cascade.core import prices
from cascade.core.arms import LADDER_ARMS, PLAN_ARMS
from cascade.core.estimates import baseline_usage
from cascade.core.messages import Usage
from cascade.core.policy import Policy
from cascade.core.prices import Rates
from cascade.ledger.records import OutcomeBody, StepBody
from cascade.ledger.requests import RequestRecord
from cascade.policy.binding import baseline_rung
from cascade.savings.bill import uncached
from cascade.savings.mixes import Mix
from cascade.savings.month import PricedWorkload, price_workload, rounded
from cascade.savings.parts import Parts
from cascade.savings.rates import BothRates, PriceBook
from cascade.savings.workload import Workload

__all__ = ["Observed", "observe"]

_ARMS: Final = LADDER_ARMS | {"cache"}


@dataclass(slots=True)
class Observed:
    """One policy's requests in a period. Money in nano-USD.

    answered        by the ladder, live and in batches; `batched` of them in batches
    hits            answered from the response cache
    shipped         by rung: how many it answered; `reached`: how many came to it
    tokens          of all calls
    first           when the first of them began, in Unix seconds; None without any
    unanswered      failed or abstained requests, not counted; they cost `unanswered_cost`
    unknown         requests whose reference cannot be told, not counted
    others          requests of other policies or arms, not counted
    beside          calls that planned and reviewed runs, and climbs that repeated a subtask: their money (`beside_cost`) is in `parts`
    estimated       calls whose recorded cost is not what today's prices give: their parts are proportional
    """

    policy: str
    rungs: tuple[str, ...]
    answered: int = 0
    batched: int = 0
    hits: int = 0
    shipped: dict[str, int] = field(default_factory=dict[str, int])
    reached: dict[str, int] = field(default_factory=dict[str, int])
    tokens: Usage = Usage()
    parts: Parts = field(default_factory=Parts)
    first: float | None = None
    unanswered: int = 0
    unanswered_cost: int = 0
    unknown: int = 0
    others: int = 0
    beside: int = 0
    beside_cost: int = 0
    estimated: int = 0

    @property
    def requests(self) -> int:
        """All that are counted."""
        return self.answered + self.hits

    @property
    def shares(self) -> Mapping[str, Fraction]:
        """What a workload leaves open, as it was observed: its keys' values, without the mix. Empty without answers."""
        if not self.answered or not self.tokens.prompt_tokens:
            return {}
        prompt, written = self.tokens.prompt_tokens, self.tokens.cache_write_5m + self.tokens.cache_write_1h
        return {
            "cache_read_share": Fraction(self.tokens.cache_read, prompt),
            "cache_write_share": Fraction(written, prompt),
            "batch_share": Fraction(self.batched, self.answered),
            "response_cache_share": Fraction(self.hits, self.requests),
        }

    @property
    def mix(self) -> Mix | None:
        """Who answered, and how far the climbs went; None without answers."""
        if not self.answered:
            return None
        of = [
            [Fraction(counts.get(rung, 0), self.answered) for rung in self.rungs]
            for counts in (self.shipped, self.reached)
        ]
        return Mix(tuple(of[0]), tuple(of[1]), "measured")

    def applied_to(self, priced: PricedWorkload) -> PricedWorkload:
        """The workload with the observed shares in the place of its own."""
        return priced.with_values(**self.shares)

    def projected(self, usage: Usage, requests: int, policy: Policy, book: PriceBook) -> PricedWorkload | None:
        """So many requests with this usage in all, with the observed mix and shares; None without answers."""
        mix = self.mix
        if mix is None:
            return None
        top = policy.ladder[-1].rung
        plain = Workload(
            version=1, name="export", tickets=requests, input_tokens=0, output_tokens=0, models={}, mix={top: Decimal(1)}
        )  # fmt: skip
        each = {
            "input_tokens": Fraction(usage.prompt_tokens, requests),
            "output_tokens": Fraction(usage.output_tokens, requests),
            "mix": {rung: share for rung, share in zip(self.rungs, mix.shares, strict=True) if share},
        }
        return self.applied_to(price_workload(plain, policy, book)).with_values(**each)


def observe(records: Iterable[RequestRecord], policy: Policy, book: PriceBook) -> Observed:
    """What was recorded of a policy. Requests that have not ended are left out. Raises UsageExportError for a model without a price."""
    seen = Observed(policy.name, tuple(rung.rung for rung in policy.ladder))
    baseline = book.rates(baseline_rung(policy).model, "ledger")
    for one in records:
        outcome = one.outcome
        if outcome is None:
            continue
        if one.request.policy != policy.name or outcome.arm not in _ARMS | PLAN_ARMS:
            seen.others += 1
            continue
        if outcome.arm in PLAN_ARMS or (one.request.plan is not None and one.request.plan.attempt):
            _add_beside(seen, one, book)
        elif outcome.arm == "cache":
            _add_hit(seen, one, outcome)
        elif outcome.rung is None:
            seen.unanswered += 1
            seen.unanswered_cost += outcome.cost
        elif outcome.estimate is None or not any(_is_rungs_own(step) for _, step in one.steps):
            seen.unknown += 1
        else:
            _add_climb(seen, one, outcome, _Prices(policy, book, baseline))
    return seen


@dataclass(frozen=True, slots=True)
class _Prices:
    policy: Policy
    book: PriceBook
    baseline: Rates


def _add_hit(seen: Observed, one: RequestRecord, outcome: OutcomeBody) -> None:
    """An answer that was returned again; `estimate` is what the climb cost that it spared."""
    if outcome.estimate is None:
        seen.unknown += 1
        return
    seen.hits += 1
    seen.first = one.at if seen.first is None else min(seen.first, one.at)
    seen.parts += Parts(reference=outcome.estimate, response_cache=outcome.estimate)


def _add_climb(seen: Observed, one: RequestRecord, outcome: OutcomeBody, known: _Prices) -> None:
    steps = [step for _, step in one.steps]
    in_batch = outcome.arm == "batch"
    reference = prices.cost(known.baseline, _reference_usage(steps, outcome, known.policy))
    _add_calls(seen, steps, known.book, reference, in_batch=in_batch)
    seen.answered += 1
    seen.batched += in_batch
    seen.first = one.at if seen.first is None else min(seen.first, one.at)
    assert outcome.rung is not None
    seen.shipped[outcome.rung] = seen.shipped.get(outcome.rung, 0) + 1
    for rung in {step.rung for step in steps if _is_rungs_own(step)}:
        seen.reached[rung] = seen.reached.get(rung, 0) + 1


def _add_beside(seen: Observed, one: RequestRecord, book: PriceBook) -> None:
    """What a run cost beside the first climbs of its subtasks: one model for everything would not be asked in its place."""
    steps = [step for _, step in one.steps]
    _add_calls(seen, steps, book, 0, in_batch=False)
    seen.beside += 1
    seen.beside_cost += sum(step.cost for step in steps)


def _add_calls(seen: Observed, steps: list[StepBody], book: PriceBook, reference: int, *, in_batch: bool) -> None:
    """Split what some calls cost into the parts, against what one model would have."""
    uncached = live = paid = 0
    for step in steps:
        without, with_caching, exact = _costs(step, book.both(step.model, "ledger"), in_batch=in_batch)
        uncached, live, paid = uncached + without, live + with_caching, paid + step.cost
        seen.tokens += _usage(step)
        seen.estimated += not exact
    seen.parts += Parts(reference, reference - uncached, uncached - live, live - paid)


def _costs(step: StepBody, rates: BothRates, *, in_batch: bool) -> tuple[int, int, bool]:
    """A call's cost live and uncached, live and as cached, and whether today's prices give what was recorded."""
    usage = _usage(step)
    listed, bare = prices.cost(rates.live, usage), prices.cost(rates.live, uncached(usage))
    if in_batch:  # a rung that batches do not reach is called live
        return bare, listed, step.cost in (prices.cost(rates.batch, usage), listed)
    scaled = rounded(Fraction(step.cost * bare, listed)) if listed else step.cost
    return scaled, step.cost, step.cost == listed


def _reference_usage(steps: list[StepBody], outcome: OutcomeBody, policy: Policy) -> Usage:
    """The tokens of the baseline's one call, by the rule of `Outcome.estimate`; nothing of them cached."""
    own = [step for step in steps if _is_rungs_own(step)]
    answered, how = _shipped(own, outcome), "triage"
    at, last = answered.index, own[-1]
    by_plan = [step for step in steps if step.index == at and step.auxiliary in ("execution", "plain")]
    if by_plan:
        answered, how = by_plan[-1], "top" if by_plan[-1].auxiliary == "plain" else "plan"
    elif last.index == policy.top and last.output_tokens:
        answered, how = last, "top"
    return uncached(baseline_usage(policy, _usage(own[0]), _usage(answered), how))


def _shipped(own: list[StepBody], outcome: OutcomeBody) -> StepBody:
    """The call whose answer was returned: of a rung that was asked more than once, the first that agreed."""
    calls = [step for step in own if step.rung == outcome.rung] or own
    vote = next((step.vote for step in calls if step.vote is not None), None)
    wanted = vote.members[0] if vote is not None and vote.members else None
    return next((step for step in calls if step.sample == wanted), calls[-1])


def _is_rungs_own(step: StepBody) -> bool:
    """Whether it is a rung's answer, and no judge's, reviewer's or auxiliary call."""
    return not (step.judge or step.review or step.auxiliary is not None)


def _usage(step: StepBody) -> Usage:
    return Usage(step.input_tokens, step.output_tokens, step.cache_write_5m, step.cache_write_1h, step.cache_read)
