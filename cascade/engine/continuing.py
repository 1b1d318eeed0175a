"""Where a turn of a conversation begins, and what later turns must know of its answer.

    read_place(request)           which turn this is, and under which keys the state may know of it; most requests need no state
    recall(state, place)          what it knows: the rung that asked for the tools, and the conversation's floor
    start_of(place, recalled)     the Start of the climb, with what the caller is told
    lessons_of(place, answer)     what the state is to remember; `keep` hands it over

Everything that a later turn needs is in the state, so any worker may get it. Only `recall` and `keep` call the state; with a remote
one they take a round trip for each key. A value holds names of rungs and counts of tokens, nothing of what users wrote.

After a climb, the next `cool_off` user turns of a conversation have the rung that answered as their floor (`sticky`). They
begin at the first rung all the same. Only reasons that the answers themselves gave count: not an outage, a storm, or a floor. A
turn that climbs as far again starts the count anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from cascade.core.bound_policy import BoundPolicy
from cascade.core.decision import Start
from cascade.core.loops import (
    CALLS,
    THINKING,
    Turn,
    TurnSize,
    begin_at,
    call_ids,
    escalations_of,
    read_turn,
    stuck_because,
    warm_costs,
    warm_note,
)
from cascade.core.messages import Message, Request
from cascade.core.policy import OTHER, Policy
from cascade.core.policy.operations import Sticky
from cascade.core.trail import NATURAL, Answer, Step
from cascade.state import State

__all__ = [
    "KEEP_S",
    "Lesson",
    "Memo",
    "Place",
    "Recalled",
    "keep",
    "keys_of",
    "lessons_of",
    "read_place",
    "recall",
    "start_of",
]

KEEP_S = 86_400.0
"""How long the state remembers: a tool may wait for a human's approval."""

_MOST_IDS = 64  # looked up for one turn; parallel calls are few
_LONGEST_ID = 64  # characters shown of an id that the caller sent
_LONGEST_MEMO = 1_000
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Memo:
    """What the state remembers of an answer. `rung`: the one that answered, and asked for tools; of a conversation: its floor.

    `turns_left`: how many user turns the floor holds for. `run`: how many of the assistant's newest turns were this rung's
    own, from the first on that holds its thinking; 0 if none does.
    `cached` and `output`: tokens of the prompt that its cache holds, and of its reply.
    """

    policy: str
    rung: str
    turns_left: int = 0
    run: int = 0
    cached: int = 0
    output: int = 0

    def to_text(self) -> str:
        """As the state keeps it."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def read(cls, text: str | None) -> Memo | None:
        """From the state's value; None if there is none, or it is not one that this version wrote."""
        if text is None or len(text) > _LONGEST_MEMO:
            return None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict):
            return None
        values = cast("dict[str, Any]", found)
        names = [values.get(name) for name in ("policy", "rung")]
        counts = [values.get(name, 0) for name in ("turns_left", "run", "cached", "output")]
        if not all(isinstance(name, str) for name in names):
            return None
        if not all(type(count) is int and count >= 0 for count in counts):
            return None
        return cls(*names, *counts)  # pyright: ignore[reportArgumentType] - checked above


@dataclass(frozen=True, slots=True)
class Place:
    """A request's place in its conversation: its turn, and the keys under which the state may know of it.

    `session_key`: of the last tool call in the caller's session. `floor_key`: of the conversation's floor. None: there is none.
    """

    turn: Turn
    key: str = ""
    session: str = ""
    id_keys: tuple[str, ...] = ()
    session_key: str | None = None
    floor_key: str | None = None

    @property
    def needs_recall(self) -> bool:
        """Whether the state may know something of this turn."""
        return bool(self.id_keys or self.floor_key) or (self.turn.kind != "user" and self.session_key is not None)


@dataclass(frozen=True, slots=True)
class Recalled:
    """What the state knows. `asked`: of the rung that asked for the tools; `by_session`: known by the session alone."""

    asked: Memo | None = None
    by_session: bool = False
    floor: Memo | None = None


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the state is to remember, under each of these keys."""

    keys: tuple[str, ...]
    memo: Memo


def keys_of(ids: Sequence[str], key: str, session: str) -> tuple[str, ...]:
    """Under which keys a rung's tool calls are remembered: each call's id, then the session, all within the gateway key."""
    of_session = _session_key(key, session)
    return (*_id_keys(ids, key), *((of_session,) if of_session is not None else ()))


def _id_keys(ids: Sequence[str], key: str) -> tuple[str, ...]:
    # Sorted, so that a turn with more than are looked up finds those that were remembered.
    return tuple(json.dumps(["tool", key, one]) for one in sorted(set(ids))[:_MOST_IDS])


def _session_key(key: str, session: str) -> str | None:
    return json.dumps(["session", key, session]) if session else None


def read_place(request: Request, policy: Policy, key: str = "", session: str = "") -> Place:
    """Where the request stands in its conversation. `key`: the gateway key's id; `session`: what the caller names so."""
    turn = read_turn(request.messages)
    return Place(
        turn, key, session, _id_keys(turn.ids, key), _session_key(key, session), _floor_key(request, policy.sticky, key, session)
    )  # fmt: skip


def _floor_key(request: Request, sticky: Sticky | None, key: str, session: str) -> str | None:
    if sticky is None or not sticky.cool_off:
        return None
    if sticky.by == "session":
        return json.dumps(["floor of session", key, session]) if session else None
    first = next((message for message in request.messages if message.get("role") == "user"), None)
    digest = _digest(first.get("content")) if first is not None else None
    return None if digest is None else json.dumps(["floor", key, digest])


def _digest(content: object) -> str | None:
    """Of a message's blocks, without their cache_control, which clients move on from turn to turn. None: it is no JSON, or too deep."""
    blocks: Any = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if isinstance(blocks, (list, tuple)):
        blocks = [_uncached(block) for block in cast("Sequence[object]", blocks)]
    try:
        text = json.dumps(blocks, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def _uncached(block: object) -> object:
    if not isinstance(block, Mapping):
        return block
    return {name: value for name, value in cast("Mapping[str, Any]", block).items() if name != "cache_control"}


def recall(state: State, place: Place) -> Recalled:
    """What the state knows of this turn: by the ids of its tools, then by its session."""
    asked, by_session = None, False
    if place.turn.kind != "user":
        asked = Memo.read(state.recall(place.id_keys)) if place.id_keys else None
        if asked is None and place.session_key is not None:
            asked = Memo.read(state.recall((place.session_key,)))
            by_session = asked is not None
    floor = Memo.read(state.recall((place.floor_key,))) if place.floor_key is not None else None
    return Recalled(asked, by_session, floor)


def start_of(place: Place, recalled: Recalled, request: Request, plan: BoundPolicy) -> Start:
    """Where the climb begins, the floor of its answer, and what the caller is told of both. The baseline alone has one place."""
    policy = plan.policy
    if policy.top == 0:
        return Start()
    is_user = place.turn.kind == "user"
    floor, told = _floor_of(recalled.floor, policy, is_user=is_user)
    if is_user:
        return Start(0, floor, told)
    asked = recalled.asked
    index = None if asked is None or asked.policy != policy.name else _index_of(policy, asked.rung)
    if asked is None or index is None:
        return Start(0, floor, (_unknown_note(place.turn, asked, policy), *told))
    if index >= floor:  # the rung that asked is not below it, and a loop does not fall
        floor, told = 0, ()
    because = None
    if place.turn.kind == "tool_result":
        because = stuck_because(request.messages, (policy.sticky or Sticky()).loop_errors)
    highest = index if because is None else _highest(plan, request, index)
    begins = begin_at(place.turn, index, highest, stuck=because is not None)
    if begins > index:
        note = f"climbed from {asked.rung} to {policy.ladder[begins].rung}: {because}"
        return Start(begins, floor, (note, *told))
    kept = frozenset[str]() if recalled.by_session else call_ids(request.messages, asked.run).union(place.turn.ids)
    notes = [_continued_note(place.turn, asked.rung, by_session=recalled.by_session)]
    if because is not None:
        notes.append(f"{because}, and no rung above {asked.rung} may be asked")
    if index and asked.cached:
        notes.append(_warm_note(plan, request, asked, index))
    return Start(index, floor, (*notes, *told), kept)


def _floor_of(memo: Memo | None, policy: Policy, *, is_user: bool) -> tuple[int, tuple[str, ...]]:
    index = _index_of(policy, memo.rung) if memo is not None and memo.turns_left else None
    if memo is None or not index:
        return 0, ()
    left = memo.turns_left - is_user
    more = f"{left} more turn{'' if left == 1 else 's'}" if left else "this turn"
    return index, (f"floor raised to {memo.rung} for {more}",)


def _index_of(policy: Policy, rung: str) -> int | None:
    return next((index for index, one in enumerate(policy.ladder) if one.rung == rung), None)


def _highest(plan: BoundPolicy, request: Request, index: int) -> int:
    """The highest rung that this loop may be moved to: the task's ceiling, but never below the rung that asked."""
    policy = plan.policy
    if all(task.ceiling is None for task in policy.tasks):
        return policy.top
    return max(index, policy.route(plan.signals.classify(request).task).ceiling)


def _unknown_note(turn: Turn, asked: Memo | None, policy: Policy) -> str:
    first = policy.ladder[0].rung
    if asked is None:
        return f"began at {first}: which rung asked for {_shown(turn.ids)} is not known (it is remembered for a day, in the state)"
    if asked.policy != policy.name:
        return f"began at {first}: {_shown(turn.ids)} was asked for under the policy {asked.policy!r}"
    return f"began at {first}: the rung {asked.rung!r}, which asked for {_shown(turn.ids)}, is no longer on the ladder"


def _continued_note(turn: Turn, rung: str, *, by_session: bool) -> str:
    if by_session:
        return f"continued on {rung}: it asked for the last tool of this session ({_shown(turn.ids)} is not known)"
    return f"continued on {rung}: it {'paused at' if turn.kind == 'pause' else 'asked for'} {_shown(turn.ids)}"


def _shown(ids: Sequence[str]) -> str:
    """The first id, as one short line: the caller may have sent anything."""
    if not ids:
        return "these tools"
    plain = "".join(one if " " < one <= "~" else "?" for one in ids[0][:_LONGEST_ID])
    return plain if len(ids) == 1 else f"{plain} and {len(ids) - 1} more"


def _warm_note(plan: BoundPolicy, request: Request, asked: Memo, index: int) -> str:
    newest: list[Any] = []
    for message in reversed(request.messages):
        if message.get("role") == "assistant":
            break
        newest.append(message)
    size = TurnSize(asked.cached, Request(tuple(newest)).characters() // _CHARACTERS_PER_TOKEN, asked.output)
    costs = warm_costs(plan.rates, escalations_of(plan.policy, plan.escalation, request.task or OTHER), index, size)
    return warm_note(costs, asked.rung, plan.policy.ladder[0].rung)


def lessons_of(place: Place, recalled: Recalled, start: Start, answer: Answer, policy: Policy) -> tuple[Lesson, ...]:
    """What later turns of the conversation must know of this answer."""
    shipped = answer.shipped
    if shipped is None:
        return ()
    lessons: list[Lesson] = []
    ids = _open_calls(answer.message)
    if ids:
        keys = keys_of(ids, place.key, place.session)
        lessons.append(Lesson(keys, _memo_of(place.turn, recalled, answer.message, shipped, policy)))
    floor = _next_floor(place, recalled, start, answer, policy)
    if floor is not None and place.floor_key is not None:
        lessons.append(Lesson((place.floor_key,), floor))
    return tuple(lessons)


def _open_calls(message: Message) -> list[str]:
    """The ids of the calls that the next turn answers or goes on with."""
    if message.stop_reason == "tool_use":
        kinds = frozenset({"tool_use"})
    elif message.stop_reason == "pause_turn":
        kinds = CALLS
    else:
        return []
    ids = (block.get("id") for block in message.content if block.get("type") in kinds)
    return [one for one in ids if isinstance(one, str) and one]


def _memo_of(turn: Turn, recalled: Recalled, message: Message, shipped: Step, policy: Policy) -> Memo:
    asked, usage = recalled.asked, shipped.usage
    run = 0
    is_own = asked is not None and not recalled.by_session and (asked.policy, asked.rung) == (policy.name, shipped.rung)
    if asked is not None and is_own and turn.kind != "user" and asked.run:
        run = asked.run + (turn.kind == "tool_result")  # a paused turn goes on: it is the same one
    elif any(block.get("type") in THINKING for block in message.content):
        run = 1
    cached = usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
    return Memo(policy.name, shipped.rung, run=run, cached=cached, output=usage.output_tokens)


def _next_floor(place: Place, recalled: Recalled, start: Start, answer: Answer, policy: Policy) -> Memo | None:
    """The conversation's floor from here on; None if nothing of it changes."""
    if policy.sticky is None or place.floor_key is None:
        return None
    is_user = place.turn.kind == "user"
    held = recalled.floor
    index = _index_of(policy, held.rung) if held is not None and held.turns_left else None
    left = held.turns_left - is_user if held is not None and index is not None else 0
    risen = _risen(recalled, start, answer, policy)
    if risen is not None and (not left or index is None or risen.index >= index):
        return Memo(policy.name, risen.rung, policy.sticky.cool_off)
    if held is not None and index is not None and is_user:
        return Memo(policy.name, held.rung, left)
    return None


def _risen(recalled: Recalled, start: Start, answer: Answer, policy: Policy) -> Step | None:
    """The step that would have shipped without a floor, if the turn climbed to it for the answers' own reasons."""
    stood = next((step for step in answer.steps if step.reason == "floor"), answer.shipped)
    if stood is None:
        return None
    was_stuck = start.index > 0 and recalled.asked is not None and _index_of(policy, recalled.asked.rung) != start.index
    climbed = any(step.reason in NATURAL for step in answer.steps if step.index < stood.index)
    return stood if was_stuck or climbed else None


def keep(state: State, lessons: Sequence[Lesson]) -> None:
    """Have the state remember them."""
    for lesson in lessons:
        state.remember(lesson.keys, lesson.memo.to_text(), KEEP_S)
