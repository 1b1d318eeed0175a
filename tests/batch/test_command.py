"""`cascade batch submit | status | resume | results`, as a user has them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cascade import cli
from cascade.batch.items import ItemStore
from cascade.emulator import Emulator

from .conftest import LADDER

Emulate = Callable[..., tuple[Emulator, anthropic.Anthropic]]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def emulator(emulate: Emulate, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Where the commands find the endpoint."""
    emulator, _ = emulate(faults="slow_end,polls=1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    return emulator


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command: its exit code, and what it printed on both."""

    def runs(*arguments: str) -> tuple[int, str, str]:
        code = cli.run_command(["batch", *arguments])
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    return runs


@pytest.fixture
def inputs(home: Path) -> str:
    """A file of inputs; the policy is beside it."""
    (home / "policy.yaml").write_text(LADDER)
    lines: list[dict[str, Any]] = [{"id": f"t-{n}", "input": f"question {n}, climb {n % 3}"} for n in range(6)]
    (home / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(home / "in.jsonl")


def test_a_run_from_submit_to_results(emulator: Emulator, run: Run, inputs: str, home: Path) -> None:
    """It returns after round 1, goes on without its policy's file, and its folder is the owner's alone until it is removed."""
    policy = home / "policy.yaml"
    code, out, err = run("submit", inputs, "--run", "r", "--policy", str(policy))
    assert (code, "0 of 6 inputs are done" in out, "cascade batch resume r" in err) == (0, True, True)
    assert stat.S_IMODE((home / "batches" / "r").stat().st_mode) == 0o700
    policy.unlink()
    status = json.loads(run("status", "r", "--json")[1])
    assert (status["finished"], [batch["requests"] for batch in status["batches"]]) == (False, [6])
    code, out, err = run("results", "r", "--remove")
    assert (code, out) == (2, "")
    code, out, _ = run("resume", "r", "--wait", "--poll-s", "0.01", "--json")
    assert (code, json.loads(out)["shipped"]) == (0, {"haiku": 2, "opus": 2, "sonnet": 2})
    assert "r " in run("status")[1]
    code, out, err = run("results", "r", "-o", str(home / "out.jsonl"), "--remove")
    assert (code, out) == (0, "")
    lines = [json.loads(line) for line in (home / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"t-{n}" for n in range(6)]
    assert lines[1] | {"cost_usd": 0} == {
        "id": "t-1", "text": "question 1, climb 1 by sonnet", "rung": "sonnet", "model": "claude-sonnet-5-5", "confidence": 0.9,
        "degraded": None, "abstained": None, "error": None, "cost_usd": 0, "escalations": 1, "request_id": "casc_r_1",
    }  # fmt: skip
    assert not (home / "batches" / "r").exists()
    assert set(emulator.batches.paid.values()) == {1}


def test_a_limit_ends_with_5_and_partial_results_say_so(emulator: Emulator, run: Run, inputs: str, home: Path) -> None:
    """What a budget refuses is told by the exit code; before the end, results have what is done."""
    policy = str(home / "policy.yaml")
    code, out, _ = run("submit", inputs, "--policy", policy, "--max-usd", "0.0005", "--wait", "--poll-s", "0.01")
    assert (code, "BudgetExceeded" in out) == (5, True)
    run("submit", inputs, "--policy", policy, "--run", "second")
    code, out, err = run("results", "second")
    assert (code, out, "0 of 6 inputs are done" in err) == (0, "", True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("resume", "nope"), "batch run 'nope': there is none"),
        (("submit", "IN", "--max-usd", "-1"), "--max-usd: -1.0 must be an amount"),
        (("submit", "IN", "--run", "a b"), "'a b': a name has"),
        (("submit", "BAD"), "bad.jsonl:1: 'temperature' is not known here"),
        (("submit", "TWICE"), "the id 't' occurs twice"),
        (("submit", "IN", "--policy", "VENDOR"), "OPENAI_API_KEY is not set"),
        (("submit", "VENDOR"), "a .yaml file is not a list of inputs"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_no_run(
    arguments: tuple[str, ...],
    told: str,
    emulator: Emulator,
    run: Run,
    inputs: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit 2, and nothing was sent."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (home / "bad.jsonl").write_text('{"input": "q", "temperature": 1}\n')
    (home / "twice.jsonl").write_text('{"id": "t", "input": "q"}\n{"id": "t", "input": "r"}\n')
    vendor = "  - {rung: luna, provider: openai, model: gpt-6-luna, threshold: 0.80, max_tokens: 1024, effort: low}\n"
    (home / "vendor.yaml").write_text(LADDER.replace("  - {rung: opus", f"{vendor}  - {{rung: opus"))
    files = {
        "IN": inputs,
        "VENDOR": str(home / "vendor.yaml"),
        "BAD": str(home / "bad.jsonl"),
        "TWICE": str(home / "twice.jsonl"),
    }
    code, out, err = run(*(files.get(one, one) for one in arguments))
    assert (code, out, told in err, err.count("\n")) == (2, "", True, 1)
    assert not emulator.requests
    assert list((home / "batches").glob("*")) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("submit", "IN", "--run", "monday", "--max-usd", "9"), "with the limit 5 USD, which cannot be changed"),
        (("status", "mondy"), "did you mean 'monday'?"),
        (("results", "monday", "--remove"), "--remove: name a file for the results with -o"),
    ],
)
def test_what_a_run_cannot_do_is_told_and_changes_nothing(
    arguments: tuple[str, ...], told: str, emulator: Emulator, run: Run, inputs: str, home: Path
) -> None:
    """Another limit than it was begun with, a name that is not its own, and its removal with nothing that keeps the answers."""
    policy = str(home / "policy.yaml")
    run("submit", inputs, "--policy", policy, "--run", "monday", "--max-usd", "5", "--wait", "--poll-s", "0.01")
    more = ("--policy", policy) if "IN" in arguments else ()
    code, out, err = run(*(inputs if one == "IN" else one for one in arguments), *more)
    assert (code, out, told in err) == (2, "", True)
    assert json.loads(run("status", "monday", "--json")[1])["done"] == 6


def test_a_table_with_other_columns_is_read_by_map(emulator: Emulator, run: Run, inputs: str, home: Path) -> None:
    """As the error about a missing column says."""
    (home / "t.csv").write_text("id,question\na,how long?\nb,where?\n")
    more = ("--policy", str(home / "policy.yaml"), "--run", "r", "--wait", "--poll-s", "0.01")
    code, _, err = run("submit", str(home / "t.csv"), *more)
    assert (code, "--map input=question" in err) == (2, True)
    assert run("submit", str(home / "t.csv"), "--map", "input=question", *more)[0] == 0
    lines = [json.loads(line) for line in run("results", "r")[1].splitlines()]
    assert [(line["id"], line["text"]) for line in lines] == [("a", "how long? by haiku"), ("b", "where? by haiku")]


def test_a_task_that_the_policy_does_not_define_is_told(
    emulator: Emulator, run: Run, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As live: it may be a typo that loses a floor."""
    (home / "tasks.yaml").write_text(f"{LADDER}tasks:\n  - {{name: refund, floor: sonnet}}\n")
    (home / "in.jsonl").write_text('{"input": "q", "task": "refnd"}\n')
    code, _, err = run("submit", str(home / "in.jsonl"), "--policy", str(home / "tasks.yaml"), "--run", "r")
    assert (code, "task_unknown" in f"{err}{caplog.text}") == (0, True)


def test_a_submit_that_was_killed_early_is_made_again(emulator: Emulator, run: Run, inputs: str, home: Path) -> None:
    """Killed while it made its files, or while it read the inputs: the same command begins anew, and `status` goes on meanwhile."""
    policy = ("--policy", str(home / "policy.yaml"))
    for name in ("empty", "half"):
        (home / "batches" / name).mkdir(parents=True)
        (home / "batches" / name / "items.sqlite3").touch()
    assert run("status")[:2] == (0, "no batch run\n")
    store = ItemStore(home / "batches" / "half")
    store.set_meta({"loaded": False})
    store.add([(0, "left", b"{}")])
    store.close()
    assert "not read to their end" in run("resume", "half")[2]
    for name in ("empty", "half"):
        assert run("submit", inputs, *policy, "--run", name)[0] == 0
        assert json.loads(run("status", name, "--json")[1])["items"] == 6
    assert len(emulator.requests) == 4


def test_another_limit_for_a_run_that_has_begun_is_refused(
    emulator: Emulator, run: Run, inputs: str, home: Path
) -> None:
    """The same one is taken: a script may start twice."""
    submit = ("submit", inputs, "--policy", str(home / "policy.yaml"), "--run", "r", "--max-usd")
    assert [run(*submit, limit)[0] for limit in ("1", "1.0", "2")] == [0, 0, 2]
    assert "it was begun with the limit 1 USD" in run(*submit, "2")[2]


def test_a_byte_order_mark_and_windows_line_ends_are_read(
    emulator: Emulator, run: Run, inputs: str, home: Path
) -> None:
    """As an editor on Windows saves them."""
    (home / "bom.jsonl").write_bytes(
        b'\xef\xbb\xbf{"id": "a", "input": "q"}\r\n\r\n{"id": "\xc3\xa9", "input": "r"}\r\n'
    )
    code, _, err = run("submit", str(home / "bom.jsonl"), "--policy", str(home / "policy.yaml"), "--run", "bom")
    assert (code, "2 inputs" in err) == (0, True)


def test_results_go_into_a_pipe_without_replacing_it(emulator: Emulator, run: Run, inputs: str, home: Path) -> None:
    """`-o` of a pipe or a device writes to it: it is still one afterwards."""
    run("submit", inputs, "--policy", str(home / "policy.yaml"), "--run", "r", "--wait", "--poll-s", "0.01")
    pipe = home / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert run("results", "r", "-o", str(pipe))[0] == 0
    assert pipe.is_fifo()
    assert os.read(reader, 65_536).count(b"\n") == 6
    os.close(reader)


def test_a_second_process_is_refused(emulator: Emulator, run: Run, inputs: str, home: Path, warm_python: Any) -> None:
    """While one drives the run, another is told so."""
    run("submit", inputs, "--policy", str(home / "policy.yaml"), "--run", "r")
    code = "import sys; from cascade.batch.database import lock_folder; from pathlib import Path; lock_folder(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [warm_python.python, "-c", code, str(home / "batches" / "r")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        told = run("resume", "r")
        other.communicate()
    assert (told[0], "being driven already" in told[2]) == (2, True)
