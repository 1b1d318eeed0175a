"""What a rung that is asked more than once leaves in the ledger: a row for each call, as the trail tells it, and one step."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest

from cascade import AsyncCascade, Cascade, Policy, cli
from cascade.core.errors import CorpusError
from cascade.corpora import Corpus, Item
from cascade.ledger.reading import reading
from cascade.ledger.verifying.verification import verify
from cascade.recording.from_ledger import read_observations
from tests.live.conftest import COST, HAIKU, Asking, Emulate, Emulator, corpus, ladder, reply
from tests.live.operation.test_books import bodies, entries

DURABILITIES = pytest.mark.parametrize("durability", ["batched", "commit"])


def votes(text: str, *answers: str) -> tuple[Item, ...]:
    """Items of one text, so that Haiku gives these answers in turn."""
    return tuple(
        Item(f"{text}-{n}", text, {"haiku": reply(0.9, answer), "sonnet": reply(0.9, "sonnet's"), "opus": reply(None, "opus's")})
        for n, answer in enumerate(answers)
    )  # fmt: skip


def questions() -> Corpus:
    """Agreement with the fourth sample, none with the third, and with the third of three."""
    return corpus(
        *votes("agree", "yes", "no", "yes", "yes"),
        *votes("differ", "one", "two", "three"),
        *votes("same", "a", "a", "a"),
    )


def asked_often(*, at_once: int = 1, same: str = "exact", **more: Any) -> Policy:
    """Haiku is asked until three of at most four answers are the same."""
    policy = ladder(**more).model_dump(mode="json", exclude_defaults=True)
    policy["ladder"][0]["samples"] = {"max": 4, "agree": 3, "same": same, "at_once": at_once}
    return Policy.model_validate(policy)


@DURABILITIES
@pytest.mark.parametrize("at_once", [1, 2])
def test_each_sample_is_a_row_and_the_step_counts_once(
    asking: Asking, emulate: Emulate, durability: str, at_once: int
) -> None:
    """Model, verdict, confidence, tokens and cost of each call; vote and reason with the last; the sums are the trail's."""
    driver = asking(asked_often(at_once=at_once, ledger={"durability": durability}), emulate(questions()))
    answers = [driver.ask(text) for text in ("agree", "differ", "same")]
    kept = entries()
    rows = bodies(kept, "step")
    told = [
        (answer.request_id, step.rung, call.model, call.verdict.kind, call.verdict.confidence, call.cost_nanousd)
        for answer in answers
        for step in answer.steps
        for call in step.samples or (step,)
    ]
    assert [
        (row["id"], row["rung"], row["model"], row["verdict"], row.get("confidence"), row["cost"]) for row in rows
    ] == told
    counts = {1: [4, 3, 3], 2: [4, 4, 4]}[at_once]
    assert [len(answer.steps[0].samples) for answer in answers] == counts
    of_haiku = [row for row in rows if row["rung"] == "haiku"]
    assert [row["sample"] for row in of_haiku] == [n for count in counts for n in range(count)]
    assert [row.get("call", 0) for row in of_haiku] == [row["sample"] for row in of_haiku]
    assert {row["variant"] for row in of_haiku} == {"confidence_first"}
    last = [row for row in of_haiku if not row.get("more")]
    assert [(row.get("reason"), row["vote"]["asked"], len(row["vote"]["members"])) for row in last] == [
        (None, counts[0], 3), ("disagreement", counts[1], 2 if at_once == 2 else 1), (None, counts[2], 3),
    ]  # fmt: skip
    assert [row for row in of_haiku if row.get("more") and ("vote" in row or "reason" in row)] == []
    assert [(row["cost"], row["steps"]) for row in bodies(kept, "outcome")] == [
        (answer.cost_nanousd, len(answer.steps)) for answer in answers
    ]
    assert len(bodies(kept, "open")) == (len(rows) if durability == "commit" else 0)
    with reading(None) as reader:
        assert verify(reader).unsettled == 0


def test_a_rung_asked_once_is_written_as_before(asking: Asking, emulator: Emulator) -> None:
    """No field of a vote is in its row, so that the bytes of older ledgers and newer ones are alike."""
    asking(ladder(), emulator).ask("unsure")
    fields = {"call", "sample", "variant", "judge", "more", "vote"}
    assert [fields & row.keys() for row in bodies(entries(), "step")] == [set(), set()]


@DURABILITIES
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_cancel_in_the_middle_of_a_vote_leaves_what_was_billed(
    emulate: Emulate, durability: str, at_once: int
) -> None:
    """The samples so far are rows and in the outcome's cost; announced calls stay open at their bound; no step is counted."""
    emulator = emulate(questions(), faults="timeout,after=2,times=1")

    async def scene() -> None:
        policy = asked_often(at_once=at_once, ledger={"durability": durability})
        async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="test") as client:
            task = asyncio.create_task(AsyncCascade(policy, client=client).ask("agree"))
            async with asyncio.timeout(30):
                while len(emulator.requests) < 2 + at_once:  # noqa: ASYNC110 - they come from another thread
                    await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scene())
    kept = entries()
    rows, (outcome,) = bodies(kept, "step"), bodies(kept, "outcome")
    assert [(row["sample"], row["more"], row["cost"]) for row in rows] == [
        (0, True, COST["haiku"]), (1, True, COST["haiku"]),
    ]  # fmt: skip
    assert (outcome["error"], outcome["cost"], outcome["steps"]) == ("cancelled", 2 * COST["haiku"], 0)
    with reading(None) as reader:
        assert verify(reader).unsettled == (at_once if durability == "commit" else 0)
        spent = reader.spent("live", "policy", "", 0.0, float("inf"))
        (sums,) = reader.spend(0, 1 << 40)
    bounds = sum(body["bound"] for body in bodies(kept, "open")[2:])
    assert (spent, sums[8:11]) == (2 * COST["haiku"] + bounds, (0, 0, 2 * COST["haiku"]))
    assert (bounds > 0) == (durability == "commit")


@DURABILITIES
def test_the_call_of_a_judge_is_a_row_of_the_rung_that_it_judges(emulate: Emulate, durability: str) -> None:
    """It is no sample; here its grouping cannot be read, and it is billed all the same."""
    emulator = emulate(questions(), canned=True)
    client = anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0)
    policy = asked_often(same="judge", ledger={"durability": durability})
    with client, Cascade(policy, client=client) as driver:
        answer = driver.ask("differ")
    calls = answer.steps[0].samples
    assert any(call.is_judge for call in calls)
    kept = entries()
    rows = [row for row in bodies(kept, "step") if row["rung"] == "haiku"]
    assert [row.get("judge", False) for row in rows] == [call.is_judge for call in calls]
    assert [row.get("sample") for row in rows] == [None if call.is_judge else call.number for call in calls]
    assert [row.get("call", 0) for row in rows] == list(range(len(calls)))
    assert [row["cost"] for row in rows] == [call.cost_nanousd for call in calls]
    assert {row["model"] for row in rows} == {HAIKU}
    with reading(None) as reader:
        assert verify(reader).unsettled == 0


def test_each_samples_text_is_kept_and_erased(asking: Asking, emulate: Emulate) -> None:
    """A part for each call, where the policy says `content`; erased with the request, and the rows stay."""
    answer = asking(asked_often(ledger={"content": True}), emulate(questions())).ask("agree")
    rows = bodies(entries(), "step")
    with reading(None) as reader:
        parts = {content.part: content.text for content in reader.contents([answer.request_id])}
        assert {part: text for part, text in parts.items() if part != "prompt"} == {
            "step:0/0": "yes", "step:0/1": "no", "step:0/2": "yes", "step:0/3": "yes",
        }  # fmt: skip
        assert reader.erase([answer.request_id]) == 5
        found = verify(reader)
    assert (found.findings, found.texts) == ((), 0)
    assert all(row["content"] for row in rows)


def test_a_budget_that_runs_out_in_a_vote_ends_the_books_with_it(asking: Asking, emulate: Emulate) -> None:
    """The samples before it are billed; the step is complete, with the vote as far as it came."""
    policy = asked_often(ledger={"durability": "commit"})
    asking(policy, emulate(questions())).ask("same")
    known = bodies(entries(), "open")[0]["bound"]  # what is reserved for a call
    limit = f"{(known + COST['haiku'] * 3 // 2) / 1e9:.9f}"  # there is room for a second sample, and not for a third
    policy = asked_often(
        name="short", ledger={"durability": "commit"}, budget={"daily_usd": limit, "on_exhausted": "hold"}
    )
    answer = asking(policy, emulate(questions())).ask("same")
    (step,) = answer.steps
    assert (answer.degraded, len(step.samples)) == ("budget", 2)
    kept = [entry for entry in entries() if entry.request == answer.request_id]
    rows, (outcome,) = bodies(kept, "step"), bodies(kept, "outcome")
    assert [row["cost"] for row in rows] == [call.cost_nanousd for call in step.samples]
    assert [row.get("more", False) for row in rows] == [True, False]
    assert (outcome["cost"], outcome["steps"], len(bodies(kept, "open"))) == (answer.cost_nanousd, 1, 2)
    assert rows[-1]["vote"]["asked"] == 2
    with reading(None) as reader:
        assert verify(reader).unsettled == 0


def test_the_commands_show_a_vote_as_one_step(
    asking: Asking, emulate: Emulate, capsys: pytest.CaptureFixture[str]
) -> None:
    """`costs` counts it once and all its money; `tail` and `export` show each call."""
    driver = asking(asked_often(), emulate(questions()))
    answers = [driver.ask(text) for text in ("agree", "differ", "same")]
    entries()
    assert cli.run_command(["costs", "--by", "rung", "--json"]) == 0
    lines = {line["rung"]: line for line in json.loads(capsys.readouterr().out)["lines"]}
    haiku = lines["haiku"]
    assert (haiku["steps"], haiku["escalated"], haiku["escalated_of"], haiku["errors"]) == (3, 1, 3, 0)
    assert haiku["cost_usd"] == pytest.approx(10 * COST["haiku"] / 1e9)
    assert (haiku["input_tokens"], lines["sonnet"]["steps"]) == (1_000, 1)
    assert cli.run_command(["ledger", "tail", "-n", "6"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "haiku sample=0 confidence_first answered" in told[2]
    assert "vote=3/3 " in told[4]
    assert "vote" not in told[3]
    assert cli.run_command(["ledger", "export"]) == 0
    exported = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(one["steps"]) for one in exported] == [4, 4, 3]
    assert sum(step["cost"] for one in exported for step in one["steps"]) == sum(a.cost_nanousd for a in answers)


def test_a_vote_beside_the_answer_is_on_record_and_is_no_corpus(emulate: Emulate) -> None:
    """`mode: observe`: each sample is a row of the shadow. It was curtailed, so it is left out of a corpus, and that is told."""
    policy = asked_often(mode="observe", observe={"sample": 1.0}, ledger={"content": True})
    emulator = emulate(questions())
    client = anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0)
    with client, Cascade(policy, client=client) as driver:
        assert driver.ask("agree").arm == "observe"
    kept = entries()
    (shadow,) = [body for body in bodies(kept, "request") if body["arm"] == "shadow"]
    rows = [row for row in bodies(kept, "step") if row["id"] == shadow["id"]]
    assert [(row["rung"], row.get("sample")) for row in rows] == [
        ("haiku", 0), ("haiku", 1), ("haiku", 2), ("haiku", 3), ("sonnet", None),
    ]  # fmt: skip
    with reading(None) as reader, pytest.raises(CorpusError, match=r"asked more than once .*\(1\)"):
        read_observations(reader, policy)


@pytest.mark.parametrize(("samples", "rows"), [(True, 1), (False, 0)])
def test_a_shadow_that_the_end_of_the_loop_cuts_off_is_over(emulate: Emulate, *, samples: bool, rows: int) -> None:
    """Its outcome says that it was cancelled, and has the cost of what came before; the call under way stays open."""
    emulator = emulate(questions(), faults=f"timeout,model={HAIKU},after={rows},times=1")
    options: dict[str, Any] = {"mode": "observe", "observe": {"sample": 1.0}, "ledger": {"durability": "commit"}}

    async def scene() -> None:
        async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="test") as client:
            driver = AsyncCascade(asked_often(**options) if samples else ladder(**options), client=client)
            assert (await driver.ask("agree")).arm == "observe"
            async with asyncio.timeout(30):
                while len(emulator.requests) < rows + 2:  # noqa: ASYNC110 - they come from another thread
                    await asyncio.sleep(0.005)

    asyncio.run(scene())  # it cancels what is still running
    kept = entries()
    (shadow,) = [body["id"] for body in bodies(kept, "request") if body["arm"] == "shadow"]
    (outcome,) = [body for body in bodies(kept, "outcome") if body["id"] == shadow]
    assert (outcome["error"], outcome["cost"], outcome["steps"]) == ("cancelled", rows * COST["haiku"], 0)
    assert len([row for row in bodies(kept, "step") if row["id"] == shadow]) == rows
    with reading(None) as reader:
        assert verify(reader).unsettled == 1


def test_what_the_baseline_would_have_cost_is_reckoned_from_one_call(asking: Asking, emulate: Emulate) -> None:
    """A vote of three asks the same question three times; the baseline would have been asked once."""
    emulator = emulate(questions())
    asking(ladder(), emulator).ask("same")
    asking(asked_often(), emulator).ask("same")
    once, voted = (body["estimate"] for body in bodies(entries(), "outcome"))
    assert once == voted > 0
