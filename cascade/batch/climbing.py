"""One item's climb, answered from what is stored: the same climb as live, without its clock.

Each time it runs to the first call whose outcome is not known. That call goes into the next round. A climb that waits is kept in
memory, and goes on from there. One that was not kept, after a restart or where there are too many, is run again from its first step: it
is deterministic, so with the same outcomes it takes the same steps. A verifier's results are stored as outcomes are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.batch.calls import Stored
from cascade.batch.items import Item
from cascade.core.arms import Arm
from cascade.core.assisting import auxiliary_call
from cascade.core.bound_policy import Accept, BoundCheck, BoundPolicy
from cascade.core.budgets import Refusal
from cascade.core.changing import changed
from cascade.core.climb import WHOLE, Climb, Observation, climb
from cascade.core.decision import Situation
from cascade.core.errors import BatchCanceled, CascadeError, ClimbError
from cascade.core.events import Ask, AskAuxiliary, AskJudge, AskReview, AskSamples, Verify
from cascade.core.grouping import build_judge_prompt
from cascade.core.messages import Failure, Reply, Request
from cascade.core.policy import OTHER
from cascade.core.prices import Rates
from cascade.core.review import build_review_prompt
from cascade.core.trail import Answer, CheckResult, Sample, Step
from cascade.core.triage import Prompt, build_prompt

__all__ = ["CallerChecks", "Climber", "Finished", "Kept", "Known", "LookUp", "Verifying", "Waiting", "Wanted"]

LookUp = Callable[[str], Stored | tuple[CheckResult, ...] | None]
"""What is stored under a key: a call's outcome, or a verifier's results. None: nothing yet."""

Verifying = Callable[[str, Verify, Request], tuple[CheckResult, ...]]
"""Runs the external checks of an answer, and stores their results under the key."""

_Calls = Ask | AskSamples | AskJudge | AskReview | AskAuxiliary

_NOW = Situation()  # without a storm guard, a deadline, or a budget that is out by itself
_MOST_KEPT = 128_000_000  # bytes
_CLIMB_BYTES = (
    3_000  # of a climb that waits at its first call, as measured, with its item, but without the texts of the request
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call whose outcome the climb needs. `is_first`: the first of the item, which a soft limit lets pass."""

    key: str
    prompt: Prompt
    rates: Rates
    is_first: bool


@dataclass(frozen=True, slots=True)
class Known:
    """A call whose outcome is known."""

    key: str
    rates: Rates
    outcome: Reply | Failure


@dataclass(frozen=True, slots=True)
class Waiting:
    """The climb needs the outcomes of `calls` to go on. `known`: those that it has used, if they are counted."""

    task: str
    calls: tuple[Wanted, ...]
    known: tuple[Known, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The climb has ended, with an answer or an error. `task` None: it did not begin, since no rung could take the request.

    `beside`: the auxiliary calls that were made for a rung without a step.
    """

    task: str | None
    steps: tuple[Step, ...]
    answer: Answer | None = None
    error: CascadeError | None = None
    known: tuple[Known, ...] = ()
    beside: tuple[Sample, ...] = ()

    @property
    def cost(self) -> int:
        """What all its calls cost, in nano-USD."""
        return sum(step.cost_nanousd for step in self.steps) + sum(call.cost_nanousd for call in self.beside)


@dataclass(frozen=True, slots=True)
class CallerChecks:
    """What the caller wants of every answer besides the policy's checks. `accept`: parses it into the caller's type."""

    checks: tuple[BoundCheck, ...] = ()
    accept: Accept | None = None


@dataclass(slots=True)
class _Running:
    """A climb under way. `event`: what it was stopped at; None: it has not begun. `is_new`: nothing is stored of what comes after that.

    What it has used: `canceled`, the first call that was; `known`, since it last went on; `beside`, auxiliary calls, with their rung.
    """

    item: Item
    climb: Climb
    is_new: bool
    task: str | None = None
    event: Any = None
    canceled: Failure | None = None
    known: tuple[Known, ...] = ()
    beside: tuple[tuple[int, Sample], ...] = ()

    def note(self, event: _Calls, outcomes: Sequence[object]) -> None:
        """These are what the calls of the event came to."""
        for one in outcomes:
            if isinstance(one, Failure) and one.kind == "canceled":
                self.canceled = self.canceled or one
        if isinstance(event, AskAuxiliary) and isinstance(outcomes[0], (Reply, Failure)):
            made = auxiliary_call(event.kind, event.prompt, event.rates, outcomes[0])
            self.beside = (*self.beside, (event.index, made))

    def require_made(self, steps: tuple[Step, ...]) -> None:
        """Raises BatchCanceled if a call of the last step was canceled: whoever canceled it does not want the next rung to be paid instead.

        The error has the step, with what its other calls cost.
        """
        if self.canceled is not None:
            message = f"{self.canceled.message} (submit this input again if it is still wanted)"
            raise BatchCanceled(message, steps=steps)

    def finished(
        self, steps: tuple[Step, ...], answer: Answer | None = None, error: ClimbError | None = None
    ) -> Finished:
        """The climb has ended."""
        beside = tuple(call for at, call in self.beside if all(step.index != at for step in steps))
        return Finished(self.task or OTHER, steps, answer, error, self.known, beside)


class Kept:
    """Climbs that wait, in memory, as far as there is room: about `most` bytes. What comes too late for that is not kept.

    What came first is answered first, so keeping the newest instead would find few of them.
    """

    def __init__(self, most: int = _MOST_KEPT) -> None:
        self._room = most
        self._climbs: dict[int, _Running] = {}

    def item(self, number: int) -> Item | None:
        """The item of a climb that is kept."""
        found = self._climbs.get(number)
        return None if found is None else found.item

    def take(self, number: int) -> _Running | None:
        """The climb of an item, which is no longer kept."""
        found = self._climbs.pop(number, None)
        if found is not None:
            self._room += _CLIMB_BYTES + found.item.size
        return found

    def put(self, running: _Running) -> bool:
        """Keep a climb; whether there was room."""
        size = _CLIMB_BYTES + running.item.size
        if size > self._room:
            return False
        self._room -= size
        self._climbs[running.item.n] = running
        return True


class Climber:
    """Runs climbs of one plan. `known` looks up outcomes, `verify` runs external checks. `arm`: who answers. `kept`: climbs that wait.

    `counts`: whether the outcomes that a climb has used are returned with it, so that their cost can be counted.
    """

    def __init__(
        self,
        plan: BoundPolicy,
        arm: Arm,
        look_up: LookUp,
        verify: Verifying,
        *,
        caller: CallerChecks | None = None,
        counts: bool = False,
        kept: Kept | None = None,
    ) -> None:
        self.plan = plan
        self.arm: Arm = arm
        self._look_up, self._verify, self._counts = look_up, verify, counts
        self._caller = caller or CallerChecks()
        self._kept = Kept(0) if kept is None else kept

    def run(self, item: Item, *, is_new: bool = False) -> Waiting | Finished:
        """Climb as far as the stored outcomes go. `is_new`: none of the item's was stored before this process has seen it."""
        running = self._kept.take(item.n)
        if running is None:
            caller = self._caller
            begun = climb(self.plan, item.request, checks=caller.checks, accept=caller.accept, reading=WHOLE)
            running = _Running(item, begun, is_new)
        is_kept = False
        try:
            calls = self._go_on(running)
            is_kept = self._kept.put(running)
            return Waiting(running.task or OTHER, calls, running.known)
        except StopIteration as done:
            answer: Answer = changed(done.value, arm=self.arm)
            return running.finished(answer.steps, answer)
        except ClimbError as error:
            return running.finished(error.steps, error=error)
        except CascadeError as error:
            return Finished(running.task, (), None, error, running.known)
        finally:
            if not is_kept:
                running.climb.close()

    def _go_on(self, running: _Running) -> tuple[Wanted, ...]:
        """Climb to the calls whose outcomes are missing. Raises StopIteration with the answer, and what the climb raises."""
        item, send = running.item, running.climb.send
        running.known = ()
        event: Any = running.event
        may_be_stored = True
        if event is None:
            event, may_be_stored = next(running.climb), not running.is_new
            running.task = str(event.task)
        while True:
            if isinstance(event, Observation):
                running.require_made(event.steps)
                event = send(_NOW)
                continue
            if isinstance(event, Verify):
                event = send(self._verified(item, event))
                continue
            assert isinstance(event, _Calls), "no reply is decided at its first tokens"
            keys = _keys(item.n, event)
            stored = tuple(map(self._look_up, keys)) if may_be_stored else (None,) * len(keys)
            outcomes = _until_refused(stored, running.canceled)
            if self._counts:
                running.known += tuple(self._known(event, keys, outcomes))
            if None in outcomes:
                running.event = event
                return tuple(self._wanted(item, event, keys, outcomes))
            may_be_stored = not running.is_new
            running.note(event, outcomes)
            event = send(outcomes if isinstance(event, AskSamples) else outcomes[0])

    def _verified(self, item: Item, event: Verify) -> tuple[CheckResult, ...]:
        key = f"{item.n}/{event.index}/v" if event.number is None else f"{item.n}/{event.index}/v{event.number}"
        results = self._look_up(key)
        return results if isinstance(results, tuple) else self._verify(key, event, item.request)

    def _wanted(self, item: Item, event: _Calls, keys: Sequence[str], outcomes: Sequence[object]) -> Iterator[Wanted]:
        """The calls whose outcomes are missing."""
        if type(event) is Ask:  # nearly all
            yield Wanted(keys[0], self._prompt(item.request, event, 0), self.plan.rates[event.index], not event.steps)
            return
        for place, (key, outcome) in enumerate(zip(keys, outcomes, strict=True)):
            if outcome is None:
                is_first = isinstance(event, (Ask, AskSamples)) and not event.steps and place == 0
                is_first = is_first and not (isinstance(event, AskSamples) and event.taken)
                yield Wanted(key, self._prompt(item.request, event, place), self._rates(event, place), is_first)

    def _known(self, event: _Calls, keys: Sequence[str], outcomes: Sequence[object]) -> Iterator[Known]:
        for place, (key, outcome) in enumerate(zip(keys, outcomes, strict=True)):
            if isinstance(outcome, (Reply, Failure)):
                yield Known(key, self._rates(event, place), outcome)

    def _prompt(self, request: Request, event: _Calls, place: int) -> Prompt:
        policy = self.plan.policy
        if isinstance(event, AskAuxiliary):
            return event.prompt
        request = event.request or request
        if isinstance(event, Ask):
            return build_prompt(policy, event.index, request)
        if isinstance(event, AskSamples):
            return build_prompt(policy, event.index, request, event.samples.variant(event.numbers[place]))
        if isinstance(event, AskJudge):
            return build_judge_prompt(policy, request, event.answers)
        return build_review_prompt(policy, event.reviewer, request, event.text or "")

    def _rates(self, event: _Calls, place: int) -> Rates:
        plan = self.plan
        if isinstance(event, AskAuxiliary):
            return event.rates
        if isinstance(event, AskSamples):
            return plan.rates_of(event.index, event.samples.variant(event.numbers[place]))
        index = 0 if isinstance(event, AskJudge) else event.reviewer if isinstance(event, AskReview) else event.index
        return plan.rates[index]


def _keys(number: int, event: _Calls) -> tuple[str, ...]:
    """The keys of the calls that an event asks for: the item's number, the step's, and the call's within it."""
    at = f"{number}/{event.index}"
    if isinstance(event, Ask):
        return (at,)
    if isinstance(event, AskSamples):
        return tuple(f"{at}/s{sample}" for sample in event.numbers)
    if isinstance(event, AskJudge):
        return (f"{at}/j{len(event.taken)}",)
    if isinstance(event, AskReview):
        return (f"{at}/r",)
    return (f"{at}/{event.kind}{event.number}",)  # one that was refused has no number


def _until_refused(outcomes: tuple[Any, ...], canceled: Failure | None) -> tuple[Any, ...]:
    """The first Refusal holds for the calls after it; after a canceled call of the step, no other one is made."""
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, Refusal):
            return outcomes[:place] + (outcome,) * (len(outcomes) - place)
    return outcomes if canceled is None else tuple(canceled if one is None else one for one in outcomes)
