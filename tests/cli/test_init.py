"""`cascade init`: what somebody starts from is a policy that works."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from cascade.emulator import Emulator
from cascade.policy.loading import load_policy, policy_schema

from . import within
from .conftest import Run

run = within.run


def test_a_starter_policy_passes_every_check_and_is_the_shipped_ladder(run: Run, tmp_path: Path) -> None:
    """Its first line is the schema's, the schema stands beside it, and it decides as `default` does."""
    made = run("init")
    assert (made.code, made.err) == (0, "")
    lines = (tmp_path / "policy.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=./policy.schema.json"
    assert json.loads((tmp_path / "policy.schema.json").read_text(encoding="utf-8")) == policy_schema()
    assert run("policy", "check", "policy.yaml").out.startswith("ok: policy (")
    started, default = load_policy(tmp_path / "policy.yaml"), load_policy("default")
    assert started.model_copy(update={"name": "default"}).model_dump() == default.model_dump()
    assert "cascade policy check policy.yaml" in made.out


def test_what_is_commented_out_is_a_policy_too(run: Run, tmp_path: Path) -> None:
    """Whoever takes the # away gets what the comment promises."""
    run("init")
    path = tmp_path / "policy.yaml"
    text = path.read_text(encoding="utf-8")
    keys = ("#   ", "# - name", "# mode:", "# observe:", "# ledger:", "# budget:", "# deadline_s:", "# exhausted:")
    lines = [line.replace("# ", "", 1) if line.strip().startswith(keys) else line for line in text.splitlines()]
    assert sum(line not in text.splitlines() for line in lines) == 11
    path.write_text("\n".join(lines), encoding="utf-8")
    policy = load_policy(path)
    assert (policy.mode, policy.exhausted, policy.ledger.content, policy.budget[0].on_exhausted) == (
        "observe", "abstain", True, "reject",
    )  # fmt: skip
    assert policy.route("refund").thresholds[1] == 0.90


def test_nothing_is_written_over_unless_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    """Exit 2 and the file as it was; --force; and a schema of one's own stays in any case."""
    (tmp_path / "policy.yaml").write_text("mine", encoding="utf-8")
    (tmp_path / "policy.schema.json").write_text("mine too", encoding="utf-8")
    refused = run("init")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "cascade: policy.yaml: exists (give another name, or --force to overwrite it)\n"
    assert (tmp_path / "policy.yaml").read_text(encoding="utf-8") == "mine"
    assert run("init", "--force").code == 0
    assert run("policy", "check", "policy.yaml").code == 0
    assert (tmp_path / "policy.schema.json").read_text(encoding="utf-8") == "mine too"


@pytest.mark.parametrize(("path", "name"), [("my support.yaml", "mine"), ("sub/desk.yaml", "desk"), (".yaml", "mine")])
def test_the_policy_is_called_as_its_file_and_a_bad_place_is_one_line(
    run: Run, tmp_path: Path, path: str, name: str
) -> None:
    """Where the file's name can be one."""
    if "/" in path:
        bad = run("init", path)
        assert (bad.code, bad.err) == (
            2,
            f"cascade: {path}: cannot be written: No such file or directory (check the folder)\n",
        )
        (tmp_path / "sub").mkdir()
    made = run("init", path, "--json")
    assert (made.json["name"], made.json["policy"]) == (name, path)


def test_the_next_steps_can_be_taken(run: Run, emulator: Emulator) -> None:
    """Each is a command with options that it has; check and doctor go well."""
    steps = run("init", "a policy.yaml", "--json").json["next"]
    assert len(steps) == 5
    for step in steps:
        command, *arguments = shlex.split(step)
        assert command == "cascade"
        known = run(*arguments, "--help")
        assert known.code == 0
    for step in steps[:2]:
        assert run(*shlex.split(step)[1:], emulator=emulator).code == 0


@pytest.mark.parametrize(
    ("models", "named"),
    [
        (("gpt-4.1-nano", "claude-sonnet-5-5"), "not known: gpt-4.1-nano (one)."),
        (("claude-haiku-5-5", "gpt-4.1"), "not known: gpt-4.1 (two)."),
        (("gpt-4.1-nano", "gpt-4.1"), "not known: gpt-4.1-nano (one), gpt-4.1 (two)."),
        (("claude-haiku-5-5", "claude-sonnet-5-5"), ""),
    ],
)
def test_a_check_says_what_it_did_not_check(run: Run, tmp_path: Path, models: tuple[str, str], named: str) -> None:
    """The order of other vendors' models is nobody's knowledge here: passed, and said."""
    price = "price: {input: 1, output: 1}"
    (tmp_path / "p.yaml").write_text(
        f"version: 1\nname: x\nladder:\n  - {{rung: one, model: {models[0]}, threshold: 0.8, max_tokens: 9, {price}}}\n"
        f"  - {{rung: two, model: {models[1]}, max_tokens: 9, {price}}}\n",
        encoding="utf-8",
    )
    checked, as_json = run("policy", "check", "p.yaml"), run("policy", "check", "p.yaml", "--json")
    assert (checked.code, as_json.code) == (0, 0)
    assert ("not checked: the order of the ladder" in checked.out) is bool(named)
    assert named in checked.out
    assert [named in one for one in as_json.json["not_checked"]] == [True] * bool(named)


def test_every_mistake_of_a_policy_is_a_line_of_its_own(run: Run, tmp_path: Path) -> None:
    """On stderr, in the order of the file; with --json the further ones under `more`."""
    (tmp_path / "p.yaml").write_text(
        "version: 1\nname: on\nladder:\n  - {rung: a, model: claude-haiku-5-5, treshold: 0.8, max_tokens: 9}\n"
        "  - {rung: b, model: claude-sonnet-5-5, threshold: 80}\n  - {rung: c, model: claude-opus-5-5, max_tokens: 9}\n",
        encoding="utf-8",
    )
    lines = run("policy", "check", "p.yaml").err.splitlines()
    assert [line.split(": ")[:3] for line in lines] == [
        ["cascade", "p.yaml:2:7", "name"],
        ["cascade", "p.yaml:4:40", "ladder[0].treshold"],
        ["cascade", "p.yaml:5:5", "ladder[1]"],
        ["cascade", "p.yaml:5:52", "ladder[1].threshold"],
    ]
    told = json.loads(run("policy", "check", "p.yaml", "--json").err)
    assert [f"cascade: {line}" for line in (told["message"], *told["more"])] == lines
