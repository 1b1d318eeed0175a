"""How long a JSON Schema may take to test: a short one with references that fan out can take hours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import unquote, urldefrag, urljoin

__all__ = ["expanded_size"]

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_ANCHORS = ("$anchor", "$dynamicAnchor")
_IDS = ("$id", "id")
_Named = tuple[Any, str]  # a part, and the address that references in it are relative to


def expanded_size(schema: dict[str, Any]) -> int:
    """How many parts a schema has, those that a reference repeats counted each time. A part within itself counts once.

    Raises ValueError for a reference out of the schema: what it would repeat is not known.
    """
    root = _base(schema, "")
    named = {"": (schema, root), root: (schema, root), **dict(_named(schema, ""))}
    sizes: dict[str, int] = {}

    def size(part: Any, base: str) -> int:
        if isinstance(part, list):
            return sum(size(one, base) for one in cast("list[Any]", part))
        if not isinstance(part, dict):
            return 0
        node = cast("dict[str, Any]", part)
        base = _base(node, base)
        references = [node[key] for key in _REFERENCES if isinstance(node.get(key), str)]
        inside = sum(size(one, base) for one in node.values())
        return 1 + inside + sum(referred(address) for one in references for address in addresses(one, base))

    def addresses(reference: str, base: str) -> set[str]:
        """Drafts differ in which `$id` holds: one beside a `$ref` may not. So both count."""
        return (
            {_joined(base, reference), _joined(root, reference)}
            if reference.startswith("#")
            else {_joined(base, reference)}
        )

    def referred(address: str) -> int:
        if address not in sizes:
            sizes[address] = 0  # while it is being counted, and for one within itself
            found = _at(address, named)
            sizes[address] = size(*found) if found is not None and found[0] is not schema else 0
        return sizes[address]

    return size(schema, "")


def _joined(base: str, reference: str) -> str:
    return base + reference if reference.startswith("#") else urljoin(base, reference)


def _base(node: dict[str, Any], base: str) -> str:
    for key in _IDS:
        if isinstance(node.get(key), str):
            base = urldefrag(_joined(base, node[key])).url
    return base


def _named(part: Any, base: str) -> Iterator[tuple[str, _Named]]:
    """The parts that have a name of their own, by address."""
    if isinstance(part, list):
        for one in cast("list[Any]", part):
            yield from _named(one, base)
    if not isinstance(part, dict):
        return
    node = cast("dict[str, Any]", part)
    for key in _IDS:
        if isinstance(node.get(key), str):
            yield _joined(base, node[key]).rstrip("#"), (node, _base(node, base))
    base = _base(node, base)
    for key in _ANCHORS:
        if isinstance(node.get(key), str):
            yield f"{base}#{node[key]}", (node, base)
    for one in node.values():
        yield from _named(one, base)


def _at(address: str, named: dict[str, _Named]) -> _Named | None:
    """The part at an address; None if the schema has none there. Raises ValueError for an address outside of it."""
    document, pointer = urldefrag(address)
    pointer = unquote(pointer)
    known = named.get(f"{document}#{pointer}" if pointer else document)
    if known is not None or (document in named and not pointer.startswith("/")):
        return known
    if document not in named:
        raise ValueError(f"{address!r} is not fetched: a schema must be self-contained")
    part: Any
    part, base = named[document]
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(part, list) and name.isdecimal() and int(name) < len(cast("list[Any]", part)):
            part = cast("list[Any]", part)[int(name)]
        elif isinstance(part, dict) and name in part:
            part = cast("dict[str, Any]", part)[name]
        else:
            return None
        if isinstance(part, dict):
            base = _base(cast("dict[str, Any]", part), base)
    return cast("Any", part), base
