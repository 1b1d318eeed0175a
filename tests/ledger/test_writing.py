"""What the writing side puts on record, and when."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cascade.core.budgets import ApplicableBudget
from cascade.core.errors import BudgetExceeded, ConfigurationError, PolicyError
from cascade.core.messages import Request
from cascade.core.planning.part import Part, Role
from cascade.core.policy.operations import Ledger
from cascade.core.policy.planning import Planning
from cascade.core.prompts import executor, planner, reviewer
from cascade.core.requests import read_messages
from cascade.core.triage import triage_version
from cascade.hooks import Begun, Ended
from cascade.ledger.hook import LedgerHook
from cascade.ledger.opening import address_of, display_address, open_ledger, spent_lookup
from cascade.ledger.prompts import redacted
from cascade.ledger.sqlite.store import SqliteReader
from cascade.ledger.writing.limits import Bounds
from cascade.policy.binding import bind_policy, bind_single

from .scenes import LONG_S, NOW, PLAN, Scene, ask, begin, bodies, calling, read, steps_of

COMMIT = Ledger(durability="commit")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is going to be."""
    return tmp_path / "ledger.db"


def test_batched_rows_wait_a_tenth_of_a_second_for_company_and_are_written_together(path: Path) -> None:
    """Nothing touches the disk before that; then one transaction holds them all."""
    scene = Scene(path)
    assert scene.ask("a", steps=2) == []
    scene.ask("b")
    scene.clock.until_it_waits(0.1)
    scene.clock.pass_by(0.0625)
    scene.clock.until_it_waits(0.1 - 0.0625)
    assert scene.nothing_yet()
    assert not path.exists()
    scene.clock.pass_by(0.0375)
    assert scene.next() == 7
    assert [entry.kind for entry in scene.entries()] == [
        "request",
        "step",
        "step",
        "outcome",
        "request",
        "step",
        "outcome",
    ]


def test_many_batched_rows_do_not_wait(path: Path) -> None:
    """A full transaction is written at once; what is left over goes with it."""
    scene = Scene(path, bounds=Bounds(transaction=6))
    scene.ask("a")
    scene.ask("b")
    assert scene.next() == 6


def test_commit_has_the_open_row_on_the_disk_before_the_call_and_the_outcome_before_the_answer(path: Path) -> None:
    """Another connection sees each at the moment its wait is over."""
    scene, trail = Scene(path, COMMIT), steps_of(2)
    track = begin(scene.hook, "a")
    track.calling(calling(0, trail)).result(LONG_S)
    assert scene.kinds("a") == ["request", "open"]
    track.calling(calling(1, trail)).result(LONG_S)
    assert scene.kinds("a") == ["request", "open", "step", "open"]
    track.ended(Ended(trail, None, None, 1.0)).result(LONG_S)
    assert scene.kinds("a") == ["request", "open", "step", "open", "step", "outcome"]
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_commit_writes_all_that_waits_in_one_transaction(path: Path) -> None:
    """Requests that come while one transaction is written share the next."""
    scene = Scene(path, COMMIT)
    waits = [wait for name in "abcdefgh" for wait in scene.ask(name)]
    for wait in waits:
        wait.result(LONG_S)
    counts: list[int | str] = []
    while not scene.nothing_yet():
        counts.append(scene.next())
    assert sum(map(int, counts)) == 4 * 8
    assert len(counts) < len(waits)


def test_a_request_is_on_record_as_it_was_told(path: Path) -> None:
    """Hashes, metadata, reasons, money, who answered; the sums are held to the entries by `verify`."""
    scene = Scene(path)
    scene.ask(
        "a", "hi", steps=2, system="be kind", metadata={"workflow": "w", "customer": "c"}, flags=frozenset({"z", "b"})
    )
    scene.flush()
    (request,), steps, (outcome,) = (bodies(scene.entries(), kind) for kind in ("request", "step", "outcome"))
    said = b'{"messages":[{"content":"hi","role":"user"}],"system":"be kind"}'
    assert request == {
        "policy": "test", "policy_hash": PLAN.policy.hash, "prompt_hash": hashlib.sha256(said).hexdigest(), "task": "other",
        "arm": "cascade", "metadata": {"workflow": "w", "customer": "c"}, "flags": ["b", "z"],
        "prompts": {"triage": triage_version(PLAN.policy)},
    }  # fmt: skip
    assert [(step["rung"], step["cost"], step.get("reason")) for step in steps] == [
        ("r0", 300_000, "low_confidence"), ("r1", 300_000, None),
    ]  # fmt: skip
    assert {
        "cost": 600_000,
        "steps": 2,
        "rung": "r1",
        "resolved": True,
        "estimate": 900_000,
        "slot": 7,
    }.items() <= outcome.items()


def test_a_part_of_a_run_has_its_roles_words_beside_those_of_its_climb(path: Path) -> None:
    """An executor climbs; who plans and reviews is asked plainly, in the words of that role alone."""
    plan = bind_policy(PLAN.policy.model_copy(update={"plan": Planning(planner="r1", reviewer="r1")}))
    scene, single = Scene(path), bind_single(plan, plan.policy.ladder[1])
    roles: tuple[Role, ...] = ("planner", "executor", "reviewer")
    for role in roles:
        bound, request = plan if role == "executor" else single, Request(read_messages("hi"), id=role)
        track = scene.hook.begin(Begun(bound, request, "other", role, NOW, part=Part("run-1", role)))
        track.ended(Ended((), None, TimeoutError(), 1.0))
    scene.flush()
    assert [one["prompts"] for one in bodies(scene.entries(), "request")] == [
        {"planner": planner.VERSION},
        {"executor": executor.VERSION, "triage": triage_version(PLAN.policy)},
        {"reviewer": reviewer.VERSION},
    ]


def test_errors_and_cancellations_are_outcomes_too(path: Path) -> None:
    """An error by its class alone; a cancelled request's last call stays open, without a step."""
    scene, trail = Scene(path, COMMIT), steps_of(2)
    refused = begin(scene.hook, "refused")
    refused.ended(Ended((), None, BudgetExceeded("the secret of a key"), 0.1)).result(LONG_S)
    cancelled = begin(scene.hook, "cancelled")
    cancelled.calling(calling(0, trail))
    cancelled.calling(calling(1, trail))
    cancelled.ended(Ended(trail[:1], None, None, 0.1)).result(LONG_S)
    assert scene.kinds("refused") == ["request", "outcome"]
    assert scene.kinds("cancelled") == ["request", "open", "step", "open", "outcome"]
    assert [body["error"] for body in bodies(scene.entries(), "outcome")] == ["BudgetExceeded", "cancelled"]
    assert all("secret" not in entry.body.decode() for entry in scene.entries())


def test_what_the_caller_changes_afterwards_is_not_what_was_asked(path: Path) -> None:
    """Messages, metadata and system prompt are the caller's own lists."""
    scene = Scene(path, Ledger(content=True))
    block: dict[str, Any] = {"type": "text", "text": "before"}
    metadata = {"customer": "before"}
    scene.ask("a", [{"role": "user", "content": [block]}], system=(block,), metadata=metadata)
    block["text"] = metadata["customer"] = "after"
    scene.flush()
    entries, contents = read(path)
    assert bodies(entries, "request")[0]["metadata"] == {"customer": "before"}
    assert "before" in contents[0].text
    assert "after" not in contents[0].text


def test_nothing_that_users_wrote_is_in_the_files_by_default(path: Path, tmp_path: Path) -> None:
    """Neither in the file nor in the log beside it; with `content` both texts are."""
    for settings, there in ((Ledger(), False), (Ledger(content=True), True)):
        scene = Scene(path, settings)
        scene.ask(f"a{there}", "a prompt of XYZZY", system="PLUGH", text="the answer FNORD")
        scene.flush()
        written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert [word in written for word in (b"XYZZY", b"PLUGH", b"FNORD")] == [there] * 3
        scene.writer.close()


def shout(text: str) -> str:
    """Redact."""
    return text.replace("4711", "####")


def mask(_: str) -> str:
    """Nothing is kept."""
    return "*"


def refuse(text: str) -> Any:
    """Fail on some texts, give no text for others."""
    if "raise" in text:
        raise ValueError(text)
    return None if "none" in text else text


def test_texts_are_redacted_before_they_are_stored(path: Path) -> None:
    """Every text, however deep; the API's own words are left, and the JSON stays JSON."""
    scene = Scene(path, Ledger(content=True, redact=f"{__name__}:shout"))
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "4711"}}
    turn = {"role": "user", "content": [{"type": "text", "text": "my pin is 4711"}, image]}
    scene.ask("a", [turn], system="4711", text="yes, 4711")
    scene.flush()
    prompt, answer = sorted(read(path)[1], key=lambda content: content.part)
    assert prompt.text.count("####") == 2
    assert prompt.text.count("4711") == 1
    assert '"data":"4711"' in prompt.text
    assert answer.text == "yes, #### 0"


def test_nothing_that_a_tool_was_given_escapes_redaction(path: Path) -> None:
    """By no name that the API itself uses; nor what only looks like a block, or holds no role of the API's."""
    given = {
        "id": "ssn 1",
        "type": "ssn_2",
        "role": "user",
        "media_type": "a/b",
        "data": "ssn 3",
        "source": {"type": "base64", "data": "ssn4"},
    }
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="}}
    messages = [
        {"role": "user", "content": [picture, {"type": "text", "text": "ssn 5", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"list": [given], **given}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "ssn 6"}]}]},
        {"role": "ssn 7", "content": {"type": "ssn_8", "id": "ssn_9"}, "type": "Ssn 0"},
    ]  # fmt: skip
    kept = redacted(messages, mask)
    assert "ssn" not in str(kept).lower()
    masked = dict.fromkeys(given, "*") | {"source": {"type": "*", "data": "*"}}
    assert kept[0] == {"role": "user", "content": [picture, {**messages[0]["content"][1], "text": "*"}]}  # type: ignore[index, dict-item]
    assert kept[1]["content"] == [
        {"type": "tool_use", "id": "toolu_1", "name": "*", "input": {"list": [masked], **masked}}
    ]
    assert kept[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "*"}]}
    ]
    scene = Scene(path, Ledger(content=True, redact=f"{__name__}:mask"))
    scene.ask("a", messages[:3])
    scene.flush()
    (prompt,) = (one.text for one in read(path)[1] if one.part == "prompt")
    assert "ssn" not in prompt
    assert '"id":"toolu_1"' in prompt


def test_a_text_that_cannot_be_redacted_is_not_stored_and_told_once(path: Path) -> None:
    """The books are whole all the same; the event quotes nothing."""
    scene = Scene(path, Ledger(content=True, redact=f"{__name__}:refuse"))
    with capture_logs() as logs:
        scene.ask("a", "raise XYZZY", text="none")
        scene.ask("b", "fine", text="raise")
        scene.flush()
    entries, contents = read(path)
    assert [(content.request, content.part) for content in contents] == [("b", "prompt")]
    assert len(entries) == 6
    assert scene.writer.withheld == 3
    (event,) = logs
    assert event["event"] == "ledger_redact_failed"
    assert "XYZZY" not in str(event)


@pytest.mark.parametrize("redact", ["no.such.module:f", f"{__name__}:nothing", f"{__name__}:COMMIT"])
def test_a_redact_that_is_no_function_is_refused_at_once(path: Path, redact: str) -> None:
    """Before anything is asked: a text must not wait for somebody to look into the log."""
    with pytest.raises(PolicyError, match=r"ledger\.redact"):
        Scene(path, Ledger(content=True, redact=redact))


def test_texts_are_removed_after_keep_days_at_start_and_every_hour(path: Path) -> None:
    """The entries stay, and stay sound."""
    scene = Scene(path, Ledger(content=True, keep_days=1))
    scene.ask("old")
    scene.flush()
    assert scene.next() == 3
    assert scene.next() == "removed 0"
    scene.clock.pass_by(86_300)
    assert scene.next() == "removed 0"
    scene.ask("new")
    scene.flush()
    assert scene.next() == 3
    scene.clock.pass_by(3_600)
    assert scene.next() == "removed 2"
    entries, contents = read(path)
    assert {content.request for content in contents} == {"new"}
    assert len(entries) == 6
    scene.writer.close()
    later = Scene(path, Ledger(keep_days=1), clock=scene.clock)
    later.clock.pass_by(90_000)
    later.ask("later")
    later.flush()
    assert {later.next(), later.next()} == {3, "removed 2"}


def test_names_that_no_database_takes_are_written_as_near_as_can_be(path: Path) -> None:
    """Half a surrogate pair, NUL, a value that is no text: the caller's metadata must not stop the ledger."""
    scene = Scene(path, Ledger(content=True))
    scene.ask("a", "half \ud83d a pair", metadata={"workflow": "\0w\ud83d", "n": 7})
    scene.flush()
    entries, contents = read(path)
    assert bodies(entries, "request")[0]["metadata"] == {"workflow": "\N{REPLACEMENT CHARACTER}w?", "n": "7"}
    assert "half" in contents[0].text


class Unspeakable:
    """A value that cannot be written."""

    def __str__(self) -> str:
        raise RuntimeError("XYZZY")


def test_a_row_that_cannot_be_written_stops_no_other(path: Path) -> None:
    """It is dropped whole, counted and told."""
    scene = Scene(path)
    with capture_logs() as logs:
        scene.ask("a")
        scene.ask("bad", steps=2, metadata={"customer": Unspeakable()})
        scene.ask("b")
        scene.flush()
        scene.writer.close()
    assert [entry.request for entry in scene.entries()] == ["a"] * 3 + ["b"] * 3
    assert scene.writer.dropped == 4
    assert {log["event"] for log in logs} == {"ledger_row_unwritable", "ledger_dropped"}
    assert "XYZZY" not in str(logs)


def test_drivers_of_one_ledger_share_a_writer_and_budgets_see_what_it_has_not_written_yet(path: Path) -> None:
    """By address and durability; a ledger that is not there has spent nothing."""
    claim = ApplicableBudget(
        "test", "test", "policy", "test", "daily", "2026-11-18", NOW - 1e5, NOW + 1e9, 1, 0.8, "alert"
    )
    seed = spent_lookup(path)
    assert seed(claim) == 0
    writer = open_ledger(path, Ledger())
    assert open_ledger(str(path), Ledger(content=True)) is writer
    assert open_ledger(path, COMMIT) is not writer
    ask(LedgerHook(writer, Ledger()), "a", steps=2)
    assert seed(claim) == 600_000
    writer.close()


def test_a_call_that_was_cut_off_counts_as_the_most_it_may_have_cost(path: Path) -> None:
    """For whoever asks later; a call that has its step counts as that, and one of a living writer is reserved there."""
    scene, steps = Scene(path, COMMIT), steps_of(2)

    def spent(*alive: str) -> int:
        scene.flush()
        with closing(SqliteReader(path)) as reader:
            return reader.spent("test", "policy", "", NOW - 900, NOW + 900, alive=alive)

    settled, cut_off = begin(scene.hook, "settled"), begin(scene.hook, "cut off")
    settled.calling(calling(0, steps))
    assert (spent(), spent(scene.writer.name)) == (1_000, 0)
    cut_off.calling(calling(0, steps))
    settled.calling(calling(1, steps))
    assert spent() == 300_000 + 2 * 1_000
    settled.ended(Ended(steps, None, None, 1.0))
    cut_off.ended(Ended((), None, None, 1.0))
    assert (spent(), spent(scene.writer.name)) == (601_000, 600_000)
    for _ in range(2):  # the same id again
        again = begin(scene.hook, "settled")
        again.calling(calling(0, steps))
        again.ended(Ended(steps[:1], None, None, 1.0))
    assert spent() == 1_201_000


def test_where_the_ledger_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Named, else CASCADE_LEDGER, else under CASCADE_HOME; no password is ever told."""
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path))
    monkeypatch.delenv("CASCADE_LEDGER", raising=False)
    assert address_of() == str(tmp_path / "ledger.db")
    monkeypatch.setenv("CASCADE_LEDGER", "postgresql://me:hunter2@db:5432/books?sslmode=require")
    assert display_address(address_of()) == "postgresql://db:5432/books"
    assert address_of("x.db") == str(Path.cwd() / "x.db")
    with pytest.raises(ConfigurationError, match="invalid ledger address") as refused:
        open_ledger("mysql://me:hunter2@db", Ledger())
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="host or port cannot be read") as unread:
        open_ledger("postgresql://me:hunter2@db:notaport/books", Ledger())
    assert "hunter2" not in str(unread.value)


def test_a_writer_that_rests_disconnects_and_goes_on_with_its_chain(path: Path) -> None:
    """After a minute without a row; the next one connects anew."""
    scene = Scene(path)
    scene.ask("a")
    scene.flush()
    scene.clock.pass_by(60)
    scene.writer.close(LONG_S)  # waits for the thread to be gone, whichever way it went
    assert not path.with_name("ledger.db-wal").exists()
    scene.ask("b")
    scene.flush()
    assert len({entry.writer for entry in scene.entries()}) == 1
    assert [entry.seq for entry in scene.entries()] == [1, 2, 3, 4, 5, 6]
