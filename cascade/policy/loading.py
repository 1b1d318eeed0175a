"""YAML → Policy, strictly: every error names file:line:column, the key, and what to do. The only importer of `yaml`."""

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
from cascade.core.suggestions import did_you_mean
from cascade.policy.nodes import Node
from cascade.policy.plans import faults_outside
from cascade.policy.shipped import names, shipped

__all__ = ["compose", "dump", "find_policy", "load_policy", "parse_policy", "policy_schema"]

_MOST_BYTES = 1_000_000
_MOST_DEPTH = 40
_MOST_NODES = 50_000
_BOOLEANS = frozenset({"on", "off", "yes", "no", "y", "n"})
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")

# Keys of the format whose work is not done yet: refused as such, so that nobody believes they are in force.
_NOT_YET = frozenset({"audit", "sticky", "cache", "prompt_cache", "handoff", "prepare", "review"})


def load_policy(source: str | Path, *, environment: Mapping[str, str] | None = None) -> Policy:
    """The policy at a path, or a shipped one by its name ("default", "support" …).

    `${VAR}` and `${VAR:-default}` in scalars are taken from `environment` (default: the process's). Raises PolicyError,
    one line with file:line:column, the key and the mend; its `__notes__` name the other faults of the file, if any.
    """
    path = find_policy(source)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise PolicyError("the file is larger than 1 MB", where=str(path), mend="this is not a policy")
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        raise PolicyError(f"cannot be read: {reason}", where=str(path)) from None
    return parse_policy(text, where=str(path), folder=path.parent, environment=environment)


def parse_policy(
    text: str, *, where: str = "policy", folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Policy:
    """The policy in a YAML text; `where` stands before line:column in errors, `folder` holds its prompt file."""
    document = _Document(text, where, os.environ if environment is None else environment)
    values = document.values()
    document.read_prompt(values, folder)
    try:
        policy = Policy.model_validate(values, by_alias=True, by_name=False)
    except ValidationError as problems:
        raise _together(document.explain(problems.errors())) from None
    if faults := tuple(faults_outside(policy)):
        raise _together(map(document.located, faults))
    return policy


def compose(
    text: str, *, where: str = "policy", environment: Mapping[str, str] | None = None
) -> tuple[Node, dict[str, Any]]:
    """Where everything stands in a policy's text, and its plain values. PolicyError where it is not usable YAML."""
    document = _Document(text, where, os.environ if environment is None else environment)
    return _positioned(document.root), document.values()


def _positioned(node: yaml.Node) -> Node:
    start, mark = node.start_mark.index, node.end_mark.index
    line, column = node.start_mark.line, node.start_mark.column
    if isinstance(node, yaml.ScalarNode):
        return Node("scalar", node.style or "", node.value, (), (), start, mark, mark, line, column)
    style = "flow" if cast("yaml.CollectionNode", node).flow_style else "block"
    if isinstance(node, yaml.MappingNode):
        pairs = tuple((_positioned(key), _positioned(value)) for key, value in node.value)
        end = mark if style == "flow" else pairs[-1][1].end  # a block ends for YAML where the next one starts
        return Node("mapping", style, "", pairs, (), start, end, mark, line, column)
    parts = tuple(map(_positioned, node.value))
    end = mark if style == "flow" else parts[-1].end
    return Node("list", style, "", (), parts, start, end, mark, line, column)


def dump(values: Mapping[str, Any], *, flow: bool = False) -> str:
    """Plain values as YAML, in their order: one line with `flow`, else a line a key, with only the innermost in flow."""
    style = cast("bool", flow or None)  # None, which the types do not know: only the innermost in flow
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
    for key, more in (("ledger", [{"enum": ["off", False]}]), ("budget", [{"$ref": "#/$defs/Limits"}])):
        whole = schema["properties"][key]  # what may be written shorter
        told = {name: whole.pop(name) for name in ("description", "default", "maxItems") if name in whole}
        schema["properties"][key] = {"description": told["description"], "anyOf": [*more, whole]}
    schema["title"] = "cascade policy, version 1"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _together(errors: Iterable[tuple[tuple[int, int], PolicyError]]) -> PolicyError:
    """The first error of the file; the others are notes on it."""
    (_, first), *others = sorted(errors, key=lambda pair: pair[0])
    for _, other in others:
        first.add_note(str(other))
    return first


def find_policy(source: str | Path) -> Path:
    """The file of a policy: a path, or a shipped one's name. Raises PolicyError where there is none."""
    path = Path(source)
    try:
        if path.is_file():
            return path
    except OSError as problem:  # a whole policy given as a name is too long for one
        where = _printable(str(source)[:60])
        raise PolicyError(f"cannot be read: {problem.strerror}", where=where, mend="give a path or a name") from None
    looks_like_path = isinstance(source, Path) or path.suffix in (".yaml", ".yml") or len(path.parts) > 1
    found = None if looks_like_path else shipped("policies", str(source))
    if found is not None:
        return found
    known = names("policies")
    meant = "" if looks_like_path else did_you_mean(str(source), known)
    problem = "there is no such file" if looks_like_path else f"there is no policy {str(source)!r}"
    raise PolicyError(problem, where=_printable(str(source)), mend=f"{meant}give a path, or one of: {', '.join(known)}")


class _Document:
    """A YAML text with the position of every node, so that an error can say where."""

    def __init__(self, text: str, where: str, environment: Mapping[str, str]) -> None:
        self._where, self._environment = where, environment
        self.root = self._compose(text)

    def _compose(self, text: str) -> yaml.Node:
        try:
            _bound_structure(text)
            root = cast("yaml.Node | None", yaml.compose(text, Loader=yaml.SafeLoader))  # pyright: ignore
        except yaml.MarkedYAMLError as problem:
            mark = problem.problem_mark or problem.context_mark
            at = f"{self._where}:{mark.line + 1}:{mark.column + 1}" if mark else self._where
            what = " ".join(part for part in (problem.context, problem.problem) if part)
            raise PolicyError(f"not valid YAML: {_printable(what)}", where=at) from None
        except yaml.reader.ReaderError as problem:
            before = text[: problem.position]
            line, column = before.count("\n") + 1, problem.position - before.rfind("\n")
            at = f"{self._where}:{line}:{column}"
            what = f"U+{problem.character:04X} may not stand in it"  # pyright: ignore - it is a number for a text
            raise PolicyError(f"not valid YAML: {what}", where=at, mend="remove the character") from None
        except (yaml.YAMLError, ValueError, RecursionError) as problem:
            reason = str(problem).splitlines()[0] if str(problem) else "nested too deeply"
            raise PolicyError(f"not valid YAML: {_printable(reason)}", where=self._where) from None
        if not isinstance(root, yaml.MappingNode):
            problem = "the file is empty" if root is None else "a policy is a mapping of keys to values"
            raise PolicyError(problem, where=f"{self._where}:1:1", mend="start with version: 1")
        return root

    # -- values ------------------------------------------------------------------------------------------------

    def values(self) -> dict[str, Any]:
        """Plain values, with variables expanded; duplicate keys, anchors, tags and merges are refused."""
        return self._value(self.root)

    def _value(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                    if key_node.value == "<<":
                        raise self._error(key_node, "merge keys are not supported", "write the keys out")
                    raise self._error(key_node, "a key must be a word", "quote it if it is meant as one")
                if not _is_unicode(key_node.value):
                    raise self._error(key_node, "this key is not valid Unicode", "write it without half a surrogate")
                if key_node.value in result:
                    raise self._error(key_node, f"the key {key_node.value!r} is there twice", "remove one of them")
                result[key_node.value] = self._value(value_node)
            return result
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item) for item in node.value]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        tag, text = node.tag, node.value
        if "${" in text:
            text = _VARIABLE.sub(lambda match: self._variable(node, match), text)
            if node.style is None:  # a plain scalar may have become a number
                tag = cast("str", yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False)))  # pyright: ignore
        if not _is_unicode(text):
            raise self._error(node, "this text is not valid Unicode", "write it without half a surrogate")
        if tag == "tag:yaml.org,2002:str":
            return text
        if ":" in text and tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
            raise self._error(
                node, f"YAML reads {text[:40]} as a number in base sixty", "write it in base ten, or quote it"
            )
        if tag == "tag:yaml.org,2002:timestamp":
            raise self._error(node, f"YAML reads {text} as a date", f"quote it: '{text}'")
        try:
            return cast("Any", yaml.SafeLoader("").construct_object(yaml.ScalarNode(tag, text)))  # pyright: ignore
        except (yaml.YAMLError, ValueError, OverflowError):
            kind = tag.rsplit(":", 1)[-1]
            raise self._error(
                node, f"{text[:40]!r} is not a usable {kind}", "quote it if it is meant as text"
            ) from None

    def _variable(self, node: yaml.Node, match: re.Match[str]) -> str:
        name = match.group(1)
        default = cast("str | None", match.group(2))
        value = self._environment.get(name, default)
        if value is None:
            mend = f"set it, or write ${{{name}:-a default}}"
            raise self._error(node, f"the environment variable {name} is not set", mend)
        return value

    def read_prompt(self, values: dict[str, Any], folder: Path | None) -> None:
        """Put the text of `triage.prompt`'s file in the place of its name."""
        triage = values.get("triage")
        name = triage.get("prompt") if isinstance(triage, dict) else None  # pyright: ignore
        if not isinstance(name, str):
            return
        node = self._at(("triage", "prompt"))[0]
        if folder is None or Path(name).name != name:
            raise self._error(node, f"{name!r} is not the name of a file beside the policy", "give a bare file name")
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except (OSError, ValueError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
            raise self._error(node, f"the prompt file {name} cannot be read: {reason}", "") from None
        if not text.strip() or len(text) > _MOST_BYTES:
            raise self._error(node, f"the prompt file {name} is empty or larger than 1 MB", "") from None
        triage["prompt"] = text  # pyright: ignore[reportOptionalSubscript]

    # -- errors ------------------------------------------------------------------------------------------------

    def explain(self, errors: Iterable[Any]) -> Iterator[tuple[tuple[int, int], PolicyError]]:
        """Pydantic's errors as (position, PolicyError); a broken invariant brings the others that are broken with it."""
        for error in errors:
            context = error.get("ctx", {})
            fault = context.get("error")
            if isinstance(fault, Fault):
                yield from map(self.located, (fault, *fault.others))
            elif error["type"] == "too_short" and len(error["input"]) >= context["min_length"]:
                pass  # there are enough of them, but some are wrong: that has an error of its own
            else:
                yield self._explained(error)

    def _explained(self, error: Any) -> tuple[tuple[int, int], PolicyError]:
        location: tuple[str | int, ...] = error["loc"]
        kind, value = error["type"], error.get("input")
        node, resolved = self._at(location, prefer_key=kind == "extra_forbidden")
        if kind == "extra_forbidden":
            name = location[-1]
            if name in _NOT_YET:
                return self._located(location, "not available in this version", "remove the key", prefer_key=True)
            return self._located(location, "unknown key", f"known here: {self._known(location)}", prefer_key=True)
        if kind == "missing":
            return self._located(location[:-1], f"the key {location[-1]!r} is missing", f"add {location[-1]}: …")
        a_word = kind in ("string_type", "literal_error")
        if a_word and isinstance(node, yaml.ScalarNode) and isinstance(value, bool) and node.value.lower() in _BOOLEANS:
            return self._located(
                resolved, f"YAML reads {node.value} as {str(value).lower()}", f"quote it: '{node.value}'"
            )
        return self._located(resolved, _lowered(error["msg"]), _mend_for(kind))

    def located(self, fault: Fault) -> tuple[tuple[int, int], PolicyError]:
        """A broken invariant as (position, PolicyError)."""
        return self._located(fault.key, fault.problem, fault.mend)

    def _located(
        self, location: tuple[str | int, ...], problem: str, mend: str, *, prefer_key: bool = False
    ) -> tuple[tuple[int, int], PolicyError]:
        node, resolved = self._at(location, prefer_key=prefer_key)
        mark = node.start_mark
        where = f"{self._where}:{mark.line + 1}:{mark.column + 1}"
        return (mark.line, mark.column), PolicyError(problem, where=where, key=_dotted(resolved), mend=mend)

    def _error(self, node: yaml.Node, problem: str, mend: str) -> PolicyError:
        mark, key = node.start_mark, _dotted(self._path_to(node, self.root, ()) or ())
        return PolicyError(problem, where=f"{self._where}:{mark.line + 1}:{mark.column + 1}", key=key, mend=mend)

    def _path_to(self, wanted: yaml.Node, here: yaml.Node, path: tuple[str | int, ...]) -> tuple[str | int, ...] | None:
        """Where a node stands; None: not below `here`."""
        if here is wanted:
            return path
        below: list[tuple[str | int, yaml.Node]] = []
        if isinstance(here, yaml.MappingNode):
            for key, value in here.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else "?"
                below += [(name, key), (name, value)]
        elif isinstance(here, yaml.SequenceNode):
            below += enumerate(here.value)
        found = (self._path_to(wanted, node, (*path, part)) for part, node in below)
        return next((one for one in found if one is not None), None)

    def _at(
        self, location: tuple[str | int, ...], *, prefer_key: bool = False
    ) -> tuple[yaml.Node, tuple[str | int, ...]]:
        """The node at a path and the part of the path that exists; pydantic's own tags in a path are passed over."""
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

    def _known(self, location: tuple[str | int, ...]) -> str:
        schema: Any = Policy.model_json_schema(by_alias=True)
        definitions, here = schema["$defs"], schema
        for part in location[:-1]:
            named = [
                rest for one in (here, *here.get("anyOf", ())) for rest in one.get("patternProperties", {}).values()
            ]
            further = here.get("properties", {}).get(part, named[0] if named else here)
            here = here.get("items", here) if isinstance(part, int) else further
            references = [one["$ref"] for one in (here, *here.get("anyOf", ())) if "$ref" in one]
            if references:
                here = definitions[references[0].rsplit("/", 1)[-1]]
        return ", ".join(here.get("properties", {"see policies/policy.schema.json": None}))


def _bound_structure(text: str) -> None:
    """Refuse what would make the composer recurse or multiply: deep nesting, masses of nodes, anchors and tags."""
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
            raise yaml.MarkedYAMLError(
                problem="nested too deeply, or too much for a policy", problem_mark=event.start_mark
            )


def _dotted(location: tuple[str | int, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{_printable(part)}" for part in location)
    return "".join(parts).lstrip(".")


def _printable(text: str) -> str:
    """The text on one line: an error must not be torn by a line break, or by a terminal's control codes, of a file."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lowered(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _mend_for(kind: str) -> str:
    if kind in ("string_type", "threshold", "greater_than", "less_than", "check", "empty_when", "window"):
        return ""
    if kind == "string_pattern_mismatch":
        return "letters, digits and . _ - : / @"
    if kind == "model_type":
        return "give a mapping, or leave the key out"
    return ""
