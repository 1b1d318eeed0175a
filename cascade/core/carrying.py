"""What of the Messages API a rung of another vendor can be given, told before anything is paid. Pure.

The chat completions API has a place for text, images, tools with a schema, their calls and their results. Documents, a server's
tools, thinking, citations and parameters that only one vendor knows have none: a request with one of them is refused,
since nothing is dropped. Marks of the prompt cache (`cache_control`) are left out: the other API caches by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from cascade.core.errors import RequestError
from cascade.core.messages import Block, Request
from cascade.core.policy import Rung
from cascade.core.strict import strict_fault

__all__ = ["check_carried", "uncarried"]

_THINKING = frozenset({"thinking", "redacted_thinking"})
_TOOL_KEYS = frozenset({"name", "description", "input_schema", "type", "cache_control", "strict"})
_LONGEST_NAME = 64
_LEAVES = "leave it out, or use a policy without that rung"


def check_carried(request: Request, ladder: Sequence[Rung], others: Iterable[Rung] = ()) -> None:
    """Raises RequestError if a rung of another vendor cannot be given all of the request. `others`: rungs off the ladder."""
    for rung in (*ladder, *others):
        if rung.provider == "anthropic":
            continue
        extra = {**request.extra, **(request.top_extra if rung == ladder[-1] else {})}
        fault = "it cannot climb" if request.raw is not None else uncarried(request, extra, strips=len(ladder) > 1)
        if fault is not None:
            raise RequestError(
                f"{fault}, and rung {rung.rung} (provider {rung.provider}) has no place for it ({_LEAVES})"
            )


def uncarried(request: Any, extra: Mapping[str, Any], *, strips: bool = False) -> str | None:
    """What of a Request or a Prompt the chat completions API has no place for; None if it has one for all of it.

    `strips`: thinking is taken out of the history before the rung is asked.
    """
    return next(_faults(request, extra, strips=strips), None)


def _faults(asked: Any, extra: Mapping[str, Any], *, strips: bool) -> Iterator[str]:
    if not isinstance(asked.system, str):
        for number, block in enumerate(asked.system or ()):
            if block.get("type") != "text":
                yield f"system.{number}: it is of type {block.get('type')}"
    for number, message in enumerate(asked.messages):
        yield from _content_faults(f"messages.{number}", message, strips=strips)
    for number, tool in enumerate(asked.tools):
        yield from _tool_faults(f"tools.{number}", tool)
    if asked.schema is not None and (fault := strict_fault(asked.schema)) is not None:
        yield f"the answer's schema: {fault}"
    yield from _extra_faults(extra)


def _content_faults(where: str, message: Block, *, strips: bool) -> Iterator[str]:
    content = message["content"]
    for number, block in enumerate(() if isinstance(content, str) else content):
        kind = block.get("type")
        if strips and kind in _THINKING:
            continue
        fault = _BLOCKS[kind](block) if kind in _BLOCKS else f"it is of type {kind}"
        if fault is not None:
            yield f"{where}.content.{number}: {fault}"


def _text_fault(block: Block) -> str | None:
    return "it has citations" if block.get("citations") else None


def _image_fault(block: Block) -> str | None:
    source: Mapping[str, Any] = block.get("source") or {}
    kind = source.get("type")
    return None if kind in ("base64", "url") else f"its source is of type {kind}"


def _result_fault(block: Block) -> str | None:
    content: Any = block.get("content") or ()
    kinds = [part.get("type") for part in (() if isinstance(content, str) else content)]
    return next((f"a tool's result holds a block of type {kind}" for kind in kinds if kind != "text"), None)


_BLOCKS: dict[str, Callable[[Block], str | None]] = {
    "text": _text_fault,
    "image": _image_fault,
    "tool_result": _result_fault,
    "tool_use": lambda block: None,  # noqa: ARG005 - a call of a tool with a schema has a place as it is
}


def _tool_faults(where: str, tool: Block) -> Iterator[str]:
    if tool.get("type") not in (None, "custom"):
        yield f"{where}: it is of type {tool.get('type')}, which its vendor runs"
        return
    if further := sorted(key for key in tool if key not in _TOOL_KEYS and tool[key]):
        yield f"{where}.{further[0]}: it is not known to others"
    if len(str(tool.get("name"))) > _LONGEST_NAME:
        yield f"{where}.name: it is longer than {_LONGEST_NAME} characters"
    if tool.get("strict") and (fault := strict_fault(tool.get("input_schema") or {})) is not None:
        yield f"{where}.input_schema: {fault}"


def _extra_faults(extra: Mapping[str, Any]) -> Iterator[str]:
    for name, value in extra.items():
        if name == "cache_control" or value is None:
            continue
        if name == "thinking":
            kind = cast("Mapping[str, Any]", value).get("type")
            if kind not in ("disabled", "adaptive"):
                yield f"thinking: it is of type {kind}"
        elif name == "output_config":
            if further := sorted(set(value) - {"effort"}):
                yield f"output_config.{further[0]}: it is not known to others"
        elif name == "service_tier":
            if value not in ("auto", "standard_only"):
                yield "service_tier: it is not known to others"
        else:
            yield f"{name}: it is not known to others"
