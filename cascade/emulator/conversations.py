"""Validate the turns of a conversation as the Messages API does: calls and their results, and whose thinking it is. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from cascade.core.models import identify
from cascade.emulator.checks import list_of, object_of, refuse
from cascade.emulator.signatures import prefix_of, read_signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["check_calls", "check_thinking_blocks"]

_Turn = tuple[int, str, list[dict[str, Any]]]  # the index of its first message, its role, its blocks
_CALL_FIELDS: Final = {"id": str, "name": str, "input": dict}
_FIELDS: Final[dict[str, dict[str, type]]] = {
    "tool_use": _CALL_FIELDS,
    "server_tool_use": _CALL_FIELDS,
    "mcp_tool_use": _CALL_FIELDS,
    "tool_result": {"tool_use_id": str},
    "thinking": {"thinking": str, "signature": str},
    "redacted_thinking": {"data": str},
}
_ROLES: Final = {
    "tool_use": "assistant",
    "server_tool_use": "assistant",
    "tool_result": "user",
    "thinking": "assistant",
}
_BINDS_FROM: Final = (5, 5)  # the version from which a model's thinking is bound to what stood before it


def check_calls(messages: list[dict[str, Any]]) -> None:
    """Refuse calls without a result in the next message, results without a call, and blocks that lack a field."""
    for at, message in enumerate(messages):
        for number, block in enumerate(_blocks(message)):
            _check_block(block, message["role"], f"messages.{at}", f"messages.{at}.content.{number}")
    turns = list(_turns(messages))
    if len(set(ids := [block["id"] for _, _, blocks in turns for block in _of(blocks, "tool_use")])) != len(ids):
        refuse("messages: `tool_use` ids must be unique")
    before: list[dict[str, Any]] = []
    for place, (at, role, blocks) in enumerate(turns):
        if role == "user":
            _check_results(at, blocks, {block["id"] for block in _of(before, "tool_use")})
        else:
            _check_answered(at, blocks, turns[place + 1][2] if place + 1 < len(turns) else [])
            _check_server_calls(at, blocks, is_last=place + 1 == len(turns))
        before = blocks


def check_thinking_blocks(fields: Mapping[str, Any], model: str, signed: Mapping[str, str], *, prefix: bool) -> None:
    """Refuse thinking in the tool loop that goes on which this model did not sign. `signed`: models by further signatures.

    `prefix`: also refuse thinking, anywhere, of a model that binds it to what stood before it, if that has changed since.
    """
    messages: list[dict[str, Any]] = fields["messages"]
    start = _loop_start(messages)
    for at, message in enumerate(messages):
        for number, block in enumerate(_blocks(message)):
            if block["type"] != "thinking":
                continue
            where = f"messages.{at}.content.{number}"
            said = read_signature(block["signature"], block["thinking"])
            if at >= start:
                _check_issuer(said.model if said else signed.get(block["signature"]), model, where)
            if prefix and said and _is_same(said.model, model) and _binds(model):
                _check_prefix(said.prefix, prefix_of(fields, messages[:at]), where)
    thinking = fields.get("thinking")
    if (
        isinstance(thinking, dict)
        and cast("dict[str, Any]", thinking).get("type") == "enabled"
        and start < len(messages)
    ):
        _check_first_block(messages)


def _check_block(block: dict[str, Any], role: str, message: str, where: str) -> None:
    kind: str = block["type"]
    for name, form in _FIELDS.get(kind, {}).items():
        value = block.get(name)
        if value is None:
            refuse(f"{where}.{kind}.{name}: Field required")
        if not isinstance(value, form):
            refuse(f"{where}.{kind}.{name}: Input should be a valid {'string' if form is str else 'dictionary'}")
    if role != _ROLES.get(kind, role):
        refuse(f"{message}: `{kind}` blocks can only be in `{_ROLES[kind]}` messages")
    content = block.get("content") if kind == "tool_result" else None
    if content is not None and not isinstance(content, str):
        for at, inside in enumerate(list_of(content, f"{where}.tool_result.content")):
            object_of(inside, f"{where}.tool_result.content.{at}")


def _check_results(at: int, blocks: list[dict[str, Any]], calls: set[str]) -> None:
    seen: set[str] = set()
    for number, block in enumerate(blocks):
        if block["type"] != "tool_result":
            continue
        found: str = block["tool_use_id"]
        if found not in calls:
            refuse(
                f"messages.{at}.content.{number}: unexpected `tool_use_id` found in `tool_result` blocks: {found[:80]}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if found in seen:
            refuse(
                f"messages.{at}.content.{number}: each tool_use must have a single result. "
                f"Found multiple `tool_result` blocks with id: {found[:80]}"
            )
        seen.add(found)


def _check_answered(at: int, blocks: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    answered: set[str] = set()
    for block in after:
        if block["type"] != "tool_result":  # results come first: what follows other content is not seen
            break
        answered.add(block["tool_use_id"])
    if missing := [block["id"] for block in _of(blocks, "tool_use") if block["id"] not in answered]:
        refuse(
            f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(missing)[:400]}. Each `tool_use` block must have a corresponding `tool_result` block in the next "
            "message."
        )


def _check_server_calls(at: int, blocks: list[dict[str, Any]], *, is_last: bool) -> None:
    """A server's tool has its result in the same turn; in the last one it may be missing, for the turn was paused there."""
    calls: dict[str, str] = {}
    for number, block in enumerate(blocks):
        kind: str = block["type"]
        if kind in ("server_tool_use", "mcp_tool_use"):
            calls[block["id"]] = block["name"]
        elif kind.endswith("_tool_result"):
            found = block.get("tool_use_id")
            if not isinstance(found, str) or calls.pop(found, None) is None:
                refuse(
                    f"messages.{at}.content.{number}: unexpected `tool_use_id` found in `{kind}` blocks: {str(found)[:80]}. "
                    f"Each `{kind}` block must have a corresponding `server_tool_use` block before it."
                )
    if calls and not is_last:
        found, name = next(iter(calls.items()))
        refuse(
            f"messages.{at}: `{name[:80]}` tool use with id `{found[:80]}` was found without a corresponding "
            f"`{name[:80]}_tool_result` block"
        )


def _check_issuer(issuer: str | None, model: str, where: str) -> None:
    problem = f"{where}: Invalid `signature` in `thinking` block"
    if issuer is None:
        refuse(problem)
    if not _is_same(issuer, model):
        refuse(f"{problem}. A model's thinking blocks are bound to it, and this one is of {issuer}")


def _check_prefix(then: Mapping[str, str], now: Mapping[str, str], where: str) -> None:
    changed = [part for part in now if then.get(part) != now[part]]
    if changed:
        refuse(
            f"{where}: Invalid `signature` in `thinking` block. The block is bound to a different conversation. Remove the "
            'block, or set `thinking.block_binding.prefix_mismatch_behavior` to "drop_block". '
            f"What differs from when this block was created: {', '.join(f'`{part}`' for part in changed)}."
        )


def _check_first_block(messages: list[dict[str, Any]]) -> None:
    at = max(at for at, message in enumerate(messages) if message["role"] == "assistant")
    kind = (_blocks(messages[at]) or [{"type": "text"}])[0]["type"]
    if kind not in ("thinking", "redacted_thinking"):
        refuse(
            f"messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{kind}`. When `thinking` "
            "is enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of "
            "`tool_use` and `tool_result` blocks). To avoid this requirement, disable `thinking`."
        )


def _loop_start(messages: list[dict[str, Any]]) -> int:
    """Where the tool loop that goes on begins: after the last user message without results. The end if there is none."""
    if messages[-1]["role"] == "user" and not any(_of(_blocks(messages[-1]), "tool_result")):
        return len(messages)
    asked = [
        at
        for at, message in enumerate(messages)
        if message["role"] == "user" and not any(_of(_blocks(message), "tool_result"))
    ]
    start = asked[-1] + 1 if asked else 0
    return start if any(message["role"] == "assistant" for message in messages[start:]) else len(messages)


def _turns(messages: list[dict[str, Any]]) -> Iterable[_Turn]:
    """The turns: consecutive messages of one role are one turn, and the system's messages are none."""
    turns: list[_Turn] = []
    for at, message in enumerate(messages):
        if message["role"] == "system":
            continue
        if turns and turns[-1][1] == message["role"]:
            turns[-1][2].extend(_blocks(message))
        else:
            turns.append((at, message["role"], list(_blocks(message))))
    return turns


def _blocks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return cast("list[dict[str, Any]]", content) if isinstance(content, list) else []


def _of(blocks: Iterable[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [block for block in blocks if block["type"] == kind]


def _is_same(one: str, other: str) -> bool:
    names = [known.canonical if (known := identify(name)) else name for name in (one, other)]
    return names[0] == names[1]


def _binds(model: str) -> bool:
    known = identify(model)
    return known is not None and known.version >= _BINDS_FROM
