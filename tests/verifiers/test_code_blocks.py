"""An answer's code as a file: which block it is, where the program finds it, and that it is removed."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.verifiers import run_verifier
from cascade.verifiers.code_blocks import first_code_block
from tests.verifiers.programs import program

ANSWER = "Here it is:\n\n```python\nprint('ü')\n```\n\nand how to start it:\n\n```sh\npython answer.py\n```\n"


@pytest.mark.parametrize(
    ("answer", "code", "file_name"),
    [
        (ANSWER, "print('ü')\n", "answer.py"),
        ("```\nx\n```", "x\n", "answer.txt"),
        ("~~~ Rust ignore\nx\n~~~", "x\n", "answer.rs"),
        ("```brainfuck\n+\n```", "+\n", "answer.txt"),
        ("```../../etc/passwd\nx\n```", "x\n", "answer.txt"),
        ("````md\n```py\nx\n```\n````", "```py\nx\n```\n", "answer.txt"),
        ("```py\nx\n~~~\ny\n```", "x\n~~~\ny\n", "answer.py"),
        ("```py\nx\n```py\ny\n```", "x\n```py\ny\n", "answer.py"),
        ("  ```py\n  if x:\n      y\n ```", "if x:\n    y\n", "answer.py"),
        ("```py\r\nx\r\n```\r\n", "x\r\n", "answer.py"),
        ("```py\nx", "x", "answer.py"),
        ("```\n \n```\n```js\ny\n```", "y\n", "answer.js"),
        ("say ``` and\n```not a fence``` \n```c\nz\n```", "z\n", "answer.c"),
    ],
)
def test_the_first_fenced_block_that_is_not_blank_is_the_code(answer: str, code: str, file_name: str) -> None:
    """Fences as in CommonMark; the language gives the file its suffix, and nothing else of it is used."""
    block = first_code_block(answer)
    assert block is not None
    assert (block.code, block.file_name) == (code, file_name)


@pytest.mark.parametrize(
    "answer", ["", "x = 1", "`x`", "``\nx\n``", "    ```\n    x\n", "```py\n```", "```py", "```\n\n"]
)
def test_an_answer_without_code_fails(answer: str) -> None:
    """The program is not asked: there is nothing to run."""
    one = run_verifier(program("", extract="code"), answer, {}, time_out_s=60.0)
    assert (one.result, one.detail) == ("failed", "no code block")


@given(st.text(alphabet="`~ \nab\r\t", max_size=200))
def test_any_text_has_a_block_of_its_own_lines_or_none(answer: str) -> None:
    """Half-open, nested and mixed fences included."""
    block = first_code_block(answer)
    assert block is None or (block.code.strip() and set(block.code.split()) <= set(answer.split()))


def test_the_code_is_in_a_file_of_its_own_that_the_program_is_told_of_twice(temporary: Path, tmp_path: Path) -> None:
    """As the last argument, and as `file` on stdin. Only this user may read it."""
    text = (
        "import json, os, sys; path = sys.argv[-1]; data = json.load(sys.stdin); folder = os.path.dirname(path)\n"
        "seen = [path, data['file'], open(path, encoding='utf-8').read(), data['answer'], os.listdir(folder),\n"
        "        os.stat(path).st_mode, os.stat(folder).st_mode]\n"
        "open(sys.argv[1], 'w').write(json.dumps(seen))"
    )
    one = run_verifier(program(text, tmp_path / "seen", extract="code"), ANSWER, {}, time_out_s=60.0)
    assert (one.result, one.detail) == ("passed", "")
    path, told, code, answer, names, mode, folder_mode = json.loads((tmp_path / "seen").read_text())
    assert Path(path).parent.parent == temporary
    assert (told, code, answer, names) == (path, "print('ü')\n", ANSWER, ["answer.py"])
    assert (stat.S_IMODE(mode), stat.S_IMODE(folder_mode)) == (0o600, 0o700)
    assert not list(temporary.iterdir())


def test_code_that_python_reads_runs_from_its_file(temporary: Path) -> None:
    """Right code passes, wrong code fails."""
    answer = "```python\ndef double(x):\n    return 2 * x\n```"
    text = "import runpy, sys; raise SystemExit(runpy.run_path(sys.argv[-1])['double'](4) != 8)"
    assert run_verifier(program(text, extract="code"), answer, {}, time_out_s=60.0).result == "passed"
    assert run_verifier(program(text, extract="code"), answer.replace("2", "3"), {}, time_out_s=60.0).result == "failed"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("raise SystemExit(1)", "failed"),
        ("import time; time.sleep(600)", "unknown"),
        ("import os; os.abort()", "unknown"),
        ("os.makedirs(folder + '/a/b'); open(folder + '/a/b/c', 'w'); os.chmod(folder + '/a', 0)", "passed"),
        ("os.chmod(folder, 0)", "passed"),
        ("import shutil; shutil.rmtree(folder)", "passed"),
        ("import shutil; shutil.rmtree(folder); open(folder, 'w')", "passed"),
        ("os.kill(os.getppid(), 9); import time; time.sleep(600)", "unknown"),
    ],
)
def test_the_file_is_removed_however_the_run_ends(temporary: Path, text: str, result: str) -> None:
    """With all that the program made beside it, and without an error where it is gone already."""
    verifier = program("import os, sys; folder = os.path.dirname(sys.argv[-1])\n" + text, extract="code")
    assert run_verifier(verifier, ANSWER, {}, time_out_s=0.5 if "sleep" in text else 60.0).result == result
    assert not list(temporary.iterdir())


def test_links_out_of_its_folder_are_not_followed_when_it_is_removed(temporary: Path, tmp_path: Path) -> None:
    """What they lead to keeps its content and its rights."""
    kept = tmp_path / "kept"
    kept.mkdir(0o500)
    (tmp_path / "file").write_text("kept")
    text = (
        "import os, sys; folder = os.path.dirname(sys.argv[-1])\n"
        "os.symlink(sys.argv[1], folder + '/inner'); os.symlink(sys.argv[2], folder + '/file')"
    )
    verifier = program(text, kept, tmp_path / "file", extract="code")
    assert run_verifier(verifier, ANSWER, {}, time_out_s=60.0).result == "passed"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o500
    assert (tmp_path / "file").read_text() == "kept"
    assert not list(temporary.iterdir())


def test_a_link_in_its_folders_place_is_removed_and_not_what_it_leads_to(temporary: Path, tmp_path: Path) -> None:
    """The folder itself may have been replaced."""
    (tmp_path / "kept").mkdir(0o500)
    text = (
        "import os, shutil, sys; folder = os.path.dirname(sys.argv[-1])\n"
        "shutil.rmtree(folder); os.symlink(sys.argv[1], folder)"
    )
    verifier = program(text, tmp_path / "kept", extract="code")
    assert run_verifier(verifier, ANSWER, {}, time_out_s=60.0).result == "passed"
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o500
    assert not list(temporary.iterdir())


def test_a_file_that_cannot_be_written_is_said_and_not_raised(temporary: Path) -> None:
    """Here the folder for temporary files is gone."""
    temporary.rmdir()
    one = run_verifier(program("", extract="code"), ANSWER, {}, time_out_s=60.0)
    assert (one.result, one.detail) == ("unknown", "no file for the answer's code (ENOENT)")
