"""`cascade mode`: set this machine's switch, and show the mode in force."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from cascade.cli.output import print_json, stderr, stdout
from cascade.core.errors import CascadeError, ConfigurationError, PolicyError
from cascade.core.policy import Policy
from cascade.core.policy.operations import Mode
from cascade.engine import default_policy
from cascade.engine.mode_switch import MODES, ModeSwitch, SwitchFile, read_switch_file, switch_path, write_switch_file
from cascade.policy.loading import load_policy

__all__ = ["named_policy", "run_mode"]


def run_mode(word: str | None, policy: str | None, *, as_json: bool) -> None:
    """Set or show the switch. Raises ConfigurationError for an unknown mode, or if CASCADE_HOME cannot be written."""
    path = switch_path()
    name, loaded = named_policy(policy) if policy is not None else _default()
    if word is not None:
        if word != "clear" and word not in MODES:
            raise ConfigurationError(f"mode {word[:40]!r}: not a mode (give {', '.join(MODES)} or clear)")
        if policy is not None and loaded is None:
            stderr.print(f"note: no policy {name} here to check; the switch applies to any policy of that name")
        _set(path, word, None if policy is None else name)
    _show(path, name, loaded, as_json=as_json)


def _set(path: Path, word: str, name: str | None) -> None:
    try:
        before = read_switch_file(path)
    except ConfigurationError as problem:  # losing its contents is better than a switch that cannot be set
        stderr.print(f"note: the switch file was invalid and is written anew: {problem}")
        before = SwitchFile()
    if word == "clear":
        write_switch_file(SwitchFile() if name is None else before.with_mode(None, name), path)
        return
    after = before.with_mode(cast("Mode", word), name)
    write_switch_file(after, path)
    for own, other in after.policies.items():
        if name is None and other != word:
            stderr.print(f"note: policy {own} keeps its own switch, {other} (cascade mode clear --policy {own})")


def _default() -> tuple[str, Policy | None]:
    """The default policy, or only its name if its file is invalid: the switch for all can be set all the same."""
    try:
        return named_policy(None)
    except CascadeError as problem:
        stderr.print(f"note: {problem}")
        return Path(default_policy()).stem, None


def named_policy(policy: str | None) -> tuple[str, Policy | None]:
    """A policy's name and, if found, the policy; by its path or name, or the default one.

    A name without a file may belong to a policy made in code. Raises PolicyError for an invalid file.
    """
    wanted = policy or default_policy()
    try:
        loaded = load_policy(wanted)
    except PolicyError:
        if Path(wanted).exists() or Path(wanted).suffix or len(Path(wanted).parts) > 1:
            raise
        return wanted, None
    return loaded.name, loaded


def _show(path: Path, name: str, loaded: Policy | None, *, as_json: bool) -> None:
    switches = read_switch_file(path)
    environment = os.environ.get("CASCADE_MODE") or None
    # Without the policy its own mode is not known, only the switch and the environment.
    in_force = ModeSwitch(name, loaded.mode if loaded else "enforce").in_force(log=False)
    known = loaded is not None or in_force.source != "policy"
    if as_json:
        fields: dict[str, Any] = {
            "policy": name,
            "mode": in_force.mode if known else None,
            "source": in_force.source if known else None,
            "configured": loaded.mode if loaded else None,
            "switch": {"file": str(path), "all": switches.all, "policies": dict(switches.policies)},
            "CASCADE_MODE": environment,
        }
        print_json(fields)
        return
    why = {
        "switch": f"its own switch, {path}",
        "switch for all": f"the switch for all, {path}",
        "CASCADE_MODE": "CASCADE_MODE",
        "policy": "the policy itself",
    }
    if known:
        stdout.print(f"{name}: {in_force.mode} (from {why[in_force.source]})")
    else:
        stdout.print(f"{name}: no switch is set, the policy's own mode applies")
    if in_force.source != "policy" and loaded is not None and loaded.mode != in_force.mode:
        stdout.print(f"  the policy's own mode: {loaded.mode}")
    for source, word in (("switch for all", switches.all), ("CASCADE_MODE", environment)):
        if word is not None and in_force.source != source:
            stdout.print(f"  {source}: {word}")
    for own, word in switches.policies.items():
        if own != name:
            stdout.print(f"{own}: {word} (from its own switch)")
