"""What is sampled for the audit, and that it is on the disk before the answer is returned."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cascade.core.auditing import LowestConfidence, is_uniform, lowest_draw, why_sampled
from cascade.core.bound_policy import BoundPolicy
from cascade.core.policy import Policy
from cascade.core.policy.operations import Ledger
from cascade.core.trail import Answer, Step
from cascade.hooks import Ended, Wait
from cascade.ledger.audit import AuditTables, Sample
from cascade.ledger.opening import open_reader
from cascade.ledger.postgres.store import PostgresStore
from cascade.ledger.sqlite.store import SqliteStore
from cascade.ledger.stores import Store
from cascade.ledger.verifying.verification import verify
from cascade.policy.binding import bind_policy
from tests.warm import WarmPython

from .scenes import LONG_S, NOW, PLAN, Scene, answer_of, ask, begin, read, steps_of

COMMIT = Ledger(durability="commit")
CONTENT = Ledger(content=True)


def plan_of(**audit: Any) -> BoundPolicy:
    """The scenes' policy with this audit."""
    whole = {**PLAN.policy.model_dump(exclude_defaults=True), "audit": audit}
    return bind_policy(Policy.model_validate({"version": 1, **whole}))


ALL, NONE = plan_of(sample=1, lowest_confidence=0), plan_of(sample=0, lowest_confidence=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is."""
    return tmp_path / "ledger.db"


def samples(path: Path) -> list[Sample]:
    """What is sampled; the ledger is sound."""
    read(path)
    return list(AuditTables(str(path)).samples())


def finish(scene: Scene, name: str, answer: Answer | None, steps: tuple[Step, ...], **more: Any) -> Wait | None:
    """One request that ends with this answer; what is to be waited for."""
    track = begin(scene.hook, name, at=NOW, **more)
    return track.ended(Ended(steps, answer, None if answer is not None else TimeoutError(), 1.0, 900_000))


def close(count: int, of: int, share: float) -> bool:
    """Whether so many are within four standard errors of a share."""
    return abs(count - of * share) <= 4 * math.sqrt(of * share * (1 - share))


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
def test_the_uniform_sample_has_its_share_of_ten_thousand_requests(share: float) -> None:
    """By a hash of the id alone: whoever asks again gets the same answer, and a larger share has the smaller one in it."""
    names = [f"casc_{number:032x}" for number in range(10_000)]
    taken = {name for name in names if is_uniform(name, share)}
    assert close(len(taken), len(names), share)
    assert taken == {name for name in names if is_uniform(name, share)}
    assert taken <= {name for name in names if is_uniform(name, share * 2)}
    assert not any(is_uniform(name, 0) for name in names)
    assert all(is_uniform(name, 1) for name in names)


LEVELS = {
    "a handful of levels": lambda chance: chance.choice((0.99, 0.95, 0.95, 0.95, 0.9, 0.85)),
    "all the same": lambda _: 0.95,
    "two levels": lambda chance: 0.9 if chance.random() < 0.03 else 0.95,
    "no two the same": lambda chance: chance.random(),
}


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("levels", LEVELS)
def test_the_lowest_share_is_met_however_confidences_clump(levels: str, share: float) -> None:
    """Of 20,000 answers in random order it takes the share, within chance, and nothing of the first hundred."""
    chance, lowest = random.Random(3), LowestConfidence()
    seen = [LEVELS[levels](chance) for _ in range(20_000)]
    taken = [
        lowest.add(("haiku", "self_reported"), one, lowest_draw(f"casc_{number}"), share)
        for number, one in enumerate(seen)
    ]
    assert not any(taken[:100])
    assert close(sum(taken), len(taken) - 100, share)
    if levels == "two levels" and share == 0.01:
        assert all(seen[number] == 0.9 for number in range(len(seen)) if taken[number])


def test_the_lowest_share_follows_the_traffic() -> None:
    """Confidences that become higher: the share is met again among the new ones; other rungs and sources count by themselves."""
    chance, lowest = random.Random(4), LowestConfidence()

    def taken(count: int, base: float, group: tuple[str, str]) -> int:
        return sum(lowest.add(group, base + chance.random() / 10, chance.random(), 0.05) for _ in range(count))

    taken(10_000, 0.5, ("haiku", "self_reported"))
    taken(10_000, 0.8, ("haiku", "self_reported"))  # forgets the others
    assert close(taken(10_000, 0.8, ("haiku", "self_reported")), 10_000, 0.05)
    assert taken(100, 0.1, ("haiku", "calibrated")) == taken(100, 0.1, ("sonnet", "self_reported")) == 0


def test_what_is_in_both_samples_says_so() -> None:
    """Only the uniform sample counts in rates, so it must be known which of them a request is in."""
    assert [why_sampled("any", share, lowest) for share in (1, 0) for lowest in (True, False)] == [
        "both", "uniform", "lowest", None,
    ]  # fmt: skip


@pytest.mark.parametrize("settings", [Ledger(), COMMIT], ids=["batched", "commit"])
def test_a_sampled_request_is_on_the_disk_before_its_answer_returns(path: Path, settings: Ledger) -> None:
    """Whatever the durability: its end is waited for, though nothing else is with `batched`, and its row is there then."""
    scene = Scene(path, settings)
    for wait in scene.ask("before", plan=NONE):
        wait.result(LONG_S)
    *calls, last = scene.ask("sampled", plan=ALL)
    assert bool(calls) == (settings is COMMIT)
    last.result(LONG_S)
    assert [sample.request for sample in samples(path)] == ["sampled"]
    if settings is not COMMIT:
        assert scene.ask("after", plan=NONE) == []
    scene.flush()


def test_it_is_synced_though_nothing_else_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction with a sample is made with synchronous = FULL (2); those before and after it with NORMAL (1)."""
    found: list[object] = []
    insert = SqliteStore._insert_entries

    def told(store: SqliteStore, connection: Any, entries: Any) -> None:
        found.append(connection.execute("PRAGMA synchronous").fetchone()[0])
        insert(store, connection, entries)

    monkeypatch.setattr(SqliteStore, "_insert_entries", told)
    scene = Scene(path)
    for name, plan in (("a", NONE), ("b", ALL), ("c", NONE)):
        scene.ask(name, plan=plan)
        scene.flush()
    assert found == [1, 2, 1]


def store_at(address: str) -> Store:
    """A writer's connection, which waits long for a busy machine."""
    return PostgresStore(address, seconds=60) if "://" in address else SqliteStore(Path(address), synchronous="NORMAL")


KILLED = """
import os, signal, sys
from cascade import hooks
from cascade.core.policy.operations import Ledger
from cascade.ledger.hook import LedgerHook
from cascade.ledger.writing.writer import Writer
from tests.ledger.scenes import ask
from tests.ledger.test_audit_sampling import ALL, store_at
hooks._LONGEST_WAIT_S = 60.0  # however busy the machine is
writer = Writer(lambda: store_at(sys.argv[1]), where="here", commits=False)
hook = LedgerHook(writer, Ledger())
for number in range(3):
    hooks.wait(ask(hook, f"r{number}", plan=ALL, steps=1 + number))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_what_was_sampled_outlives_the_process(
    engine: str, path: Path, warm_python: WarmPython, request: pytest.FixtureRequest
) -> None:
    """Killed (SIGKILL) right after its last answer, with `durability: batched`: every row is there, with its outcome."""
    address = str(path) if engine == "sqlite" else request.getfixturevalue("postgres_database")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = warm_python.start(["-c", KILLED, address], env=environment)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    assert [(one.request, one.rung, one.cost) for one in AuditTables(address).samples()] == [
        ("r0", "r0", 300_000), ("r1", "r1", 600_000), ("r2", "r2", 900_000),
    ]  # fmt: skip
    with closing(open_reader(address)) as reader:
        assert verify(reader).findings == ()
        assert [one.request for one in reader.entries() if one.kind == "outcome"] == ["r0", "r1", "r2"]


def test_a_row_says_what_was_shipped(path: Path) -> None:
    """Who answered, its place, confidence and cost, the baseline's cost, the policy's epoch, the outcome's time."""
    scene = Scene(path)
    flags = frozenset({"urgent", "vip"})
    for wait in scene.ask("one", steps=2, plan=ALL, metadata={"workflow": "mail"}, flags=flags):
        wait.result(LONG_S)
    for wait in scene.ask("two", steps=3, plan=ALL):
        wait.result(LONG_S)
    one, two = samples(path)
    assert one == Sample(
        "one", NOW, "test", ALL.epoch, "other", "uniform", "r1", 1, False, 0.5, "self_reported", 600_000, 900_000, "mail",
        ("urgent", "vip"),
    )  # fmt: skip
    assert ALL.epoch
    assert (two.rung, two.index, two.is_top, two.has_content) == ("r2", 2, True, False)


def test_degraded_and_abstained_answers_are_sampled_and_failures_are_not(path: Path) -> None:
    """An answer was promised for the former; an error or a cancelled request shipped nothing."""
    scene, steps = Scene(path), steps_of(2)
    whole = answer_of("any", steps)
    nothing = replace(whole, text=None, rung=None, model=None, confidence=None, confidence_source=None)
    finish(scene, "degraded", replace(whole, degraded="deadline"), steps, plan=ALL)
    finish(scene, "abstained", replace(nothing, abstained="deadline"), steps, plan=ALL)
    assert finish(scene, "failed", None, steps, plan=ALL) is None
    scene.flush()
    second, first = samples(path)  # of one moment, so by name
    assert (first.request, first.degraded, first.rung) == ("degraded", "deadline", "r1")
    assert (second.request, second.rung, second.index, second.is_top) == ("abstained", "", -1, False)


@pytest.mark.parametrize("arm", ["holdout", "observe", "shadow", "bypass", "relay", "audit"])
def test_only_what_the_ladder_ships_is_sampled(path: Path, arm: str) -> None:
    """Not the baseline's answers, nor what is returned to nobody; and nothing without `audit` in the policy."""
    scene, steps = Scene(path), steps_of(1)
    assert finish(scene, "a", replace(answer_of("a", steps), arm=arm), steps, plan=ALL, arm=arm) is None
    assert finish(scene, "b", answer_of("b", steps), steps) is None
    scene.flush()
    assert samples(path) == []


def test_the_least_confident_answers_are_sampled(path: Path) -> None:
    """From the hundred-and-first on; of these only, and of nothing that has no confidence."""
    scene, steps, plan = Scene(path), steps_of(1), plan_of(sample=0, lowest_confidence=0.05)
    usual = replace(answer_of("any", steps), confidence=0.95)
    for number in range(150):
        finish(scene, f"usual-{number}", replace(usual, confidence=0.9 + number % 10 / 100), steps, plan=plan)
    finish(scene, "no confidence", replace(usual, confidence=None, confidence_source=None), steps, plan=plan)
    wait = finish(scene, "lowest", replace(usual, confidence=0.1), steps, plan=plan)
    assert wait is not None
    wait.result(LONG_S)
    found = {sample.request: sample for sample in samples(path)}
    assert found["lowest"].why == "lowest"
    assert not found["lowest"].is_uniform
    assert all(sample.confidence == 0.9 or sample.request == "lowest" for sample in found.values())


def test_a_ledger_that_is_down_delays_no_answer(tmp_path: Path) -> None:
    """Who waits goes on once it is known to be down, who comes later waits for nothing; its rows come when it is back."""
    folder = tmp_path / "there"
    folder.write_text("a file in its place", encoding="utf-8")
    scene = Scene(folder / "ledger.db")
    with capture_logs() as logs:
        for wait in scene.ask("first", plan=ALL):
            wait.result(LONG_S)
        assert scene.ask("second", plan=ALL) == []
        folder.unlink()
        scene.flush()
    assert [log["event"] for log in logs] == ["ledger_down", "ledger_back"]
    assert [sample.request for sample in samples(folder / "ledger.db")] == ["first", "second"]


TOOLS = ({"name": "find", "input_schema": {"type": "object", "description": "a \ud800 name"}},)
ASKED: dict[str, Any] = {
    "schema": {"type": "object"},
    "max_tokens": 50,
    "tools": TOOLS,
    "tool_choice": {"type": "auto"},
    "stop_sequences": ("END",),
    "extra": {"temperature": 0.2, "mcp_servers": [{"authorization_token": "a secret"}]},
    "top_extra": {"thinking": {"type": "adaptive"}},
}


def test_what_was_asked_beside_the_prompt_is_kept_with_the_texts(path: Path) -> None:
    """Where content is kept, of what is sampled, and only what was set; not what may hold a secret."""
    scene = Scene(path, CONTENT)
    for name, plan, more in (("all", ALL, ASKED), ("plain", ALL, {}), ("other", NONE, ASKED)):
        for wait in scene.ask(name, plan=plan, **more):
            wait.result(LONG_S)
    scene.flush()
    assert [(one.request, one.has_content) for one in samples(path)] == [("all", True), ("plain", True)]
    kept = {(one.request, one.part): one.text for one in read(path)[1]}
    assert json.loads(kept["all", "asked"]) == {
        **ASKED, "tools": [{"name": "find", "input_schema": {"type": "object", "description": "a ? name"}}],
        "stop_sequences": ["END"], "extra": {"temperature": 0.2},
    }  # fmt: skip
    assert {request for request, part in kept if part == "asked"} == {"all"}
    assert "a secret" not in "".join(kept.values())


def refuse(text: str) -> str:
    """A `redact` that fails."""
    raise ValueError(text)


def test_what_cannot_be_redacted_cannot_be_graded(path: Path) -> None:
    """Its prompt is not stored, so the row says that there is none, and nothing else of it is kept."""
    scene = Scene(path, Ledger(content=True, redact=f"{__name__}:refuse"))
    with capture_logs():
        for wait in scene.ask("one", plan=ALL, **ASKED):
            wait.result(LONG_S)
    assert [one.has_content for one in samples(path)] == [False]
    assert read(path)[1] == []


def test_threads_share_one_distribution(path: Path) -> None:
    """Requests of several threads at once: all are counted, and the share is met among them, whatever their order."""
    scene, plan = Scene(path), plan_of(sample=0, lowest_confidence=0.1)
    steps = steps_of(1)
    answer = answer_of("any", steps)

    def work(worker: int) -> None:
        chance = random.Random(worker)
        for number in range(500):
            finish(scene, f"{worker}-{number}", replace(answer, confidence=chance.random()), steps, plan=plan)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scene.flush()
    assert 100 < len(samples(path)) < 280  # 190, and seven standard errors


def test_a_request_is_sampled_the_same_way_by_every_driver(path: Path) -> None:
    """The hash decides, not the process: two hooks on one ledger take the same requests of the uniform sample."""
    plan = plan_of(sample=0.2, lowest_confidence=0)
    scenes = Scene(path), Scene(path)
    names = [f"r{number}" for number in range(100)]
    for scene in scenes:
        for name in names:
            ask(scene.hook, name, plan=plan)
        scene.flush()
    assert [one.request for one in AuditTables(str(path)).samples()] == sorted(
        name for name in names if is_uniform(name, 0.2)
    )
