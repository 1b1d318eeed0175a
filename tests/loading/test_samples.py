"""Samples in a policy file: variants from files, and one mistake at a time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cascade.core.errors import PolicyError
from cascade.core.policy import Policy
from cascade.policy.loading import load_policy, parse_policy

SOUND = """\
version: 1
name: votes
ladder:
  - rung: haiku
    model: claude-haiku-5-5
    max_tokens: 1024
    samples: {max: 5, agree: 4, variants: [confidence_first, terse.txt, steps], same: numeric}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 4096}
  - {rung: opus, model: claude-opus-5-5, max_tokens: 8192}
tasks:
  - {name: hard, samples: {haiku: {max: 2, agree: 2, variants: [{prompt: careful.md, name: own}]}}}
  - {name: once, thresholds: {haiku: 0.9}, samples: {haiku: null}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with prompt files, good and bad."""
    texts = {
        "terse.txt": "Be brief.",
        "careful.md": "Take care.",
        "empty.txt": " \n",
        "steps.txt": "Steps.",
        "ß.txt": "x",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    return tmp_path


def parsed(text: str, folder: Path | None) -> Policy:
    """The policy in a text, beside the files of a folder."""
    return parse_policy(text, where="p.yaml", folder=folder, environment={})


def test_a_variant_may_be_a_file_beside_the_policy(folder: Path) -> None:
    """On a rung and in a task; it is named after the file, or as it says itself."""
    (folder / "p.yaml").write_text(SOUND, encoding="utf-8")
    policy = load_policy(folder / "p.yaml", environment={})
    samples = policy.ladder[0].samples
    assert samples is not None
    first, terse, last = samples.variants
    assert (first.order, last.order) == ("confidence_first", "steps")
    assert (terse.name, terse.text, terse.label("x")) == ("terse", "Be brief.", "terse")
    task = policy.route("hard").samples[0]
    assert task is not None
    assert [(one.name, one.text) for one in task.variants] == [("own", "Take care.")]
    assert policy.route("once").samples[0] is None


def test_another_models_vote_with_a_file_is_named_after_both(folder: Path) -> None:
    """As with a built-in prompt: the model, then the prompt."""
    panel = "{prompt: terse.txt, model: other, price: {input: 1, output: 2}}"
    policy = parsed(SOUND.replace("terse.txt,", f"{panel}, {{prompt: steps, model: claude-haiku-4-5}},"), folder)
    samples = policy.ladder[0].samples
    assert samples is not None
    assert [one.label("") for one in samples.variants] == [
        "confidence_first", "other/terse", "claude-haiku-4-5/steps", "steps",
    ]  # fmt: skip


# What is replaced, by what (the error is at the ^), the key, a part of the problem, a part of the hint.
FAULTS: list[tuple[str, str, str, str, str]] = [
    ("terse.txt", "^step", "variants[1]", "neither a built-in prompt", "did you mean 'steps'?"),
    ("terse.txt", "^ters.txt", "variants[1]", "nor a file beside the policy", "did you mean 'terse.txt'?"),
    ("terse.txt", "^../terse.txt", "variants[1]", "nor a file beside the policy", "in the policy's folder"),
    ("terse.txt", "{prompt: ^step}", "variants[1].prompt", "neither a built-in prompt", "did you mean 'steps'?"),
    ("terse.txt", "^empty.txt", "variants[1]", "empty or larger than 1 MB", "give it a text"),
    ("terse.txt", "^latin.txt", "variants[1]", "not UTF-8", "check its name"),
    ("terse.txt", "^ß.txt", "variants[1]", "no usable name", "name: …"),
    ("terse.txt", "^steps.txt", "variants[1]", "the built-in prompt's name 'steps'", "another `name`"),
    ("terse.txt", "{prompt: terse.txt, name: ^doubt}", "variants[1].name", "name 'doubt'", "another `name`"),
    ("terse.txt", "{prompt: terse.txt, ^nam: x}", "variants[1].nam", "unknown key", "did you mean 'name'?"),
    ("terse.txt", "^7", "variants[1]", "must be", ""),
    ("terse.txt", "^{price: {input: 1, output: 1}}", "variants[1]", "price is of another model", ""),
    ("terse.txt", "{model: ^unheard-of}", "variants[1].model", "no price", "give the variant a price"),
    ("terse.txt", "{model: ^claude-opus-5-5}", "variants[1].model", "stronger than claude-haiku-5-5", "class or below"),
    ("[confidence_first, terse.txt, steps]", "^[terse.txt, {prompt: steps, name: terse}]", "variants", "two different variants", ""),
    ("agree: 4", "^agre: 4", "agre", "unknown key", "did you mean 'agree'?"),
    ("agree: 4", "agree: ^6", "agree", "6 of at most 5 samples", ""),
    ("agree: 4", "agree: ^1", "agree", "must be 2 or more", ""),
    ("max: 5", "max: ^99", "max", "must be 32 or less", ""),
    ("max: 5", "max: ^five", "max", "must be a whole number, not five", ""),
    ("same: numeric", "^sam: numeric", "sam", "unknown key", "did you mean 'same'?"),
    ("same: numeric", "same: ^numerical", "same", "unknown way to compare answers", ""),
    ("same: numeric", "same: ^{numeric: -1}", "same", "must be 0 or more", ""),
    ("same: numeric", "same: ^no.such:module", "same", "no.such:module cannot be used", "module:function"),
    ("same: numeric", "at_once: ^0", "at_once", "must be 1 or more", ""),
    ("same: numeric", "^at_one: 1", "at_one", "unknown key", "did you mean 'at_once'?"),
]  # fmt: skip


def _place(text: str) -> str:
    before = text[: text.index("^")]
    return f"p.yaml:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


@pytest.mark.parametrize(("old", "new", "key", "problem", "hint"), FAULTS)
def test_a_mistake_in_samples_is_one_line_with_its_place(
    folder: Path, old: str, new: str, key: str, problem: str, hint: str
) -> None:
    """The first mistake, with file:line:column, the key and what to do; and no second error that only follows from it."""
    assert old in SOUND
    text = SOUND.replace(old, new, 1)
    with pytest.raises(PolicyError) as caught:
        parsed(text.replace("^", "", 1), folder)
    error = caught.value
    assert (error.where, error.key) == (_place(text), f"ladder[0].samples.{key}")
    assert problem in str(error)
    assert hint in str(error)
    assert str(error).isprintable()
    assert not getattr(error, "__notes__", ())


@pytest.mark.parametrize(
    ("old", "new", "key", "problem", "hint"),
    [
        ("max_tokens: 8192", "max_tokens: 8192, samples: ^{max: 2, agree: 2}", "ladder[2].samples", "the last rung has no samples", "remove"),
        ("    samples: {max: 5, agree: 4, variants: [confidence_first, terse.txt, steps], same: numeric}\n", "", "ladder[0]", "needs a threshold", "add threshold"),
        ("samples: {haiku: {", "samples: {haik: ^{", "tasks[0].samples.haik", "there is no rung 'haik'", "use one of haiku, sonnet"),
        ("samples: {haiku: {", "samples: {opus: ^{", "tasks[0].samples.opus", "the last rung has no samples", "remove"),
        ("careful.md", "^careful.txt", "tasks[0].samples.haiku.variants[0].prompt", "nor a file beside the policy", ""),
        ("{prompt: careful.md, name: own}", "{model: ^claude-opus-5-5}", "tasks[0].samples.haiku.variants[0].model", "stronger than claude-haiku-5-5", ""),
        ("thresholds: {haiku: 0.9}, samples: {haiku: null}", "samples: {haiku: ^null}", "tasks[1].samples.haiku", "without samples rung 'haiku' needs a threshold", "add thresholds: {haiku: 0.80}"),
        ("agree: 2", "agre^: 2", "tasks[0].samples.haiku.agre", "unknown key", "did you mean 'agree'?"),
    ],
)  # fmt: skip
def test_a_mistake_beside_samples_is_one_line_with_its_place(
    folder: Path, old: str, new: str, key: str, problem: str, hint: str
) -> None:
    """On the last rung, without a threshold, in a task."""
    assert old in SOUND
    text = SOUND.replace(old, new, 1)
    with pytest.raises(PolicyError) as caught:
        parsed(text.replace("^", "", 1), folder)
    error = caught.value
    assert error.key == key
    if "^" in text and "agre^" not in text:
        assert error.where == _place(text)
    assert re.fullmatch(r"p\.yaml:\d+:\d+", error.where or "")
    assert problem in str(error)
    assert hint in str(error)
    assert not getattr(error, "__notes__", ())


def test_a_policy_in_code_has_no_files() -> None:
    """Without a folder only built-in prompts can be named."""
    with pytest.raises(PolicyError, match="neither a built-in prompt"):
        parsed(SOUND, None)
