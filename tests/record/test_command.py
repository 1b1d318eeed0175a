"""`cascade record` as a person runs it."""

from __future__ import annotations

import json
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from cascade.corpora import Corpus, read_corpus, write_corpus

from .conftest import OPUS, SONNET, YAML, Here, Killer, Start, journal_of

Emulate = Callable[..., Killer]


@pytest.fixture
def home(source: Path) -> Path:
    """The folder with the inputs and the policy."""
    folder = source.parent
    (folder / "policy.yaml").write_text(YAML, encoding="utf-8")
    return folder


COMMAND = ("inputs.jsonl", "-o", "c.jsonl", "-p", "policy.yaml")


def test_it_records_and_says_what_it_came_to(corpus: Corpus, emulate: Emulate, home: Path) -> None:
    """One line on stdout, exit 0, the corpus; and no prompt, answer or key on either stream."""
    process = Here(home, emulate(corpus), *COMMAND, "--name", "mine")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("12 of 12 items in c.jsonl; 36 calls in this run, 0 replies taken from the journal; 0.0")
    assert read_corpus(home / "c.jsonl").items == corpus.items
    assert read_corpus(home / "c.jsonl").manifest.name == "mine"
    for secret in ("question", "answer", "sk-secret"):
        assert secret not in out + err


def test_a_whole_recording_run_again_asks_nothing(corpus: Corpus, emulate: Emulate, home: Path) -> None:
    """Killed after its last write, or just run twice: exit 0 and no call. Other inputs do not write over it: exit 2."""
    emulator = emulate(corpus)
    Here(home, emulator, *COMMAND).communicate(timeout=60)
    before = (home / "c.jsonl").read_bytes()
    again = Here(home, emulator, *COMMAND)
    out, _ = again.communicate(timeout=60)
    assert (again.returncode, out.startswith("c.jsonl "), "no call was made" in out) == (0, True, True)
    write_corpus(home / "inputs.jsonl", corpus.manifest, corpus.items[:3])
    other = Here(home, emulator, *COMMAND)
    _, err = other.communicate(timeout=60)
    assert other.returncode == 2
    assert "c.jsonl: it exists already" in err
    assert (home / "c.jsonl").read_bytes() == before
    assert emulator.billed.replies == 36


def test_json_has_it_all(corpus: Corpus, emulate: Emulate, home: Path) -> None:
    """With --json nothing but one object on stdout; ungraded answers by item, rung and reason."""
    items = (structs.replace(corpus.items[0], expected=None), *corpus.items[1:])
    write_corpus(home / "inputs.jsonl", corpus.manifest, items)
    process = Here(home, emulate(corpus), *COMMAND, "--json")
    told = json.loads(process.communicate(timeout=60)[0])
    assert (told["items"], told["complete"], told["final"], told["calls"]) == (12, 12, True, 36)
    assert told["ungraded"]["count"] == 3
    assert told["ungraded"]["answers"][0] == {
        "item": "i-0",
        "rung": "haiku",
        "reason": "the item has no expected answer",
    }
    assert (told["judge"], told["stopped"]) == (None, None)


def test_missing_items_are_exit_4_with_their_reason(corpus: Corpus, emulate: Emulate, home: Path) -> None:
    """An endpoint that is used up: one line that says how to go on."""
    process = Here(home, emulate(corpus, faults=f"spend_cap,model={OPUS}"), *COMMAND, "--concurrency", "1")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert err.startswith("cascade: ")
    assert "1 items failed: opus: spend_cap, HTTP 429 (1): i-0" in err
    assert "the same command continues from c.jsonl.journal" in err


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        (("--max-usd", "-1"), "--max-usd: -1.0 must be an amount"),
        (("--max-usd", "nan"), "--max-usd: nan must be an amount"),
        (("--grader", "exactly"), "none called 'exactly' (did you mean 'exact'? there are"),
        (("--map", "input=question"), "a corpus has the fields already"),
        (("--map", "question"), "--map question: must be NAME=VALUE"),
        (("--out", "c.txt"), "c.txt: not a corpus's file name"),
        (("--rungs", "fable"), "no rung 'fable'"),
        (("--rungs", "sonet"), "did you mean 'sonnet'? it has haiku, sonnet, opus"),
        (("--policy", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_a_wrong_option_is_exit_2_in_one_line(
    corpus: Corpus, emulate: Emulate, home: Path, extra: tuple[str, ...], why: str
) -> None:
    """Nothing is asked and nothing is left behind."""
    emulator = emulate(corpus)
    process = Here(home, emulator, *COMMAND, *extra)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert why in err
    assert len(err.strip().splitlines()) == 1
    assert not emulator.requests
    assert not list(home.glob("c.jsonl*"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_stop_by_signal_loses_nothing_that_is_paid(
    start: Start, corpus: Corpus, emulate: Emulate, home: Path
) -> None:
    """Ctrl-C: what is in flight comes home and is kept, exit 130; the next run asks the rest."""
    emulator = emulate(corpus, token_latency_s=0.005)
    emulator.strike = signal.SIGINT
    process = start(home, emulator, *COMMAND)
    emulator.arm(process.child, 8, at_bill=False)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "cascade: Ctrl-C: no further call is made; waiting for 4 paid calls in flight" in err
    assert "Ctrl-C again stops at once" in err
    assert "cascade: stopped by Ctrl-C; the same command continues from c.jsonl.journal" in err
    assert len(journal_of(home / "c.jsonl")) == emulator.billed.replies < 36
    process = start(home, emulator, *COMMAND)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert emulator.billed.replies == 36
    assert read_corpus(home / "c.jsonl").items == corpus.items


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_second_signal_stops_at_once_and_the_books_stay_right(
    start: Start, corpus: Corpus, emulate: Emulate, home: Path
) -> None:
    """The endpoint takes its time: the first says at once what is waited for; what was out then counts as an upper bound."""
    emulator = emulate(corpus, token_latency_s=30.0)
    process = start(home, emulator, *COMMAND)
    assert process.stderr is not None
    waiting = select.poll()
    waiting.register(process.stderr, select.POLLIN)
    while len(emulator.requests) < 4:
        assert process.poll() is None
        waiting.poll(20)
    process.send_signal(signal.SIGINT)
    said = process.stderr.readline()
    assert "waiting for 4 paid calls in flight, at most 120 s" in said
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert "stopped at once; the same command continues from c.jsonl.journal" in err
    again = Here(home, emulate(corpus), *COMMAND, "--json")
    told = json.loads(again.communicate(timeout=60)[0])
    assert (again.returncode, told["complete"], told["unanswered"]["calls"]) == (0, 12, 4)
    assert told["unanswered"]["at_most_usd"] > 0


def test_a_table_is_recorded_and_graded(corpus: Corpus, emulate: Emulate, home: Path) -> None:
    """`--map`, from the CSV people have to a graded corpus; what is not used of it is named once."""
    texts = [item for item in corpus.items if isinstance(item.input, str)]
    rows = [f"{item.input},{item.expected},x" for item in texts]
    (home / "mine.csv").write_text("\n".join(["question,answer,notes", *rows, ""]), encoding="utf-8")
    asked = ("mine.csv", "-o", "c.jsonl", "-p", "policy.yaml", "--map", "input=question", "--map", "expected=answer")
    process = Here(home, emulate(corpus), *asked, "--grader", "exact")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "cascade: unused columns: notes (--map FIELD=COLUMN uses one)\n")
    assert out.startswith("11 of 11 items in c.jsonl; 33 calls")
    made = read_corpus(home / "c.jsonl").items
    assert [(item.id, item.expected) for item in made] == [
        (f"row-{number}", item.expected) for number, item in enumerate(texts, 1)
    ]  # fmt: skip
    assert [item.replies for item in made] == [item.replies for item in texts]


def test_what_is_graded_without_an_expected_answer_is_said_before_it_is_paid(
    corpus: Corpus, emulate: Emulate, home: Path
) -> None:
    """Agreement is not rightness, and `expected` is what it takes."""
    (home / "bare.csv").write_text("input\nquestion 0?\nquestion 1?\n", encoding="utf-8")
    process = Here(home, emulate(corpus, faults="spend_cap"), "bare.csv", *COMMAND[1:], "--grader", "exact")
    _, err = process.communicate(timeout=60)
    assert err.startswith(
        "cascade: no input has an `expected` answer: answers are graded by agreement with the baseline's."
    )
    assert "--map expected=COLUMN" in err


def test_only_some_rungs_are_recorded_by_name(corpus: Corpus, emulate: Emulate, home: Path) -> None:
    """`--rungs`: those, in the ladder's order whatever the order they are named in, and the top; nobody else is asked."""
    emulator = emulate(corpus)
    process = Here(home, emulator, *COMMAND, "--rungs", " sonnet,,sonnet ", "--json")
    told = json.loads(process.communicate(timeout=60)[0])
    made = read_corpus(home / "c.jsonl")
    assert (told["calls"], told["final"], made.manifest.rungs) == (24, True, ("sonnet", "opus"))
    assert emulator.billed.models.keys() == {SONNET, OPUS}
    for item, before in zip(made.items, corpus.items, strict=True):
        assert item.replies == {rung: before.replies[rung] for rung in ("sonnet", "opus")}


def test_the_help_says_what_nobody_shall_learn_afterwards(corpus: Corpus, emulate: Emulate, home: Path) -> None:
    """A recording stores what users wrote, whatever the policy says; what a kill may cost; what a call may take."""
    out, _ = Here(home, emulate(corpus), "--help").communicate(timeout=60)
    said = " ".join(out.split())
    assert "store your inputs and all answers" in said
    assert "--map input=question --map expected=answer" in said
    assert "expected (the right answer, for the grader)" in said
    assert "A call in flight when a run was killed counts at the most" in said
    assert "Each call may take the policy's deadline_s" in said
