"""The field's customer-service stack, offline: two vendors, one emulator."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any

import pytest

from cascade import Cascade
from cascade.cli import run_command
from cascade.core.messages import Reply
from cascade.core.prompts.handoff import ARTIFACT_SCHEMA
from cascade.core.strict import strict_fault
from cascade.core.triage import Prompt
from cascade.emulator import Emulator, ScriptedReply
from cascade.policy.binding import bind_policy
from cascade.policy.loading import load_policy
from cascade.providers import AsyncProviders, Providers
from tests.live.conftest import HAIKU, OPUS, SONNET, Asking, Emulate, corpus, item, reply
from tests.live.vendors.conftest import LUNA, at_home

TICKETS = corpus(
    item("Where is my parcel?", reply(0.95, "On its way."), reply(0.95, "s"), reply(None, "o")),
    item("Is this a supervisor matter?", reply(0.95, "No."), reply(0.95, "Sonnet answers."), reply(None, "o")),
)
ALL = (HAIKU, SONNET, OPUS, LUNA)


@pytest.fixture
def desk(emulate: Emulate, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The stack's two endpoints."""
    return at_home(emulate(TICKETS, canned=True), monkeypatch)


def test_haiku_answers_most_tickets_and_hands_the_upset_on(desk: Emulator) -> None:
    """The other vendor's model is not asked about a short thread."""
    with Cascade("customer-service") as driver:
        assert str(driver.ask("Where is my parcel?")) == "On its way."
        answer = driver.ask("Is this a supervisor matter?")
    assert (str(answer), answer.rung, answer.task) == ("Sonnet answers.", "sonnet", "upset")
    assert dict(desk.requests_by_model) == {HAIKU: 2, SONNET: 1}


SUMMARY = "The customer ordered a lamp, W-4711. A refund of 20 EUR was promised."
PLAN = {
    "intent": "Confirm the refund of 20 EUR for W-4711.", "tone": "warm", "must_mention": ["W-4711"], "forbidden": ["guarantee"],
    "next_action": "",
}  # fmt: skip
ANSWER = "We refund 20 EUR for W-4711."
THREAD = [
    {"role": "user", "content": "I ordered a lamp, W-4711. " + "It is broken. " * 400},
    {"role": "assistant", "content": "You get 20 EUR back. " * 300},
    {"role": "user", "content": "Thank you. " * 100},
    {"role": "assistant", "content": "You are welcome."},
    {"role": "user", "content": "Where is my money?"},
]


def clerk(body: dict[str, Any], headers: Any) -> Any:
    """All four models: Luna summarises, Haiku and Sonnet are unsure, Opus plans, Haiku words the plan."""
    said = {LUNA: SUMMARY, OPUS: json.dumps(PLAN), HAIKU: ANSWER, SONNET: "Perhaps."}[body["model"]]
    return ScriptedReply([{"type": "text", "text": said}], confidence=0.2)


@pytest.mark.parametrize("thread", ["long", "short", "with a document"])
def test_the_whole_stack_at_work(
    asking: Asking, emulate: Emulate, monkeypatch: pytest.MonkeyPatch, thread: str
) -> None:
    """Haiku hands on, Opus plans by the original, Haiku words it; a long thread was summarised first, once, by the other vendor.

    That one cannot read documents: then the climb goes on with the original, and the answer says so.
    """
    emulator = at_home(emulate((), script=clerk), monkeypatch)
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "the invoice"}}
    turns: list[Any] = THREAD if thread != "short" else THREAD[-1:]
    if thread == "with a document":
        turns = [
            *THREAD[:2],
            {"role": "user", "content": [document, {"type": "text", "text": "See there."}]},
            *THREAD[3:],
        ]
    answer = asking(load_policy("customer-service"), emulator).ask(turns)
    assert (answer.text, answer.rung) == (ANSWER, "opus")
    asked = [request.body for request in emulator.requests]
    models = [body["model"] for body in asked]
    assert models == [*([LUNA] if thread == "long" else ()), HAIKU, SONNET, OPUS, HAIKU]
    (haiku, _, opus, _) = asked[-4:]
    assert (SUMMARY in json.dumps(haiku["messages"])) is (thread == "long")
    assert SUMMARY not in json.dumps(opus["messages"])
    assert sum(step.cost_nanousd for step in answer.steps) == round(answer.cost_usd * 1e9)
    if thread == "long":
        (summary,) = answer.steps[0].auxiliaries
        assert (summary.model, summary.verdict.kind) == (LUNA, "answered")
        assert 0 < summary.cost_nanousd < answer.steps[0].cost_nanousd
    assert any("without a summary" in note for note in answer.notes) is (thread == "with a document")


def test_a_plan_has_a_strict_form() -> None:
    """So that another vendor's rung may plan too."""
    assert strict_fault(ARTIFACT_SCHEMA) is None


@pytest.mark.parametrize("way", ["sync", "async"])
def test_its_summariser_is_called_through_its_vendors_api(desk: Emulator, way: str) -> None:
    """As the preparation of a long thread calls it: text in, text out, billed by its own prices."""
    policy = load_policy("customer-service")
    rung, rates = bind_policy(policy).auxiliaries["summariser"]
    prompt = Prompt(rung, ({"role": "user", "content": "Summarise this: …"},), "You summarise.", None, 1_024)

    async def summarise() -> object:
        calling = AsyncProviders(policy.retry, clock=time.monotonic, chance=random.Random(0))
        try:
            return await calling.call(prompt, time.monotonic() + 60)
        finally:
            await calling.aclose()

    if way == "sync":
        providers = Providers(policy.retry, clock=time.monotonic, chance=random.Random(0))
        said: object = providers.call(prompt, time.monotonic() + 60)
        providers.close()
    else:
        said = asyncio.run(summarise())
    assert isinstance(said, Reply)
    assert said.text.startswith("[canned answer]")
    assert rates.tiers[0][1].cache_read * 10 == rates.tiers[0][1].input
    (request,) = desk.requests
    assert (request.path, request.body["reasoning_effort"]) == ("/v1/chat/completions", "low")


def test_doctor_looks_at_both_endpoints(
    emulate: Emulate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that is not there and a key that is missing are named, each with its vendor's variable; nothing is spent."""
    emulator = at_home(emulate(TICKETS), monkeypatch)
    code, found = doctor(capsys)
    assert code == 4
    (problem,) = found["reachability", "missing"]
    assert problem == f"{emulator.base_url}/v1 knows none of the policy's models, or does not speak chat completions"
    monkeypatch.delenv("OPENAI_API_KEY")
    code, found = doctor(capsys)
    assert code == 2
    (missing,) = found["key", "missing"]
    assert missing.startswith("rung summariser: the environment variable OPENAI_API_KEY is not set")
    assert emulator.billed.replies == 0


def test_doctor_finds_both_endpoints_well(
    emulate: Emulate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the other one knows its model."""
    models: dict[str, str] = dict(zip(("haiku", "sonnet", "opus", "luna"), ALL, strict=True))
    emulator = at_home(emulate(corpus(item("a", reply(0.9, "b")), models=models)), monkeypatch)
    code, found = doctor(capsys)
    assert code == 0
    assert found["reachability", "ok"] == [emulator.base_url, f"{emulator.base_url}/v1"]
    assert ("model gpt-6-luna", "ok") in found
    assert not any(what == "JSON by gpt-6-luna" for what, _ in found), "a summary is no JSON"


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[tuple[str, str], list[str]]]:
    """Run it; its exit code, and what it found by check and state."""
    code = run_command(["doctor", "--policy", "customer-service", "--json"])
    found: dict[tuple[str, str], list[str]] = {}
    for one in json.loads(capsys.readouterr().out)["findings"]:
        found.setdefault((one["what"], one["state"]), []).append(one["found"])
    return code, found
