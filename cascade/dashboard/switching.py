"""The mode switch of `cascade mode`, as pages show and set it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.dashboard.values import PolicyMode
from cascade.engine.mode_switch import MODES, ModeSwitch, SwitchFile, read_switch_file, switch_path, write_switch_file

__all__ = ["WORDS", "Asked", "ask", "modes_of", "switch"]

WORDS: Final = ("enforce", "observe", "off", "clear")
"""What can be asked for; `clear` removes the switch."""

_EFFECTS: Final[Mapping[str, str]] = {
    "enforce": "the ladder answers {whose}.",
    "observe": "the baseline answers {whose}, at its price; the ladder is asked beside it, as far as the policy's observe block allows.",
    "off": "the baseline alone answers {whose}, at its price. The ladder saves nothing while this lasts.",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A switch to be confirmed. `policy`: "" for all; `effects`: what will happen, a sentence each."""

    word: str
    policy: str
    question: str
    button: str
    effects: tuple[str, ...]


def modes_of(policies: Sequence[Policy]) -> tuple[PolicyMode, ...]:
    """The mode in force of each policy on this machine. Raises ConfigurationError if CASCADE_MODE is invalid."""
    found: list[PolicyMode] = []
    for policy in policies:
        in_force = ModeSwitch(policy.name, policy.mode).in_force(log=False)
        found.append(PolicyMode(policy.name, in_force.mode, in_force.source, policy.mode))
    return tuple(found)


def ask(word: str, policy: str, policies: Sequence[Policy]) -> Asked:
    """What a switch would do. Raises ConfigurationError for a word that is none, and a policy that is not served."""
    by_name = {one.name: one for one in policies}
    if word not in WORDS:
        raise ConfigurationError(f"{word[:40]!r} is not a mode (choose {', '.join(WORDS)})")
    if policy and policy not in by_name:
        raise ConfigurationError(f"policy {policy[:60]!r} is not served here")
    switches = _switches()
    concerned = (
        [by_name[policy]]
        if policy
        else [one for one in policies if word == "clear" or one.name not in switches.policies]
    )
    whose = f"requests of policy {policy}" if policy else "requests of all policies"
    effects = [f"From the next request on, {_EFFECTS[word].format(whose=whose)}"] if word != "clear" else [
        f"The switch{f' of policy {policy}' if policy else 'es of all policies, and the one for all,'} will be removed."
    ]  # fmt: skip
    before = {one.policy: one.mode for one in modes_of(policies)}
    after = _after(switches, word, policy)
    for one in concerned:
        now = after.of(one.name)
        mode = now.mode if now is not None else None
        baseline = one.baseline or one.ladder[-1].rung
        then = mode or f"what CASCADE_MODE or the policy says ({one.mode})"
        effects.append(f"{one.name}: {before[one.name]} now, {then} then; its baseline is {baseline}.")
    effects += [
        f"{name} keeps its own switch, {own}."
        for name, own in switches.policies.items()
        if not policy and word != "clear"
    ]
    effects.append(
        "It applies to every process on this machine, and to no other machine; `cascade mode` shows and undoes it."
    )
    if word == "clear":
        question = f"Remove the switch of policy {policy}?" if policy else "Remove all switches?"
        return Asked(word, policy, question, "Remove it" if policy else "Remove all", tuple(effects))
    question = f"Switch policy {policy} to {word}?" if policy else f"Switch all policies to {word}?"
    return Asked(word, policy, question, f"Switch to {word}", tuple(effects))


def switch(word: str, policy: str) -> None:
    """Set a mode for a policy, or ("") for all, or remove it. Raises ConfigurationError if the switch cannot be written."""
    if word not in WORDS:
        raise ConfigurationError(f"{word[:40]!r} is not a mode (choose {', '.join(WORDS)})")
    write_switch_file(_after(_switches(), word, policy), switch_path())


def _after(before: SwitchFile, word: str, policy: str) -> SwitchFile:
    if word == "clear":
        return before.with_mode(None, policy) if policy else SwitchFile()
    assert word in MODES
    return before.with_mode(word, policy or None)


def _switches() -> SwitchFile:
    """The switch file; an invalid one is written anew, as `cascade mode` does: losing it is better than a switch that cannot be set."""
    try:
        return read_switch_file(switch_path())
    except ConfigurationError:
        return SwitchFile()
