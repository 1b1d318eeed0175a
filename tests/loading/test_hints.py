"""A file of hints beside the policy: read with it, and each mistake told with both places."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade import PolicyError, load_policy
from cascade.cli.policy.hints import hint_notes
from cascade.core.planning.hints import read_hints
from cascade.core.policy.planning import Planning
from cascade.policy.binding import bind_policy

POLICY = """version: 1
name: fleet
ladder:
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 100, thinking: disabled}
  - {rung: sonnet, model: claude-sonnet-5-5, max_tokens: 100}
tasks: [{name: classify}]
plan: {hints: hints.yaml}
"""
HINTS = """version: 1
policy: fleet
made: '2026-11-29'
limit: 0.25
prompts: {planner: 0123456789ab}
rows:
- {task: classify, rung: haiku, subtasks: 100, failed: 41, interval: [0.31, 0.51], advice: sonnet}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A policy with a file of hints beside it."""
    (tmp_path / "hints.yaml").write_text(HINTS, encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    return tmp_path / "policy.yaml"


def test_the_file_is_read_with_the_policy(path: Path) -> None:
    """Its content is in the policy's hash: other hints, another policy."""
    plan = load_policy(path).plan
    assert plan is not None
    assert plan.hints is not None
    assert read_hints(plan.hints).rows[0].failed == 41
    before = load_policy(path).hash
    path.with_name("hints.yaml").write_text(HINTS.replace("41", "42"), encoding="utf-8")
    assert load_policy(path).hash != before


MISTAKES = [
    ("failed: 41", "failed: 410", "hints.yaml:7:3 rows.0: more subtasks failed than there are"),
    ("failed: 41", "failed: many", "hints.yaml:7:48 rows.0.failed: must be a whole number"),
    ("failed: 41", "faild: 41", "hints.yaml:7:48 rows.0.faild: unknown key"),
    ("limit: 0.25\n", "", "limit: the key is missing"),
    ("version: 1", "version: 2", "hints.yaml:1:1 version: must be 1"),
    ("rows:", "rows: [", "hints.yaml:7:1: not valid YAML"),
    ("rung: haiku", "rung: haikou", "the hints name rung 'haikou', which is not on the ladder"),
    ("advice: sonnet", "advice: opus", "the hints name rung 'opus', which is not on the ladder"),
    ("task: classify", "task: sort", "the hints name task 'sort', which the policy does not have"),
]


@pytest.mark.parametrize(("right", "wrong", "told"), MISTAKES)
def test_a_mistake_in_it_is_told_with_the_place_in_both_files(path: Path, right: str, wrong: str, told: str) -> None:
    """Once: the policy's line and the hints'."""
    path.with_name("hints.yaml").write_text(HINTS.replace(right, wrong), encoding="utf-8")
    with pytest.raises(PolicyError) as problem:
        load_policy(path)
    assert str(problem.value).startswith(f"{path}:7:15: plan.hints: ")
    assert told in str(problem.value)
    assert not getattr(problem.value, "__notes__", [])


@pytest.mark.parametrize("name", ["nowhere.yaml", "../hints.yaml", "folder/hints.yaml"])
def test_a_file_that_is_not_beside_the_policy_is_an_error(path: Path, name: str) -> None:
    """Such as one that is not there yet: the policy is read without the key, hints are made, and the key put back."""
    path.write_text(POLICY.replace("hints.yaml", name), encoding="utf-8")
    with pytest.raises(PolicyError, match=r"cannot be read|not the name of a file beside the policy"):
        load_policy(path)


def test_text_in_code_that_is_no_hints_is_an_error_before_anything_is_asked(path: Path) -> None:
    """A policy made in code has the text itself."""
    policy = load_policy(path)
    wrong = policy.model_copy(update={"plan": Planning(hints="hints.yaml")})
    with pytest.raises(PolicyError, match=r"not the text of hints"):
        bind_policy(wrong)


def test_policy_check_says_which_hints_have_no_effect(path: Path) -> None:
    """Those of other words, and those of another policy."""
    stale, *others = hint_notes(load_policy(path))
    assert stale.startswith("plan.hints: the words of planner changed")
    assert others == []
    path.with_name("hints.yaml").write_text(
        HINTS.replace("{planner: 0123456789ab}", "{}").replace("policy: fleet", "policy: old"), encoding="utf-8"
    )
    (note,) = hint_notes(load_policy(path))
    assert "figures of policy 'old'" in note
