"""YAML → Policy, strictly: every error names file:line:column, the key, and what to do. Only it and `plan_files` import `yaml`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from cascade.core.errors import PolicyError
from cascade.core.policy import Fault, Policy
from cascade.core.policy.checks import REVIEW, REVIEW_KEYS
from cascade.core.policy.samples import ORDERS
from cascade.core.text.parsing import is_unicode
from cascade.core.text.suggestions import closest, did_you_mean
from cascade.policy.binding import binding_faults
from cascade.policy.errors import dotted, faults_despite, known_keys, printable, words_for, yaml_words
from cascade.policy.hint_files import read_hint_file
from cascade.policy.nodes import Node
from cascade.policy.prompts import read_prompts
from cascade.policy.shipped import names, shipped

__all__ = ["compose", "dump", "find_policy", "load_policy", "parse_policy", "policy_schema"]

_MOST_BYTES = 1_000_000
_MOST_DEPTH = 40
_MOST_NODES = 50_000
_LONGEST_SHOWN = 40
_BOOLEANS = frozenset({"on", "off", "yes", "no", "y", "n"})
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")


def load_policy(source: str | Path, *, environment: Mapping[str, str] | None = None) -> Policy:
    """The policy at a path, or a shipped one by its name ("default", "support" …).

    `${VAR}` and `${VAR:-default}` in scalars are expanded from `environment` (default: the process's). Raises PolicyError:
    one line with file:line:column, the key and how to fix it; its `__notes__` list the file's other faults.
    """
    path = find_policy(source)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise PolicyError("the file is larger than 1 MB", where=str(path), hint="this is not a policy")
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        raise PolicyError(f"cannot be read: {reason}", where=str(path)) from None
    return parse_policy(text, where=str(path), folder=path.parent, environment=environment)


def parse_policy(
    text: str, *, where: str = "policy", folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Policy:
    """The policy in a YAML text. `where` precedes line:column in errors; `folder` is where its prompt files are."""
    document = _Document(text, where, os.environ if environment is None else environment)
    values = document.values()
    document.read_prompts(values, folder)
    try:
        policy = Policy.model_validate(values, by_alias=True, by_name=False)
    except ValidationError as problems:
        raise document.error(document.explain(problems.errors(), values)) from None
    faults = tuple(binding_faults(policy))
    if faults or document.problems:
        raise document.error(map(document.located, faults))
    return policy


def compose(
    text: str, *, where: str = "policy", environment: Mapping[str, str] | None = None, what: str = "policy"
) -> tuple[Node, dict[str, Any]]:
    """The positions of all parts of a YAML text, and its plain values. Raises PolicyError for invalid YAML.

    `what`: policy, plan, or file of hints. In a policy alone `${…}` is a variable.
    """
    variables = None if what != "policy" else os.environ if environment is None else environment
    document = _Document(text, where, variables, what)
    values = document.values()
    if document.problems:
        raise document.error(())
    return _positioned(document.root), values


def _positioned(node: yaml.Node) -> Node:
    start, mark = node.start_mark.index, node.end_mark.index
    line, column = node.start_mark.line, node.start_mark.column
    if isinstance(node, yaml.ScalarNode):
        return Node("scalar", node.style or "", node.value, (), (), start, mark, mark, line, column)
    style = "flow" if cast("yaml.CollectionNode", node).flow_style else "block"
    if isinstance(node, yaml.MappingNode):
        pairs = tuple((_positioned(key), _positioned(value)) for key, value in node.value)
        end = mark if style == "flow" else pairs[-1][1].end  # for YAML a block ends where the next one starts
        return Node("mapping", style, "", pairs, (), start, end, mark, line, column)
    parts = tuple(map(_positioned, node.value))
    end = mark if style == "flow" else parts[-1].end
    return Node("list", style, "", (), parts, start, end, mark, line, column)


def dump(values: Mapping[str, Any], *, flow: bool = False) -> str:
    """Plain values as YAML, in their order: `flow` in one line, else a line per key, innermost values in flow style."""
    style = cast("bool", flow or None)  # None, which the stubs do not allow: flow style only for the innermost
    representer = cast("Any", yaml.representer.SafeRepresenter(default_flow_style=style, sort_keys=False))
    tree = representer.represent_data(dict(values))
    tree.flow_style = flow
    width = 1_000_000 if flow else 100
    return cast("str", yaml.serialize(tree, Dumper=yaml.SafeDumper, width=width, allow_unicode=True)).rstrip("\n")  # pyright: ignore


def policy_schema() -> dict[str, Any]:
    """The JSON Schema of the policy file, for editors: what `policies/policy.schema.json` holds."""
    schema = Policy.model_json_schema(by_alias=True)
    check = schema["$defs"]["Check"]
    schema["$defs"]["Check"] = {
        "description": check.pop("description"),
        "anyOf": [{"enum": ["not_empty"]}, {"type": "string", "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"}, check],
    }
    variant = schema["$defs"]["Variant"]
    named = {"type": "string", "minLength": 1, "examples": list(ORDERS)}
    schema["$defs"]["Variant"] = {"description": variant.pop("description"), "anyOf": [named, variant]}
    for key, more in (("ledger", [{"enum": ["off", False]}]), ("budget", [{"$ref": "#/$defs/Limits"}])):
        whole = schema["properties"][key]  # also has a short form
        outer = {name: whole.pop(name) for name in ("description", "default", "maxItems") if name in whole}
        schema["properties"][key] = {"description": outer["description"], "anyOf": [*more, whole]}
    schema["title"] = "cascade policy, version 1"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def find_policy(source: str | Path) -> Path:
    """The file of a policy, given by path or by a shipped policy's name. Raises PolicyError if there is none."""
    path = Path(source)
    try:
        if path.is_file():
            return path
    except OSError as problem:  # e.g. a policy's text given as a name is too long
        where = printable(str(source)[:60])
        raise PolicyError(f"cannot be read: {problem.strerror}", where=where, hint="give a path or a name") from None
    looks_like_path = isinstance(source, Path) or path.suffix in (".yaml", ".yml") or len(path.parts) > 1
    found = None if looks_like_path else shipped("policies", str(source))
    if found is not None:
        return found
    known = names("policies")
    problem = "there is no such file" if looks_like_path else f"there is no policy {str(source)!r}"
    raise PolicyError(
        problem,
        where=printable(str(source)),
        hint=f"{did_you_mean(str(source), known)}give a path, or one of: {', '.join(known)}",
    )


_Path = tuple[str | int, ...]
_Placed = tuple[tuple[int, int], PolicyError]


class _Unread(Exception):
    """An unreadable key or value: the problem, and what to do."""


class _Document:
    """A YAML text with the position of every node, for errors.

    `problems`: the unreadable keys and values, with their positions. An unreadable value becomes None.
    """

    def __init__(self, text: str, where: str, environment: Mapping[str, str] | None, what: str = "policy") -> None:
        self._where, self._environment, self._what = where, environment, what
        self.problems: list[_Placed] = []
        self._unread: set[_Path] = set()  # paths of unreadable values; for a key, of its mapping
        self.root = self._compose(text)

    def _compose(self, text: str) -> yaml.Node:
        try:
            _bound_structure(text)
            root = cast("yaml.Node | None", yaml.compose(text, Loader=yaml.SafeLoader))  # pyright: ignore
        except yaml.MarkedYAMLError as problem:
            mark = problem.problem_mark or problem.context_mark
            at = f"{self._where}:{mark.line + 1}:{mark.column + 1}" if mark else self._where
            what = printable(" ".join(part for part in (problem.context, problem.problem) if part))
            what, hint = yaml_words(what, text[mark.index : mark.index + 1] if mark else "")
            raise PolicyError(f"not valid YAML: {what}", where=at, hint=hint) from None
        except yaml.reader.ReaderError as problem:
            before = text[: problem.position]
            line, column = before.count("\n") + 1, problem.position - before.rfind("\n")
            at = f"{self._where}:{line}:{column}"
            what = f"U+{problem.character:04X} may not stand in it"  # pyright: ignore - it is a number for a text
            raise PolicyError(f"not valid YAML: {what}", where=at, hint="remove the character") from None
        except (yaml.YAMLError, ValueError, RecursionError) as problem:
            reason = str(problem).splitlines()[0] if str(problem) else "nested too deeply"
            raise PolicyError(f"not valid YAML: {printable(reason)}", where=self._where) from None
        if not isinstance(root, yaml.MappingNode):
            problem = "the file is empty" if root is None else f"a {self._what} is a mapping of keys to values"
            by = {"policy": "init", "plan": "run --save-plan"}.get(self._what, "plan hints")
            hint = f"start with version: 1; `cascade {by}` writes one"
            raise PolicyError(problem, where=f"{self._where}:1:1", hint=hint)
        return root

    # -- values ------------------------------------------------------------------------------------------------

    def values(self) -> dict[str, Any]:
        """Plain values with variables expanded. Duplicate keys and merge keys are problems."""
        return self._value(self.root, ())

    def _value(self, node: yaml.Node, path: _Path) -> Any:
        if isinstance(node, yaml.MappingNode):
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                try:
                    key = self._key(key_node, result)
                except _Unread as problem:
                    name = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
                    self._note(problem, key_node, (*path, name))
                    self._unread.add(path)
                    continue
                result[key] = self._value(value_node, (*path, key))
            return result
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, number)) for number, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        try:
            return self._scalar(node)
        except _Unread as problem:
            self._note(problem, node, path)
            self._unread.add(path)
            return None

    def _note(self, problem: _Unread, node: yaml.Node, path: _Path) -> None:
        self.problems.append(self._placed(node, path, *problem.args))

    def _key(self, node: yaml.Node, known: Mapping[str, Any]) -> str:
        key = node.value
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            if key == "<<":
                raise _Unread("merge keys are not supported", "write the keys out")
            raise _Unread("a key must be a word", "quote it if it is meant as one")
        if not is_unicode(key):
            raise _Unread("this key contains an unpaired surrogate", "write a whole character")
        if key in known:
            raise _Unread(f"duplicate key {key!r}", "remove one of them")
        return cast("str", key)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        tag, text = node.tag, node.value
        if "${" in text and self._environment is not None:
            text = _VARIABLE.sub(self._variable, text)
            if node.style is None:  # a plain scalar may have become a number
                tag = cast("str", yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False)))  # pyright: ignore
        if not is_unicode(text):
            raise _Unread("this text contains an unpaired surrogate", "write a whole character")
        if tag == "tag:yaml.org,2002:str":
            return text
        if ":" in text and tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
            raise _Unread(f"YAML reads {text[:40]} as a number in base sixty", "write it in base ten, or quote it")
        if tag == "tag:yaml.org,2002:timestamp":
            raise _Unread(f"YAML reads {text} as a date", f"quote it: '{text}'")
        try:
            return cast("Any", yaml.SafeLoader("").construct_object(yaml.ScalarNode(tag, text)))  # pyright: ignore
        except (yaml.YAMLError, ValueError, OverflowError):
            kind = tag.rsplit(":", 1)[-1]
            raise _Unread(f"{text[:40]!r} is not a usable {kind}", "quote it if it is meant as text") from None

    def _variable(self, match: re.Match[str]) -> str:
        name = match.group(1)
        default = cast("str | None", match.group(2))
        value = (self._environment or {}).get(name, default)
        if value is None:
            raise _Unread(f"the environment variable {name} is not set", f"set it, or write ${{{name}:-a default}}")
        return value

    def read_prompts(self, values: dict[str, Any], folder: Path | None) -> None:
        """Replace the names of prompt files, and of the planner's hints, by what is in the files."""
        for path, problem, hint in (*read_prompts(values, folder), *read_hint_file(values, folder, compose)):
            self._note(_Unread(problem, hint), self._at(path)[0], path)

    # -- errors ------------------------------------------------------------------------------------------------

    def error(self, further: Iterable[_Placed]) -> PolicyError:
        """The first error of the file, by position, with the others as notes."""
        (_, first), *others = sorted((*self.problems, *further), key=lambda pair: pair[0])
        for line in dict.fromkeys(str(other) for _, other in others):
            first.add_note(line)
        return first

    def explain(self, errors: list[Any], values: dict[str, Any]) -> Iterator[_Placed]:
        """Pydantic's errors with their positions, and the broken invariants if those can be checked despite the errors.

        Consequences of other errors are left out: a key that is missing because it is misspelt, an unreadable value, a
        ladder that is too short because its rungs are invalid.
        """
        unknown = [error["loc"] for error in errors if error["type"] == "extra_forbidden"]
        yield from map(self._unknown, unknown)
        for error in errors:
            context, (node, resolved) = error.get("ctx", {}), self._at(error["loc"])
            if isinstance(fault := context.get("error"), Fault):
                whole = (one for one in (fault, *fault.others) if self._at(one.key)[1] not in self._unread)
                yield from map(self.located, whole)
            elif error["type"] == "missing":
                yield from self._missing(error["loc"], unknown)
            elif error["type"] == "too_short" and len(error["input"]) >= context["min_length"]:
                pass  # there are enough entries, but some are invalid, which has its own error
            elif error["type"] != "extra_forbidden" and resolved not in self._unread:
                yield self._placed(node, resolved, *self._words(error, node, resolved))
        yield from map(self.located, faults_despite(values, errors))

    def _missing(self, location: _Path, unknown: list[_Path]) -> Iterator[_Placed]:
        """A missing key, positioned after the unknown keys beside it. None if one of those is its misspelling."""
        (node, resolved), name = self._at(location[:-1]), str(location[-1])
        beside = [one for one in unknown if self._at(one[:-1])[1] == resolved]
        if resolved in self._unread or any(closest(str(one[-1]), known_keys(one)) == name for one in beside):
            return
        place, error = self._placed(node, resolved, f"the key {name!r} is missing", f"add {name}: …")
        yield max(place, *(self._unknown(one)[0] for one in beside)) if beside else place, error

    def _words(self, error: Any, node: yaml.Node, resolved: _Path) -> tuple[str, str]:
        kind, value = error["type"], error.get("input")
        if kind in ("string_type", "literal_error") and isinstance(value, bool) and node.value.lower() in _BOOLEANS:
            allowed = re.findall(r"'([^']+)'", error.get("ctx", {}).get("expected", ""))
            if allowed and node.value not in allowed:  # quoted it would be refused, too
                return f"YAML reads {node.value} as {str(value).lower()}", f"write {error['ctx']['expected']}"
            return f"YAML reads {node.value} as {str(value).lower()}", f"quote it: '{node.value}'"
        named = next((part for part in reversed(resolved) if isinstance(part, str)), "")
        return words_for(kind, error.get("ctx", {}), value, _shown(node), named, error["msg"])

    def _unknown(self, location: _Path) -> _Placed:
        node, resolved = self._at(location, prefer_key=True)
        name = location[-1]
        if name == "review" and "checks" in location:
            return self._placed(node, resolved, "unknown key", f"write {REVIEW}")
        whole, _ = self._at(location[:-1])
        has_kind = isinstance(whole, yaml.MappingNode) and any(key.value == "kind" for key, _ in whole.value)
        known = REVIEW_KEYS if has_kind and "checks" in location else known_keys(location)
        hint = f"{did_you_mean(str(name), known)}known here: {', '.join(known) or 'see `cascade policy schema`'}"
        return self._placed(node, resolved, "unknown key", hint)

    def located(self, fault: Fault) -> _Placed:
        """A broken invariant with its position."""
        return self._placed(*self._at(fault.key), fault.problem, fault.hint)

    def _placed(self, node: yaml.Node, path: _Path, problem: str, hint: str) -> _Placed:
        mark = node.start_mark
        where = f"{self._where}:{mark.line + 1}:{mark.column + 1}"
        return (mark.line, mark.column), PolicyError(problem, where=where, key=dotted(path), hint=hint)

    def _at(
        self, location: tuple[str | int, ...], *, prefer_key: bool = False
    ) -> tuple[yaml.Node, tuple[str | int, ...]]:
        """The node at a path, and the part of the path that exists; pydantic's own tags in it are skipped."""
        node: yaml.Node = self.root
        resolved: list[str | int] = []
        key: yaml.Node | None = None
        for part in location:
            if isinstance(node, yaml.MappingNode):
                found = next(((k, v) for k, v in node.value if k.value == part), None)
                if found is None:
                    continue
                key, node = found
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                key, node = None, node.value[part]
            else:
                continue
            resolved.append(part)
        return (key if prefer_key and key is not None else node), tuple(resolved)


def _bound_structure(text: str) -> None:
    """Refuse what could make the composer recurse or grow: deep nesting, too many nodes, anchors and tags."""
    depth = 0
    events = cast("Iterator[yaml.Event]", yaml.parse(text, Loader=yaml.SafeLoader))  # pyright: ignore
    for nodes, event in enumerate(events):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
        anchored = isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None)
        tagged = getattr(event, "tag", None)
        if anchored or tagged:
            what = "anchors and aliases are" if anchored else f"the tag {str(tagged)[:40]} is"
            raise yaml.MarkedYAMLError(
                problem=f"{what} not supported, write the value out", problem_mark=event.start_mark
            )
        if depth > _MOST_DEPTH or nodes > _MOST_NODES:
            raise yaml.MarkedYAMLError(problem="nested too deeply, or too large", problem_mark=event.start_mark)


def _shown(node: yaml.Node) -> str:
    """A value as written, for a message; "" for a value from the environment, which may be secret."""
    if not isinstance(node, yaml.ScalarNode):
        return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
    text = node.value
    if "${" in text or len(text) > _LONGEST_SHOWN or not text.isprintable():
        return ""
    return f"'{text}'" if node.style else text
