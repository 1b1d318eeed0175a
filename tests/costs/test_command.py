"""`cascade costs` on a ledger of its own: what it tells is what was put in."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cascade.cli.costs.command import CostsOptions, run_costs
from cascade.core.errors import ConfigurationError, LedgerError
from cascade.core.modes import arm_of, slot_of, unit_of
from cascade.core.policy.operations import Rollout
from cascade.ledger.chain import link, start
from cascade.ledger.records import Batch, OutcomeBody, RequestBody, StepBody
from cascade.ledger.sqlite.store import SqliteStore
from cascade.ledger.sums import add_outcome, add_step

NOW = datetime(2026, 11, 21, 10, 7, tzinfo=UTC).timestamp()
DAY = 86_400.0
CENT = 10_000_000

Tell = Callable[..., str]


class Bookkeeper:
    """Writes requests as the ledger's writer does: entries and sums in one batch."""

    def __init__(self, path: Path) -> None:
        self._store = SqliteStore(path, synchronous="NORMAL")
        self._store.open("one")
        self._batch, self._seq, self._digest = Batch(), 0, start("one")

    def ask(self, at: float, arm: str, costs: list[int], *, workflow: str = "", **more: Any) -> None:
        """One request, a step a cost; all but the last escalated, the first `errors` of them failed.

        `more`: of its outcome, and `policy` and `task`. `reviews`: what reviews of the first step by Sonnet cost.
        """
        errors, reviews = more.pop("errors", 0), more.pop("reviews", [])
        rungs = ["haiku", "sonnet", "opus"] if arm in ("cascade", "shadow") else ["opus"]
        metadata = {"workflow": workflow} if workflow else {}
        asked = RequestBody(more.pop("policy", "support"), "h", "p", more.pop("task", "refund"), arm, metadata)
        for index, cost in enumerate(costs):
            up = "error" if index < errors else "low_confidence" if index + 1 < len(costs) else None
            step = StepBody(index, rungs[index], f"claude-{rungs[index]}", "answered", cost, 100, 10, reason=up)
            add_step(self._batch, at, asked, step)
        for cost in reviews:
            marks = {"variant": "review:sonnet", "more": True, "review": True}
            review = StepBody(0, "haiku", "claude-sonnet", "answered", cost, 50, 5, call=1, **marks)
            add_step(self._batch, at, asked, review)
        fields = {"rung": rungs[len(costs) - 1], "resolved": True, **more}
        outcome = OutcomeBody(arm, sum(costs) + sum(reviews), len(costs), 1.0, **fields)
        add_outcome(self._batch, at, asked, outcome)
        self._seq += 1
        name, body = f"casc_{self._seq}", msgspec.json.encode(outcome)
        self._digest = link(self._digest, self._seq, at, "outcome", name, body)
        self._batch.entries.append((self._seq, at, "outcome", name, body, self._digest))

    def close(self) -> None:
        """Write it all."""
        self._store.write(self._batch)
        self._store.close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No home but its own."""
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path))
    monkeypatch.delenv("CASCADE_LEDGER", raising=False)
    monkeypatch.delenv("CASCADE_POLICY", raising=False)


@pytest.fixture
def books(tmp_path: Path) -> Bookkeeper:
    """An empty ledger where the command looks for one."""
    return Bookkeeper(tmp_path / "ledger.db")


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Run the command at NOW; what it printed."""

    def told(*, as_json: bool = False, **wish: Any) -> str:
        run_costs(CostsOptions(**wish), as_json=as_json, now=lambda: NOW)
        return capsys.readouterr().out

    return told


def test_planning_and_reviewing_are_overhead(books: Bookkeeper, tell: Tell) -> None:
    """They answer no request: they are in the spend, in no cost per answer, and they count against the estimated saving."""
    books.ask(NOW - DAY, "executor", [CENT], estimate=10 * CENT)
    books.ask(NOW - DAY, "planner", [3 * CENT])
    books.ask(NOW - DAY, "reviewer", [2 * CENT])
    books.ask(NOW - DAY, "reviewer", [2 * CENT], rung=None, resolved=False, error="AllRungsFailed")
    books.close()
    found = json.loads(tell(as_json=True))
    assert (found["requests"], found["answers"], found["steps"], found["planning_steps"]) == (1, 1, 1, 3)
    assert (found["cost_usd"], found["planning_usd"], found["cost_per_answer_usd"]) == pytest.approx((0.08, 0.07, 0.01))
    assert (found["saved"]["baseline_usd"], found["saved"]["cost_usd"]) == pytest.approx((0.1, 0.08))
    text = tell()
    assert "0.070000 of it for 3 calls that plan and review runs" in text
    assert "what planned and reviewed runs is counted (0.070000 USD)" in text
    with pytest.raises(ConfigurationError, match="assigned, role"):
        tell(by="roles")


def a_week(books: Bookkeeper) -> None:
    """Ten requests of this week: six of the ladder, of which two climb, one of them degraded and one without an answer."""
    for number in range(4):
        books.ask(NOW - DAY, "cascade", [CENT], workflow="mail", estimate=10 * CENT, slot=number)
    books.ask(
        NOW - 2 * DAY,
        "cascade",
        [CENT, 3 * CENT],
        workflow="mail",
        resolved=False,
        degraded="ceiling",
        estimate=9 * CENT,
    )
    books.ask(
        NOW - 2 * DAY,
        "cascade",
        [CENT, 3 * CENT, 6 * CENT],
        task="other",
        rung=None,
        resolved=False,
        error="AllRungsFailed",
    )
    books.ask(NOW - 60, "holdout", [10 * CENT], workflow="chat")
    books.ask(NOW - 60, "bypass", [8 * CENT], workflow="chat", policy="other")
    books.ask(NOW - 60, "observe", [7 * CENT], workflow="chat")
    books.ask(NOW - 60, "shadow", [CENT, 2 * CENT], workflow="chat", rung=None, resolved=False)
    for number in range(4):  # the week before: one of four climbs
        books.ask(NOW - 8 * DAY, "cascade", [CENT] if number else [CENT, CENT])
    books.ask(NOW - 30 * DAY, "cascade", [1000 * CENT])
    books.close()


def test_json_tells_all_of_it_to_the_nano_usd(books: Bookkeeper, tell: Tell) -> None:
    """Spend with shadows, which are shown apart; requests and answers without them; the week before for the change."""
    a_week(books)
    told = json.loads(tell(as_json=True, call_usd=0.07))
    assert (told["since"], told["until"]) == ("2026-11-14T10:15:00+00:00", "2026-11-21T10:15:00+00:00")
    assert told["cost_usd"] == pytest.approx(0.46)
    assert told["shadow_usd"] == pytest.approx(0.03)
    assert (told["requests"], told["answers"], told["resolved"], told["steps"]) == (9, 8, 7, 12)
    assert told["cost_per_answer_usd"] == pytest.approx(0.43 / 8)
    assert told["cost_per_resolved_usd"] == pytest.approx(0.43 / 7)
    assert (told["shadow_steps"], told["errors"], told["escalated"], told["escalated_of"]) == (2, 0, 1, 5)
    assert told["escalation_rate"] == pytest.approx(1 / 5)  # the sixth was answered by nobody
    assert told["escalation_change_points"] == pytest.approx(100 * (1 / 5 - 1 / 4))
    assert told["cost_usd_before"] == pytest.approx(0.05)
    assert told["rungs"]["sonnet"] == {
        "steps": 2, "escalated": 1, "errors": 0, "escalation_rate": 0.5, "escalation_rate_before": 0.0, "escalation_change_points": 50.0,
    }  # fmt: skip
    assert [(arm["arm"], arm["requests"]) for arm in told["arms"]] == [
        ("cascade", 6), ("holdout", 1), ("observe", 1), ("shadow", 0), ("bypass", 1),
    ]  # fmt: skip
    assert [one["workflow"] for one in told["workflows"]["top"]] == ["chat", "(none)"]
    assert told["workflows"]["share"] == pytest.approx(0.38 / 0.46)
    assert [one["cost_usd"] for one in told["large"]["requests"]] == [0.1, 0.1, 0.08]  # 0.07 is no more than 0.07
    assert not told["large"]["more"]


def test_the_saving_is_an_estimate_where_the_holdout_is_too_small_to_measure(books: Bookkeeper, tell: Tell) -> None:
    """The estimates less the cost of the same requests; one that failed is on neither side, and that is said."""
    a_week(books)
    told = json.loads(tell(as_json=True))["saved"]
    assert (told["basis"], told["saved_usd_ci95"], told["policy"]) == ("estimate", None, "support")
    assert told["saved_usd"] == pytest.approx(0.49 - 0.08)
    assert (told["requests"], told["estimated_requests"]) == (5, 5)
    assert "1 failed or abstained requests are not counted (they cost 0.100000 USD)" in told["notes"]
    assert "(estimate, " in tell()


def test_the_saving_is_measured_where_there_is_a_holdout(books: Bookkeeper, tell: Tell) -> None:
    """Of each policy against its own holdout; their sum, with an interval that holds both."""
    for policy, cheap, dear in (("support", 2, 10), ("mail", 1, 3)):
        for slot in range(64):
            for number in range(3):
                books.ask(NOW - DAY, "cascade", [(cheap + number) * CENT], slot=slot, policy=policy)
            books.ask(NOW - DAY, "holdout", [(dear + slot % 2) * CENT], slot=slot, policy=policy)
    books.close()
    told = json.loads(tell(as_json=True))
    mail, support = told["saved_by_policy"]
    assert (mail["policy"], mail["basis"], mail["holdout_requests"]) == ("mail", "holdout", 64)
    assert mail["saved_usd"] == pytest.approx(192 * (0.035 - 0.02))
    assert support["saved_usd"] == pytest.approx(192 * (0.105 - 0.03))
    for one in (mail, support, told["saved"]):
        low, high = one["saved_usd_ci95"]
        assert low < one["saved_usd"] < high
        low, high = one["relative_ci95"]
        assert low < one["relative"] < high
    assert told["saved"]["saved_usd"] == pytest.approx(mail["saved_usd"] + support["saved_usd"])
    assert told["saved"]["basis"] == "holdout"
    only = json.loads(tell(as_json=True, policy="mail"))
    assert only["saved"] == mail
    assert only["requests"] == 256
    assert "measured on 128 held-out requests" in tell()


def a_dead_endpoint(books: Bookkeeper) -> None:
    """Five answered, two of them by Sonnet; three that every rung failed for, free; one that Haiku failed for; two shadows."""
    for _ in range(3):
        books.ask(NOW - 60, "cascade", [CENT], estimate=10 * CENT)
        books.ask(NOW - 60, "cascade", [0, 0, 0], errors=3, rung=None, resolved=False, error="AllRungsFailed")
    for _ in range(2):
        books.ask(NOW - 60, "cascade", [CENT, 2 * CENT], estimate=10 * CENT)
    books.ask(NOW - 60, "cascade", [0, 2 * CENT], errors=1, estimate=10 * CENT)
    for _ in range(2):
        books.ask(NOW - 60, "shadow", [CENT, 2 * CENT], rung=None, resolved=False)


def test_what_the_audit_cost_is_told_apart(books: Bookkeeper, tell: Tell) -> None:
    """It is part of the spend, by task and rung too; its requests and steps are nobody's, and no escalation."""
    books.ask(NOW - 60, "cascade", [CENT, 2 * CENT])
    books.ask(NOW - 60, "audit", [5 * CENT], rung=None, resolved=False)
    books.close()
    told = json.loads(tell(as_json=True))
    assert (told["cost_usd"], told["audit_usd"]) == (pytest.approx(0.08), pytest.approx(0.05))
    assert (told["requests"], told["steps"], told["audit_steps"], told["escalated_of"]) == (1, 2, 1, 1)
    assert told["cost_per_answer_usd"] == pytest.approx(0.03)
    assert [(arm["arm"], arm["requests"], arm["audit_steps"]) for arm in told["arms"]] == [
        ("cascade", 1, 0),
        ("audit", 0, 1),
    ]
    (line,) = told["lines"]
    assert (line["cost_usd"], line["audit_usd"], line["requests"]) == (pytest.approx(0.08), pytest.approx(0.05), 1)
    text = tell()
    assert "0.050000 of it for 1 audit steps" in text
    assert "audit steps" in text.partition("by task")[2]


def test_what_reviews_cost_is_told_apart(books: Bookkeeper, tell: Tell) -> None:
    """Part of the spend, a line of its own by rung; no step, no error, and no rung that escalates."""
    books.ask(NOW - 60, "cascade", [CENT, 2 * CENT], reviews=[4 * CENT])
    books.ask(NOW - 60, "cascade", [CENT], reviews=[3 * CENT])
    books.close()
    told = json.loads(tell(as_json=True, by="rung"))
    assert (told["cost_usd"], told["review_usd"]) == (pytest.approx(0.11), pytest.approx(0.07))
    assert (told["reviews"], told["steps"], told["errors"]) == (2, 3, 0)
    lines = {line["rung"]: (round(line["cost_usd"], 9), line["steps"], line["reviews"]) for line in told["lines"]}
    assert lines == {"review by sonnet": (0.07, 0, 2), "haiku": (0.02, 2, 0), "sonnet": (0.02, 1, 0)}
    assert {rung: (one["steps"], one["escalated"]) for rung, one in told["rungs"].items()} == {
        "haiku": (2, 1), "sonnet": (1, 0),
    }  # fmt: skip
    by_model = {line["model"]: line["reviews"] for line in json.loads(tell(as_json=True, by="model"))["lines"]}
    assert by_model == {"claude-haiku": 0, "claude-sonnet": 2}
    text = tell()
    assert "0.070000 of it for 2 reviews (by sonnet)" in text
    assert "reviews" in text.partition("by task")[2]


def test_errors_and_shadows_are_no_escalations(books: Bookkeeper, tell: Tell) -> None:
    """By rung: two of five that Haiku answered escalated; four that failed and two shadows stand apart."""
    a_dead_endpoint(books)
    books.close()
    told = json.loads(tell(as_json=True, by="rung"))
    haiku = next(line for line in told["lines"] if line["rung"] == "haiku")
    assert (haiku["steps"], haiku["errors"], haiku["shadow_steps"]) == (9, 4, 2)
    assert (haiku["escalated"], haiku["escalated_of"], haiku["escalation_rate"]) == (2, 5, 0.4)
    assert told["rungs"]["haiku"]["errors"] == 4
    assert (told["rungs"]["sonnet"]["steps"], told["rungs"]["opus"]["errors"]) == (3, 3)
    assert (told["escalated"], told["escalated_of"], told["errors"]) == (3, 6, 10)  # three had no answer at all
    text = tell(by="rung")
    assert "2 of 5 (40.0 %)" in text
    assert "escalated   3 of 6 (50.0 %) answered requests" in text
    assert "errors      10 of 18 steps failed" in text


def test_failed_requests_are_left_out_of_the_saving(books: Bookkeeper, tell: Tell) -> None:
    """Neither their cost nor a baseline for them; where none was answered, no saving is shown at all."""
    a_dead_endpoint(books)
    books.ask(NOW - 60, "cascade", [0], errors=1, policy="dead", rung=None, resolved=False, error="AllRungsFailed")
    books.close()
    dead, support = json.loads(tell(as_json=True))["saved_by_policy"]
    assert (support["requests"], support["saved_usd"]) == (6, pytest.approx(0.6 - 0.03 - 0.06 - 0.02))
    assert support["notes"] == ["3 failed or abstained requests are not counted (they cost 0.000000 USD)"]
    assert (dead["requests"], dead["saved_usd"], dead["relative"]) == (0, 0, None)
    assert "not known: no answered request" in tell(policy="dead")


def test_what_failed_saves_nothing_where_the_saving_is_measured(books: Bookkeeper, tell: Tell) -> None:
    """A ladder that fails half of its requests for nothing does not thereby save: the mean is of an answer."""
    for slot in range(64):
        books.ask(NOW - DAY, "cascade", [8 * CENT], slot=slot)
        books.ask(NOW - DAY, "cascade", [CENT], errors=1, slot=slot, rung=None, resolved=False, error="AllRungsFailed")
        books.ask(NOW - DAY, "holdout", [10 * CENT], slot=slot)
    books.close()
    saved = json.loads(tell(as_json=True))["saved"]
    assert (saved["basis"], saved["requests"]) == ("holdout", 64)
    assert saved["saved_usd"] == pytest.approx(64 * (0.10 - 0.08 - 0.01))
    assert saved["notes"] == ["64 failed or abstained requests save nothing; what they cost is counted"]


@pytest.mark.parametrize("by", ["task", "rung", "model", "workflow", "policy", "day"])
def test_every_dimension_parts_the_whole_spend(books: Bookkeeper, tell: Tell, by: str) -> None:
    """As CSV, as JSON, and as bars; none of it counts twice."""
    a_week(books)
    told = json.loads(tell(as_json=True, by=by))
    rows = list(csv.DictReader(io.StringIO(tell(as_csv=True, by=by))))
    assert [row[by] for row in rows] == [line[by] for line in told["lines"]]
    assert sum(float(row["cost_usd"]) for row in rows) == pytest.approx(0.46)
    assert sum(line["share"] for line in told["lines"]) == pytest.approx(1)
    assert sum(int(row["steps"]) for row in rows) == told["steps"]
    if by not in ("rung", "model"):
        assert sum(int(row["requests"]) for row in rows) == told["requests"]
    text = tell(by=by)
    assert all(row[by] in text for row in rows)
    assert "█" in text


def test_a_period_is_as_long_as_it_was_asked_for(books: Bookkeeper, tell: Tell) -> None:
    """Hours, weeks, a date, a time with its zone; and the period before is as long."""
    a_week(books)
    for since, requests, before in (
        ("24h", 3, 6), ("2w", 13, 0), ("2026-11-20", 7, 2), ("2026-11-19T12:00+02:00", 9, 0), ("15m", 3, 0),
    ):  # fmt: skip
        told = json.loads(tell(as_json=True, since=since))
        start_at, end, earlier = (datetime.fromisoformat(told[key]) for key in ("since", "until", "before_since"))
        assert told["requests"] == requests, since
        assert start_at - earlier == end - start_at
        assert (told["cost_usd_before"] > 0) == bool(before), since


@pytest.mark.parametrize(
    "since", ["", "7", "d", "0d", "-1d", "yesterday", "2027-01-01", "1969-01-01", "999999w", "2026-13-01"]
)
def test_a_period_that_is_none_is_an_error_with_its_mend(books: Bookkeeper, tell: Tell, since: str) -> None:
    """Nothing is guessed."""
    books.close()
    with pytest.raises(ConfigurationError, match=r"--since .*give e\.g\. 7d"):
        tell(since=since)


def test_what_cannot_be_told_is_an_error_with_its_mend(tmp_path: Path, tell: Tell) -> None:
    """No ledger, an unknown dimension, two forms at once, a policy file that is none."""
    with pytest.raises(LedgerError, match="there is no ledger"):
        tell()
    with pytest.raises(ConfigurationError, match="task, rung, model"):
        tell(by="customer")
    with pytest.raises(ConfigurationError, match="--csv, --json"):
        tell(as_csv=True, as_json=True)
    with pytest.raises(ConfigurationError, match=r"nothing\.yaml"):
        tell(policy=str(tmp_path / "nothing.yaml"))


def test_an_empty_period_is_no_error(books: Bookkeeper, tell: Tell) -> None:
    """Nothing was asked: zeros, no saving, no division by nothing."""
    books.close()
    told = json.loads(tell(as_json=True, call_usd=1))
    assert (told["cost_usd"], told["requests"], told["saved"], told["lines"]) == (0, 0, None, [])
    assert (told["cost_per_answer_usd"], told["escalation_rate"], told["workflows"]) == (None, None, None)
    assert "nothing was spent" in tell()


def test_the_budget_of_a_policy_says_which_requests_are_large(books: Bookkeeper, tell: Tell, tmp_path: Path) -> None:
    """The smallest call_usd of its budgets, where --call-usd does not say; its own name is looked for."""
    a_week(books)
    policy = tmp_path / "mine.yaml"
    policy.write_text(
        "version: 1\nname: support\nladder:\n"
        "  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.8, max_tokens: 100}\n"
        "  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.8, max_tokens: 100}\n"
        "  - {rung: opus, model: claude-opus-5-5, max_tokens: 100}\n"
        "budget:\n  - {call_usd: 0.09, daily_usd: 1}\n  - {call_usd: 0.5, per: task}\n"
    )
    told = json.loads(tell(as_json=True, policy=str(policy)))
    assert told["policy"] == "support"
    assert told["requests"] == 8
    assert told["large"]["call_usd"] == 0.09
    assert [one["cost_usd"] for one in told["large"]["requests"]] == [0.1, 0.1]


@pytest.mark.parametrize(("share", "cost"), [(0.05, 10 * CENT), (0.15, CENT // 100)])
def test_requests_without_a_unit_do_not_move_what_is_measured(
    books: Bookkeeper, tell: Tell, share: float, cost: int
) -> None:
    """All of them are the holdout's, by no hash: ten times as dear, or nearly free, they are told of and left out."""
    rollout, chance, unnamed = Rollout(percent=50, by="customer"), random.Random(1), 0
    for _ in range(3_000):
        named = chance.random() >= share
        unit = unit_of(rollout, {"customer": f"c{chance.randrange(400)}"} if named else {}, "r")
        arm, slot = arm_of("enforce", rollout, "support", unit), slot_of(rollout, "support", unit)
        base = int((CENT if named else cost) * chance.uniform(0.5, 1.5))
        books.ask(NOW - 60, arm, [base // 2 if arm == "cascade" else base], slot=slot)
        unnamed += not named
    books.close()
    saving = json.loads(tell(as_json=True))["saved"]
    assert saving["basis"] == "holdout"
    low, high = saving["relative_ci95"]
    assert low < 0.5 < high
    assert saving["relative"] == pytest.approx(0.5, abs=0.03)
    (note,) = (note for note in saving["notes"] if "of the holdout" in note)
    assert note.startswith(f"{unnamed} requests of the holdout are not counted")
