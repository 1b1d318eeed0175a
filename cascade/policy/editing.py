"""Change thresholds and whole blocks of a policy's YAML in place, and no other character.

Values are replaced at their position in the text, so comments, order, quoting, styles and line ends are kept. The result
is loaded again and compared with the intended values; if it differs, PolicyError is raised and nothing is written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from copy import deepcopy
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, cast

from cascade.core.errors import PolicyError
from cascade.core.policy.ladder import NEVER
from cascade.policy.loading import compose, dump, parse_policy
from cascade.policy.nodes import Node

__all__ = ["edit_policy", "threshold_text"]

Thresholds = Mapping[str, float | None]


def edit_policy(  # noqa: PLR0913 - what may be changed
    text: str,
    thresholds: Thresholds,
    tasks: Mapping[str, Thresholds] | None = None,
    blocks: Mapping[str, Mapping[str, Any] | None] | None = None,
    samples: Mapping[str, Mapping[str, Any] | None] | None = None,
    *,
    where: str = "policy",
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """The text with these thresholds (None: `never`), by rung and by task and rung, these top-level blocks, and samples by rung.

    A task or block that is missing is added at the end; a block that is None is removed. Values that are equal already
    keep their spelling. `where`, `folder` and `environment` are as in `loading.parse_policy`. Raises PolicyError with line
    and key if the text is not a policy, a threshold comes from `${VAR}`, a rung is unknown, or the text cannot be changed
    in place.
    """
    parse_policy(text, where=where, folder=folder, environment=environment)
    root, values = compose(text, where=where, environment=environment)
    editor = _Editor(text, where, root)
    meant = deepcopy(values)
    editor.set_ladder(thresholds, meant)
    editor.set_samples(samples or {}, meant)
    editor.set_tasks(tasks or {}, meant)
    for name, block in (blocks or {}).items():
        editor.set_block(name, None if block is None else _plain(block), meant)
    edited = editor.apply()
    try:
        parse_policy(edited, where=where, folder=folder, environment=environment)
        _, read = compose(edited, where=where, environment=environment)
    except PolicyError as problem:
        raise editor.refused(f"the edited text would not be a policy: {problem.problem}", problem.key) from None
    if (found := _difference(_normal(meant), _normal(read), "")) is not None:
        raise editor.refused("the edited text would not have the intended values", found)
    return edited


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


class _Editor:
    """Collects edits by position, and makes every change in the plain values as well."""

    def __init__(self, text: str, where: str, root: Node) -> None:
        self._text, self._where, self._root = text, where, root
        self._edits: list[_Edit] = []
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._json = root.style == "flow" and root.pairs[0][0].style == '"'

    def apply(self) -> str:
        """The text after all edits; edits at the same position keep their order."""
        text = self._text
        for _, edit in sorted(enumerate(self._edits), key=lambda one: (one[1].start, one[0]), reverse=True):
            text = text[: edit.start] + edit.text + text[edit.end :]
        return text

    def refused(self, problem: str, key: str, node: Node | None = None) -> PolicyError:
        """The error, with the node's position if there is one."""
        where = self._where if node is None else f"{self._where}:{node.line + 1}:{node.column + 1}"
        return PolicyError(problem, where=where, key=key, hint="nothing was changed: edit it by hand")

    # -- thresholds --------------------------------------------------------------------------------------------

    def set_ladder(self, thresholds: Thresholds, values: dict[str, Any]) -> None:
        """The thresholds of the ladder itself."""
        rungs = self._value_of("ladder")
        by_name = {rung["rung"]: number for number, rung in enumerate(values["ladder"])}
        self._check_rungs(thresholds, list(by_name), rungs, "ladder")
        for rung, threshold in thresholds.items():
            number = by_name[rung]
            self._set_rung(rungs.parts[number], values["ladder"][number], threshold, f"ladder[{number}].threshold")

    def _set_rung(self, node: Node, rung: dict[str, Any], threshold: float | None, key: str) -> None:
        """A rung's threshold. One with samples may have none: it is added, and then gates their self-reports."""
        pair = node.find("threshold")
        if pair is not None:
            self._set(pair, _old(rung["threshold"]), threshold, key)
        else:
            self._add_key(node, "model", _entry("threshold", threshold, quoted=self._json))
        rung["threshold"] = threshold

    def set_samples(self, samples: Mapping[str, Mapping[str, Any] | None], values: dict[str, Any]) -> None:
        """The samples of rungs, in flow style; None: the rung is asked once. Variants that are None stay as they are."""
        numbers = {rung["rung"]: number for number, rung in enumerate(values["ladder"])}
        for rung, block in samples.items():
            number, plain = numbers[rung], None if block is None else _plain(block)
            node = self._value_of("ladder").parts[number]
            if plain is not None and "variants" in plain and plain["variants"] is None:
                plain["variants"] = deepcopy(values["ladder"][number]["samples"]["variants"])
            found, text = node.find("samples"), "null" if plain is None else self._flow(plain)
            if found is not None:
                old = found[1]
                end = old.end if old.style == "flow" or old.kind == "scalar" else self._line_end(old.end)
                self._edits.append(_Edit(old.start, end, text))
            elif plain is None:
                continue
            else:
                self._add(node, f"{_key('samples', quoted=self._json)}: {text}")
            values["ladder"][number]["samples"] = plain

    def set_tasks(self, tasks: Mapping[str, Thresholds], values: dict[str, Any]) -> None:
        """The thresholds of tasks; a missing task is added after the others, for callers who name it."""
        rungs = [rung["rung"] for rung in values["ladder"]]
        by_name = {task["name"]: number for number, task in enumerate(values.get("tasks", ()))}
        new: list[tuple[str, Thresholds]] = []
        for task, thresholds in tasks.items():
            if not thresholds:
                continue
            listed = self._root.find("tasks")
            if task not in by_name or listed is None:
                self._check_rungs(thresholds, rungs, self._root, f"tasks {task}")
                new.append((task, thresholds))
                continue
            number = by_name[task]
            node, own = listed[1].parts[number], values["tasks"][number]
            self._check_rungs(thresholds, rungs, node, f"tasks[{number}].thresholds")
            self._set_task(node, number, own.setdefault("thresholds", {}), thresholds)
        if new:
            self._add_tasks(new)
            values.setdefault("tasks", [])
            values["tasks"] += [{"name": task, "thresholds": dict(thresholds)} for task, thresholds in new]

    def _set_task(self, task: Node, number: int, old: dict[str, Any], new: Thresholds) -> None:
        found = task.find("thresholds")
        missing: dict[str, float | None] = {}
        for rung, threshold in new.items():
            pair = found[1].find(rung) if found else None
            if pair is None:
                missing[rung] = threshold
            else:
                self._set(pair, _old(old[rung]), threshold, f"tasks[{number}].thresholds.{rung}")
            old[rung] = threshold
        if not missing:
            return
        if found is not None:
            for rung, threshold in missing.items():
                self._add(found[1], _entry(rung, threshold, quoted=self._json))
        else:
            self._add_key(task, "name", self._thresholds(missing))

    def _set(self, pair: tuple[Node, Node], old: float | None, new: float | None, key: str) -> None:
        name, node = pair
        if "${" in node.value:
            problem = f"the threshold comes from the environment variable in {node.value}"
            raise self.refused(problem, key, node)
        if old == new:
            return
        gap = " " if node.start == node.end and not self._text[node.start - 1].isspace() else ""
        self._edits.append(_Edit(node.start, node.end, gap + threshold_text(new, quoted=name.style == '"')))

    def _add_tasks(self, new: list[tuple[str, Thresholds]]) -> None:
        rows = [f"{{{_entry('name', task, quoted=self._json)}, {self._thresholds(own)}}}" for task, own in new]
        found = self._root.find("tasks")
        if found is None:
            if self._root.style == "flow":
                self._add(self._root, f"{_key('tasks', quoted=self._json)}: [{', '.join(rows)}]")
            else:
                self._append(["tasks:", *(f"  - {row}" for row in rows)])
            return
        for row in rows:
            if found[1].style == "flow":
                self._add(found[1], row)
            else:
                self._add(found[1], f"- {row}")

    def _thresholds(self, thresholds: Thresholds) -> str:
        entries = ", ".join(_entry(rung, x, quoted=self._json) for rung, x in thresholds.items())
        return f"{_key('thresholds', quoted=self._json)}: {{{entries}}}"

    def _check_rungs(self, given: Thresholds, rungs: list[str], node: Node, key: str) -> None:
        for rung, threshold in given.items():
            if rung not in rungs:
                raise self.refused(f"there is no rung {rung!r} on the ladder (it has {', '.join(rungs)})", key, node)
            if rung == rungs[-1]:
                raise self.refused(f"the last rung, {rung!r}, has no threshold: it answers plainly", key, node)
            if threshold is not None and not 0 <= threshold <= 1:
                raise self.refused(f"{threshold} is not a threshold for {rung!r}: a number from 0 to 1", key, node)

    # -- blocks ------------------------------------------------------------------------------------------------

    def set_block(self, name: str, block: dict[str, Any] | None, values: dict[str, Any]) -> None:
        """A top-level block: replaced, removed, or added at the end."""
        found, old = self._root.find(name), values.get(name)
        if block is None:
            if found is not None:
                self._remove(*found)
                del values[name]
            return
        values[name] = block
        if found is None:
            if self._root.style == "flow":
                self._add(self._root, f"{_key(name, quoted=self._json)}: {self._flow(block)}")
            else:
                self._append([f"{_key(name, quoted=False)}:", *(f"  {line}" for line in dump(block).split("\n"))])
        elif old != block:
            self._replace(found[1], block)

    def _replace(self, node: Node, block: dict[str, Any]) -> None:
        if node.style == "flow":
            self._edits.append(_Edit(node.start, node.end, self._flow(block)))
            return
        end = self._line_end(node.end)
        if node.kind == "mapping":
            between = self._newline + " " * node.column
            self._edits.append(_Edit(node.start, end, between.join(dump(block).split("\n"))))
            return
        # Instead of a single value: a comment beside the key stays.
        rest = self._text[node.end : end] if node.kind == "scalar" and not node.style.startswith(("|", ">")) else ""
        start = len(self._text[: node.start].rstrip(" "))
        lines = "".join(f"{self._newline}  {line}" for line in dump(block).split("\n"))
        self._edits.append(_Edit(start, end, rest.rstrip() + lines))

    def _remove(self, key: Node, node: Node) -> None:
        if self._root.style == "flow":
            places = [one.start for one, _ in self._root.pairs]
            number = places.index(key.start)
            before = self._root.pairs[number - 1][1].end if number else key.start
            self._edits.append(_Edit(before, node.end if number else places[1], ""))
            return
        end = self._line_end(node.end)
        if end < len(self._text):
            self._edits.append(_Edit(key.start, end + len(self._newline), ""))
        else:  # the last line has no line break, so the one before it loses its own
            self._edits.append(_Edit(len(self._text[: key.start].rstrip("\r\n")), end, ""))

    def _flow(self, block: dict[str, Any]) -> str:
        return _json(block) if self._json else dump(block, flow=True)

    # -- places ------------------------------------------------------------------------------------------------

    def _value_of(self, key: str) -> Node:
        pair = self._root.find(key)
        assert pair is not None
        return pair[1]

    def _add(self, node: Node, entry: str) -> None:
        """Add an entry at the end of a mapping or list."""
        if node.style == "flow":
            if not node.pairs and not node.parts:
                at = node.start + 1
                entry = entry if not any(edit.start == at for edit in self._edits) else f", {entry}"
            else:
                at = node.pairs[-1][1].end if node.pairs else node.parts[-1].end
                entry = f", {entry}"
        else:
            at = self._line_end(node.end)
            entry = f"{self._newline}{' ' * node.column}{entry}"
        self._edits.append(_Edit(at, at, entry))

    def _add_key(self, node: Node, after: str, entry: str) -> None:
        """Add a key to a mapping: on a line of its own below the key `after`, or, in flow style, at the end."""
        before = node.find(after)
        if node.style == "flow" or before is None:
            self._add(node, entry)
            return
        at = self._line_end(before[1].end)
        self._edits.append(_Edit(at, at, f"{self._newline}{' ' * node.column}{entry}"))

    def _append(self, lines: list[str]) -> None:
        """Add lines at the end of the document, after a blank line if the file has blank lines."""
        at, newline = self._root.after, self._newline
        before = self._text[:at]
        whole = before.endswith("\n")
        blank = newline if newline * 2 in self._text and not before.endswith(newline * 2) else ""
        new = newline.join(lines)
        self._edits.append(_Edit(at, at, f"{blank}{new}{newline}" if whole else f"{newline}{blank}{new}"))

    def _line_end(self, at: int) -> int:
        """The end of the line at `at`, before its line break. A block scalar includes its last line break."""
        at = len(self._text[:at].rstrip("\r\n"))
        end = self._text.find("\n", at)
        end = len(self._text) if end < 0 else end
        return end - 1 if self._text[at:end].endswith("\r") else end


def _old(value: object) -> float | None:
    return None if value is None or value == NEVER else cast("float", value)


def threshold_text(value: float | None, *, quoted: bool = False) -> str:
    """A threshold as YAML: without an exponent (1e-05 is a string in YAML), not rounded."""
    if value is None:
        return f'"{NEVER}"' if quoted else NEVER
    text = f"{Decimal(repr(float(value) + 0.0)):f}"
    return text + "0" * (2 - len(text.partition(".")[2])) if "." in text else text


def _key(name: str, *, quoted: bool) -> str:
    return json.dumps(name, ensure_ascii=False) if quoted else dump({name: None}, flow=True)[1 : -len(": null}")]


def _entry(key: str, value: str | float | None, *, quoted: bool) -> str:
    if isinstance(value, str):
        return f"{_key(key, quoted=quoted)}: {_key(value, quoted=quoted)}"
    return f"{_key(key, quoted=quoted)}: {threshold_text(value, quoted=quoted)}"


def _json(value: Any) -> str:
    """JSON that is also YAML: `json` would write 1e-05, which is a string in YAML."""
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return f"{{{', '.join(f'{_json(key)}: {_json(inner)}' for key, inner in pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_json, cast('list[Any]', value)))}]"
    return threshold_text(value, quoted=True) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """A copy of plain dicts, lists and scalars, which YAML writes without anchors and tags. Raises ValueError otherwise."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in cast("list[Any]", value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot stand in a policy")
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise ValueError(f"{type(value).__name__} cannot stand in a policy")


def _normal(values: dict[str, Any]) -> dict[str, Any]:
    """A copy in which `never` is null, as they are the same threshold."""
    values = deepcopy(values)
    for rung in values["ladder"]:
        if "threshold" in rung:
            rung["threshold"] = _old(rung["threshold"])
    for task in values.get("tasks", ()):
        if "thresholds" in task:
            task["thresholds"] = {rung: _old(x) for rung, x in task["thresholds"].items()}
    return values


def _difference(meant: object, read: object, key: str) -> str | None:
    """The first key at which the two differ, or None."""
    if isinstance(meant, dict) and isinstance(read, dict):
        left, right = cast("dict[str, object]", meant), cast("dict[str, object]", read)
        pairs = [(f".{name}", left.get(name, ...), right.get(name, ...)) for name in {**left, **right}]
    elif isinstance(meant, list) and isinstance(read, list):
        both = zip_longest(cast("list[object]", meant), cast("list[object]", read), fillvalue=...)
        pairs = [(f"[{number}]", one, other) for number, (one, other) in enumerate(both)]
    else:
        return None if meant == read else key
    found = (_difference(one, other, f"{key}{name}".lstrip(".")) for name, one, other in pairs)
    return next((place for place in found if place is not None), None)
