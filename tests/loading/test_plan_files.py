"""A plan in a file: an equal one comes back, a person can edit it, and each mistake is told with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from cascade import ConfigurationError, load_plan, save_plan
from cascade.core.planning.graph import Plan, Subtask, graph_faults
from cascade.policy.plan_files import dump_plan, parse_plan
from tests.core.planning.plans import plans

PLAN = Plan(
    "Compare ${HOME}.\nBe brief.\n",
    (
        Subtask("names", "List the makers: all of them, in the order in which they stand in the notes, one a line.", ("notes",)),
        Subtask("report", "Write it.", ("notes", "names"), "sonnet", schema={"type": "array", "items": {"type": "string"}}),
    ),
    ("notes", "no"),
)  # fmt: skip

TEXT = """version: 1
goal: |
  Compare ${HOME}.
  Be brief.
inputs: [notes, 'no']
subtasks:
- id: names
  instruction: |-
    List the makers: all of them, in the order in which they stand in the notes, one a line.
  inputs: [notes]
  rung: haiku
- id: report
  instruction: Write it.
  inputs: [notes, names]
  rung: sonnet
  schema:
    type: array
    items:
      type: string
"""


@given(plans())
def test_what_is_saved_is_loaded(plan: Plan) -> None:
    """Exactly, whatever stands in its texts."""
    assert parse_plan(dump_plan(plan)) == plan


def test_a_file_that_a_person_can_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts stand in lines of their own. Nothing in it is expanded."""
    monkeypatch.setenv("HOME", "elsewhere")
    path = tmp_path / "plan.yaml"
    save_plan(PLAN, path)
    assert path.read_text(encoding="utf-8") == TEXT
    assert load_plan(path) == PLAN


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("rung: sonnet", "rnug: sonnet", "15:3: subtask 'report': unknown key 'rnug' (did you mean 'rung'?"),
        ("inputs: [notes, names]", "inputs: [notes, nmaes]", "14:19: subtask 'report': there is no input or subtask 'nmaes'"),
        ("  instruction: Write it.\n", "", "12:3: subtask 'report': instruction is missing (add instruction: …)"),
        ("rung: haiku", "rung: 3", "11:3: subtask 'names': rung has another form (give a text)"),
        ("inputs: [notes]", "inputs: [report]", "10:3: subtasks rest on each other: names -> report -> names"),
        ("version: 1", "version: 2", "1:1: version: 2 is not known here (write version: 1)"),
        ("rung: haiku", "rung: haiku\n  rung: opus", "12:3: subtasks[0].rung: duplicate key 'rung' (remove one of them)"),
        ("goal: |", "goal: &a |", "2:7: not valid YAML: anchors and aliases are not supported"),
        (TEXT, "- a\n", "1:1: a plan is a mapping of keys to values (start with version: 1; `cascade run --save-plan` writes one)"),
        (TEXT, "", "1:1: the file is empty"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(before: str, after: str, told: str, tmp_path: Path) -> None:
    """File, line and column, what is wrong, and what to do."""
    path = tmp_path / "plan.yaml"
    path.write_text(TEXT.replace(before, after), encoding="utf-8")
    with pytest.raises(ConfigurationError) as raised:
        load_plan(path)
    assert str(raised.value).startswith(f"{path}:{told}")


def test_every_further_mistake_is_a_note() -> None:
    """In the order in which they stand in the file."""
    with pytest.raises(ConfigurationError, match=r"^plan:6:1: unknown key 'no_subtasks'") as raised:
        parse_plan(TEXT.replace("id: names", "id: names\n  nio: 3").replace("subtasks:", "no_subtasks: []\nsubtasks:"))
    assert [line.partition(" ")[0] for line in raised.value.__notes__] == ["plan:9:3:"]


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """One that is not there, a folder, and bytes that are no text."""
    (tmp_path / "bytes").write_bytes(b"\xff")
    for path, why in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "bytes", "not UTF-8"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            load_plan(path)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        save_plan(PLAN, tmp_path)


def test_a_schema_that_two_subtasks_share_is_written_out_in_both() -> None:
    """Aliases are refused when a plan is read."""
    names: dict[str, Any] = {"type": "object", "properties": {"names": {"type": "array"}}, "required": ["names"]}
    plan = Plan("g", (Subtask("a", "x", schema=names), Subtask("b", "y", schema=names)))
    assert parse_plan(dump_plan(plan)) == plan


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    """A file that is larger than plan files may be."""
    with pytest.raises(ConfigurationError, match="larger than 1 MB"):
        save_plan(Plan("g", (Subtask("a", "x" * 1_000_000),)), tmp_path / "plan.yaml")
    assert not list(tmp_path.iterdir())


def nested(depth: int) -> dict[str, Any]:
    """A schema of so many nested mappings."""
    schema: dict[str, Any] = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def test_every_valid_plan_can_be_read_again() -> None:
    """The deepest schema that a plan may have is not too deep for a file, and a deeper one is a fault of the plan."""
    deepest, deeper = (Plan("g", (Subtask("a", "x", schema=nested(depth)),)) for depth in (30, 31))
    assert list(graph_faults(deepest)) == []
    assert parse_plan(dump_plan(deepest)) == deepest
    assert [str(one) for one in graph_faults(deeper)] == [
        "subtask 'a': its schema is nested too deeply (use definitions and $ref)"
    ]
