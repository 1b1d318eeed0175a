"""Hints for the planner as YAML files beside the policy (`plan: {hints: FILE}`), written by `cascade plan hints`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from cascade.core.errors import PolicyError
from cascade.core.planning.hints import Hints, read_hints
from cascade.core.policy import OTHER, Fault, Policy
from cascade.core.text.suggestions import did_you_mean
from cascade.policy.errors import words_for
from cascade.policy.nodes import Node
from cascade.policy.prompts import UnreadPrompt

__all__ = ["hint_faults", "parse_hints", "read_hint_file"]

Compose = Callable[..., tuple[Node, dict[str, Any]]]
"""`loading.compose`."""

_MOST_BYTES = 1_000_000
_AGAIN = "remove the key, make them again with `cascade plan hints`, and put it back"


def read_hint_file(values: dict[str, Any], folder: Path | None, compose: Compose) -> Iterator[UnreadPrompt]:
    """Replace the name of the file of hints in a policy's plain values by its content. Yields why that cannot be done, if so."""
    plan: Any = values.get("plan")
    name = cast("dict[str, Any]", plan).get("hints") if isinstance(plan, dict) else None
    if not isinstance(name, str):
        return
    try:
        plan["hints"] = _hints_in(name, folder, compose).to_text()
    except _Unusable as problem:
        del plan["hints"]
        yield UnreadPrompt(("plan", "hints"), *problem.args)


def parse_hints(text: str, compose: Compose, *, where: str) -> Hints:
    """The hints in a YAML text. Raises PolicyError with file:line:column, the key and what to do."""
    node, values = compose(text, where=where, what="file of hints")
    try:
        return Hints.model_validate_json(json.dumps(values))
    except ValidationError as problems:
        error = min(
            problems.errors(), key=lambda one: one["type"] != "extra_forbidden"
        )  # a misspelt key is missing as well
        location = error["loc"]
        at, last = node.at(location), str(location[-1]) if location else ""
        if error["type"] == "extra_forbidden":
            problem, hint = "unknown key", f"{did_you_mean(last, _KNOWN)}known: {', '.join(_KNOWN)}"
        elif error["type"] == "missing":
            problem, hint = "the key is missing", ""
        else:
            given: Any = error.get("input")
            shown = repr(given)[:40] if isinstance(given, (str, int, float)) else ""
            problem, hint = words_for(error["type"], error.get("ctx", {}), given, shown, last, error["msg"])
        key = ".".join(str(part) for part in location)
        raise PolicyError(
            problem, where=f"{where}:{at.line + 1}:{at.column + 1}", key=key, hint=hint or _AGAIN
        ) from None


def hint_faults(policy: Policy) -> Iterator[Fault]:
    """Why the hints of a policy cannot be told to its planner."""
    if policy.plan is None or policy.plan.hints is None:
        return
    try:
        hints = read_hints(policy.plan.hints)
    except ValueError:
        yield Fault(("plan", "hints"), "this is not the text of hints", "give Hints.to_text(), or in a file its name")
        return
    rungs = [rung.rung for rung in policy.ladder]
    kinds = [*(task.name for task in policy.tasks), OTHER]
    for row in hints.rows:
        for rung in (row.rung, row.advice):
            if rung not in rungs:
                yield Fault(("plan", "hints"), f"the hints name rung {rung!r}, which is not on the ladder", _AGAIN)
                return
        if row.task not in kinds:
            yield Fault(("plan", "hints"), f"the hints name task {row.task!r}, which the policy does not have", _AGAIN)
            return


_KNOWN = ("version", "policy", "made", "limit", "prompts", "rows", "task", "rung", "subtasks", "failed", "interval", "advice", "since")  # fmt: skip


class _Unusable(Exception):
    """The problem, and what to do."""


def _hints_in(name: str, folder: Path | None, compose: Compose) -> Hints:
    if folder is None or Path(name).name != name:
        raise _Unusable(f"{name[:60]!r} is not the name of a file beside the policy", "give a bare file name")
    path = folder / name
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _Unusable(f"the file of hints {name} is larger than 1 MB", _AGAIN)
        text = path.read_bytes().decode()
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        hint = _AGAIN if isinstance(problem, FileNotFoundError) else "check it"
        raise _Unusable(f"the file of hints {name} cannot be read: {reason}", hint) from None
    try:
        return parse_hints(text, compose, where=name)
    except PolicyError as problem:
        place = f"{problem.where} {problem.key}" if problem.key else problem.where
        raise _Unusable(f"the hints cannot be used: {place}: {problem.problem}", problem.hint or _AGAIN) from None
