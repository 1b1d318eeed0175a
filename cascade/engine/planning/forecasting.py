"""What a plan may cost before it is run: for each subtask an estimate, and what it costs at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cascade.budgets.gate import bound_of
from cascade.claude import schema_of
from cascade.core.bound_policy import BoundPolicy
from cascade.core.messages import Request, Usage
from cascade.core.planning.controls import CONTROLS
from cascade.core.planning.executor import Source, executor_request
from cascade.core.planning.graph import Plan, Subtask
from cascade.core.planning.reviewer import control_request, reviewer_request
from cascade.core.policy.planning import Planning
from cascade.core.prices import cost
from cascade.core.triage import build_prompt
from cascade.engine.planning.making import check_plan
from cascade.engine.planning.options import require_planning

if TYPE_CHECKING:
    from cascade.engine.drivers import Cascade

__all__ = ["Forecast", "forecast", "foresee"]

_RESULT_TOKENS = 400  # a guess
_REVIEW_TOKENS = 60  # a guess: a verdict and a sentence
_CHARACTERS_PER_TOKEN = 4
_ESCAPED = 2  # a token of a result is at most so many where the result is quoted as JSON


@dataclass(frozen=True, slots=True)
class Forecast:
    """In nano-USD. `estimate`: it climbs to its assigned rung, nothing is sent back. `most`: all rungs are called, and each result is sent back."""

    estimate: int
    most: int

    def __add__(self, other: Forecast) -> Forecast:
        return Forecast(self.estimate + other.estimate, self.most + other.most)


def forecast(plan: Plan, inputs: Mapping[str, str], bound: BoundPolicy) -> dict[str, Forecast]:
    """What each subtask may cost, by its id, its reviews included. Of a valid plan.

    An estimate takes results of 400 tokens. `most` takes all of each rung's max_tokens, and as many reviews as the policy allows, each
    with a control item. What else the policy may call beside a rung (a review gate, a judge, a summary, the execution of a plan) is in neither.
    """
    longest = max(rung.max_tokens for rung in bound.policy.ladder) * _ESCAPED
    return {one.id: _Subtask(plan, one, inputs, bound).forecast(longest) for one in plan.subtasks}


def foresee(driver: Cascade, plan: Plan, inputs: Mapping[str, str]) -> dict[str, Forecast]:
    """`forecast` of a plan under a driver's policy. Raises ConfigurationError or PlanError if it cannot be run under it."""
    runtime = driver._runtime  # pyright: ignore[reportPrivateUsage]
    require_planning(runtime.policy, runtime.mode())
    check_plan(runtime, plan, inputs)
    return forecast(plan, inputs, runtime.plan)


@dataclass(frozen=True, slots=True)
class _Subtask:
    plan: Plan
    subtask: Subtask
    inputs: Mapping[str, str]
    bound: BoundPolicy

    def forecast(self, longest: int) -> Forecast:
        """`longest`: characters that stand for a result of unknown length, one for each token."""
        policy = self.bound.policy
        planning = policy.plan or Planning()
        assigned, ceiling = self._index(self.subtask.rung), policy.route(self.subtask.kind).ceiling
        reviewer = self._index(planning.reviewer)
        typical, most = self._requests(_RESULT_TOKENS * _CHARACTERS_PER_TOKEN), self._requests(longest)
        estimate = sum(self._estimate(index, typical[0], _RESULT_TOKENS) for index in range(assigned + 1))
        estimate += round(planning.review_high * self._estimate(reviewer, typical[1], _REVIEW_TOKENS))
        control = max(self._most(reviewer, control_request(item, policy), plain=True) for item in CONTROLS)
        review = self._most(reviewer, most[1], plain=True) + control
        reviews = 1 + min(planning.max_retries, ceiling)
        # A climb that ends degraded has called rungs above the one that answered: sent back, it calls them again.
        climbs = sum(self._most(n, most[0]) * (1 + min(planning.max_retries, n)) for n in range(ceiling + 1))
        return Forecast(estimate, climbs + reviews * review)

    def _index(self, rung: str) -> int:
        return [one.rung for one in self.bound.policy.ladder].index(rung)

    def _requests(self, length: int) -> tuple[Request, Request]:
        """What its executor and its reviewer are asked, with results of this length."""
        policy, unknown = self.bound.policy, "x" * length
        sources = {name: Source(self.inputs.get(name, unknown)) for name in self.subtask.inputs}
        asked = executor_request(self.plan, self.subtask, sources, policy, doubt="x" * 1_000, enforce=schema_of)
        return asked, reviewer_request(self.plan, self.subtask, sources, unknown, policy)

    def _estimate(self, index: int, request: Request, output: int) -> int:
        prompt = sum(map(len, request.texts())) // _CHARACTERS_PER_TOKEN
        return cost(self.bound.rates[index], Usage(prompt, output))

    def _most(self, index: int, request: Request, *, plain: bool = False) -> int:
        """The most that the rung at `index` may cost. `plain`: it is asked by itself, as a reviewer is."""
        policy = self.bound.policy
        if plain:
            prompts = [build_prompt(policy, index, request, triage=False)]
            times = 1
        else:
            samples = policy.route(self.subtask.kind).samples[index]
            variants = samples.variants if samples is not None and samples.variants else (None,)
            prompts = [build_prompt(policy, index, request, variant) for variant in variants]
            times = samples.max if samples is not None else 1
        return times * max(bound_of(self.bound.rates[index], prompt, policy.retry.attempts) for prompt in prompts)
