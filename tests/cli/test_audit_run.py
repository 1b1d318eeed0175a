"""`cascade audit run` as a person runs it: what it prints, its exit codes, and what it says is missing."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade import cli
from cascade.emulator.requests import ApiError
from tests.audit.auditing import YAML, Scene
from tests.audit.conftest import MakeScene, make_scene, patience
from tests.warm import WarmPython

__all__ = ["make_scene", "patience"]

Audit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Audit:
    """Run the command on a scene; returns its exit code, and what it wrote."""

    def run(scene: Scene | None, *arguments: str, keys: dict[str, Any] | None = None) -> tuple[int, str, str]:
        policy = YAML if scene is None else scene.policy.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        path = tmp_path / "shop.yaml"
        path.write_text(yaml.safe_dump({"version": 1, **policy, **(keys or {})}), encoding="utf-8")
        if scene is not None:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", scene.emulator.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
        capsys.readouterr()
        code = cli.run_command(
            ["audit", "run", "--policy", str(path), "--ledger", str(tmp_path / "ledger.db"), *arguments]
        )
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_it_says_what_was_graded_and_skipped_and_how_the_judge_and_the_rate_stand(
    make_scene: MakeScene, audit: Audit
) -> None:
    """In a few lines, and as JSON with the same figures."""
    scene = make_scene()
    scene.trust("judge:opus")
    scene.ship("question 1", "question 2 wrong", "question 3 hard")
    code, out, err = audit(scene)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("graded 3 samples, skipped 0; 0.0")
    assert lines[1].startswith("judge:opus: believed: of 1")
    assert "all tasks: 1 of 3 wrong below the top rung (33.3%" in out
    code, out, _ = audit(scene, "--json")
    told = json.loads(out)
    assert (code, told["graded"], told["spent_usd"], told["samples"]["graded"]) == (0, 0, 0.0, 3)
    assert told["judges"]["judge:opus"]["is_believed"] is True
    assert told["drift"]["rates"][0]["losses"] == 1
    assert told["stopped"] is None


def test_a_judge_that_always_agrees_is_named_and_its_rate_is_withheld(make_scene: MakeScene, audit: Audit) -> None:
    """Every answer looks right to it; that is not told as a rate."""
    agrees = [{"type": "text", "text": '{"reason": "yes", "relation": "agree"}'}]
    scene = make_scene(judge=lambda _: agrees)
    scene.ship("question 1 wrong")
    code, out, _ = audit(scene)
    assert code == 0
    assert "judge:opus: not believed, its rates are withheld: it agrees with 100% of the answers" in out
    assert "0 of 1 wrong" not in out


def test_what_is_left_open_at_a_cap_is_told(make_scene: MakeScene, audit: Audit) -> None:
    """Exit code 5, with the amounts: what is spent, what the next call may cost; the amount that is told has room for it."""
    scene = make_scene(audit={"grader": "exact", "daily_usd": "0.0002"})
    scene.ship("question 1", "question 2")
    code, out, err = audit(scene)
    assert (code, out.splitlines()[:2]) == (5, ["graded 0 samples, skipped 0; 0 USD", "left open: 2"])
    said = r"cascade: stopped: audit.daily_usd: 0.00 of 0.0002 USD is spent or reserved by running calls, and the next call may cost (\S+) USD: raise it\n"
    assert re.fullmatch(said, err), err
    scene = make_scene(audit={"grader": "exact"})
    code, out, err = audit(scene, "--max-usd", "0.0001")
    said = (
        r"cascade: stopped: --max-usd 0.0001: 0.00 USD is spent, and the next call may cost up to (\S+) USD: raise it\n"
    )
    told = re.fullmatch(said, err)
    assert told is not None, err
    assert (code, out.splitlines()[1]) == (5, "left open: 2")
    code, out, _ = audit(scene, "--max-usd", told[1])
    assert (code, out.splitlines()[0][:8]) == (5, "graded 1")
    assert audit(scene)[0] == 0


def test_an_alarm_and_a_step_of_the_run_are_told(make_scene: MakeScene, audit: Audit) -> None:
    """As words and as JSON; afterwards the samples of the old thresholds are said to count nowhere, and that is logged."""
    scene = make_scene(audit={"grader": "exact", "on_alarm": "ratchet", "arl": 100})
    scene.ship(*(f"question {number} wrong" for number in range(15)))
    code, out, _ = audit(scene)
    assert (code, out.splitlines()[0][:26]) == (0, "graded 15 samples, skipped")
    assert "ALARM: shop: the audit finds more wrong answers than 0.02 (not certified): 15 of 15 results" in out
    assert "ratcheted: shop: the audit has ratcheted the thresholds: step 1 of 1, uncertified: haiku 0.9" in out
    code, out, err = audit(scene, "--json")
    told = json.loads(out)
    assert (code, told["alarms"], told["steps"]) == (0, [], [])
    assert err.count("audit_other_version") == 1
    assert any("the newest 15 samples count nowhere" in note for note in told["drift"]["notes"])
    assert "note: the newest 15 samples count nowhere" in audit(scene)[1]


def test_leases_of_others_and_options_that_exclude_each_other(make_scene: MakeScene, audit: Audit) -> None:
    """A lease may be that of a worker that was killed: when it ends is told. --once and --watch together are refused."""
    scene = make_scene(audit={"grader": "exact"})
    scene.ship("question 1", "question 2")
    scene.tables.lease("shop", "killed", time.time(), 1_000, bound=0, cap=None, day=0)
    code, out, _ = audit(scene)
    assert (code, out.splitlines()[0][:27]) == (0, "graded 1 sample, skipped 0;")
    said = r"left open: 1, 1 is leased to other workers, or to one that ended \(free in (\d+) s at most\)"
    told = re.search(said, out)
    assert told is not None, out
    assert 0 < int(told[1]) <= 1_000
    code, _, err = audit(scene, "--once", "--watch")
    assert (code, "--watch goes neither with --once nor with --batch" in err) == (2, True)


def test_an_endpoint_that_refuses_the_key_ends_it_with_4(make_scene: MakeScene, audit: Audit) -> None:
    """And with the reason; nothing is skipped for it."""

    def refuse(_: str) -> None:
        raise ApiError(401, "authentication_error", "invalid x-api-key")

    scene = make_scene(audit={"grader": "exact"}, shadow=refuse)
    scene.ship("question 1")
    code, out, err = audit(scene)
    assert code == 4
    assert "HTTP 401: invalid x-api-key" in err
    assert "left open: 1" in out


def test_without_an_audit_a_ledger_or_content_it_says_what_is_missing(
    make_scene: MakeScene, audit: Audit, tmp_path: Path
) -> None:
    """Each in one line, with the way to mend it."""
    code, _, err = audit(None, keys={"audit": None})
    assert code == 2
    assert "audit: this policy samples nothing (add `audit: {sample: 0.01}`" in err
    code, _, err = audit(None)
    assert code == 2
    assert f"{tmp_path / 'ledger.db'}: there is no ledger yet" in err
    assert not (tmp_path / "ledger.db").exists()
    scene = make_scene(ledger={"content": False})
    scene.ship("question 1")
    code, out, err = audit(scene)
    assert code == 0
    assert "no_content: 1 (its texts are not kept)" in out
    assert "the ledger keeps no texts" in err
    code, _, err = audit(scene, "--max-usd", "inf")
    assert (code, "--max-usd: inf must be an amount in USD" in err) == (2, True)


def test_a_signal_lets_what_is_being_graded_end(
    make_scene: MakeScene, warm_python: WarmPython, bare_environment: dict[str, str], tmp_path: Path
) -> None:
    """SIGTERM while the first shadow answer is under way (the cap has room for one): it is graded, no other is begun, and a watch ends with 0."""
    started: queue.SimpleQueue[int] = queue.SimpleQueue()

    def shadow(_: str) -> None:
        os.kill(started.get(timeout=60), signal.SIGTERM)

    keys = {"audit": {"sample": 1.0, "lowest_confidence": 0, "daily_usd": "0.05", "grader": "exact"}}
    scene = make_scene(shadow=shadow, **keys)
    scene.ship("question 1", "question 2")
    path = tmp_path / "shop.yaml"
    path.write_text(yaml.safe_dump({**YAML, **keys}), encoding="utf-8")
    here = {"ANTHROPIC_BASE_URL": scene.emulator.base_url, "ANTHROPIC_API_KEY": "sk-secret"}
    command = [
        "-m",
        "cascade.cli",
        "audit",
        "run",
        "--watch",
        "--json",
        "--policy",
        str(path),
        "--ledger",
        str(scene.path),
    ]
    process = warm_python.start(command, env={**bare_environment, **here}, cwd=tmp_path)
    started.put(process.child)
    out, err = process.communicate(timeout=120)
    told = json.loads(out)
    assert (process.returncode, told["graded"], told["samples"]["open"]) == (0, 1, 1), err
    assert told["stopped"]["by"] == "interrupted"
    assert "SIGTERM: finishing" in err
