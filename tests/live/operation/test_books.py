"""What a live request leaves in the ledger: every step and answer once, to the nano-USD, and nothing that users wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from cascade import Answer, Cascade, ClimbError, Policy
from cascade.core.triage import triage_tokens
from cascade.ledger.opening import open_ledger
from cascade.ledger.reading import reading
from cascade.ledger.records import Entry
from cascade.ledger.verifying.verification import verify
from tests.live.conftest import Asking, Driver, Emulate, Emulator, corpus, item, ladder, reply

PROMPTS = ["sure", "unsure", "hard", "declined", "void"]


def ask_all(driver: Driver, **more: Any) -> list[Answer]:
    """An answer to each prompt that has one."""
    answers: list[Answer] = []
    for prompt in PROMPTS:
        with suppress(ClimbError):
            answers.append(driver.ask(prompt, **more))
    return answers


def entries() -> list[Entry]:
    """All of them, once what waits is written."""
    for durability in ("batched", "commit"):
        open_ledger(None, ladder(ledger={"durability": durability}).ledger).flush()
    with reading(None) as reader:
        assert not verify(reader).findings
        return list(reader.entries())


def bodies(kept: list[Entry], kind: str) -> list[dict[str, Any]]:
    """The bodies of this kind."""
    return [msgspec.json.decode(entry.body) | {"id": entry.request} for entry in kept if entry.kind == kind]


def files() -> Iterator[Path]:
    """Everything that was written under CASCADE_HOME."""
    return (path for path in Path(os.environ["CASCADE_HOME"]).rglob("*") if path.is_file())


@pytest.mark.parametrize("durability", ["batched", "commit"])
def test_every_step_and_answer_is_on_record_to_the_nano_usd(
    asking: Asking, emulator: Emulator, durability: str
) -> None:
    """As the answers tell it themselves, in order, with the reason of each climb; the failed one, too."""
    policy = ladder(ledger={"durability": durability})
    answers = ask_all(asking(policy, emulator), metadata={"workflow": "w", "customer": "c-1"})
    kept = entries()
    outcomes = {body["id"]: body for body in bodies(kept, "outcome")}
    assert {name: (one.get("rung"), one["cost"]) for name, one in outcomes.items() if "error" not in one} == {
        answer.request_id: (answer.rung, answer.cost_nanousd) for answer in answers
    }
    (lost,) = [body for body in outcomes.values() if "error" in body]
    assert lost["error"] == "AllRungsFailed"
    steps = bodies(kept, "step")
    told = [(a.request_id, step.rung, step.cost_nanousd, step.reason) for a in answers for step in a.steps]
    assert [(s["id"], s["rung"], s["cost"], s.get("reason")) for s in steps if s["id"] != lost["id"]] == told
    assert sum(step["cost"] for step in steps) == sum(body["cost"] for body in outcomes.values())
    assert len(bodies(kept, "open")) == (len(steps) if durability == "commit" else 0)
    assert {(body["metadata"]["customer"], body["policy_hash"]) for body in bodies(kept, "request")} == {
        ("c-1", policy.hash)
    }


def test_nothing_of_what_users_write_or_of_a_key_is_kept_or_told(
    emulate: Emulate, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A default run: no prompt, answer, system prompt or key in any file, event or output."""
    prompt, said, key, system = secrets = ("PROMPT-7f3a", "ANSWER-9c1b", "KEY-2d8e", "SYSTEM-4b6f")
    emulator = emulate(corpus(item(prompt, reply(0.5, said), reply(0.9, said), reply(None, said))))
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.base_url)
    with capture_logs() as events, Cascade(ladder()) as driver:
        assert driver.ask(prompt, system=system).text == said
        with pytest.raises(ClimbError):
            driver.ask("not in the corpus", system=system)
    assert [entry.kind for entry in entries()].count("outcome") == 2
    written = b"".join(path.read_bytes() for path in files()) + repr((events, capfd.readouterr())).encode()
    assert [text for text in secrets if text.encode() in written] == []


def test_the_estimate_leaves_the_triage_out(asking: Asking, emulate: Emulate) -> None:
    """What the baseline would have cost: not the rules that only the triage is told, nor the envelope; at the top its own usage."""
    rules, envelope = triage_tokens(ladder())
    assert rules > 100
    triaged = {"input_tokens": 443 + rules, "output_tokens": 13 + envelope}
    plain = {"input_tokens": 443, "output_tokens": 13}
    emulator = emulate(
        corpus(
            item("sure", reply(0.9, "a", usage=triaged), reply(0.9, "a", usage=triaged), reply(None, "a", usage=plain)),
            item("hard", reply(0.1, "a", usage=triaged), reply(0.1, "a", usage=triaged), reply(None, "a", usage=plain)),
        )
    )
    driver = asking(ladder(), emulator)
    for prompt in ("sure", "hard"):
        driver.ask(prompt)
    opus = 443 * 4_000 + 13 * 20_000
    assert [outcome["estimate"] for outcome in bodies(entries(), "outcome")] == [opus, opus]


def test_texts_are_kept_where_the_policy_says_so(asking: Asking, emulator: Emulator) -> None:
    """The prompt and each answer, apart from the books, with a digest in them."""
    answer = asking(ladder(ledger={"content": True}), emulator).ask("unsure", system="Be brief.")
    kept = entries()
    with reading(None) as reader:
        texts = {content.part: content.text for content in reader.contents([answer.request_id])}
    assert (texts["step:0"], texts["step:1"]) == ("haiku's", "sonnet's")
    assert "unsure" in texts["prompt"]
    assert "Be brief." in texts["prompt"]
    assert bodies(kept, "request")[0]["content"].keys() == {"prompt"}


def test_a_ledger_may_be_off(asking: Asking, emulator: Emulator) -> None:
    """By the policy or by the driver: nothing is written at all."""
    policies: list[tuple[Policy, dict[str, Any]]] = [(ladder(ledger="off"), {}), (ladder(), {"ledger": "off"})]
    for policy, options in policies:
        assert asking(policy, emulator, **options).ask("sure").rung == "haiku"
    assert list(files()) == []


def test_a_home_that_cannot_be_written_costs_no_answer(
    asking: Asking, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With either durability; it is told."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "file" / "home"))
    with capture_logs() as events:
        for durability in ("batched", "commit"):
            driver = asking(ladder(ledger={"durability": durability}), emulator)
            assert [driver.ask("sure").rung for _ in range(3)] == ["haiku"] * 3
    assert "ledger_down" in {event["event"] for event in events}


def test_a_request_that_is_refused_is_on_record(asking: Asking, emulator: Emulator) -> None:
    """A budget without room: an outcome with its error, and no step."""
    policy = ladder(budget={"daily_usd": "0.000000001", "on_exhausted": "reject"})
    with pytest.raises(ClimbError):
        asking(policy, emulator).ask("sure")
    (outcome,) = bodies(entries(), "outcome")
    assert (outcome["error"], outcome["cost"], outcome["steps"]) == ("BudgetExceeded", 0, 0)
