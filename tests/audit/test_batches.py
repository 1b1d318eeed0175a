"""`audit run --batch`: the same gradings at half the price, and no call paid twice, whenever it is stopped or killed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cascade.audit.batching import LEASE_S, batches_folder
from cascade.audit.run import AuditRun
from cascade.core.errors import ConfigurationError, LedgerError
from cascade.ledger.audit import AuditTables
from cascade.ledger.opening import open_reader
from cascade.ledger.stores import LedgerDown
from tests.audit.auditing import YAML, Scene
from tests.audit.conftest import MakeScene
from tests.audit.test_worker import EXACT, audit_entries, graded
from tests.warm import WarmPython

QUESTIONS = [f"question {number}{' wrong' if number % 3 == 0 else ''}" for number in range(1, 9)]


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where batches are known."""
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "home"))


def batched(scene: Scene, **options: Any) -> AuditRun:
    """One run of the audit in batches."""
    settings = {"batch": True, "poll_s": 0.01, **options.pop("settings", {})}
    with scene.client() as client:
        return scene.audit(settings=settings, batch_client=client, **options)


def spent(scene: Scene) -> int:
    """What the audit has cost, by the ledger, in nano-USD."""
    reader = open_reader(scene.path)
    try:
        return reader.spent("shop", "arm", "audit", 0, scene.now + 1_000)
    finally:
        reader.close()


def test_shadow_answers_and_judgements_cost_half_and_grade_the_same(make_scene: MakeScene) -> None:
    """Two rounds; a control item is asked live; each call on the ledger apart, at batch prices; nothing is left over."""
    scene = make_scene()
    scene.trust("judge:opus")
    scene.ship(*QUESTIONS)
    before = scene.emulator.billed.replies
    run = batched(scene)
    assert (run.graded, run.skipped, run.failed, run.stop, run.counts["open"]) == (8, {}, 0, None, 0)
    found = {question: graded(one) for question, one in scene.samples.items()}
    assert found == {one: ("judge:opus", 0.0 if "wrong" in one else 1.0, None) for one in QUESTIONS}
    batches = [one for one in scene.emulator.requests if one.method == "POST" and one.path.endswith("/batches")]
    assert len(batches) == 2
    assert scene.emulator.batches.billed.replies == 16
    assert set(scene.emulator.batches.paid.values()) == {1}
    assert scene.emulator.billed.replies - before == 16 + run.controls
    entries = audit_entries(scene)
    assert len(entries) == 16 + run.controls
    usage = scene.emulator.batches.billed.usage
    at_batch_price = usage.input_tokens * 2_000 + usage.output_tokens * 10_000
    live_controls = sum(one.cost for one in scene.tables.controls("shop"))
    assert spent(scene) == run.spent == at_batch_price + live_controls
    assert not batches_folder(scene.policy, str(scene.path)).exists()


def test_it_grades_as_the_live_audit_does(make_scene: MakeScene) -> None:
    """A plain grader, answers of the top rung and of nobody among them: numbered in the order in which they were shipped."""
    scene = make_scene(audit=EXACT, exhausted="abstain")
    shipped = ["question 1", "question 2 hard", "question 3 wrong", "question 4 hard", "question 5"]
    scene.ship(*shipped)
    assert batched(scene).graded == 5
    samples = scene.samples
    found = {question: graded(one)[:2] for question, one in samples.items()}
    assert found == {
        "question 1": ("exact", 1.0),
        "question 2 hard": ("top", 1.0),
        "question 3 wrong": ("exact", 0.0),
        "question 4 hard": ("top", 1.0),
        "question 5": ("exact", 1.0),
    }
    free = [samples[one].number for one in shipped if "hard" in one]
    assert min(free) > samples["question 1"].number  # none is graded ahead of those before it that need a call


def test_a_cap_holds_and_what_has_no_room_waits(make_scene: MakeScene) -> None:
    """Bounds are reserved before anything is sent; what the calls cost less makes room for further rounds."""
    scene = make_scene(audit=EXACT)
    scene.ship(*QUESTIONS)
    cap = 30_000_000  # one call may cost up to 23 million nano-USD, and costs 4 million
    run = batched(scene, settings={"cap": cap})
    assert run.stop is not None
    assert run.stop.kind == "max_usd"
    assert 0 < run.graded < 8
    assert run.spent <= cap
    assert run.counts["open"] == 8 - run.graded
    assert run.counts["leased"] == 0
    rest = batched(scene)
    assert (rest.graded + run.graded, rest.counts["open"]) == (8, 0)
    assert spent(scene) == run.spent + rest.spent
    assert set(scene.emulator.batches.paid.values()) == {1}


def test_a_run_that_is_stopped_keeps_its_leases_and_the_next_one_collects(make_scene: MakeScene) -> None:
    """Batches under way are not waited for, not given to others, and not paid again."""
    scene = make_scene(audit=EXACT)
    scene.ship(*QUESTIONS[:4])
    scene.emulator.faults = "spend_cap,on=retrieve"
    run = batched(scene)
    assert run.stop is not None
    assert (run.stop.kind, run.graded, run.counts["leased"]) == ("refused", 0, 4)
    assert 0 < run.leased_s <= LEASE_S
    scene.emulator.faults = None
    assert scene.audit().graded == 0  # a live worker gets none of them
    rest = batched(scene)
    assert (rest.graded, rest.counts["open"]) == (4, 0)
    assert scene.emulator.batches.billed.replies == 4
    assert all(one.grading is not None for one in scene.tables.samples())
    assert len(audit_entries(scene)) == 4


def test_what_is_on_the_ledger_is_not_put_there_again(make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends between the ledger's entry and the sample's: the next one takes the stored outcome, and books nothing."""
    scene = make_scene(audit=EXACT)
    scene.ship(*QUESTIONS[:4])

    def fails(*_: object) -> bool:
        raise LedgerDown("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(AuditTables, "keep_shadow", fails)
        with pytest.raises(LedgerError):
            batched(scene)
    assert len(audit_entries(scene)) > 0
    run = batched(scene)
    assert (run.graded, run.counts["open"]) == (4, 0)
    assert scene.emulator.batches.billed.replies == len(audit_entries(scene)) == 4
    assert spent(scene) == sum(one.shadow_cost for one in scene.tables.samples())
    assert not batches_folder(scene.policy, str(scene.path)).exists()


def test_samples_whose_calls_expire_or_fail_are_tried_again(make_scene: MakeScene) -> None:
    """Within a run three times, later with the next run; nothing is paid twice, and the ledger's sums hold."""
    scene = make_scene(audit=EXACT)
    scene.ship(*QUESTIONS)
    scene.emulator.faults = "expired=0.4;overloaded=0.4,on=items"
    run = batched(scene)
    for _ in range(5):
        scene.now += 7_200
        if not run.counts["open"]:
            break
        scene.emulator.faults = None
        run = batched(scene)
    assert run.counts["open"] == 0
    assert scene.emulator.batches.billed.replies == sum(1 for one in scene.tables.samples() if one.shadow is not None)
    assert set(scene.emulator.batches.paid.values()) == {1}


def test_an_endpoint_without_batches_is_a_clear_error(make_scene: MakeScene) -> None:
    """Nothing is leased afterwards, and a live run grades."""
    scene = make_scene(audit=EXACT)
    scene.ship("question 1")
    with scene.client() as client:
        other = client.with_options(base_url=f"{scene.emulator.base_url}/elsewhere")
        with pytest.raises(ConfigurationError, match="has no Message Batches API"):
            scene.audit(settings={"batch": True, "poll_s": 0.01}, batch_client=other)
    assert scene.audit().graded == 1


def test_killed_while_batches_are_under_way_it_grades_each_sample_once_and_pays_once(
    make_scene: MakeScene, warm_python: WarmPython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed as the batch is made, and as it is half processed: one grading and one paid call each."""
    scene = make_scene(audit=EXACT)
    scene.ship(*QUESTIONS)
    (tmp_path / "policy.yaml").write_text(json.dumps({**YAML, "audit": {**YAML["audit"], **EXACT}}), encoding="utf-8")
    environment = {name: os.environ[name] for name in ("PATH", "VIRTUAL_ENV") if name in os.environ} | {
        "ANTHROPIC_BASE_URL": scene.emulator.base_url,
        "ANTHROPIC_API_KEY": "test",
        "CASCADE_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path),
    }
    command = ["-m", "cascade.cli", "audit", "run", "--policy", str(tmp_path / "policy.yaml"), "--batch", "--poll-s", "0.05",
               "--ledger", str(scene.path), "--json"]  # fmt: skip
    struck: dict[str, int] = {}
    taken = scene.emulator.next_id

    def next_id() -> int:
        """Strike when it makes a batch, or processes a request: each takes a number."""
        if struck:
            struck["after"] -= 1
            if not struck["after"]:
                os.kill(struck["victim"], 9)
                struck.clear()
        return taken()

    monkeypatch.setattr(scene.emulator, "next_id", next_id)
    for after in (2, 8):
        process = warm_python.start(command, cwd=tmp_path, env=environment)
        struck.update(after=after, victim=process.child)
        process.communicate(timeout=120)
        assert process.returncode == -9
    process = warm_python.start(command, cwd=tmp_path, env=environment)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["samples"] == {"open": 0, "leased": 0, "graded": 8, "skipped": 0}
    assert scene.emulator.batches.billed.replies == 8
    assert set(scene.emulator.batches.paid.values()) == {1}
    entries = audit_entries(scene)
    assert len(entries) == 8
    assert spent(scene) == sum(one.shadow_cost for one in scene.tables.samples())
