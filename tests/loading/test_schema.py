"""The JSON Schema that editors use: as committed, and in agreement with the loader."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
import yaml

from cascade.policy.loading import policy_schema

from .builders import POLICIES, SOUND, changed, parsed
from .test_faults import FAULTS

COMMITTED = POLICIES / "policy.schema.json"
SCHEMA = jsonschema_rs.validator_for(policy_schema())


def values(text: str) -> Any:
    """A text's values, as an editor sees them."""
    return yaml.safe_load(text)


def test_the_committed_schema_is_the_generated_one() -> None:
    """Or the editors help with yesterday's format: make it again with `cascade policy schema`."""
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == policy_schema()


def test_the_schema_is_a_sound_one_that_stands_by_itself() -> None:
    """Draft 2020-12, every reference inside, every property described or typed."""
    jsonschema_rs.meta.validate(policy_schema())
    assert "$ref" in json.dumps(policy_schema())
    assert "http" not in json.dumps({key: value for key, value in policy_schema().items() if key != "$schema"}).replace(
        "https?", ""
    )


@pytest.mark.parametrize("name", sorted(path.name for path in POLICIES.glob("*.yaml")))
def test_every_shipped_policy_satisfies_the_schema_it_names(name: str) -> None:
    """And its first line names it, so that an editor knows."""
    text = (POLICIES / name).read_text(encoding="utf-8")
    assert text.splitlines()[0] == "# yaml-language-server: $schema=./policy.schema.json"
    SCHEMA.validate(values(text))


SOUND_TOO = [
    SOUND,
    changed(("threshold: 0.80", "threshold: never")),
    changed(("threshold: 0.80", "threshold: 1"), ("haiku: 0.6", "haiku: null")),
    changed(
        (
            "checks: [not_empty]",
            "checks: [not_empty, 'keyword:iskeyword', {max_chars: 3}, {json_schema: {type: object}}]",
        )
    ),
    changed(("checks: [not_empty]", "checks: [{command: [sh, -c, 'exit 0']}]")),
    changed(
        (
            "checks: [not_empty]",
            "checks: [{command: [sh], timeout_s: 2, on_error: pass, extract: code, env: [CI], name: tests}, not_empty]",
        )
    ),
    changed(("checks: [not_empty]", "checks: [{kind: review, rung: opus, below: 1}, not_empty]")),
    changed(("words: [refund]", "any: [{words: [a]}, {not: {flag: tampering}}], min_tokens: 3")),
    changed(("max_tokens: 8192", "max_tokens: 8192, price: {input: 1.5, output: '2', cache_read: 0}, discount: 0.1")),
    changed(
        (
            "storm_guard: {rate: 0.35}",
            "scorer: {sonnet: {bias: 1, features: [{name: 'agrees:haiku', mean: 0.5, scale: 2, weight: -1.5}]}}",
        )
    ),
    changed(("storm_guard: {rate: 0.35}", "storm_guard: {}\nretry: {attempts: 1}\nexhausted: abstain\ndeadline_s: 3")),
]


@pytest.mark.parametrize("text", SOUND_TOO)
def test_what_the_loader_takes_the_schema_takes(text: str) -> None:
    """An editor must not redden a sound policy."""
    assert parsed(text)
    SCHEMA.validate(values(text))


# What needs more than a schema: names that must agree, models and their rules, patterns, and what YAML makes of a text.
BEYOND = (
    "grader:",
    "there twice", "duplicate key", "needs a threshold", "last rung", "no rung", "starts at", "past", "step down", "no price", "not take this kind",
    "below the floor", "not a linear-time", "empty test", "exactly one of", "min_samples", "not the name of a file", "variable",
    "finite", "threshold: .nan", "no confidence to score", "unknown feature", "not answered yet",
    "answers with at most", "cannot be found", "no answers below", "a second review",
)  # fmt: skip
# Not values at all, or values only of this loader: YAML's own errors, tags, anchors and dates.
NO_VALUES = (
    "YAML",
    "anchors",
    "aliases",
    "tag",
    "merge keys",
    "may not stand",
    "U+0007",
    "surrogate",
    "a tab stands",
    "a second ': '",
    "a [ that stands",
    "a key must be",
    "as a date",
    "base sixty",
)


@pytest.mark.parametrize(
    ("old", "new"),
    [fault[:2] for fault in FAULTS if not any(word in fault[4] or word in fault[1] for word in (*BEYOND, *NO_VALUES))],
)
def test_what_a_schema_can_say_is_refused_by_it(old: str, new: str) -> None:
    """Unknown and missing keys, wrong types, ranges and words: red in the editor before anything is run."""
    assert not SCHEMA.is_valid(values(changed((old, new.replace("^", "", 1)))))


def test_most_single_mistakes_can_be_said_by_the_schema() -> None:
    """So that the list of exceptions above does not swallow the test."""
    said = [
        fault for fault in FAULTS if not any(word in fault[4] or word in fault[1] for word in (*BEYOND, *NO_VALUES))
    ]
    assert len(said) > 40
