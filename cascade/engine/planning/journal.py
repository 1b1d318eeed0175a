"""The journal of a run with a name: what was spent and made is written down before anything follows from it.

JSON lines in `CASCADE_HOME/runs/NAME.jsonl`, a file and a folder for their owner alone: the goal, the inputs and the results stand in it.
Line 1, the head, says what must not change: goal, plan, inputs, policy. Each further line is one of

    {"plan": …}                                         what the planner made of the goal
    {"request": id, "role": …, "subtask": …}            a request of the run begins
    {"reserve": id, "bound": n}                         a call is about to be made that costs at most so much (on the disk before it is)
    {"settle": id, "bound": n, "counted": n}            it counts as so much
    {"end": id, "cost": n}                              what the request cost, as the ledger has it
    {"subtask": …, "attempt" | "review": …}             what came of it (on the disk before anything follows from it)
    {"control": …}                                      so, of a control item
    {"unbelieved": why}                                 the reviewer is not believed, to the end of the run

A killed run loses nothing that had come: an unfinished last line is dropped, and a request of which nothing came is made again. A call
that was reserved and not settled may have been billed: it counts toward `max_usd` with its bound.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self, cast

from cascade.budgets.allowance import Allowance, RunAllowance
from cascade.core.errors import ConfigurationError
from cascade.core.planning.controls import ControlDone
from cascade.core.planning.graph import Plan
from cascade.core.planning.result import Attempt, PlanReview
from cascade.disk import sync_folder, try_lock, unlock
from cascade.home import home

__all__ = ["Head", "Journal", "journal_path", "read_head"]

_KIND, _VERSION = "cascade run", 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_DAMAGED = "restore the file, or remove it and begin again"


class Head(NamedTuple):
    """What a run was begun with. `plan` None: with a goal alone."""

    run: str
    goal: str
    plan: Plan | None
    inputs: Mapping[str, str]
    policy: str
    policy_hash: str


def journal_path(name: str) -> Path:
    """Where the run with this name is kept. Raises ConfigurationError for something that cannot be a name."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"run: {name!r} cannot be a name (use letters, digits, `.`, `_` and `-`, at most 80, a letter or digit first)"
        )
    return home() / "runs" / f"{name}.jsonl"


def read_head(name: str) -> Head:
    """What the run with this name was begun with. Raises ConfigurationError if there is none, or its journal is damaged."""
    path = journal_path(name)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no run {name!r} (check the name and CASCADE_HOME)") from None
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error.strerror or error} (check its permissions)"
        ) from error
    entry = next(_decoded(content[: content.rfind(b"\n") + 1], path), None)
    if entry is None:
        raise ConfigurationError(f"{path}: there is no run {name!r}: it was ended before it had begun (begin it again)")
    return _head_of(entry, path)


class Journal:
    """An open journal. `head` None: it is new. What is in it: `plan`, `attempts` by subtask, `controls`; `money` as the run's stands.

    `unbelieved`: why the reviewer is not believed in this run; "" while it is.

    Only one process, and one run of it, may have it open. Safe between threads. After a write that failed there is none any more: what
    would follow an unfinished line is no line.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor, self._process = path, descriptor, os.getpid()
        self.head: Head | None = None
        self.plan: Plan | None = None
        self.attempts: dict[str, list[Attempt]] = {}
        self.controls: list[ControlDone] = []
        self.unbelieved = ""
        self.money = RunAllowance()
        self._open: dict[str, Allowance] = {}
        self._begun: set[str] = set()
        self._broken = ""
        self._lock = threading.Lock()

    @classmethod
    def open(cls, name: str) -> Self:
        """Open the journal of the run with this name, or make it. Raises ConfigurationError if it is in use, damaged or cannot be written."""
        path = journal_path(name)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            hint = "check CASCADE_HOME and its permissions"
            raise ConfigurationError(f"{path}: cannot be written: {error.strerror or error} ({hint})") from error
        journal = cls(path, descriptor)
        try:
            _lock(descriptor, path)
            journal._read()
        except BaseException:
            journal.close()
            raise
        return journal

    def begin(self, head: Head) -> None:
        """Write the head of a new run."""
        plan = None if head.plan is None else head.plan.to_dict()
        said = {**head._asdict(), "plan": plan, "inputs": dict(head.inputs)}
        self._write({"journal": _KIND, "version": _VERSION, **said}, sync=True)
        sync_folder(self.path.parent)
        self.head, self.plan = head, head.plan

    def planned(self, plan: Plan) -> None:
        """The goal has a plan."""
        self._write({"plan": plan.to_dict()}, sync=True)
        self.plan = plan

    def begun(self, request_id: str, role: str, subtask: str = "", attempt: int = 0) -> None:
        """A request begins. It is on the disk with its first call."""
        self._begun.add(request_id)
        self._write({"request": request_id, "role": role, "subtask": subtask, "attempt": attempt})

    def reserved(self, request_id: str, role: str, bound: int) -> None:
        """As `AllowanceBook`."""
        if request_id not in self._begun:
            self.begun(request_id, role)
        self._write({"reserve": request_id, "bound": bound}, sync=True)

    def settled(self, request_id: str, bound: int, counted: int) -> None:
        """As `AllowanceBook`. Where it is lost, the call counts with its bound: what came of it is not lost for that."""
        with suppress(ConfigurationError):
            self._write({"settle": request_id, "bound": bound, "counted": counted})

    def ended(self, request_id: str, cost: int) -> None:
        """As `settled`."""
        if request_id in self._begun:
            self._begun.discard(request_id)  # first: it may be interrupted, and is written once
            with suppress(ConfigurationError):
                self._write({"end": request_id, "cost": cost})

    def came(self, **outcome: Any) -> None:
        """What came of a request: `subtask` with `attempt` or `review`, or `control`."""
        self._write(outcome, sync=True)

    def disbelieved(self, why: str) -> None:
        """The reviewer is not believed in this run."""
        self._write({"unbelieved": why}, sync=True)
        self.unbelieved = why

    def close(self) -> None:
        """Close and unlock the file. May be called twice. What is written later fails."""
        with self._lock:
            if self._descriptor >= 0:
                if os.getpid() == self._process:
                    unlock(self._descriptor)
                os.close(self._descriptor)
                self._descriptor = -1

    def _read(self) -> None:
        content = self.path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if len(complete) != len(content):  # a kill in the middle of a write: nothing followed from its last line
            os.ftruncate(self._descriptor, len(complete))
            os.fsync(self._descriptor)
        for number, entry in enumerate(_decoded(complete, self.path), 1):
            try:
                if number == 1:
                    self.head = _head_of(entry, self.path)
                    self.plan = self.head.plan
                else:
                    self._add(entry)
            except (KeyError, TypeError, ValueError, IndexError):
                _damaged(self.path, number)
        for allowance in self._open.values():  # of requests that were cut off
            allowance.end(None)

    def _add(self, entry: Mapping[str, Any]) -> None:
        if "plan" in entry:
            self.plan = Plan.from_dict(entry["plan"])
        elif "request" in entry:
            self._open[entry["request"]] = self.money.of(entry["role"], entry["request"])
        elif "reserve" in entry:
            self._open[entry["reserve"]].admit(entry["bound"])
        elif "settle" in entry:
            self._open[entry["settle"]].settle(entry["bound"], entry["counted"])
        elif "end" in entry:
            self._open.pop(entry["end"]).end(entry["cost"])
        elif "attempt" in entry:
            attempt, made = Attempt.from_dict(entry["attempt"]), self.attempts.setdefault(entry["subtask"], [])
            made[attempt.number :] = [attempt]  # one that failed without cost was made again
        elif "review" in entry:
            attempts = self.attempts[entry["subtask"]]
            attempts[-1] = replace(attempts[-1], review=PlanReview(**entry["review"]))
        elif "unbelieved" in entry:
            self.unbelieved = entry["unbelieved"]
        else:
            self.controls.append(ControlDone(**entry["control"]))

    def _write(self, entry: Mapping[str, Any], *, sync: bool = False) -> None:
        line = memoryview(json.dumps(entry, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
        with self._lock:
            if self._broken:
                raise ConfigurationError(self._broken)
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
                if sync:
                    os.fsync(self._descriptor)
            except OSError as error:
                hint = "make room, then run it again: it goes on from here"
                self._broken = f"{self.path}: cannot be written: {error.strerror or error} ({hint})"
                raise ConfigurationError(self._broken) from error


def _decoded(complete: bytes, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(complete.splitlines(), start=1):
        try:
            entry: object = json.loads(line.decode("utf-8", "surrogatepass"))
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            _damaged(path, number)
        yield cast("dict[str, Any]", entry)


def _head_of(entry: Mapping[str, Any], path: Path) -> Head:
    if entry.get("journal") != _KIND or entry.get("version") != _VERSION:
        raise ConfigurationError(
            f"{path}:1: is not the journal of a run, of this version (move it away, or use another name)"
        )
    try:
        plan = None if entry["plan"] is None else Plan.from_dict(entry["plan"])
        return Head(entry["run"], entry["goal"], plan, entry["inputs"], entry["policy"], entry["policy_hash"])
    except (KeyError, TypeError, ValueError):
        _damaged(path, 1)


def _damaged(path: Path, number: int) -> NoReturn:
    raise ConfigurationError(f"{path}:{number}: is damaged ({_DAMAGED})") from None


def _lock(descriptor: int, path: Path) -> None:
    if not try_lock(descriptor):
        raise ConfigurationError(f"{path}: this run is being driven already (wait for it, or end it)")
