"""Checks of a policy that run a program: what they are called, what they are bound to, and what they leave as it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from cascade.core.errors import PolicyError
from cascade.core.policy import Check
from cascade.core.verification import Verifier
from cascade.policy.checks import bind_check, bound, unusable_command

from .builders import broken, changed, parsed


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["python", "run_tests.py"], "command:run_tests.py"),
        (["python", "tests/run.py", "--fast"], "command:run.py"),
        (["python", "-m", "pytest", "-q"], "command:pytest"),
        (["python", "-m"], "command:python"),
        (["./verify", "--token", "secret"], "command:verify"),
        (["/usr/local/bin/verify", "secret"], "command:verify"),
        (["verify", "--key=a.secret"], "command:verify"),
        (["/"], "command:/"),
        (["x" * 60], f"command:{'x' * 39}…"),
    ],
)
def test_a_command_is_called_by_its_script_or_program_on_the_trail(command: list[str], name: str) -> None:
    """Short, and without other arguments: a policy may have put a secret there from the environment."""
    assert Check(command=tuple(command)).name == name


def test_a_command_may_be_given_a_name() -> None:
    """For the trail, and for those who read it."""
    policy = parsed(changed(("checks: [not_empty]", "checks: [{command: [sh, a.sh], name: unit-tests}]")))
    assert policy.tasks[1].checks[0].name == "unit-tests"


def test_keys_of_a_command_are_no_part_of_other_checks_values() -> None:
    """So that a policy without commands keeps its hash, and with it its certificate and its ledger's entries."""
    others = {"not_empty", "pattern", "max_chars", "json_schema", "function"}
    assert set(Check(max_chars=3).model_dump()) == set(json.loads(Check(not_empty=True).model_dump_json())) == others
    check = Check(command=("sh",), name="x")
    assert Check.model_validate_json(check.model_dump_json(by_alias=True)) == check


def test_each_key_of_a_command_changes_the_policys_hash() -> None:
    """The same thresholds with another verifier are another policy."""
    texts = ["", ", timeout_s: 9", ", on_error: pass", ", extract: code", ", env: [CI]", ", name: x"]
    hashes = {
        parsed(changed(("checks: [not_empty]", f"checks: [{{command: [sh, a.sh]{text}}}]"))).hash for text in texts
    }
    assert len(hashes) == len(texts)


def test_checks_are_bound_as_functions_and_as_verifiers_each_in_their_order() -> None:
    """What the keys say arrives with the verifier; what is left out has its default."""
    all_keys = Check(command=("sh", "b.sh"), timeout_s=2.5, on_error="pass", extract="code", env=("CI",), name="tests")
    functions, verifiers = bound([Check(max_chars=3), Check(command=("sh", "a.sh")), Check(not_empty=True), all_keys])
    assert [one.name for one in functions] == ["max_chars", "not_empty"]
    assert [one.test("abc") for one in functions] == [True, True]
    assert verifiers == (
        Verifier("command:a.sh", ("sh", "a.sh")),
        Verifier("tests", ("sh", "b.sh"), 2.5, "pass", "code", ("CI",)),
    )


def test_a_command_is_never_taken_for_a_function() -> None:
    """Least of all for not_empty, which nearly every answer passes."""
    with pytest.raises(PolicyError, match=r"command:a\.sh runs a program"):
        bind_check(Check(command=("sh", "a.sh")))


def test_a_program_is_looked_for_when_the_policy_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name on PATH, or by its path from where the caller is; it must be executable."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "verify"
    script.write_text("#!/bin/sh\n")
    text = changed(("checks: [not_empty]", "checks: [{command: [./verify]}]"))
    assert "the program './verify' cannot be found or executed (install it" in str(broken(text))
    script.chmod(0o700)
    assert parsed(text).tasks[1].checks[0].command == ("./verify",)
    assert unusable_command(Check(command=(sys.executable,))) is None
    assert unusable_command(Check(max_chars=3)) is None


@pytest.mark.parametrize("words", [(), ("",), ("a\0b",), "sh", (1,)])
def test_a_command_made_in_code_is_checked_like_one_from_a_file(words: object) -> None:
    """At least one word, each of them text."""
    with pytest.raises(ValidationError):
        Check.model_validate({"command": words})
