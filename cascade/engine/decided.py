"""What the runs of a session decided, kept in the state for the session's next request.

    session_of(policy, name, metadata)  the session; None where nothing can be kept for it, which costs nothing
    session_in(context, policy)         that of a request which is to be told
    recall(state), keep(state, …)       its newest runs
    with_decided(context, runs)         a request whose every rung is told of them
    with_room(request, …)               the same, of the longest that can be told: for a bound

A session is known by its name and by who asks, so that a name which two users share tells neither of the other. Texts are kept by the
rules of `carrying`: only where `ledger.content` is true, put through `ledger.redact`, for a day at most.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cascade.core.messages import Block, Request
from cascade.core.planning.decisions import MOST_CHARACTERS, Decisions, decided_text, fitted, read, to_text
from cascade.core.policy import Policy
from cascade.core.policy.certificate import UNCERTIFIED
from cascade.core.prompts.session import DECIDED
from cascade.engine.carrying import WHO, kept_s, storable
from cascade.engine.runtime import RequestContext
from cascade.state import State

__all__ = ["Session", "session_in", "session_of", "with_decided", "with_room"]

_ARMS = frozenset({"cascade", "holdout"})  # what goes to the baseline in other modes goes there unchanged
_WIDEST = 4  # bytes of a character


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation in which runs are remembered. `key`: under which the state has them."""

    policy: Policy
    key: str

    def recall(self, state: State) -> tuple[Decisions, ...]:
        """Its newest runs, the newest last."""
        return read(state.recall((self.key,)))

    def keep(self, state: State, decided: Decisions) -> bool:
        """Have the state remember a run, in the place of what it knows of the same one. False: its texts could not be redacted.

        Of two runs that end at the same time only one may be remembered.
        """
        ledger = self.policy.ledger
        kept = storable({"texts": list(decided.texts())}, ledger)
        if kept is None:
            return False
        before = [one for one in self.recall(state) if not decided.run or one.run != decided.run]
        runs = fitted((*before, decided.with_texts(kept["texts"])))
        state.remember((self.key,), to_text(runs), kept_s(ledger))
        return True


def session_of(policy: Policy, name: str, metadata: Mapping[str, str]) -> Session | None:
    """The session of this name; None without a name, or where nothing may be kept."""
    if not name or policy.plan is None or not (policy.ledger.enabled and policy.ledger.content):
        return None
    who = [str(metadata.get(one, "")) for one in WHO]
    return Session(policy, json.dumps(["decided", policy.name, who, name]))


def session_in(context: RequestContext, policy: Policy) -> Session | None:
    """The session of a request, if its rungs are to be told what was decided. Parts of runs are told by the run."""
    request = context.request
    if context.arm not in _ARMS or context.part is not None or request.raw is not None:
        return None
    return session_of(policy, context.session, request.metadata)


def with_decided(context: RequestContext, runs: tuple[Decisions, ...]) -> RequestContext:
    """The request with what these runs decided, for every rung. Nothing proves answers to it, and they are nobody else's."""
    if not runs:
        return context
    note = f"told what {len(runs)} earlier run{'s' if len(runs) > 1 else ''} of this session decided"
    if context.plan.certificate != UNCERTIFIED:
        note += ": uncertified, since nothing recorded proves answers to such a prompt"
    return replace(
        context,
        request=_telling(context.request, decided_text(runs)),
        plan=replace(context.plan, certificate=UNCERTIFIED),
        notes=(*context.notes, note),
        cache_key=None,
    )


def with_room(request: Request, policy: Policy, session: str) -> Request:
    """The request as long as it can become by what its session decided."""
    if session_of(policy, session, request.metadata) is None or request.raw is not None:
        return request
    return _telling(request, DECIDED + "x" * (_WIDEST * MOST_CHARACTERS))


def _telling(request: Request, text: str) -> Request:
    block: Block = {"type": "text", "text": text}
    return replace(request, handoff=(*request.handoff, block))
