"""Plans as YAML files, which people read and edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml

from cascade.core.errors import ConfigurationError
from cascade.core.planning.graph import Plan, form_faults, graph_faults
from cascade.core.policy.base import Fault
from cascade.policy.loading import compose
from cascade.policy.nodes import Node

__all__ = ["dump_plan", "load_plan", "parse_plan", "save_plan"]

_MOST_BYTES = 1_000_000
_BREAKS = "\x85\u2028\u2029"  # line breaks for YAML, but not the same one when they are read
_LONG = 80  # characters above which a text stands in lines of its own


def load_plan(path: str | Path) -> Plan:
    """The plan in a YAML file. Raises ConfigurationError that names the file, the line and what to do; its notes list further faults."""
    try:
        if Path(path).stat().st_size > _MOST_BYTES:
            raise ConfigurationError(f"{path}: the file is larger than 1 MB (this is not a plan)")
        text = Path(path).read_bytes().decode()
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"{path}: cannot be read: {reason} (give the path of a plan)") from None
    return parse_plan(text, where=str(path))


def parse_plan(text: str, *, where: str = "plan") -> Plan:
    """The plan in a YAML text. `where` precedes line:column in errors. Nothing in it is expanded from the environment."""
    root, values = compose(text, where=where, what="plan")
    plan = form_faults(values)
    faults = list(graph_faults(plan)) if isinstance(plan, Plan) else plan
    if isinstance(plan, Plan) and not faults:
        return plan
    first, *others = [_told(fault, root, where) for fault in sorted(faults, key=lambda one: root.at(one.key).start)]
    error = ConfigurationError(first)
    for line in others:
        error.add_note(line)
    raise error


def _told(fault: Fault, root: Node, where: str) -> str:
    node = root.at(fault.key)
    return f"{where}:{node.line + 1}:{node.column + 1}: {fault}"


def save_plan(plan: Plan, path: str | Path) -> None:
    """Write a plan as YAML: `load_plan` gives an equal one. Raises ConfigurationError if the file cannot be written."""
    written = dump_plan(plan).encode()
    if len(written) > _MOST_BYTES:
        raise ConfigurationError(f"{path}: cannot be written: the plan is larger than 1 MB (give long texts as inputs)")
    try:
        Path(path).write_bytes(written)
    except OSError as problem:
        raise ConfigurationError(f"{path}: cannot be written: {problem.strerror} (give another path)") from None


def dump_plan(plan: Plan) -> str:
    """A plan as YAML, a line per key; long texts stand in lines of their own."""
    representer: Any = _Representer(default_flow_style=False, sort_keys=False)
    tree = representer.represent_data(plan.to_dict())
    return cast("str", yaml.serialize(tree, Dumper=yaml.SafeDumper, width=100, allow_unicode=True))  # pyright: ignore


class _Representer(yaml.representer.SafeRepresenter):
    """Long texts as literal blocks, lists of names in one line. What two subtasks share is written out in both: a plan has no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML calls it
        return True

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        node: Any = super().represent_sequence(tag, sequence, flow_style)  # pyright: ignore
        node.flow_style = all(isinstance(one, yaml.ScalarNode) and one.style is None for one in node.value)
        return node

    def long_text(self, text: str) -> Any:
        style = "|" if "\n" in text or len(text) > _LONG else None
        if any(character in text for character in _BREAKS):
            style = '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)  # pyright: ignore


_Representer.add_representer(str, _Representer.long_text)  # pyright: ignore
