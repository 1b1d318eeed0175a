"""`cascade ask`: the answer on stdout, everything else on stderr, one line for an error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.corpora import Item, read_corpus
from cascade.emulator import Emulator
from cascade.policy.binding import bind_policy
from cascade.policy.loading import load_policy
from cascade.replay import replay_item
from tests.cli.conftest import Run


@pytest.fixture(scope="module")
def items(support: Path) -> tuple[Item, ...]:
    """The corpus's items that are a single text."""
    return tuple(item for item in read_corpus(support).items if isinstance(item.input, str))


def climbing(items: tuple[Item, ...], rungs: int) -> Item:
    """The first item that the default policy answers at the given rung."""
    plan = bind_policy(load_policy("default"))
    return next(item for item in items if len(replay_item(plan, item).steps) == rungs)


def text_of(item: Item) -> str:
    """Its text."""
    assert isinstance(item.input, str)
    return item.input


def test_prints_the_answer_and_nothing_else_on_stdout(run: Run, emulator: Emulator, items: tuple[Item, ...]) -> None:
    """The result goes to stdout, and only the result."""
    item = climbing(items, 1)
    ran = run("ask", text_of(item), emulator=emulator)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{item.replies['haiku'].answer}\n"


def test_reads_standard_input(run: Run, emulator: Emulator, items: tuple[Item, ...]) -> None:
    """`-` reads the request from a pipe."""
    item = climbing(items, 1)
    ran = run("ask", "-", emulator=emulator, stdin=text_of(item))
    assert ran.out == f"{item.replies['haiku'].answer}\n"


def test_json_has_the_trail(run: Run, emulator: Emulator, items: tuple[Item, ...]) -> None:
    """`--json` carries the answer, the whole trail, and the policy's hash and standing."""
    item = climbing(items, 3)
    answer = run("ask", text_of(item), "--json", emulator=emulator).json
    assert [step["rung"] for step in answer["steps"]] == ["haiku", "sonnet", "opus"]
    assert answer["rung"] == "opus"
    assert answer["text"] == item.replies["opus"].answer
    assert answer["certificate"] == "uncertified"
    assert answer["policy"] == "default"
    assert answer["policy_hash"] == load_policy("default").hash
    assert answer["cost_usd"] == pytest.approx(sum(step["cost_usd"] for step in answer["steps"]))


def test_explain_shows_the_trail_on_stderr(run: Run, emulator: Emulator, items: tuple[Item, ...]) -> None:
    """`--explain` tells what each rung said and why it went up; stdout is still the answer alone."""
    item = climbing(items, 2)
    ran = run("ask", text_of(item), "--explain", emulator=emulator)
    assert ran.out == f"{item.replies['sonnet'].answer}\n"
    assert "up: low_confidence" in ran.err
    assert "shipped" in ran.err
    assert "uncertified" in ran.err


def test_a_usage_that_was_not_said_is_marked(run: Run, support: Path, items: tuple[Item, ...]) -> None:
    """In the trail for people, and in the JSON of the step and of the answer."""
    text = text_of(climbing(items, 1))
    with Emulator(support, faults="no_usage") as emulator:
        assert "(usage: estimate)" in run("ask", text, "--explain", emulator=emulator).err
        answer = json.loads(run("ask", text, "--json", emulator=emulator).out)
    assert answer["usage"]["is_estimate"] is True
    assert answer["steps"][0]["usage"]["is_estimate"] is True


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("ask", "hello"), 2, "ANTHROPIC_API_KEY"),
        (("ask", "hello", "--policy", "nope"), 2, "there is no policy 'nope'"),
        (("ask", "hello", "--policy", "nope.yaml"), 2, "no such file"),
        (("ask", "  "), 2, "prompt: it is empty"),
        (("ask",), 2, "Missing argument"),
        (("ask", "hello", "--frob"), 2, "--frob"),
        (("frob",), 2, "frob"),
        (("ask", "hello", "--deadline", "-1"), 2, "deadline_s"),
        (("emulate", "--corpus", "nope.jsonl"), 2, "nope.jsonl"),
        (("emulate", "--faults", "frob=1"), 2, "frob"),
    ],
)
def test_an_error_is_one_line(run: Run, arguments: tuple[str, ...], code: int, says: str) -> None:
    """What, where, what to do; no traceback."""
    ran = run(*arguments)
    assert ran.code == code
    assert ran.out == ""
    assert says in ran.err
    assert ran.err.startswith("cascade: ")
    assert ran.err.count("\n") == 1


def test_bad_yaml_names_its_place(run: Run, tmp_path: Path) -> None:
    """A policy error names file:line:column, the key and how to fix it."""
    path = tmp_path / "mine.yaml"
    path.write_text("version: 1\nname: mine\nladder:\n  - {rung: haiku, model: claude-haiku-5-5, threshold: 1.8}\n")
    ran = run("policy", "check", str(path))
    assert ran.code == 2
    assert "mine.yaml:4:3: ladder: " in ran.err
    assert [line.split(": ")[2] for line in ran.err.splitlines()] == ["ladder", "ladder[0]", "ladder[0].threshold"]
    told = json.loads(run("policy", "check", str(path), "--json").err)
    assert "mine.yaml:4:55: ladder[0].threshold: must be a number from 0 to 1" in " ".join(told["more"])


def test_what_users_wrote_is_printed_as_it_is(run: Run, emulator: Emulator, items: tuple[Item, ...]) -> None:
    """Brackets are not markup; a function beside the policy is found."""
    ran = run("ask", text_of(items[0]), "--explain", "--task", "[/b]", "--flag", "[red]x", emulator=emulator)
    assert ran.code == 0
    assert "task [/b], flags [red]x" in ran.err


def test_a_function_in_this_folder_can_be_a_check(run: Run, tmp_path: Path) -> None:
    """`module:function` is looked for where one stands, too."""
    (tmp_path / "mychecks.py").write_text("def polite(text):\n    return True\n")
    path = tmp_path / "mine.yaml"
    values = load_policy("default").model_dump(mode="json", exclude_unset=True) | {"checks": ["mychecks:polite"]}
    path.write_text(json.dumps(values))
    assert run("policy", "check", str(path)).code == 0


def test_json_errors_are_json(run: Run) -> None:
    """With `--json` an error is one JSON object on stderr."""
    ran = run("ask", "hello", "--json")
    assert ran.out == ""
    assert json.loads(ran.err)["error"] == "MissingKey"


def test_upstream_failure_is_exit_4_with_the_trail(run: Run, support: Path, items: tuple[Item, ...]) -> None:
    """All rungs down: exit 4, and `--json` tells what was tried and paid."""
    with Emulator(support, faults="spend_cap") as down:
        ran = run("ask", text_of(items[0]), "--json", emulator=down)
    body = json.loads(ran.err.splitlines()[-1])
    assert ran.code == 4
    assert body["error"] == "AllRungsFailed"
    assert [step["rung"] for step in body["steps"]] == ["haiku", "sonnet", "opus"]
    assert body["cost_usd"] == 0


def test_a_dead_port_is_told_by_its_address(run: Run, support: Path, items: tuple[Item, ...]) -> None:
    """By `ask` and by `doctor`: which address, why, and what looks at it."""
    with Emulator(support) as gone:
        pass
    ran = run("ask", text_of(items[0]), emulator=gone)
    assert ran.code == 4
    assert f"[unreachable, {gone.base_url}: connection refused]" in ran.err
    assert "check the endpoint: `cascade doctor`" in ran.err
    assert f"{gone.base_url}: connection refused" in run("doctor", emulator=gone).out


def test_an_abstention_is_no_error(run: Run, support: Path, items: tuple[Item, ...], tmp_path: Path) -> None:
    """`exhausted: abstain` exits 0 with no text."""
    path = tmp_path / "abstains.yaml"
    shipped_policy = (load_policy("default").model_dump(mode="json", exclude_unset=True)) | {"exhausted": "abstain"}
    path.write_text(json.dumps(shipped_policy))
    with Emulator(support, faults="refusal") as refuses:
        ran = run("ask", text_of(items[0]), "--policy", str(path), emulator=refuses)
    assert (ran.code, ran.out) == (0, "")
    assert "the policy abstains (refused)" in ran.err


def test_a_marked_request_is_answered_from_the_response_cache(
    run: Run, emulator: Emulator, items: tuple[Item, ...], tmp_path: Path
) -> None:
    """`--cache` marks it; the second answer says where it is from."""
    path, text = tmp_path / "cached.yaml", text_of(climbing(items, 1))
    path.write_text(json.dumps(load_policy("default").model_dump(mode="json", exclude_unset=True) | {"cache": {}}))
    ran = [run("ask", text, "--cache", "--explain", "--policy", str(path), emulator=emulator) for _ in range(2)]
    assert ran[0].out == ran[1].out
    assert ["from the response cache: no model was asked" in one.err for one in ran] == [False, True]


def test_neither_key_nor_text_is_logged(run: Run, support: Path, items: tuple[Item, ...]) -> None:
    """Events on stderr name rungs and rates, never what was asked or the key."""
    text = text_of(items[0])
    with Emulator(support, faults="server_error") as down:
        ran = run("ask", text, emulator=down)
    assert text not in ran.err
    assert "sk-secret" not in ran.err


def test_without_the_extra_there_is_one_line(run: Run, bare_environment: dict[str, str]) -> None:
    """No typer, no rich: the command says which extra brings them."""
    code = "import sys; sys.modules['typer'] = None; from cascade.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=bare_environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "cascade: the command line needs an optional dependency (pip install 'cascade-ladder[cli]')\n"
    )
