"""The audit's worker: shadow answers, graders, what is skipped and why, resuming, caps, and failures of the endpoint."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from cascade.audit.caps import daily_note, smallest_call_usd
from cascade.audit.sampled import lease_s
from cascade.audit.worker import AuditSettings, AuditWorker
from cascade.core.errors import ConfigurationError, LedgerError, PolicyError
from cascade.emulator.requests import ApiError
from cascade.emulator.scripting import ScriptedReply
from cascade.ledger.audit import Sample
from cascade.ledger.gateway import Feedback, GatewayTables
from cascade.ledger.opening import open_ledger, open_reader
from cascade.ledger.records import RequestBody
from cascade.ledger.verifying.verification import verify
from tests.audit.auditing import OPUS, Scene, policy
from tests.audit.conftest import MakeScene

EXACT: dict[str, Any] = {"grader": "exact"}


def graded(sample: Sample) -> tuple[str, float | None, str | None]:
    """Who graded it, the score, and why it was skipped."""
    assert sample.grading is not None
    return sample.grading.grader, sample.score, sample.grading.skipped


def audit_entries(scene: Scene) -> dict[str, RequestBody]:
    """The requests that the audit has on the ledger, by id."""
    reader = open_reader(scene.path)
    try:
        bodies = {
            entry.request: msgspec.json.decode(entry.body, type=RequestBody)
            for entry in reader.entries()
            if entry.kind == "request"
        }
        found = verify(reader)
    finally:
        reader.close()
    assert found.findings == ()
    return {request: body for request, body in bodies.items() if body.arm == "audit"}


def test_each_sampled_request_is_graded_once_against_the_top_rungs_answer(make_scene: MakeScene) -> None:
    """By the plain grader that the policy names; answers of the top rung and of nobody cost nothing; a second run does nothing."""
    scene = make_scene(audit=EXACT, exhausted="abstain")
    scene.ship("question 1", "question 2 wrong", "question 3 hard")
    run = scene.audit()
    assert (run.graded, run.skipped, run.stop, run.counts["open"]) == (3, {}, None, 0)
    found = {question: graded(one) for question, one in scene.samples.items()}
    assert found == {
        "question 1": ("exact", 1.0, None),
        "question 2 wrong": ("exact", 0.0, None),
        "question 3 hard": ("top", 1.0, None),
    }
    asked = scene.emulator.asked.copy()
    assert asked == {("top", "question 1"): 1, ("top", "question 2 wrong"): 1, ("top", "question 3 hard"): 1}
    again = scene.audit()
    assert (again.graded, again.spent, scene.emulator.asked) == (0, 0, asked)


def test_every_call_is_on_the_ledger_apart_and_without_texts(make_scene: MakeScene) -> None:
    """Under the arm "audit", with the audited request; its cost is what the samples say; the books add up; no text is in them."""
    scene = make_scene(budget={"daily_usd": "0.000001", "on_exhausted": "alert"})
    scene.ship("question 1", "question 2 wrong")
    run = scene.audit()
    entries = audit_entries(scene)
    ids = set(scene.ids)
    assert {body.observed_as for body in entries.values()} == ids
    names = {name.rpartition("_")[0] for name in entries}
    assert {f"{one}_audit" for one in ids} | {f"{one}_audit_judge" for one in ids} <= names
    assert all(not body.content and not body.metadata for body in entries.values())
    reader = open_reader(scene.path)
    try:
        spent = reader.spent("shop", "arm", "audit", 0, scene.now + 1_000)
    finally:
        reader.close()
    samples = scene.samples.values()
    costs = sum(one.shadow_cost + (one.grading.cost if one.grading else 0) for one in samples)
    controls = sum(one.cost for one in scene.tables.controls("shop"))
    assert spent == run.spent == costs + controls > 0


def test_a_stored_shadow_answer_is_not_asked_again(make_scene: MakeScene) -> None:
    """A worker that ended after its shadow answer was kept leaves it to the next one."""
    scene = make_scene(audit=EXACT)
    scene.ship("question 1 wrong")
    leased: Any = scene.tables.lease("shop", "dead", scene.now, 5, bound=0, cap=None, day=0)
    assert scene.tables.keep_shadow(leased, "right 1", 7, scene.now, 5)
    assert scene.audit().graded == 0  # another worker's
    scene.now += 6
    assert scene.audit().graded == 1
    assert graded(scene.samples["question 1 wrong"]) == ("exact", 0.0, None)
    assert scene.emulator.asked == {}


def test_a_real_outcome_outranks_every_grader_and_costs_nothing(make_scene: MakeScene) -> None:
    """It is the score, and neither shadow answer nor judge is asked."""
    scene = make_scene()
    scene.ship("question 1")
    GatewayTables(str(scene.path)).add_feedback(Feedback(next(iter(scene.ids)), 0.25, scene.now))
    assert scene.audit().spent == 0
    assert graded(scene.samples["question 1"]) == ("outcome", 0.25, None)


class Place(BaseModel):
    """What a structured request wants."""

    n: int
    city: str


def test_the_shadow_is_asked_what_was_asked(make_scene: MakeScene) -> None:
    """System prompt, schema and room are those of the request; structured answers are compared as JSON values."""
    reply = [{"type": "text", "text": '{"city": "Zürich",  "n": 1.0}'}]
    scene = make_scene(audit=EXACT, shadow=lambda _: reply)
    scene.ship("question 1 json", system="be brief", max_tokens=99, response_model=Place)
    assert scene.audit().graded == 1
    assert graded(scene.samples["question 1 json"]) == ("exact", 1.0, None)
    (asked,) = (one.body for one in scene.emulator.requests if one.body["model"] == OPUS)
    assert asked["system"] == "be brief"
    assert asked["output_config"]["format"]["schema"]["required"] == ["n", "city"]
    assert asked["messages"] == [{"role": "user", "content": "question 1 json"}]


def test_a_shadow_answer_that_tells_nothing_is_skipped_with_its_reason(make_scene: MakeScene) -> None:
    """Truncated, refused, a tool call, or a prompt that does not fit: each says what it is."""
    replies: dict[str, Any] = {
        "question 1": ScriptedReply([{"type": "text", "text": "half"}], stop_reason="max_tokens"),
        "question 2": ScriptedReply([{"type": "text", "text": "no"}], stop_reason="refusal"),
        "question 3": [{"type": "tool_use", "name": "look", "input": {}}],
        "question 4": ApiError(400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
    }

    def shadow(question: str) -> Any:
        reply = replies[question]
        if isinstance(reply, Exception):
            raise reply
        return reply

    scene = make_scene(audit=EXACT, shadow=shadow)
    scene.ship(*replies)
    run = scene.audit()
    assert (run.graded, run.skipped) == (0, {"shadow_unusable": 3, "too_long": 1})
    assert graded(scene.samples["question 4"]) == ("exact", None, "too_long")


def test_what_is_not_kept_cannot_be_graded_and_says_so(make_scene: MakeScene) -> None:
    """Without content, and with content that was erased; no call is made for either."""
    scene = make_scene(audit=EXACT)
    scene.ship("question 1", policy=policy(ledger={"content": False}))
    scene.ship("question 2")
    reader = open_reader(scene.path)
    try:
        assert reader.erase([one for one, question in scene.ids.items() if question == "question 2"])
    finally:
        reader.close()
    assert scene.audit().skipped == {"no_content": 2}
    assert scene.emulator.asked == {}


def test_a_grader_of_the_users_own_sees_the_request_and_may_fail(make_scene: MakeScene) -> None:
    """It is given what `record` gives it. Where it or another cannot tell, the sample is graded, and no rate counts it."""
    own = [{"name": name, "grader": f"tests.audit.test_worker:{name}"} for name in ("sees", "fails")]
    scene = make_scene(audit={"grader": "numeric"}, tasks=own)
    scene.ship("question one")
    scene.ship("question two", task="fails")
    scene.ship("question three", task="sees", system="be brief")
    assert scene.audit().graded == 3
    found = scene.samples
    assert graded(found["question one"]) == ("numeric", None, None)
    assert graded(found["question two"]) == ("tests.audit.test_worker:fails", None, None)
    assert graded(found["question three"]) == ("tests.audit.test_worker:sees", 0.75, None)
    relations = {question: one.grading.relation for question, one in found.items() if one.grading}
    assert relations == {"question one": "cannot_tell", "question two": "cannot_tell", "question three": None}


def sees(answer: str, expected: str, item: dict[str, Any]) -> float:
    """A grader of the user's own, which looks at all that it is given."""
    given = (answer, expected, item["input"], item["system"], item["task"])
    return 0.75 if given == ("right three", "right three", "question three", "be brief", "sees") else 0.0


def fails(answer: str, expected: str, _: object) -> bool:
    """One that raises."""
    raise ValueError(answer + expected)


def test_a_grader_of_the_users_own_that_hangs_holds_up_nothing_else(make_scene: MakeScene) -> None:
    """It has a thread of its own: the worker's few are free for the next sample, and at the end nobody waits for it."""
    SECOND.clear()
    scene = make_scene(audit={"grader": "tests.audit.test_worker:waits"})
    scene.ship("question 1", "question 2")

    async def go() -> int:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        async with scene.async_client() as client:
            settings = AuditSettings(scene.policy, str(scene.path))
            return (await AuditWorker(settings, client=client, wall=lambda: scene.now).run()).graded

    assert asyncio.run(go()) == 2
    assert [one.score for one in scene.samples.values()] == [1.0, 1.0]


SECOND = threading.Event()


def waits(answer: str, _expected: str, _item: object) -> bool:
    """Hangs at the first question until the second one is graded."""
    if answer == "right 2":
        SECOND.set()
    return SECOND.wait(30)


def test_a_vote_is_graded_by_the_text_that_it_shipped(make_scene: MakeScene) -> None:
    """Of several samples the ledger keeps each text; the first one that agrees was shipped."""
    texts = iter(["other 1", "right 1", "RIGHT 1"])
    haiku, *others = policy().model_dump(mode="json", exclude_defaults=True)["ladder"]
    samples = {"max": 3, "agree": 2, "same": "normalized"}
    scene = make_scene(audit=EXACT, ladder=[{**haiku, "samples": samples}, *others], sampled=lambda: next(texts))
    scene.ship("question 1")
    assert scene.audit().graded == 1
    assert graded(scene.samples["question 1"]) == ("exact", 1.0, None)


def test_two_runs_share_the_work_and_do_nothing_twice(make_scene: MakeScene) -> None:
    """Two workers at once, four samples at a time each: every sample has one shadow answer and one grade."""
    scene = make_scene(audit=EXACT)
    scene.ship(*(f"question {number}" for number in range(8)))

    async def go() -> list[int]:
        async with scene.async_client() as client:
            settings = AuditSettings(scene.policy, str(scene.path))
            workers = [AuditWorker(settings, client=client, wall=lambda: scene.now) for _ in range(2)]
            return [run.graded for run in await asyncio.gather(*(one.run() for one in workers))]

    assert sum(asyncio.run(go())) == 8
    assert set(scene.emulator.asked.values()) == {1}
    assert sorted(one.number for one in scene.samples.values()) == list(range(1, 9))


def test_the_cap_of_the_day_is_kept_and_the_rest_waits(make_scene: MakeScene) -> None:
    """What the audit has spent never passes `daily_usd`; the samples that are left stay open, and are graded the next day."""
    scene = make_scene(audit={**EXACT, "daily_usd": "0.06"})
    scene.ship(*(f"question {number}" for number in range(5)))
    run = scene.audit()
    assert run.stop is not None
    assert run.stop.kind == "daily_usd"
    assert 0 < run.graded < 5
    assert run.counts["open"] == 5 - run.graded
    assert run.spent <= 60_000_000
    again = scene.audit()
    assert (again.graded, again.spent) == (0, 0)
    scene.now += 86_400
    assert scene.audit().graded > 0


def test_max_usd_is_of_one_run(make_scene: MakeScene) -> None:
    """It is never passed; the next run does the rest."""
    scene = make_scene(audit=EXACT)
    scene.ship(*(f"question {number}" for number in range(5)))
    first = scene.audit(settings={"cap": 60_000_000})
    assert first.stop is not None
    assert first.stop.kind == "max_usd"
    assert first.spent <= 60_000_000
    assert 0 < first.graded < 5
    assert scene.audit().graded == 5 - first.graded


def test_a_sample_whose_prompt_may_cost_more_than_the_cap_of_a_day_is_skipped(make_scene: MakeScene) -> None:
    """Else it would hold up all behind it for ever."""
    smallest = smallest_call_usd(policy(audit=EXACT))
    scene = make_scene(audit={**EXACT, "daily_usd": str(smallest + Decimal("0.001"))})
    scene.ship("question 1 " + "and more " * 1_000, "question 2")
    run = scene.audit()
    assert (run.graded, run.skipped) == (1, {"too_costly": 1})


def test_a_cap_of_a_day_below_the_smallest_call_skips_nothing(make_scene: MakeScene) -> None:
    """The cap is at fault, not the samples: they stay open, and a higher cap grades them."""
    smallest = smallest_call_usd(policy(audit=EXACT))
    scene = make_scene(audit={**EXACT, "daily_usd": str(smallest - Decimal("0.000001"))})
    scene.ship("question 1", "question 2")
    run = scene.audit()
    assert run.stop is not None
    assert (run.stop.kind, run.graded, run.skipped, run.counts["open"]) == ("daily_usd", 0, {}, 2)
    assert "no sample that needs a call is graded" in (daily_note(scene.policy) or "")
    enough = policy(audit={**EXACT, "daily_usd": "1"})
    assert (scene.audit(policy=enough).graded, daily_note(enough)) == (2, None)


def test_a_failing_call_is_tried_again_later_and_at_most_three_times(make_scene: MakeScene) -> None:
    """The other samples are graded meanwhile; a sample is not tried again before its time."""

    def shadow(question: str) -> None:
        if "bad" in question:
            raise ApiError(529, "overloaded_error", "later")

    scene = make_scene(audit=EXACT, shadow=shadow)
    scene.ship("question 1 bad", "question 2")
    first = scene.audit()
    assert (first.graded, first.failed, first.counts["open"], first.stop) == (1, 1, 1, None)
    assert scene.audit().failed == 0
    for _ in range(2):
        scene.now += 3_600
        last = scene.audit()
    assert last.skipped == {"shadow_failed": 1}
    assert scene.emulator.asked["top", "question 1 bad"] == 3


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ApiError(401, "authentication_error", "no"), "refused"),
        (ApiError(404, "not_found_error", "no"), "refused"),
        (ApiError(500, "api_error", "no"), "outage"),
    ],
)
def test_an_endpoint_that_refuses_or_fails_on_all_stops_the_run_and_nothing_is_skipped(
    make_scene: MakeScene, error: ApiError, kind: str
) -> None:
    """A key that is refused at the first call, a server that fails at the tenth: all samples stay open."""

    def shadow(_: str) -> None:
        raise error

    scene = make_scene(audit=EXACT, shadow=shadow)
    scene.ship(*(f"question {number}" for number in range(12)))
    run = scene.audit()
    assert run.stop is not None
    assert run.stop.kind == kind
    assert (run.graded, run.skipped, run.counts["open"]) == (0, {}, 12)
    scene.audit()
    assert len(audit_entries(scene)) == scene.emulator.asked.total()  # no id is used twice


def test_a_watch_goes_on_until_it_is_stopped(make_scene: MakeScene) -> None:
    """It grades what comes meanwhile, waits out a cap until the next day, and ends with what is being graded."""
    scene = make_scene(audit={**EXACT, "daily_usd": "0.06"})
    scene.ship("question 1")
    waits: list[float] = []
    batches: list[int] = []

    async def go() -> Any:
        async with scene.async_client() as client:

            async def wait(seconds: float) -> None:
                waits.append(seconds)
                if len(waits) == 1:
                    await asyncio.to_thread(scene.ship, *(f"question {number}" for number in range(2, 6)))
                if seconds == 60:
                    scene.now += 86_400
                if scene.tables.counts("shop")["open"] == 0:
                    worker.stop("interrupted", "SIGTERM")

            settings = AuditSettings(scene.policy, str(scene.path), watches=True)
            worker = AuditWorker(
                settings, client=client, wall=lambda: scene.now, wait=wait, on_graded=lambda: batches.append(1)
            )
            return await worker.run()

    run = asyncio.run(go())
    assert run.stop is not None
    assert run.stop.kind == "interrupted"
    assert run.counts["open"] == 0
    assert waits[:2] == [5.0, 60.0]
    assert len(batches) >= 2


def test_a_lost_lease_throws_the_result_away(make_scene: MakeScene) -> None:
    """A worker whose lease ran out while it asked, and was taken by another, changes nothing; its money is on the ledger."""
    taken: list[Any] = []

    def shadow(_: str) -> None:
        if not taken:
            scene.now += lease_s(scene.policy.deadline_s) + 1
            taken.append(scene.tables.lease("shop", "other", scene.now, 100, bound=0, cap=None, day=0))

    scene = make_scene(audit=EXACT, shadow=shadow)
    scene.ship("question 1")
    run = scene.audit()
    assert (run.graded, run.skipped, run.counts["leased"]) == (0, {}, 1)
    assert run.spent > 0
    assert scene.tables.keep_shadow(taken[0], "right 1", 0, scene.now, 100)


def test_what_is_redacted_stays_so(make_scene: MakeScene) -> None:
    """Shadow answer and reason are kept as `ledger.redact` leaves them; the shipped answer is compared with the same form."""
    ledger = {"content": True, "redact": "tests.audit.test_worker:without_digits"}
    scene = make_scene(ledger=ledger, audit=EXACT)
    scene.ship("question 1", "question 2")
    assert scene.audit().graded == 2
    for sample in scene.samples.values():
        assert (sample.shadow, sample.score) == ("right #", 1.0)


def without_digits(text: str) -> str:
    """What a policy's `redact` may be; it leaves the question's number to the emulator."""
    return text if text.startswith("question") else "".join("#" if one.isdigit() else one for one in text)


def test_a_request_that_cannot_be_asked_again_does_not_stop_the_others(make_scene: MakeScene) -> None:
    """What was stored of it cannot be read: tried three times, then skipped with that reason."""
    scene = make_scene(audit=EXACT)
    scene.ship("question 1", "question 2")
    with sqlite3.connect(scene.path) as connection:
        connection.execute("UPDATE contents SET text = '{}' WHERE text LIKE '%question 1%'")
    connection.close()
    assert (scene.audit().graded, scene.audit().graded) == (1, 0)
    for _ in range(2):
        scene.now += 3_600
        last = scene.audit()
    assert last.skipped == {"unreadable": 1}
    assert scene.emulator.asked == {("top", "question 2"): 1}


def test_what_cannot_be_audited_is_refused_at_once(make_scene: MakeScene) -> None:
    """A policy without an audit, a judge that is not on the ladder, a grader that does not exist."""
    scene = make_scene()
    scene.ship("question 1")
    without = scene.policy.model_copy(update={"audit": None})
    with pytest.raises(PolicyError, match=r"policy 'shop'.*audit: this policy samples nothing \(add `audit:"):
        scene.audit(policy=without)
    for grader, said in (("judge:gpt", "no rung 'gpt'"), ("exakt", "did you mean 'exact'")):
        with pytest.raises(ConfigurationError, match=said):
            scene.audit(policy=policy(audit={"grader": grader}))


def test_a_ledger_that_fails_ends_the_run_with_its_error(make_scene: MakeScene) -> None:
    """In one line that names the file."""
    scene = make_scene(audit=EXACT)
    scene.ship("question 1")
    open_ledger(scene.path, scene.policy.ledger).close()
    scene.path.write_bytes(b"not a database" * 500)
    with pytest.raises(LedgerError, match=r"ledger\.db"):
        scene.audit()
