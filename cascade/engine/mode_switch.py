"""The mode at run time: the policy's own, unless `cascade mode` or `CASCADE_MODE` overrides it on this machine.

`cascade mode` writes a small file, `CASCADE_HOME/mode.json`, which every process checks before each request:
`{"all": "off", "policies": {"support": "observe"}}`. The file takes precedence over `CASCADE_MODE`, and in the file a policy's
entry over "all".
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
"""What sets the mode in force."""

_Setting = Literal["off", "observe", "enforce"]
MODES: Final[tuple[_Setting, ...]] = get_args(_Setting)

_MAX_BYTES = 1 << 20
_ABSENT: Final = (0, 0, 0)

_Stamp = tuple[int, int, int] | str


@dataclass(frozen=True, slots=True)
class ModeInForce:
    """The mode in force, and what sets it."""

    mode: Mode
    source: Source


@dataclass(frozen=True, slots=True)
class SwitchFile:
    """The content of the switch file: a mode for all policies, and modes by policy name."""

    all: Mode | None = None
    policies: Mapping[str, Mode] = field(default_factory=dict[str, Mode])

    def of(self, policy: str) -> ModeInForce | None:
        """The mode that it sets for a policy; None: it sets none."""
        own = self.policies.get(policy)
        if own is not None:
            return ModeInForce(own, "switch")
        return None if self.all is None else ModeInForce(self.all, "switch for all")

    def with_mode(self, mode: Mode | None, policy: str | None = None) -> SwitchFile:
        """A copy with another mode for a policy, or for all (`policy` None). `mode` None removes the entry."""
        if policy is None:
            return replace(self, all=mode)
        policies = {name: one for name, one in self.policies.items() if name != policy}
        return replace(self, policies=policies if mode is None else {**policies, policy: mode})


_EMPTY: Final = SwitchFile()


class ModeSwitch:
    """A policy's mode, looked up on every request: one `os.stat`, and the file is read only when it has changed.

    Safe between threads. If the file is invalid or unreadable, that is logged once and the mode stays as it was.
    """

    def __init__(self, policy_name: str, configured: Mode) -> None:
        self._policy = policy_name
        self._configured = ModeInForce(configured, "policy")
        self._logged = self._configured
        self._path = switch_path()
        self._stamp: _Stamp = _ABSENT
        self._switched: ModeInForce | None = None
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()

    def mode(self) -> Mode:
        """The mode of the next request. Raises ConfigurationError if CASCADE_MODE is invalid."""
        return self.in_force().mode

    def in_force(self, *, log: bool = True) -> ModeInForce:
        """The same, with what sets it. `log` False: do not log a change."""
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            with self._lock:
                if stamp != self._stamp:
                    self._reload(stamp)
        now = self._switched or _from_environment() or self._configured
        if log and now.mode != self._logged.mode:
            with self._lock:
                before, self._logged = self._logged, now
            if before.mode != now.mode:
                log_event(
                    "warning", "mode_changed", policy=self._policy, mode=now.mode, before=before.mode, by=now.source
                )  # fmt: skip
        return now

    def _reload(self, stamp: _Stamp) -> None:
        try:
            self._switched = read_switch_file(self._path).of(self._policy)
        except ConfigurationError as problem:
            kept = self._switched.mode if self._switched else None
            log_event("error", "mode_unreadable", policy=self._policy, problem=str(problem), kept=kept)
        self._stamp = stamp  # also of an invalid file, so that it is logged once


def switch_path() -> Path:
    """The path of the switch file, which need not exist."""
    return home() / "mode.json"


def read_switch_file(path: Path) -> SwitchFile:
    """Read the switch file; a missing one is empty. Raises ConfigurationError if it is invalid or unreadable."""
    try:
        with path.open("rb") as file:
            read: Any = json.loads(file.read(_MAX_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return _EMPTY
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        raise ConfigurationError(f"{path}: cannot be read: {reason} (check its permissions)") from None
    except (ValueError, RecursionError):
        raise _invalid(path, "not JSON") from None
    if not isinstance(read, dict) or set(cast("dict[str, Any]", read)) - {"all", "policies"}:
        raise _invalid(path, 'not {"all": MODE, "policies": {NAME: MODE}}')
    content = cast("dict[str, Any]", read)
    for_all, policies = content.get("all"), content.get("policies", {})
    if not isinstance(policies, dict):
        raise _invalid(path, "policies is not a mapping")
    by_policy = cast("dict[str, Any]", policies)
    for mode in (*by_policy.values(), *(() if for_all is None else (for_all,))):
        if mode not in MODES:
            raise _invalid(path, f"{str(mode)[:40]!r} is not a mode (use off, observe or enforce)")
    return SwitchFile(for_all, by_policy)


def write_switch_file(switches: SwitchFile, path: Path) -> None:
    """Replace the file in one step; if `switches` is empty, remove it. Raises ConfigurationError if that fails."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    content: dict[str, Any] = {} if switches.all is None else {"all": switches.all}
    if switches.policies:
        content["policies"] = dict(sorted(switches.policies.items()))
    try:
        if not content:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump(content, file, ensure_ascii=False)
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
            f"{path}: cannot be written: {reason} (check CASCADE_HOME and its permissions)"
        ) from problem


def _invalid(path: Path, problem: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: {problem} (`cascade mode MODE` rewrites it, `cascade mode clear` removes it)")


def _stamp(path: Path) -> _Stamp:
    """A value that changes when the file does; a replaced file has another inode. A str says why it cannot be read."""
    try:
        found = os.stat(path)  # noqa: PTH116 - on every request, and half the time of Path.stat
    except (FileNotFoundError, NotADirectoryError):
        return _ABSENT
    except OSError as problem:
        return problem.strerror or type(problem).__name__
    return found.st_mtime_ns, found.st_ino, found.st_size


def _from_environment() -> ModeInForce | None:
    value = os.environ.get("CASCADE_MODE")
    if not value or not (mode := value.strip().lower()):
        return None
    if mode not in MODES:
        raise ConfigurationError(
            f"CASCADE_MODE: {value[:40]!r} is not a mode (use off, observe or enforce, or unset it)"
        )
    return ModeInForce(mode, "CASCADE_MODE")
