"""The planner: what it is asked about a goal, and how its reply becomes a plan.

It sees the given inputs by reference: their names, lengths and beginnings. Whole texts go to the executors alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cascade.core.messages import Block, Request
from cascade.core.planning.executor import executor_version
from cascade.core.planning.graph import CompileSchema, Plan, plan_faults, plan_of
from cascade.core.planning.hints import hints_block, read_hints, stale_roles
from cascade.core.planning.reviewer import reviewer_version
from cascade.core.policy import OTHER, Policy, Task
from cascade.core.prices import Rates
from cascade.core.prompts import planner as words
from cascade.core.prompts import version_of
from cascade.core.text.tampering import FLAG as TAMPERING
from cascade.core.trail import Answer

__all__ = ["Broken", "planner_request", "planner_version", "read_plan", "stale_hints"]

_BEGINNING = 600  # characters of an input that are shown
_BEGINNINGS = 12_000  # of all inputs together
_CHARACTERS_PER_TOKEN = 4
_MOST_FAULTS = 20
_LONGEST_FAULT = 400


@dataclass(frozen=True, slots=True)
class Broken:
    """A reply that is no plan that can be run: its text, None if there was none, and what is wrong with it."""

    reply: str | None
    faults: tuple[str, ...]


def planner_version(policy: Policy) -> str:
    """Names the words that this policy's planner is asked in."""
    own = policy.plan.prompts.planner if policy.plan is not None else None
    return words.VERSION if own is None else version_of(own, words.FRAME, words.REPAIR, words.plan_schema((), ()))


def stale_hints(policy: Policy) -> tuple[str, ...]:
    """The roles whose words have changed since the policy's hints were made: then the planner is not told them. Empty without hints."""
    if policy.plan is None or policy.plan.hints is None:
        return ()
    versions = {
        "planner": planner_version(policy), "executor": executor_version(policy), "reviewer": reviewer_version(policy)
    }  # fmt: skip
    return stale_roles(read_hints(policy.plan.hints), versions)


def _hints_told(policy: Policy) -> str:
    """What the planner is told of how its earlier assignments have fared; "" if nothing."""
    hints = policy.plan.hints if policy.plan is not None else None
    return "" if hints is None or stale_hints(policy) else hints_block(read_hints(hints))


def planner_request(
    goal: str,
    inputs: Mapping[str, str],
    policy: Policy,
    *,
    decided: str = "",
    broken: Broken | None = None,
    rates: Sequence[Rates] = (),
) -> Request:
    """What the planner is asked. Of a policy with `plan`.

    `decided`: what it is told of earlier runs of its session (`decisions.decided_text`). `broken`: its last reply, for the one repair. `rates`: of the ladder's
    rungs, from which the planner is told how much more a rung costs than the first.
    """
    planning = policy.plan
    assert planning is not None
    rungs, kinds = (
        [rung.rung for rung in policy.ladder],
        [*(task.name for task in policy.tasks if task.name != OTHER and not _is_alarm(task)), OTHER],
    )
    asked: dict[str, Any] = {"goal": goal, "inputs": list(_shown(inputs))}
    frame = words.FRAME.format(
        most=planning.max_subtasks,
        rungs=_listed(_rungs_of(policy, rates)),
        kinds=_listed(_kinds_of(policy, kinds)),
    )
    system = [planning.prompts.planner or words.RULES, frame]
    if told := _hints_told(policy):
        system.append(told)
    turns: list[Block] = [{"role": "user", "content": json.dumps(asked, ensure_ascii=False, indent=1)}]
    if broken is not None:
        faults = [fault[:_LONGEST_FAULT] for fault in broken.faults[:_MOST_FAULTS]]
        told = words.REPAIR.format(faults=json.dumps(faults, ensure_ascii=False, indent=1))
        turns += [
            {"role": "assistant", "content": broken.reply or "(no plan)"},
            {"role": "user", "content": told},
        ]
    return Request(
        messages=tuple(turns),
        system=tuple({"type": "text", "text": text} for text in system),
        schema=words.plan_schema(rungs, kinds),
        handoff=({"type": "text", "text": decided},) if decided else (),
        task=OTHER,
    )


def _shown(inputs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The inputs by reference."""
    room = min(_BEGINNING, _BEGINNINGS // max(1, len(inputs)))
    for name, text in inputs.items():
        shown = {"name": name, "characters": len(text), "tokens": -(-len(text) // _CHARACTERS_PER_TOKEN)}
        yield {**shown, ("text" if len(text) <= room else "beginning"): text[:room]}


def _rungs_of(policy: Policy, rates: Sequence[Rates]) -> Iterator[dict[str, Any]]:
    """The rungs with their models, and with their prices as multiples of the first one's."""
    first = rates[0].tiers[0][1].output if rates else 0
    for number, rung in enumerate(policy.ladder):
        price = {"price": round(rates[number].tiers[0][1].output / first, 1)} if first else {}
        yield {"rung": rung.rung, "model": rung.model, **price}


def _is_alarm(task: Task) -> bool:
    """Whether it is no kind of work, but tells that a text dictates its own verdict."""
    return task.when is not None and task.when.flag == TAMPERING


def _kinds_of(policy: Policy, kinds: Sequence[str]) -> Iterator[dict[str, Any]]:
    for name in kinds:
        route = policy.route(name)
        yield {
            "task": name,
            "floor": policy.ladder[route.floor].rung,
            "ceiling": policy.ladder[route.ceiling].rung,
        }


def _listed(values: Iterator[Mapping[str, Any]]) -> str:
    return "\n".join(json.dumps(one, ensure_ascii=False) for one in values)


def read_plan(
    answer: Answer, goal: str, inputs: Sequence[str], policy: Policy, *, compile_schema: CompileSchema | None = None
) -> tuple[Plan | None, tuple[str, ...]]:
    """The plan in the planner's reply, or what is wrong with it, a line each. `inputs`: names of what the caller gives.

    `compile_schema`: tries the schemas of results (`BoundPolicy.compile_schema`).
    """
    data: Any = answer.data
    if not isinstance(data, dict):
        return None, ("the reply is not a plan: one JSON object with subtasks and result is needed",)
    given = cast("dict[str, Any]", data)
    faults: list[str] = []
    listed: Any = given.get("subtasks")
    if isinstance(listed, list):
        listed = [_subtask(one, faults) for one in cast("list[Any]", listed)]
    told = {"goal": goal, "inputs": list(inputs), "planner": answer.rung or "", "prompt": planner_version(policy)}
    plan, wrong = plan_of({**given, "subtasks": listed, **told})
    faults += wrong
    if plan is not None:
        hint = "say why its rung is the cheapest that can do it well"
        faults += [f"subtask {one.id!r}: why is empty ({hint})" for one in plan.subtasks if not one.why.strip()]
        faults += plan_faults(plan, policy, inputs, compile_schema=compile_schema)
    return (None, tuple(faults)) if faults else (plan, ())


def _subtask(values: Any, faults: list[str]) -> Any:
    """A subtask of the reply in a plan's form: its schema is no text any more, and a text has none."""
    if not isinstance(values, dict):
        return values
    one = dict(cast("dict[str, Any]", values))
    if one.get("task") == OTHER:
        del one["task"]
    schema = one.get("schema")
    if isinstance(schema, str):
        try:
            one["schema"] = json.loads(schema.strip() or "null")
        except (ValueError, RecursionError):
            hint = "write a JSON Schema as a text of JSON, or an empty text"
            faults.append(f"subtask {one.get('id')!r}: schema is not JSON ({hint})")
            del one["schema"]
    return one
