"""What a run decided, short enough to be told to the next request of its conversation.

decisions_of(result)       the run's plan with what became of each subtask, texts whole
fitted(runs)               the newest few, their texts shortened until they are short enough together
to_text(runs), read(text)  as the state keeps them
decided_text(runs)         what a rung is told, the words of `core.prompts.session` around it
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_args

from cascade.core.messages import Request
from cascade.core.planning.result import Result, Status, SubtaskResult
from cascade.core.prompts.session import DECIDED, VERSION
from cascade.core.text.parsing import is_unicode

__all__ = [
    "MOST_CHARACTERS",
    "MOST_RUNS",
    "Decision",
    "Decisions",
    "decided_text",
    "decisions_of",
    "fitted",
    "read",
    "to_text",
    "versions_told",
]

MOST_RUNS = 3
"""Of a conversation that are kept."""

MOST_CHARACTERS = 8_000
"""Of all that is told of them, as JSON."""

_FORMAT = 1
_LONGEST = 2 * MOST_CHARACTERS  # of a state's value, in which empty texts and the runs' ids stand too
_ROOMS = (1_000, 600, 400, 250, 150, 80, 40, 16)  # characters for a text
_FEWEST = 150  # for a text, before the oldest run is left out
_FINAL = 3  # as long as any other result may the final one be
_HEAD = DECIDED.removesuffix("{decided}")


@dataclass(frozen=True, slots=True)
class Decision:
    """A subtask, and what became of it. `assigned`: the rung that the plan names; `rung`: the one that answered, "" for none."""

    id: str
    instruction: str
    assigned: str
    status: Status
    rung: str = ""
    result: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Decisions:
    """A run's plan and what it decided. `final`: the id of the subtask whose result is the run's. `run`: its id, which nobody is told.

    `doubt`: why the run's reviewer is not believed; "" if it is, or is not tested. `left_out`: subtasks that there was no room for.
    """

    goal: str
    subtasks: tuple[Decision, ...]
    final: str = ""
    doubt: str = ""
    run: str = ""
    left_out: int = 0

    def texts(self) -> Iterator[str]:
        """What models and users wrote, piece by piece."""
        yield from (self.goal, self.doubt)
        for one in self.subtasks:
            yield from (one.instruction, one.result, one.why)

    def with_texts(self, texts: Sequence[str]) -> Decisions:
        """The same with other texts, in the order of `texts()`."""
        goal, doubt, *rest = texts
        of_each = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        subtasks = tuple(
            replace(one, instruction=instruction, result=result, why=why)
            for one, (instruction, result, why) in zip(self.subtasks, of_each, strict=True)
        )
        return replace(self, goal=goal, doubt=doubt, subtasks=subtasks)

    def told(self) -> dict[str, Any]:
        """As a rung is told it: without the run's id, and without what is empty."""
        shown = asdict(self)
        del shown["run"]
        shown["subtasks"] = [{name: text for name, text in one.items() if text} for one in shown["subtasks"]]
        return {name: value for name, value in shown.items() if value}

    def cut(self, room: int) -> Decisions:
        """The same with shorter texts: a result of at most `room` characters, the final one of three times as many, others of half."""
        subtasks = tuple(
            replace(
                one,
                instruction=_cut(one.instruction, room // 2),
                result=_cut(one.result, room * (_FINAL if one.id == self.final else 1)),
                why=_cut(one.why, room // 2),
            )
            for one in self.subtasks
        )
        return replace(self, goal=_cut(self.goal, room), doubt=_cut(self.doubt, room // 2), subtasks=subtasks)


def decisions_of(result: Result) -> Decisions:
    """What a run decided. Its texts are whole: `fitted` shortens them, once they have been redacted."""
    subtasks = tuple(
        _decision(subtask.instruction, subtask.rung, result.subtasks[subtask.id]) for subtask in result.plan.subtasks
    )
    return Decisions(result.plan.goal, subtasks, result.plan.final, result.reviewer.why, result.id)


def _decision(instruction: str, assigned: str, made: SubtaskResult) -> Decision:
    text = made.text
    if text is None:
        text = "" if made.data is None else json.dumps(made.data, ensure_ascii=False, default=str)
    return Decision(made.id, instruction, assigned, made.status, made.rung or "", text, made.why)


def fitted(runs: Sequence[Decisions]) -> tuple[Decisions, ...]:
    """The newest of these runs, the newest last, shortened until what is told of them is short enough.

    The oldest is left out before texts become too short to be of use; of a single run with very many subtasks, its first ones.
    """
    kept = tuple(runs[-MOST_RUNS:])
    while True:
        for room in _ROOMS:
            if len(kept) > 1 and room < _FEWEST:
                break
            short = tuple(one.cut(room) for one in kept)
            if len(_written(short)) <= MOST_CHARACTERS:
                return short
        if len(kept) <= 1:
            break
        kept = kept[1:]
    return tuple(_with_fewer(one.cut(_ROOMS[-1])) for one in kept)


def _with_fewer(run: Decisions) -> Decisions:
    """As many of its subtasks as there is room for: the last ones, which rest on those before them, and the final one."""
    while run.subtasks and len(_written((run,))) > MOST_CHARACTERS:
        first = next((one for one in run.subtasks if one.id != run.final), run.subtasks[0])
        left = tuple(one for one in run.subtasks if one is not first)
        run = replace(run, subtasks=left, left_out=run.left_out + 1)
    return run


def _cut(text: str, room: int) -> str:
    text = text.encode("utf-8", "replace").decode()  # an unpaired surrogate cannot be sent
    return text if len(text) <= room else f"{text[: room - 1].removesuffix('…')}…"


def _written(runs: Sequence[Decisions]) -> str:
    """As JSON, in which no text of a run can end its string."""
    return json.dumps({"runs": [one.told() for one in runs]}, ensure_ascii=False)


def decided_text(runs: Sequence[Decisions]) -> str:
    """What a rung is told of these runs; "" for none."""
    return f"{_HEAD}{_written(runs)}" if runs else ""


def versions_told(request: Request) -> dict[str, str]:
    """The version of the words in which the request's rungs are told what was decided, by role; empty if they are not."""
    is_told = any(str(block.get("text", "")).startswith(_HEAD) for block in request.handoff)
    return {"session": VERSION} if is_told else {}


def to_text(runs: Sequence[Decisions]) -> str:
    """As the state keeps it."""
    value = {"version": _FORMAT, "runs": [asdict(one) for one in runs]}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read(text: str | None) -> tuple[Decisions, ...]:
    """From the state's value, which another version, or another process, may have written; empty if it is not as `to_text` wrote it."""
    if text is None or len(text) > _LONGEST:
        return ()
    try:
        found: Any = json.loads(text)
        if found["version"] != _FORMAT:
            return ()
        runs = tuple(_run(one) for one in found["runs"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()
    is_short = len(runs) <= MOST_RUNS and len(_written(runs)) <= MOST_CHARACTERS
    return runs if is_short else ()


def _run(found: Mapping[str, Any]) -> Decisions:
    """Raises ValueError, TypeError or KeyError for what is no run."""
    values: dict[str, Any] = {**found, "subtasks": tuple(map(_subtask, found["subtasks"]))}
    run = Decisions(**values)
    _require_texts((run.goal, run.final, run.doubt, run.run))
    if type(run.left_out) is not int or run.left_out < 0:
        raise ValueError("left_out")
    return run


def _subtask(found: Mapping[str, Any]) -> Decision:
    one = Decision(**found)
    _require_texts(getattr(one, field.name) for field in fields(one))
    if one.status not in get_args(Status):
        raise ValueError("status")
    return one


def _require_texts(values: Iterable[object]) -> None:
    if not all(isinstance(value, str) and is_unicode(value) for value in values):
        raise TypeError("not a text")
