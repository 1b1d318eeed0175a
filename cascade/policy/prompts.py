"""Prompts of one's own: text files beside the policy, for `triage.prompt`, the variants of samples, and the roles of `plan.prompts`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from cascade.core.policy.base import NAME
from cascade.core.policy.planning import PlanPrompts
from cascade.core.policy.samples import ORDERS
from cascade.core.text.suggestions import did_you_mean

__all__ = ["UnreadPrompt", "files_in", "read_prompts"]

_MOST_CHARACTERS = 1_000_000
_BUILT_IN = ", ".join(ORDERS)

_SINGLE = {"triage": ("triage", "prompt"), **{role: ("plan", "prompts", role) for role in PlanPrompts.model_fields}}
"""Where a policy names one prompt file, by the role of its words."""

_Path = tuple[str | int, ...]


class UnreadPrompt(NamedTuple):
    """A prompt that cannot be used: its place in the policy, the problem, and what to do."""

    path: _Path
    problem: str
    hint: str


def read_prompts(values: dict[str, Any], folder: Path | None) -> Iterator[UnreadPrompt]:
    """Replace the names of prompt files in a policy's plain values by the files' texts. Yields those that cannot be used.

    A variant that is not a built-in prompt's name is a file's. Without a `name` it is named after the file, without its
    ending. `folder`: where the files are, None: nowhere.
    """
    for _, path, named in _single_prompts(values):
        try:
            named[path[-1]] = _text(named[path[-1]], folder)
        except _Unusable as problem:
            yield UnreadPrompt(path, *problem.args)
    for path, variants in _variants_in(values):
        for number, variant in enumerate(variants):
            yield from _read_variant((*path, number), variants, number, variant, folder)


def files_in(values: dict[str, Any]) -> dict[str, str]:
    """The prompt files that a valid policy's plain values name, by the role of their words (`roles`). Call it before `read_prompts`."""
    found = {role: named[path[-1]] for role, path, named in _single_prompts(values)}
    for _, variants in _variants_in(values):
        for variant in variants:
            given = cast("dict[str, Any]", variant) if isinstance(variant, dict) else {"prompt": variant}
            prompt = given.get("prompt")
            if isinstance(prompt, str) and prompt not in ORDERS:
                found[f"triage/{given.get('name') or _name_of(prompt, given.get('model'))}"] = prompt
    return found


def _single_prompts(values: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...], dict[str, str]]]:
    """The names of prompt files that are not a variant's: the role, the path, and the mapping that has the name."""
    for role, path in _SINGLE.items():
        found: Any = values
        for key in path[:-1]:
            found = cast("dict[str, Any]", found).get(key) if isinstance(found, dict) else None
        if isinstance(found, dict) and isinstance(cast("dict[str, Any]", found).get(path[-1]), str):
            yield role, path, cast("dict[str, str]", found)


class _Unusable(Exception):
    """The problem, and what to do."""


def _variants_in(values: dict[str, Any]) -> Iterator[tuple[_Path, list[Any]]]:
    """Every list of variants, with its path. What has another shape than it should is left to the policy's own errors."""
    for path, rung in _mappings(values.get("ladder"), ("ladder",)):
        yield from _variants_of((*path, "samples"), rung.get("samples"))
    for path, task in _mappings(values.get("tasks"), ("tasks",)):
        by_rung = task.get("samples")
        for rung, samples in cast("dict[str, Any]", by_rung).items() if isinstance(by_rung, dict) else ():
            yield from _variants_of((*path, "samples", rung), samples)


def _mappings(values: object, path: _Path) -> Iterator[tuple[_Path, dict[str, Any]]]:
    for number, one in enumerate(cast("list[Any]", values) if isinstance(values, list) else ()):
        if isinstance(one, dict):
            yield (*path, number), cast("dict[str, Any]", one)


def _variants_of(path: _Path, samples: object) -> Iterator[tuple[_Path, list[Any]]]:
    variants = cast("dict[str, Any]", samples).get("variants") if isinstance(samples, dict) else None
    if isinstance(variants, list):
        yield (*path, "variants"), cast("list[Any]", variants)


def _read_variant(
    path: _Path, variants: list[Any], number: int, variant: object, folder: Path | None
) -> Iterator[UnreadPrompt]:
    """Replace one variant by a mapping with its prompt's text and name."""
    given = cast("dict[str, Any]", variant) if isinstance(variant, dict) else {"prompt": variant}
    prompt, name = given.get("prompt"), given.get("name")
    at = (*path, "prompt") if isinstance(variant, dict) else path
    if not isinstance(prompt, str) or prompt in ORDERS:
        return
    try:
        text = _text(prompt, folder, or_built_in=True)
        own = name if "name" in given else _name_of(prompt, given.get("model"))
    except _Unusable as problem:
        variants[number] = _without_name(given)
        yield UnreadPrompt(at, *problem.args)
        return
    if own in ORDERS:
        problem = f"a variant with a text of its own cannot have the built-in prompt's name {own!r}"
        variants[number] = _without_name(given)
        yield UnreadPrompt((*path, "name") if "name" in given else at, problem, "give it another `name`")
        return
    variants[number] = {**given, "prompt": text, "name": own}


def _without_name(variant: dict[str, Any]) -> dict[str, Any]:
    """The variant with a valid prompt, so that its one error is told once."""
    return {key: value for key, value in variant.items() if key != "name"} | {"prompt": ORDERS[0]}


def _name_of(file: str, model: object) -> str:
    """A variant's name after its file; with a model, that before it, as for a built-in prompt."""
    stem = Path(file).stem
    own = f"{model}/{stem}" if isinstance(model, str) else stem
    if re.fullmatch(NAME, own) is None:
        raise _Unusable(f"the file {file} gives the variant no usable name", "give it one: {prompt: …, name: …}")
    return own


def _text(name: str, folder: Path | None, *, or_built_in: bool = False) -> str:
    """A prompt file's text. `or_built_in`: a built-in prompt's name would do as well."""
    if or_built_in and not _is_beside(name, folder):
        beside = sorted(one.name for one in folder.glob("*.txt")) if folder is not None else []
        hint = f"{did_you_mean(name, [*ORDERS, *beside])}name a prompt, or a text file in the policy's folder"
        raise _Unusable(f"{name!r} is neither a built-in prompt ({_BUILT_IN}) nor a file beside the policy", hint)
    if folder is None or Path(name).name != name:
        raise _Unusable(f"{name!r} is not the name of a file beside the policy", "give a bare file name")
    try:
        text = (folder / name).read_text(encoding="utf-8")
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        raise _Unusable(f"the prompt file {name} cannot be read: {reason}", "check its name and content") from None
    if not text.strip() or len(text) > _MOST_CHARACTERS:
        raise _Unusable(f"the prompt file {name} is empty or larger than 1 MB", "give it a text") from None
    return text


def _is_beside(name: str, folder: Path | None) -> bool:
    if folder is None or Path(name).name != name:
        return False
    try:
        return (folder / name).exists()
    except (OSError, ValueError):  # e.g. a prompt's text in the place of a name is too long
        return False
