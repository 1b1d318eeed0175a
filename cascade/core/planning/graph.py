"""The plan: subtasks, what each of them rests on, and what makes it one that can be run.

A plan is a value. It prints as a table, and it can be written as YAML, edited by a person and run again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from cascade.core.policy import OTHER, Policy
from cascade.core.text.suggestions import did_you_mean

__all__ = ["NAME", "Plan", "Subtask", "plan_faults", "plan_of"]

NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
"""What ids of subtasks and names of inputs look like."""

_VERSION = 1
_SUBTASK_KEYS = frozenset({"id", "instruction", "inputs", "rung", "why", "task", "schema"})
_PLAN_KEYS = frozenset({"version", "goal", "inputs", "subtasks", "result", "planner", "prompt"})


@dataclass(frozen=True, slots=True)
class Subtask:
    """A part of the work. `inputs`: what its executor is given, by reference: names of given inputs, and ids of other subtasks.

    `rung`: the one that the plan assigns, the lowest whose answer stands. `why`: in the planner's words. `task`: its kind, a task of
    the policy; None: "other". `schema`: JSON Schema of the result; None: text.
    """

    id: str
    instruction: str
    inputs: tuple[str, ...] = ()
    rung: str = ""
    why: str = ""
    task: str | None = None
    schema: Mapping[str, Any] | None = None

    @property
    def kind(self) -> str:
        """The task that its requests belong to."""
        return self.task or OTHER

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without what is not set."""
        said: dict[str, Any] = {"id": self.id, "instruction": self.instruction}
        more = {
            "inputs": list(self.inputs),
            "rung": self.rung,
            "why": self.why,
            "task": self.task,
            "schema": self.schema,
        }
        return said | {name: value for name, value in more.items() if value}


@dataclass(frozen=True, slots=True)
class Plan:
    """A goal as a graph of subtasks. `inputs`: names of what the caller gives. `result`: the subtask whose result is the run's.

    `planner`: the rung that made it; "" for a person. `prompt`: the version of the words that it was asked in.
    """

    goal: str
    subtasks: tuple[Subtask, ...]
    inputs: tuple[str, ...] = ()
    result: str = ""
    planner: str = ""
    prompt: str = ""

    def __getitem__(self, name: str) -> Subtask:
        """The subtask with this id. Raises KeyError."""
        for subtask in self.subtasks:
            if subtask.id == name:
                return subtask
        raise KeyError(name)

    @property
    def final(self) -> str:
        """The id of the subtask whose result is the run's: `result`, else the last one."""
        return self.result or self.subtasks[-1].id

    def needs(self, subtask: Subtask) -> tuple[str, ...]:
        """The ids of the subtasks that it rests on, each once."""
        ids = {one.id for one in self.subtasks}
        return tuple(dict.fromkeys(name for name in subtask.inputs if name in ids))

    def levels(self) -> tuple[tuple[Subtask, ...], ...]:
        """The subtasks by their depth: those of one level rest on earlier levels only. Of a valid plan."""
        depth: dict[str, int] = {}
        left = list(self.subtasks)
        while left:
            ready = [one for one in left if all(name in depth for name in self.needs(one))]
            if not ready:
                raise ValueError("the plan has a cycle")
            for one in ready:
                depth[one.id] = 1 + max((depth[name] for name in self.needs(one)), default=-1)
            left = [one for one in left if one.id not in depth]
        rows = range(1 + max(depth.values(), default=-1))
        return tuple(tuple(one for one in self.subtasks if depth[one.id] == row) for row in rows)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: what a plan file holds."""
        said: dict[str, Any] = {"version": _VERSION, "goal": self.goal}
        if self.inputs:
            said["inputs"] = list(self.inputs)
        said["subtasks"] = [subtask.to_dict() for subtask in self.subtasks]
        more = {"result": self.result, "planner": self.planner, "prompt": self.prompt}
        return said | {name: value for name, value in more.items() if value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The plan that `to_dict` gave. Raises ValueError, with a line for each fault of its form."""
        plan, faults = plan_of(values)
        if plan is None:
            raise ValueError("\n".join(faults))
        return plan

    def __str__(self) -> str:
        """The plan as a table."""
        head = ("subtask", "rung", "task", "rests on", "instruction")
        rows: list[tuple[str, ...]] = [head]
        for one in self.subtasks:
            rows.append(
                (one.id, one.rung, one.kind, ", ".join(one.inputs) or "-", " ".join(one.instruction.split())[:72])
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
        ]
        return "\n".join(lines)


def plan_of(values: object) -> tuple[Plan | None, tuple[str, ...]]:
    """The plan in JSON values, or the faults of their form, a line each. What it means for a policy is `plan_faults`'s."""
    if not isinstance(values, Mapping):
        return None, ("a plan is a mapping with goal and subtasks",)
    given = cast("Mapping[str, Any]", values)
    faults = [f"unknown key {name!r}: {did_you_mean(str(name), _PLAN_KEYS)}known: {', '.join(sorted(_PLAN_KEYS))}"
              for name in given if name not in _PLAN_KEYS]  # fmt: skip
    if given.get("version", _VERSION) != _VERSION:
        faults.append(f"version: must be {_VERSION}, not {given['version']!r}")
    for name in ("goal", "result", "planner", "prompt"):
        if not isinstance(given.get(name, ""), str):
            faults.append(f"{name}: must be a text")
    if not str(given.get("goal") or "").strip():
        faults.append("goal: it is missing")
    listed = given.get("subtasks")
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        return None, (*faults, "subtasks: a list with at least one subtask is needed")
    subtasks: list[Subtask] = []
    for number, one in enumerate(cast("Sequence[Any]", listed)):
        subtask, wrong = _subtask_of(one, number)
        faults += wrong
        if subtask is not None:
            subtasks.append(subtask)
    inputs = _names(given.get("inputs", ()))
    if inputs is None:
        faults.append("inputs: must be a list of names")
    if faults or inputs is None:
        return None, tuple(faults)
    texts = (str(given.get(name, "")) for name in ("result", "planner", "prompt"))
    return Plan(given["goal"], tuple(subtasks), inputs, *texts), ()


def _subtask_of(values: object, number: int) -> tuple[Subtask | None, list[str]]:
    where = f"subtasks[{number}]"
    if not isinstance(values, Mapping):
        return None, [f"{where}: must be a mapping with id and instruction"]
    given = cast("Mapping[str, Any]", values)
    where = f"subtask {given['id']!r}" if isinstance(given.get("id"), str) else where
    faults = [f"{where}: unknown key {name!r}: {did_you_mean(str(name), _SUBTASK_KEYS)}known: {', '.join(sorted(_SUBTASK_KEYS))}"
              for name in given if name not in _SUBTASK_KEYS]  # fmt: skip
    for name in ("id", "instruction"):
        if not isinstance(given.get(name), str) or not given[name].strip():
            faults.append(f"{where}: {name} is missing")
    for name in ("rung", "why"):
        if not isinstance(given.get(name, ""), str):
            faults.append(f"{where}: {name} must be a text")
    if given.get("task") is not None and not isinstance(given["task"], str):
        faults.append(f"{where}: task must be a text")
    if given.get("schema") is not None and not isinstance(given["schema"], Mapping):
        faults.append(f"{where}: schema must be a JSON Schema")
    inputs = _names(given.get("inputs", ()))
    if inputs is None:
        faults.append(f"{where}: inputs must be a list of names")
    if faults or inputs is None:
        return None, faults
    return Subtask(
        given["id"], given["instruction"], inputs, given.get("rung", ""), given.get("why", ""), given.get("task") or None,
        given.get("schema"),
    ), []  # fmt: skip


def _names(values: object) -> tuple[str, ...] | None:
    if not isinstance(values, Sequence) or isinstance(values, str):
        return None
    names = tuple(cast("Sequence[Any]", values))
    return names if all(isinstance(name, str) for name in names) else None


def plan_faults(plan: Plan, policy: Policy, inputs: Sequence[str] | None = None) -> Iterator[str]:
    """Why a plan cannot be run under this policy, a line each. `inputs`: names of what the caller gives; None: the plan's own."""
    rungs = [rung.rung for rung in policy.ladder]
    kinds = {task.name for task in policy.tasks}
    given = plan.inputs if inputs is None else tuple(inputs)
    ids = [one.id for one in plan.subtasks]
    most = policy.plan.max_subtasks if policy.plan is not None else len(ids)
    if len(ids) > most:
        yield f"it has {len(ids)} subtasks, and at most {most} are allowed (plan.max_subtasks)"
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        yield f"subtask {name!r} is there twice"
    known = [*dict.fromkeys(ids), *given]
    for one in plan.subtasks:
        where = f"subtask {one.id!r}"
        if NAME.fullmatch(one.id) is None:
            yield f"{where}: its id must be a lower-case name, such as extract_names"
        if one.id in given:
            yield f"{where}: an input has the same name"
        if one.rung not in rungs:
            yield f"{where}: there is no rung {one.rung!r} on the ladder (use one of {', '.join(rungs)})"
        elif (ceiling := policy.route(one.kind).ceiling) < rungs.index(one.rung):
            yield f"{where}: rung {one.rung!r} is above the ceiling of task {one.kind!r}, {rungs[ceiling]!r}"
        if one.task is not None and one.task != OTHER and one.task not in kinds:
            listed = f"use one of {', '.join(sorted(kinds))}, or leave it out" if kinds else "leave it out"
            yield f"{where}: the policy has no task {one.task!r} ({listed})"
        for name in one.inputs:
            if name == one.id:
                yield f"{where}: it rests on itself"
            elif name not in known:
                yield f"{where}: there is no input or subtask {name!r} ({did_you_mean(name, known)}known: {', '.join(known) or 'none'})"
    if plan.result and plan.result not in ids:
        yield f"result: there is no subtask {plan.result!r} ({did_you_mean(plan.result, ids)}known: {', '.join(ids)})"
    circle = _cycle(plan)
    if circle:
        yield f"these subtasks rest on each other: {' -> '.join(circle)}"


def _cycle(plan: Plan) -> tuple[str, ...]:
    """The ids of a cycle, its first again at the end; empty without one."""
    needs = {one.id: [name for name in plan.needs(one) if name != one.id] for one in plan.subtasks}
    left = dict(needs)
    while left:
        free = [name for name, others in left.items() if not any(other in left for other in others)]
        if not free:
            break
        for name in free:
            del left[name]
    if not left:
        return ()
    path = [next(iter(left))]
    while True:
        following = next(name for name in needs[path[-1]] if name in left)
        if following in path:
            return (*path[path.index(following) :], following)
        path.append(following)


def with_rung(plan: Plan, name: str, rung: str) -> Plan:
    """The plan with another rung assigned to a subtask."""
    return replace(plan, subtasks=tuple(replace(one, rung=rung) if one.id == name else one for one in plan.subtasks))
