"""The plan: subtasks, what each of them rests on, and what makes it one that can be run.

A plan is a value. It prints as a table, and it can be written as YAML, edited by a person and run again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, cast

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from cascade.core.errors import MissingExtra
from cascade.core.policy import OTHER, Policy
from cascade.core.policy.base import Fault
from cascade.core.policy.planning import MOST_SUBTASKS
from cascade.core.text.suggestions import did_you_mean, listed

__all__ = [
    "NAME",
    "CompileSchema",
    "Plan",
    "Subtask",
    "faults_text",
    "form_faults",
    "graph_faults",
    "plan_faults",
    "plan_of",
]

NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
"""What ids of subtasks and names of inputs look like."""

CompileSchema = Callable[[Any], object]
"""Raises ValueError if a JSON Schema cannot be used, MissingExtra if the package that could tell is not installed."""

_VERSION = 1
_MOST_DEPTH = 30  # of a schema: a deeper one could be written into a plan file, but not read from it
_MOST_TOLD = 20  # faults in an error's message
_LONGEST_FAULT = 400
_LONGEST_SHOWN = 72  # characters of an instruction in the table
_STRICT = ConfigDict(extra="forbid", strict=True)
_Words = Annotated[str, StringConstraints(pattern=r"\S")]


@dataclass(frozen=True, slots=True)
class Subtask:
    """A part of the work. `inputs`: what its executor is given, by reference: names of given inputs, and ids of other subtasks.

    `rung`: the one that the plan assigns, the lowest whose answer stands. `why`: in the planner's words. `task`: its kind, a task of
    the policy; None: "other". `schema`: JSON Schema of the result; None: text.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    id: _Words
    instruction: _Words
    inputs: tuple[str, ...] = ()
    rung: str = "haiku"
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
        if self.inputs:
            said["inputs"] = list(self.inputs)
        said["rung"] = self.rung
        if self.why:
            said["why"] = self.why
        more = {"task": self.task, "schema": None if self.schema is None else dict(self.schema)}
        return said | {name: value for name, value in more.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Plan:
    """A goal as a graph of subtasks. `inputs`: names of what the caller gives. `result`: the subtask whose result is the run's.

    `planner`: the rung that made it; "" for a person. `prompt`: the version of the words that it was asked in.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    goal: _Words
    subtasks: Annotated[tuple[Subtask, ...], Field(min_length=1)]
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
        rows = [("subtask", "rung", "task", "rests on", "instruction")]
        for one in self.subtasks:
            shown = "".join(
                letter if letter.isprintable() else "\ufffd" for letter in " ".join(one.instruction.split())
            )
            shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[: _LONGEST_SHOWN - 1]}…"
            rows.append((one.id, one.rung, one.kind, ", ".join(one.inputs) or "-", shown))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
        return "\n".join("  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows)


_FORM = TypeAdapter(Plan)


def plan_of(values: object) -> tuple[Plan | None, tuple[str, ...]]:
    """The plan in JSON values, or the faults of their form, a line each. What it means for a policy is `plan_faults`'s."""
    found = form_faults(values)
    return (found, ()) if isinstance(found, Plan) else (None, tuple(map(str, found)))


def form_faults(values: object) -> Plan | list[Fault]:
    """The plan in JSON values, or the faults of their form, each with its place."""
    if not isinstance(values, Mapping):
        return [Fault((), "a plan is a mapping", "give it a goal and subtasks")]
    given = dict(cast("Mapping[str, Any]", values))
    version = given.pop("version", _VERSION)
    faults = [Fault(("version",), f"version: {version!r} is not known here", f"write version: {_VERSION}")]
    if type(version) is int and version == _VERSION:
        faults = []
    try:
        plan = _FORM.validate_json(json.dumps(given, allow_nan=False))  # JSON has lists where a plan has tuples
    except ValidationError as problems:
        errors = [one for one in problems.errors(include_url=False) if not _follows(one)]
        return faults + [_form_fault(one, given) for one in errors]
    except (TypeError, ValueError, RecursionError):
        return [*faults, Fault((), "it is not JSON", "use texts, numbers, lists and mappings")]
    return faults or plan


def _follows(error: Any) -> bool:
    """Whether an error only follows from others: a list is too short because its entries are wrong."""
    return error["type"] == "too_short" and bool(error["input"])


_WANTED = {"inputs": "a list of names", "subtasks": "a list of subtasks", "schema": "a JSON Schema, which is a mapping"}


def _form_fault(error: Any, given: Mapping[str, Any]) -> Fault:
    """A fault in the words of a plan."""
    path, kind, where = cast("tuple[str | int, ...]", error["loc"]), error["type"], ""
    if kind == "json_invalid":  # `json` wrote what pydantic does not read
        hint = "write whole characters, and schemas that are less deep"
        return Fault((), "a text in it has an unpaired surrogate, or it is nested too deeply", hint)
    if len(path) > 1 and path[0] == "subtasks":
        one = given["subtasks"][path[1]]
        name = cast("dict[str, Any]", one).get("id") if isinstance(one, dict) else None
        where = f"subtask {name!r}: " if isinstance(name, str) else f"subtasks[{path[1]}]: "
    if where and len(path) == 2:
        return Fault(path, f"{where}it is no subtask", "give a mapping with id and instruction")
    named = next((str(part) for part in reversed(path) if isinstance(part, str)), "plan")
    if kind == "unexpected_keyword_argument":
        known = [one.name for one in fields(Subtask if where else Plan)]
        return Fault(path, f"{where}unknown key {named!r}", f"{did_you_mean(named, known)}known: {listed(known)}")
    if kind == "missing":
        return Fault(path, f"{where}{named} is missing", f"add {named}: …")
    if kind in {"string_pattern_mismatch", "too_short"}:
        return Fault(path, f"{where}{named} is empty", f"add {named}: …")
    return Fault(path, f"{where}{named} has another form", f"give {_WANTED.get(named, 'a text')}")


def graph_faults(plan: Plan, inputs: Sequence[str] | None = None) -> Iterator[Fault]:
    """What is wrong with a plan under any policy. `inputs`: names of what the caller gives; None: the plan's own."""
    given = plan.inputs if inputs is None else tuple(inputs)
    ids = [one.id for one in plan.subtasks]
    if len(ids) > MOST_SUBTASKS:  # nothing else is looked for: that would take long
        yield Fault(
            ("subtasks",), f"it has {len(ids)} subtasks, and no plan may have more than {MOST_SUBTASKS}", "use fewer"
        )
        return
    for number, name in enumerate(plan.inputs):
        if NAME.fullmatch(name) is None:
            yield Fault(
                ("inputs", number), f"the input {name!r} has no usable name", "use a lower-case name, such as report"
            )
    for number, one in enumerate(plan.subtasks):
        yield from _own_faults(one, number, (*ids[:number],), given)
    yield from _reference_faults(plan, [*dict.fromkeys((*ids, *given))])
    if plan.result and plan.result not in ids:
        hint = f"{did_you_mean(plan.result, ids)}known: {listed(ids)}"
        yield Fault(("result",), f"result: there is no subtask {plan.result!r}", hint)
    if circle := _cycle(plan):
        number = ids.index(circle[0])
        hint = "a subtask may only rest on what does not rest on it"
        yield Fault(("subtasks", number, "inputs"), f"subtasks rest on each other: {' -> '.join(circle)}", hint)


def _own_faults(one: Subtask, number: int, before: Sequence[str], given: Sequence[str]) -> Iterator[Fault]:
    """Of one subtask. `before`: the ids of those before it. `given`: names of inputs."""
    at, where = ("subtasks", number), f"subtask {one.id!r}"
    if NAME.fullmatch(one.id) is None:
        yield Fault((*at, "id"), f"{where} has no usable id", "use a lower-case name, such as extract_names")
    if one.id in before:
        yield Fault((*at, "id"), f"{where} is there twice", "give each subtask an id of its own")
    if one.id in given:
        yield Fault((*at, "id"), f"{where} has the name of an input", "give it an id of its own")
    if _depth(one.schema) > _MOST_DEPTH:
        yield Fault((*at, "schema"), f"{where}: its schema is nested too deeply", "use definitions and $ref")


def _depth(value: object) -> int:
    """How deep lists and mappings are nested in a value that pydantic has read: less than its 200."""
    inner = cast("Any", value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else None)
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def faults_text(faults: Sequence[str]) -> str:
    """Faults in one line, for an error: not more than can be read, however long a reply was."""
    shown = [one if len(one) <= _LONGEST_FAULT else f"{one[: _LONGEST_FAULT - 1]}…" for one in faults[:_MOST_TOLD]]
    more = len(faults) - len(shown)
    return "; ".join([*shown, f"and {more:,} more"] if more else shown)


def _reference_faults(plan: Plan, known: Sequence[str]) -> Iterator[Fault]:
    for number, one in enumerate(plan.subtasks):
        for place, name in enumerate(one.inputs):
            if name not in known:
                hint = f"{did_you_mean(name, known)}known: {listed(known)}"
                problem = f"subtask {one.id!r}: there is no input or subtask {name!r}"
                yield Fault(("subtasks", number, "inputs", place), problem, hint)


def plan_faults(
    plan: Plan, policy: Policy, inputs: Sequence[str] | None = None, *, compile_schema: CompileSchema | None = None
) -> Iterator[str]:
    """Why a plan cannot be run under this policy, a line each. `inputs`: names of what the caller gives; None: the plan's own.

    `compile_schema`: tries the schemas of results (`BoundPolicy.compile_schema`); None: they are not tried.
    """
    yield from map(str, graph_faults(plan, inputs))
    if len(plan.subtasks) > MOST_SUBTASKS:
        return
    most = len(plan.subtasks) if policy.plan is None else policy.plan.max_subtasks
    if len(plan.subtasks) > most:
        yield f"it has {len(plan.subtasks)} subtasks, and at most {most} are allowed (plan.max_subtasks)"
    for one in plan.subtasks:
        yield from _subtask_faults(one, policy)
        try:
            if compile_schema is not None and one.schema is not None:
                compile_schema(dict(one.schema))
        except (ValueError, MissingExtra) as problem:
            yield f"subtask {one.id!r}: its schema cannot be used: {problem}"


def _subtask_faults(one: Subtask, policy: Policy) -> Iterator[str]:
    """Whether the policy has its kind and its rung."""
    rungs, kinds = [rung.rung for rung in policy.ladder], [task.name for task in policy.tasks]
    where = f"subtask {one.id!r}"
    if one.kind != OTHER and one.kind not in kinds:
        hint = f"{did_you_mean(one.kind, kinds)}known: {listed((*kinds, OTHER))}"
        yield f"{where}: the policy has no task {one.kind!r} ({hint})"
    if one.rung not in rungs:
        hint = f"{did_you_mean(one.rung, rungs)}use one of {', '.join(rungs)}"
        yield f"{where}: there is no rung {one.rung!r} on the ladder ({hint})"
    elif (ceiling := policy.route(one.kind).ceiling) < rungs.index(one.rung):
        yield f"{where}: rung {one.rung!r} is above the ceiling of task {one.kind!r} (use {rungs[ceiling]} or one below it)"


def _cycle(plan: Plan) -> tuple[str, ...]:
    """The ids of a cycle, its first again at the end; empty without one."""
    needs = {one.id: plan.needs(one) for one in plan.subtasks}
    left = dict(needs)
    while free := [name for name, others in left.items() if not any(other in left for other in others)]:
        for name in free:
            del left[name]
    path = list(left)[:1]
    while path:
        following = next(name for name in needs[path[-1]] if name in left)
        if following in path:
            return (*path[path.index(following) :], following)
        path.append(following)
    return ()
