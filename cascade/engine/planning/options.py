"""The arguments of `plan` and `run`, and how they are read; `cascade.plan` and `cascade.run` document them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from cascade.core.errors import ConfigurationError, RequestError
from cascade.core.planning.graph import NAME
from cascade.core.policy import Policy
from cascade.core.text.parsing import is_unicode
from cascade.engine.arguments import check_deadline, read_limit, read_metadata
from cascade.engine.unsupported import check_keywords

__all__ = ["PlanOptions", "RunArguments", "RunOptions", "read_goal", "read_options", "require_planning"]

_CONCURRENCY = 8
_MOST_CONCURRENT = 100


class PlanOptions(TypedDict, total=False):
    """The keyword arguments of `plan`. None: not given."""

    inputs: Mapping[str, str] | None
    max_usd: float | None
    deadline_s: float | None
    metadata: Mapping[str, str] | None
    session: str | None


class RunOptions(PlanOptions, total=False):
    """The keyword arguments of `run`. None: not given."""

    run: str | None
    concurrency: int | None


@dataclass(frozen=True, slots=True)
class RunArguments:
    """The arguments of `plan` or `run`, checked. `limit`: in nano-USD. `inputs` None: not given."""

    inputs: dict[str, str] | None
    limit: int | None
    deadline_s: float | None
    metadata: dict[str, str]
    session: str | None
    run: str | None = None
    concurrency: int = _CONCURRENCY


def require_planning(policy: Policy, mode: str) -> None:
    """Raises ConfigurationError if plans cannot be made or run under this policy."""
    if policy.plan is None:
        raise ConfigurationError(
            f"policy {policy.name} has no plan block (add `plan: {{}}`, or use the shipped policy `planning`)"
        )
    if mode != "enforce":
        raise ConfigurationError(
            f"policy {policy.name} is in mode {mode}: a plan has no baseline that could answer (run it with mode: enforce)"
        )


def read_goal(goal: object) -> str:
    """The goal. Raises RequestError if it is none."""
    if not isinstance(goal, str) or not goal.strip():
        shown = "an empty text" if isinstance(goal, str) else type(goal).__name__
        raise RequestError(f"goal: must be a text that says what is to be done, not {shown}")
    if not is_unicode(goal):
        raise RequestError("goal: it contains an unpaired surrogate (decode the text as UTF-8)")
    return goal


def read_options(options: PlanOptions | RunOptions, *, of: type = PlanOptions) -> RunArguments:
    """The arguments, checked. `of`: whose they are. Raises RequestError for the first that cannot be used."""
    given: dict[str, Any] = dict(options)  # callers may ignore the types
    name, first = ("plan", "goal") if of is PlanOptions else ("run", "plan")
    check_keywords(given, (first, *of.__annotations__), name)
    check_deadline(given.get("deadline_s"))
    concurrency = _CONCURRENCY if given.get("concurrency") is None else given["concurrency"]
    if type(concurrency) is not int or not 1 <= concurrency <= _MOST_CONCURRENT:
        raise RequestError(f"concurrency: {concurrency!r} must be a whole number from 1 to {_MOST_CONCURRENT}")
    for name in ("session", "run"):
        text = given.get(name)
        if text is not None and (not isinstance(text, str) or not text):
            raise RequestError(f"{name}: must be a name, not {text!r}")
    return RunArguments(
        None if given.get("inputs") is None else _inputs(given["inputs"]),
        read_limit(given.get("max_usd")),
        given.get("deadline_s"),
        read_metadata(given.get("metadata")),
        given.get("session"),
        given.get("run"),
        concurrency,
    )


def _inputs(given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise RequestError(f"inputs: must be texts by name, e.g. inputs={{'report': text}}, not {type(given).__name__}")
    texts: dict[Any, Any] = dict(given)  # pyright: ignore[reportUnknownArgumentType]
    for name, text in texts.items():
        if not isinstance(name, str) or NAME.fullmatch(name) is None:
            raise RequestError(f"inputs: {name!r} is no name (use lower-case letters, digits, - and _, as in report)")
        if not isinstance(text, str):
            raise RequestError(f"inputs: {name} must be a text, not {type(text).__name__}")
        if not is_unicode(text):
            raise RequestError(f"inputs: {name} contains an unpaired surrogate (decode the text as UTF-8)")
    return texts
