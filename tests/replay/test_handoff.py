"""A corpus holds replies to plain requests: what is told of a policy with a handoff, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cascade import cli
from cascade.policy.loading import load_policy

LADDER = """
version: 1
name: handing
ladder:
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 1024, thinking: disabled}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 4096, effort: low}
  - {rung: opus, model: claude-opus-5-5, max_tokens: 8192}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy file with `handoff: artifact`."""
    path = tmp_path / "handing.yaml"
    path.write_text(
        f"{LADDER}handoff: artifact\ntasks: [{{name: t, handoff: doubt}}, {{name: u, handoff: none}}]\n",
        encoding="utf-8",
    )
    return path


def said(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """What a command printed, on one line."""
    cli.run_command(list(command))
    out, err = capsys.readouterr()
    return " ".join((out + err).split())


def test_replay_leaves_the_handoff_out_and_says_so(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same figures as without it, and one note."""
    plain = tmp_path / "plain.yaml"
    plain.write_text(f"{LADDER}tasks: [{{name: t}}, {{name: u}}]\n", encoding="utf-8")
    with_it, without = (
        json.loads(said(capsys, "replay", "support", "--policy", str(one), "--json")) for one in (policy, plain)
    )
    notes = [note for note in with_it["notes"] if "handoff" in note]
    assert len(notes) == 1
    same = ("quality", "cost_usd", "shipped", "reasons", "storms")
    assert [with_it[key] for key in same] == [without[key] for key in same]
    assert not any("handoff" in note for note in without["notes"])


def test_calibrate_writes_nothing_into_a_policy_with_a_handoff(
    policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused in one line before anything is read; the file is unchanged."""
    before = policy.read_bytes()
    command = ["calibrate", "support", "--max-risk", "0.05", "--write", str(policy)]
    assert cli.run_command(command) == 2
    error = capsys.readouterr().err.strip()
    assert "handoff" in error
    assert "plain requests" in error
    assert len(error.splitlines()) == 1
    assert policy.read_bytes() == before


def test_nor_into_one_that_has_conversations_summarised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate would be claimed of answers that no corpus has. Trimming can be recorded, so it is not refused."""
    path = tmp_path / "handing.yaml"
    path.write_text(f"{LADDER}tasks: [{{name: t, prepare: summarize}}]\n", encoding="utf-8")
    before = path.read_bytes()
    assert cli.run_command(["calibrate", "support", "--max-risk", "0.05", "--write", str(path)]) == 2
    error = capsys.readouterr().err.strip()
    assert "prepare" in error
    assert "after a summary" in error
    assert path.read_bytes() == before


def test_explain_tells_what_passes_for_the_requests_task(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The policy's, a task's own, and none."""
    assert load_policy(policy).handoff is not None
    explain = ("policy", "explain", "hello", "--policy", str(policy))
    assert "handoff: artifact: where a request climbs to sonnet or opus, it plans, and haiku answers" in said(
        capsys, *explain
    )
    assert "handoff: doubt: where a request climbs" in said(capsys, *explain, "--task", "t")
    assert "handoff" not in said(capsys, *explain, "--task", "u").replace(str(policy), "")
    shown = said(capsys, "policy", "show", str(policy))
    assert "handoff of other: artifact" in shown
    assert "handoff of t: doubt" in shown
