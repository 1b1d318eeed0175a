"""The plan of a conversation's last answer, carried to its next turn: in the state, where the policy lets answers be stored.

    conversation_of(request, policy, …)  which conversation this is; None where no plan can be carried, which costs nothing
    recall(state)                        the plan of its last answer, and how many handoffs it had
    keep(state, carried, answer)         what the next turn is to find

A conversation is known by its own history: by the digest of the system prompt, of who asks, and of every turn up to the assistant's
last. Only a caller who sends all of that again finds the plan. So nothing that one user wrote reaches another who began alike.

A plan may quote the user. It is kept only where `ledger.content` is true, put through `ledger.redact`, for a day at most. Elsewhere the
state holds a count. `ledger erase` does not reach the state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cascade.core.handoff.artifacts import read_artifact
from cascade.core.handoff.passing import carries_plans
from cascade.core.loops import THINKING
from cascade.core.messages import Block, Request
from cascade.core.policy import Policy
from cascade.core.policy.operations import Ledger
from cascade.core.prepared import Handed
from cascade.core.prompts.handoff import ARTIFACT_VERSION
from cascade.core.trail import Answer
from cascade.engine.continuing import KEEP_S
from cascade.ledger.prompts import bind_redact, redacted
from cascade.logs import log_event
from cascade.state import State

__all__ = ["MANY", "WHO", "Carried", "Conversation", "conversation_of", "kept_s", "storable"]

MANY = 8
"""Handoffs of one conversation above which it is told, once: they cost more than the top rung's own answers would."""

_LONGEST_MEMO = 16_000  # a plan takes at most about 3,000 characters, escaped up to twice as many
_DAY_S = 86_400.0

WHO = ("key", "user_id", "customer")
"""Whose conversation it is, of the caller's metadata. The gateway sets `key`, which its callers cannot choose."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What a conversation's earlier turns left. `artifact`: the plan of its last answer; `handoffs`: how many it had."""

    artifact: Mapping[str, Any] | None = None
    handoffs: int = 0


@dataclass(frozen=True, slots=True)
class Conversation:
    """A turn of a conversation in which plans may be carried. `key`: of what came before; None for its first turn."""

    policy: Policy
    request: Request
    who: tuple[str, ...]
    key: str | None

    def recall(self, state: State) -> Carried:
        """What the earlier turns left."""
        return Carried() if self.key is None else _read(state.recall((self.key,)), self.policy)

    @staticmethod
    def has_news(carried: Carried, answer: Answer) -> bool:
        """Whether there is anything to keep."""
        return answer.text is not None and bool(carried.handoffs or _handoffs_of(answer))

    def keep(self, state: State, carried: Carried, answer: Answer) -> None:
        """Have the state remember what the next turn is to find. Call it where `has_news`."""
        new = _handoffs_of(answer)
        shipped = answer.shipped
        planned = shipped.handed if shipped is not None and shipped.handed in new else None
        artifact = carried.artifact if planned is None else storable(planned.artifact, self.policy.ledger)
        handoffs = carried.handoffs + len(new)
        told = (
            answer.text,
            answer.message.content,
        )  # callers send back either; of JSON the text may be spaced otherwise
        turns = [(*self.request.messages, {"role": "assistant", "content": one}) for one in told if one]
        keys = dict.fromkeys(key for one in turns if (key := _key(self.request, one, self.who)) is not None)
        if keys:
            value = {"version": ARTIFACT_VERSION, "handoffs": handoffs, "artifact": artifact}
            state.remember(tuple(keys), json.dumps(value), kept_s(self.policy.ledger))
        if carried.handoffs <= MANY < handoffs:
            hint = "a conversation that always climbs is cheaper with a floor, or `sticky`"
            log_event("warning", "handoffs_many", policy=self.policy.name, handoffs=handoffs, hint=hint)


def conversation_of(request: Request, policy: Policy, key: str, session: str) -> Conversation | None:
    """The conversation that a request is a turn of; None where the policy carries no plans. `key`: the gateway key's id."""
    if not carries_plans(policy) or request.raw is not None or request.tools:
        return None
    who = (key, session, *(str(request.metadata.get(name, "")) for name in WHO))
    last = max((at for at, turn in enumerate(request.messages) if turn.get("role") == "assistant"), default=-1)
    return Conversation(policy, request, who, _key(request, request.messages[: last + 1], who) if last >= 0 else None)


def _handoffs_of(answer: Answer) -> list[Handed]:
    return [step.handed for step in answer.steps if step.handed is not None and step.handed.executed_by is not None]


def _key(request: Request, turns: Sequence[Block], who: tuple[str, ...]) -> str | None:
    """Names a conversation up to here; None if it is no JSON, or too deep."""
    try:
        told = json.dumps([who, _plain(request.system), [[turn["role"], _plain(turn["content"])] for turn in turns]])
    except (TypeError, ValueError, RecursionError):
        return None
    return json.dumps(["handoff", hashlib.sha256(told.encode()).hexdigest()])


def _plain(content: object) -> Any:
    """Content without what clients change from turn to turn: its split into blocks of text, `cache_control`, and thinking."""
    if isinstance(content, str) or content is None:
        return [(content or "").strip(), []]
    blocks = [cast("Mapping[str, Any]", _mapping(block)) for block in cast("Sequence[Any]", content)]
    text = "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")
    others = [block for block in blocks if block.get("type") not in {"text", *THINKING}]
    shown = [{name: value for name, value in block.items() if name != "cache_control"} for block in others]
    return [text.strip(), json.loads(json.dumps(shown, sort_keys=True))]


def _mapping(block: Any) -> Any:
    """A block of one of the SDK's classes as the mapping that is sent."""
    dump: Any = None if isinstance(block, Mapping) else getattr(block, "model_dump", None)
    return dump(mode="json", exclude_none=True) if callable(dump) else block  # pyright: ignore[reportUnknownVariableType]


def storable(artifact: Mapping[str, Any] | None, ledger: Ledger) -> Any:
    """The plan, or what else may quote the user, as it may be stored; None if it may not be."""
    if artifact is None or not (ledger.enabled and ledger.content):
        return None
    if ledger.redact is None:
        return dict(artifact)
    try:
        return redacted(dict(artifact), bind_redact(ledger.redact))
    except Exception:  # noqa: BLE001 - a user's function: what it failed on must not be stored (the ledger's writer tells of it)
        return None


def kept_s(ledger: Ledger) -> float:
    """For how many seconds the state keeps what may quote the user."""
    return KEEP_S if ledger.keep_days is None else min(KEEP_S, ledger.keep_days * _DAY_S)


def _read(text: str | None, policy: Policy) -> Carried:
    """From the state's value, which another version, or another process, may have written."""
    if text is None or len(text) > _LONGEST_MEMO:
        return Carried()
    try:
        found: Any = json.loads(text)
        handoffs, version, artifact = found["handoffs"], found["version"], found["artifact"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return Carried()
    if type(handoffs) is not int or handoffs < 0:
        return Carried()
    is_kept = version == ARTIFACT_VERSION and policy.ledger.enabled and policy.ledger.content
    return Carried(read_artifact(artifact)[0] if is_kept else None, handoffs)
