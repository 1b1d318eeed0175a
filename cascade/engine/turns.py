"""One turn of a conversation around its climb: what the state knows of earlier turns, and what it is to remember of this one."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from cascade.core.decision import Start
from cascade.core.trail import Answer
from cascade.engine.carrying import Carried, Conversation, conversation_of
from cascade.engine.continuing import Place, Recalled, keep, lessons_of, read_place, recall, start_of
from cascade.engine.decided import session_in, with_decided
from cascade.engine.effects import Effect, RunBlocking
from cascade.engine.runtime import RequestContext, Runtime

__all__ = ["ConversationTurn", "begin_turn", "run_blocking"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ConversationTurn:
    """A turn that has begun. `context`: with what the session has decided. `start`: where its climb begins. `conversation` None: no plans are carried."""

    runtime: Runtime
    context: RequestContext
    place: Place
    recalled: Recalled
    start: Start
    conversation: Conversation | None
    carried: Carried

    def teaches(self, answer: Answer) -> bool:
        """Whether later turns of the conversation must know something of this one."""
        lessons = lessons_of(self.place, self.recalled, self.start, answer, self.context.plan.policy)
        return bool(lessons) or (self.conversation is not None and self.conversation.has_news(self.carried, answer))

    def keep(self, answer: Answer) -> Generator[Effect, Any, None]:
        """Have the state remember what later turns of the conversation must know."""
        if self.context.arm != "cascade":
            return
        state, policy = self.runtime.state, self.context.plan.policy
        lessons = lessons_of(self.place, self.recalled, self.start, answer, policy)
        if lessons:
            yield from run_blocking(self.runtime, partial(keep, state, lessons))
        conversation = self.conversation
        if conversation is not None and conversation.has_news(self.carried, answer):
            yield from run_blocking(self.runtime, partial(conversation.keep, state, self.carried, answer))


def begin_turn(runtime: Runtime, context: RequestContext) -> Generator[Effect, Any, ConversationTurn]:
    """Ask the state what it knows of the request's conversation. Most requests need no state."""
    request, policy = context.request, context.plan.policy
    if context.part is not None:  # no turn of a conversation
        place = read_place(request, policy)
        return ConversationTurn(runtime, context, place, Recalled(), context.given_start or Start(), None, Carried())
    place = read_place(request, policy, context.key, context.session)
    recalled, carried, conversation = Recalled(), Carried(), None
    if context.arm == "cascade":
        if place.needs_recall:
            recalled = yield from run_blocking(runtime, partial(recall, runtime.state, place))
        conversation = conversation_of(request, policy, context.key, context.session)
        if conversation is not None and conversation.key is not None:
            carried = yield from run_blocking(runtime, partial(conversation.recall, runtime.state))
    session = session_in(context, runtime.policy)
    if session is not None:
        context = with_decided(context, (yield from run_blocking(runtime, partial(session.recall, runtime.state))))
    start = start_of(place, recalled, request, context.plan)
    if carried.artifact is not None:
        start = replace(start, carried=carried.artifact)
    return ConversationTurn(runtime, context, place, recalled, start, conversation, carried)


def run_blocking(runtime: Runtime, function: Callable[[], _T]) -> Generator[Effect, Any, _T]:
    """Run a function of the state, which may take a round trip."""
    if runtime.state.is_remote:
        return (yield RunBlocking(function))
    return function()
