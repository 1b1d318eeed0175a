"""The state of one climb's conversation: the request as each rung is asked, and what that took."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from cascade.core.assisting import Assisted, ask_auxiliary
from cascade.core.bound_policy import BoundPolicy
from cascade.core.context.measuring import CHARACTERS_PER_TOKEN, characters, characters_of_json
from cascade.core.context.settings import summariser
from cascade.core.context.summarising import Summarised, build_summary_prompt, needs_summary, with_summary
from cascade.core.context.trimming import trim
from cascade.core.context.turns import Parts
from cascade.core.decision import Call, Start
from cascade.core.events import Event, Sent, Stepping, Taking
from cascade.core.messages import Request
from cascade.core.models import rules_of
from cascade.core.policy import Policy, Rung
from cascade.core.policy.economy import Handoff, Summarize, Trim
from cascade.core.policy.ladder import asked_as
from cascade.core.prepared import Prepared
from cascade.core.prices import Rates
from cascade.core.sampling import take_step
from cascade.core.step_calls import with_auxiliary
from cascade.core.tools import history_for
from cascade.core.trail import Sample, Step
from cascade.core.triage import build_prompt

__all__ = ["Context", "context_of", "take_prepared", "trimmed_request"]

_WINDOW_CHARACTERS = 3
"""Characters that a token of a context window holds here: the newer models count about 30 % more tokens than characters / 4."""

_HANDOFF_CHARACTERS = 16_000
"""What a handoff adds to a prompt, at most: two plans of about 3,000 characters, escaped up to twice as many, and its words."""

_Asked = tuple[Request, Prepared | None]


def context_of(plan: BoundPolicy, request: Request, task: str, start: Start) -> Context | None:
    """The context of a climb; None where nothing is prepared: the policy does not say so, or the request is passed on as it is."""
    prepare = plan.policy.route(task).prepare
    if prepare is None or prepare.settings is None or request.raw is not None:
        return None
    return Context(plan, request, task, start, prepare.settings)


class Context:
    """How the conversation of one climb is asked of each rung. A summary is made once, before the first rung that is given it."""

    __slots__ = (
        "_asked",
        "_beside",
        "_plan",
        "_problem",
        "_request",
        "_settings",
        "_start",
        "_summarised",
        "_task",
        "_tried",
    )

    def __init__(
        self, plan: BoundPolicy, request: Request, task: str, start: Start, settings: Summarize | Trim
    ) -> None:
        self._plan, self._request, self._task, self._start, self._settings = plan, request, task, start, settings
        self._asked: dict[int, _Asked] = {}
        self._tried = False  # to make the summary
        self._summarised: Summarised | None = None
        self._beside: Sample | None = None  # the summary's call, until it stands with a step
        self._problem = ""  # why there is no summary

    @property
    def unmarked_cost(self) -> int:
        """The cost of the summary's call, in nano-USD, while it stands with no step."""
        return self._beside.cost_nanousd if self._beside is not None else 0

    def prepare(self, taking: Taking, index: int) -> Generator[Event, Sent, Taking]:
        """What the rung at `index` is taken for: with the request as it is asked. It may take a call for the summary."""
        settings = self._settings
        if isinstance(settings, Summarize) and not self._tried and not _keeps_original(settings, self._plan, index):
            parts = needs_summary(self._request.messages, settings)
            self._tried = True
            if parts is not None:
                yield from self._summarise(taking, index, settings, parts)
        request = self.request_for(index)
        return taking if request is taking.request else replace(taking, request=request)

    def request_for(self, index: int) -> Request:
        """The request as the rung at `index` is asked; the original, where it would need a summary that was not made."""
        asked = self._asked.get(index)
        if asked is None:
            asked = self._asked[index] = self._prepared(index)
        return asked[0]

    def marked(self, step: Step) -> Step:
        """The step with how its conversation was shortened, and with the summary's call if it was made for this step."""
        asked = self._asked.get(step.index)
        if asked is not None and asked[1] is not None:
            step = replace(step, prepared=asked[1])
        return self.with_spent(step)

    def with_spent(self, step: Step) -> Step:
        """The step with the summary's call, if that stands with none yet."""
        call, self._beside = self._beside, None
        if call is None:
            return step
        return replace(with_auxiliary(step, call), auxiliaries=(call, *step.auxiliaries))  # it was made first

    def notes(self, steps: Sequence[Step]) -> Iterator[str]:
        """What the caller is told: which rungs were not asked the whole conversation, and why there is no summary."""
        if self._problem:
            yield f"asked without a summary: {self._problem}"
        said = dict.fromkeys(step.prepared.said for step in steps if step.prepared is not None)
        for text in said:
            rungs = [step.rung for step in steps if step.prepared is not None and step.prepared.said == text]
            yield f"{', '.join(rungs)}: {text}"

    def _prepared(self, index: int) -> _Asked:
        settings = self._settings
        if isinstance(settings, Trim):
            return self._trimmed(index, settings)
        made = None if _keeps_original(settings, self._plan, index) else self._summarised
        return (
            (self._request, None) if made is None else (replace(self._request, messages=made.messages), made.prepared)
        )

    def _trimmed(self, index: int, settings: Trim) -> _Asked:
        kept = self._start.kept if index == self._start.index else frozenset[str]()
        return _trimmed(self._plan.policy, index, self._request, self._task, settings, kept)

    def _summarise(self, taking: Taking, index: int, settings: Summarize, parts: Parts) -> Generator[Event, Sent, None]:
        rung, rates = _priced_summariser(self._plan, settings)
        prompt = build_summary_prompt(rung, self._request, settings)
        came = yield from ask_auxiliary(taking, index, "summary", prompt, rates)
        self._beside = came.call
        if came.call is None and came.refusal is None:
            return  # the driver makes no such calls
        self._problem = _problem_of(came, rung)
        if not self._problem and came.reply is not None:
            self._summarised = with_summary(self._request.messages, parts, came.reply.text)
            self._asked.clear()  # a reviewer may have been given the original before there was a summary
            self._problem = "" if self._summarised is not None else "it would not be shorter than what it stands for"


def take_prepared(context: Context | None, taking: Taking, index: int) -> Stepping:
    """Ask the rung at `index` as a climb would: with its request prepared."""
    if context is None:
        return (yield from take_step(taking, Call(index)))
    taken = yield from take_step((yield from context.prepare(taking, index)), Call(index))
    return taken if taken.step is None else replace(taken, step=context.marked(taken.step))


def trimmed_request(policy: Policy, index: int, request: Request, task: str) -> Request:
    """The request as the rung at `index` is asked where nothing but trimming is done: for a recording."""
    prepare = policy.route(task).prepare
    if prepare is None or prepare.trim is None:
        return request
    return _trimmed(policy, index, request, task, prepare.trim, frozenset())[0]


def _trimmed(policy: Policy, index: int, request: Request, task: str, settings: Trim, kept: frozenset[str]) -> _Asked:
    room = _room_of(policy, index, request, task, settings.max_tokens)
    if room is None:
        return request, None
    trimmed = trim(history_for(request.messages, kept), room, settings.keep_turns)
    if trimmed.prepared is None:  # without others' thinking it fits: the prompt leaves that out in any case
        return request, None
    return replace(request, messages=trimmed.messages), trimmed.prepared


def _problem_of(came: Assisted, rung: Rung) -> str:
    """Why a call brought no summary, without any text from it; "" if it did."""
    if came.refusal is not None:
        return came.refusal.message
    verdict = came.call.verdict if came.call is not None else None
    if verdict is None or verdict.kind == "answered":
        return "" if came.reply is not None and came.reply.text.strip() else f"{rung.rung} ({rung.model}) wrote none"
    detail = f" ({verdict.detail})" if verdict.detail else ""
    return f"that of {rung.rung} ({rung.model}) is {verdict.kind}{detail}"


def _priced_summariser(plan: BoundPolicy, settings: Summarize) -> tuple[Rung, Rates]:
    """The rung that summarises: one beside the ladder, or on it, the first if none is named. With its prices."""
    if isinstance(settings.by, Rung):
        return plan.auxiliaries[settings.by.rung]
    rung = summariser(plan.policy, settings)
    return rung, plan.rates[plan.policy.ladder.index(rung)]


def _keeps_original(settings: Summarize, plan: BoundPolicy, index: int) -> bool:
    return plan.policy.ladder[index].rung in settings.original_for


def _room_of(policy: Policy, index: int, request: Request, task: str, max_tokens: int | None) -> int | None:
    """How many characters of conversation the rung at `index` has room for, beside system prompt, tools and reply; None if unlimited.

    `max_tokens` bounds the whole prompt, the context window prompt and reply together. Of a model that is not known, only
    `max_tokens` counts.
    """
    bare = build_prompt(policy, index, replace(request, messages=()))
    limits = [] if max_tokens is None else [max_tokens * CHARACTERS_PER_TOKEN]
    handoff = policy.route(task).handoff
    told = (
        _HANDOFF_CHARACTERS if handoff is not None and handoff != Handoff() else 0
    )  # it is added after the conversation was shortened
    limits += [(window - bare.max_tokens) * _WINDOW_CHARACTERS - told for window in _windows(policy, index, task)]
    if not limits:
        return None
    beside = characters(bare.system) + characters_of_json(bare.tools) + characters_of_json(bare.schema)
    return max(0, min(limits) - beside)


def _windows(policy: Policy, index: int, task: str) -> Iterator[int]:
    """The context windows, as far as known, of the rung's model and of those that vote in its place."""
    rung, samples = policy.ladder[index], policy.route(task).samples[index]
    voters = () if samples is None else (asked_as(rung, variant).model for variant in samples.variants if variant.model)
    for model in (rung.model, *voters):
        rules = rules_of(model)
        if rules is not None:
            yield rules.window
