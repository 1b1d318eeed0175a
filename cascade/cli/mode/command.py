"""`cascade mode`: the switch of this machine, and what is in force."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from cascade.cli.output import print_json, stderr, stdout
from cascade.core.errors import CascadeError, ConfigurationError, PolicyError
from cascade.core.policy import Policy
from cascade.core.policy.operations import Mode
from cascade.engine import default_policy
from cascade.engine.mode_switch import MODES, Switch, Switches, read_switches, switch_path, write_switches
from cascade.policy.loading import load_policy

__all__ = ["named_policy", "run_mode"]


def run_mode(word: str | None, policy: str | None, *, as_json: bool) -> None:
    """Turn the switch, or show it. Raises ConfigurationError for a word that is none, and a home that cannot be written."""
    path = switch_path()
    name, loaded = named_policy(policy) if policy is not None else _default()
    if word is not None:
        if word != "clear" and word not in MODES:
            raise ConfigurationError(
                f"mode {word[:40]!r}: there is none of this name (give {', '.join(MODES)} or clear)"
            )
        if policy is not None and loaded is None:
            stderr.print(f"note: there is no policy {name} here to look at; the switch is for one of that name")
        _turn(path, word, None if policy is None else name)
    _show(path, name, loaded, as_json=as_json)


def _turn(path: Path, word: str, name: str | None) -> None:
    try:
        before = read_switches(path)
    except ConfigurationError as problem:  # what was in it is lost, but a switch that cannot be turned is worse
        stderr.print(f"note: written anew, for it was no good: {problem}")
        before = Switches()
    if word == "clear":
        write_switches(Switches() if name is None else before.turned(None, name), path)
        return
    after = before.turned(cast("Mode", word), name)
    write_switches(after, path)
    for own, other in after.policies.items():
        if name is None and other != word:
            stderr.print(f"note: policy {own} keeps a switch of its own, {other} (cascade mode clear --policy {own})")


def _default() -> tuple[str, Policy | None]:
    """The default policy, as far as it can be looked at: the switch for all must turn also where its file is broken."""
    try:
        return named_policy(None)
    except CascadeError as problem:
        stderr.print(f"note: {problem}")
        return Path(default_policy()).stem, None


def named_policy(policy: str | None) -> tuple[str, Policy | None]:
    """A policy by its path or name, or the default one: its name, and itself where it is to be found here.

    A name may be that of a policy made in code. Raises PolicyError for a file that is none.
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
    switches = read_switches(path)
    environment = os.environ.get("CASCADE_MODE") or None
    # Of a policy that is not here its own word is not known: what the switch or the environment says of it is.
    in_force = Switch(name, loaded.mode if loaded else "enforce").standing(log=False)
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
        stdout.print(f"{name}: nothing is switched, the policy itself decides")
    if in_force.source != "policy" and loaded is not None and loaded.mode != in_force.mode:
        stdout.print(f"  the policy itself says {loaded.mode}")
    for source, word in (("switch for all", switches.all), ("CASCADE_MODE", environment)):
        if word is not None and in_force.source != source:
            stdout.print(f"  {source}: {word}")
    for own, word in switches.policies.items():
        if own != name:
            stdout.print(f"{own}: {word} (from its own switch)")
