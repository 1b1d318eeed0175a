"""Validate tools and tool_choice as the Messages API does. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from cascade.core.models import rules_of
from cascade.emulator.checks import check_fields, list_of, object_of, refuse, shorten, tag_of

__all__ = ["NAME_64", "check_tools"]

NAME_64: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
"""The names that the chat completions API takes."""
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}\Z")
_CHOICE_KEYS: Final = frozenset({"type", "disable_parallel_tool_use"})


def check_tools(fields: dict[str, Any], model: str) -> None:
    """Refuse tools and a choice among them that the API refuses."""
    tools = [object_of(tool, f"tools.{at}") for at, tool in enumerate(list_of(fields.get("tools") or [], "tools"))]
    for at, tool in enumerate(tools):
        if tool.get("type") in (None, "custom"):  # others are defined by the API, which knows their input
            _check_custom(tool, f"tools.{at}.custom")
    names = [str(tool.get("name")) for tool in tools]
    if len(set(names)) != len(names):
        refuse("tools: Tool names must be unique.")
    if fields.get("tool_choice") is not None:
        _check_choice(object_of(fields["tool_choice"], "tool_choice"), names, model)


def _check_custom(tool: dict[str, Any], where: str) -> None:
    name = tool.get("name")
    if not isinstance(name, str):
        refuse(f"{where}.name: {'Field required' if name is None else 'Input should be a valid string'}")
    if not _NAME.match(name):
        refuse(f"{where}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if tool.get("input_schema") is None:
        refuse(f"{where}.input_schema: Field required")
    schema = object_of(tool["input_schema"], f"{where}.input_schema")
    if schema.get("type") != "object":
        refuse(f"{where}.input_schema.type: {'Input should be object' if 'type' in schema else 'Field required'}")


def _check_choice(choice: dict[str, Any], names: list[str], model: str) -> None:
    kind = tag_of(choice, ("auto", "any", "tool", "none"), "tool_choice")
    check_fields(choice, _CHOICE_KEYS | {"name"} if kind == "tool" else _CHOICE_KEYS, f"tool_choice.{kind}.")
    if not names:
        refuse("tool_choice: may only be specified while providing tools")
    rules = rules_of(model)
    if kind in ("any", "tool") and rules and not rules.forced_tool_choice:
        refuse(f"tool_choice.type: {kind!r} forces tool use, which this model does not support (use 'auto')")
    if kind == "tool" and choice.get("name") not in names:
        refuse(f"tool_choice: Tool {shorten(choice.get('name'))} not found in provided tools")
