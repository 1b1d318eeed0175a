"""The mode at run time: what a policy says, unless the switch on this machine or `CASCADE_MODE` says otherwise.

The switch is a small file, `CASCADE_HOME/mode.json`, that `cascade mode` writes and every process looks at before each
request: `{"all": "off", "policies": {"support": "observe"}}`. It comes before the environment, and a policy's own word in
it before the word for all.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from cascade.core.errors import ConfigurationError
from cascade.core.policy.operations import Mode
from cascade.forks import renew_in_children
from cascade.home import home
from cascade.logs import log_event

__all__ = [
    "MODES",
    "ModeInForce",
    "ModeSwitch",
    "Source",
    "SwitchFile",
    "read_switch_file",
    "switch_path",
    "write_switch_file",
]

Source = Literal["switch", "switch for all", "CASCADE_MODE", "policy"]
"""Who says which mode is in force."""

_Word = Literal["off", "observe", "enforce"]
MODES: Final[tuple[_Word, ...]] = get_args(_Word)

_MOST_BYTES = 1 << 20
_ABSENT: Final = (0, 0, 0)

_Stamp = tuple[int, int, int] | str


@dataclass(frozen=True, slots=True)
class ModeInForce:
    """The mode that is in force, and who says so."""

    mode: Mode
    source: Source


@dataclass(frozen=True, slots=True)
class SwitchFile:
    """What the switch file says: for all policies, and for some by their names."""

    all: Mode | None = None
    policies: Mapping[str, Mode] = field(default_factory=dict[str, Mode])

    def of(self, policy: str) -> ModeInForce | None:
        """What it says of a policy; None: nothing."""
        own = self.policies.get(policy)
        if own is not None:
            return ModeInForce(own, "switch")
        return None if self.all is None else ModeInForce(self.all, "switch for all")

    def with_mode(self, mode: Mode | None, policy: str | None = None) -> SwitchFile:
        """The same with another word for a policy, or for all (None: for all); `mode` None takes the word out."""
        if policy is None:
            return replace(self, all=mode)
        policies = {name: word for name, word in self.policies.items() if name != policy}
        return replace(self, policies=policies if mode is None else {**policies, policy: mode})


_NOTHING: Final = SwitchFile()


class ModeSwitch:
    """A policy's mode, asked for on every request: one `os.stat`, the file is read only when it has changed.

    Safe between threads. A file that is broken or cannot be read is told once, and what was in force stays.
    """

    def __init__(self, policy_name: str, configured: Mode) -> None:
        self._policy = policy_name
        self._configured = ModeInForce(configured, "policy")
        self._told = self._configured
        self._path = switch_path()
        self._stamp: _Stamp = _ABSENT
        self._switched: ModeInForce | None = None
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()

    def mode(self) -> Mode:
        """The mode of the next request. Raises ConfigurationError where CASCADE_MODE is none."""
        return self.in_force().mode

    def in_force(self, *, log: bool = True) -> ModeInForce:
        """The same, with who says so. `log` False: for one who only wants to know."""
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            with self._lock:
                if stamp != self._stamp:
                    self._look(stamp)
        now = self._switched or _from_environment() or self._configured
        if log and now.mode != self._told.mode:
            with self._lock:
                before, self._told = self._told, now
            if before.mode != now.mode:
                log_event(
                    "warning", "mode_changed", policy=self._policy, mode=now.mode, before=before.mode, by=now.source
                )  # fmt: skip
        return now

    def _look(self, stamp: _Stamp) -> None:
        try:
            self._switched = read_switch_file(self._path).of(self._policy)
        except ConfigurationError as problem:
            kept = self._switched.mode if self._switched else None
            log_event("error", "mode_unreadable", policy=self._policy, problem=str(problem), kept=kept)
        self._stamp = stamp  # also of a file that is no good: it is told once


def switch_path() -> Path:
    """Where the switch is. It need not be there."""
    return home() / "mode.json"


def read_switch_file(path: Path) -> SwitchFile:
    """What the file says; nothing where there is none. Raises ConfigurationError where it is broken or cannot be read."""
    try:
        with path.open("rb") as file:
            read: Any = json.loads(file.read(_MOST_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return _NOTHING
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        raise ConfigurationError(f"{path}: cannot be read: {reason} (check its rights)") from None
    except (ValueError, RecursionError):
        raise _broken(path, "not JSON") from None
    if not isinstance(read, dict) or set(cast("dict[str, Any]", read)) - {"all", "policies"}:
        raise _broken(path, 'not {"all": MODE, "policies": {NAME: MODE}}')
    said = cast("dict[str, Any]", read)
    everyone, policies = said.get("all"), said.get("policies", {})
    if not isinstance(policies, dict):
        raise _broken(path, "policies is not a mapping")
    own = cast("dict[str, Any]", policies)
    for word in (*own.values(), *(() if everyone is None else (everyone,))):
        if word not in MODES:
            raise _broken(path, f"{str(word)[:40]!r} is not a mode")
    return SwitchFile(everyone, own)


def write_switch_file(switches: SwitchFile, path: Path) -> None:
    """Put it in the place of the file, whole or not at all; without a word in it the file goes. Raises ConfigurationError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    said: dict[str, Any] = {} if switches.all is None else {"all": switches.all}
    if switches.policies:
        said["policies"] = dict(sorted(switches.policies.items()))
    try:
        if not said:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump(said, file, ensure_ascii=False)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        raise ConfigurationError(
            f"{path}: cannot be written: {reason} (check CASCADE_HOME and its rights)"
        ) from problem


def _broken(path: Path, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path}: {problem} (`cascade mode MODE` writes it anew, `cascade mode clear` removes it)"
    )


def _stamp(path: Path) -> _Stamp:
    """What differs when the file does: a replaced one has another inode. A text: why it cannot be looked at."""
    try:
        found = os.stat(path)  # noqa: PTH116 - on every request, and half the time of Path.stat
    except (FileNotFoundError, NotADirectoryError):
        return _ABSENT
    except OSError as problem:
        return problem.strerror or type(problem).__name__
    return found.st_mtime_ns, found.st_ino, found.st_size


def _from_environment() -> ModeInForce | None:
    said = os.environ.get("CASCADE_MODE")
    if not said or not (word := said.strip().lower()):
        return None
    if word not in MODES:
        raise ConfigurationError(
            f"CASCADE_MODE: {said[:40]!r} is not a mode (use off, observe or enforce, or unset it)"
        )
    return ModeInForce(word, "CASCADE_MODE")
