"""Every figure of the dashboard is the one that `cascade costs --json` shows, or adds up to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cascade.cli.costs.command import CostsOptions, run_costs
from cascade.core.errors import LedgerError
from cascade.costs import Line, Period, costs, lines_of, read_costs, read_sums, totals
from cascade.dashboard.figures import LedgerSource, read_model, read_overview, read_policy, read_request
from cascade.dashboard.figures.overview import Known
from cascade.dashboard.figures.series import slice_s_of, slices_of
from cascade.dashboard.values import Overview
from cascade.ledger.opening import open_reader
from cascade.ledger.sqlite.store import SqliteStore
from tests.dashboard.recorded_day import HOSTILE_TEXT, HOSTILE_WORKFLOW, NOW, START, RecordedDay, record_day
from tests.dashboard.recorded_policies import HELP_DESK, LABELS, REVIEWS, policies, write_policies

Shown = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def overview(day: RecordedDay) -> Overview:
    """All of it."""
    return read_overview(day.address, day.period, day.policies, day.now)


@pytest.fixture
def shown(day: RecordedDay, capsys: pytest.CaptureFixture[str]) -> Shown:
    """What `cascade costs --json` prints of the day."""

    def run(**options: Any) -> dict[str, Any]:
        run_costs(CostsOptions(since="2026-11-26", ledger=day.address, **options), as_json=True, now=lambda: NOW)
        return json.loads(capsys.readouterr().out)

    return run


def usd(nano: float | None) -> float | None:
    """As JSON has it."""
    return None if nano is None else nano / 1e9


def figures(line: Line) -> dict[str, Any]:
    """A line's figures, as `--json` names them."""
    return {
        "cost_usd": usd(line.cost), "cost_usd_before": usd(line.cost_before), "share": line.share, "shadow_usd": usd(line.shadow),
        "review_usd": usd(line.review), "steps": line.steps, "reviews": line.reviews, "errors": line.errors, "input_tokens": line.input,
        "output_tokens": line.output, "requests": line.requests, "answers": line.answers, "resolved": line.resolved,
        "cost_per_answer_usd": usd(line.cost_per_answer), "cost_per_resolved_usd": usd(line.cost_per_resolved), "escalated": line.escalated,
        "escalated_of": line.climbs, "escalation_rate": line.escalation, "escalation_rate_before": line.escalation_before,
        "escalation_change_points": line.escalation_change,
    }  # fmt: skip


def assert_lines(lines: tuple[Line, ...], fields: dict[str, Any]) -> None:
    """The same names in the same order, with the same figures."""
    by = fields["by"]
    assert [line.name for line in lines] == [one[by] for one in fields["lines"]]
    for line, one in zip(lines, fields["lines"], strict=True):
        own = figures(line)
        assert own == {name: one[name] for name in own}


@pytest.mark.parametrize("policy", ["", HELP_DESK, REVIEWS, LABELS])
def test_every_figure_is_that_of_the_command(day: RecordedDay, shown: Shown, policy: str) -> None:
    """Totals, tasks, rungs, models, workflows, arms, savings with their intervals: of all policies, and of each."""
    found = read_overview(day.address, day.period, day.policies, day.now, policy=policy)
    of = {"policy": policy} if policy else {}
    fields = shown(**of)
    own = figures(found.costs.total)
    assert own == {name: fields[name] for name in own}
    assert_lines(found.costs.lines, fields)
    for by, lines in (
        ("rung", found.rungs), ("model", found.models), ("workflow", found.workflows), ("policy", found.by_policy),
    ):  # fmt: skip
        assert_lines(lines, shown(by=by, **of))
    assert {line.name: usd(line.cost) for line in found.costs.arms} == {
        one["arm"]: one["cost_usd"] for one in fields["arms"]
    }
    assert {line.name: line.escalation for line in found.costs.rungs} == {
        rung: one["escalation_rate"] for rung, one in fields["rungs"].items()
    }
    saved = found.saving
    assert (saved is None) == (fields["saved"] is None)
    if saved is not None:
        interval = None if saved.interval is None else [saved.interval.low / 1e9, saved.interval.high / 1e9]
        assert (saved.basis, usd(saved.saved), interval, saved.relative) == (
            fields["saved"]["basis"], fields["saved"]["saved_usd"], fields["saved"]["saved_usd_ci95"], fields["saved"]["relative"],
        )  # fmt: skip
    head = found.costs.workflows
    assert head is not None
    assert (head.of, head.share) == (fields["workflows"]["of"], fields["workflows"]["share"])


def test_a_holdout_measures_the_saving_and_few_workflows_make_most_of_the_bill(
    day: RecordedDay, overview: Overview
) -> None:
    """The day has what the page is to show: a measured saving, and four of 21 workflows with three quarters of the spend."""
    (measured,) = [one for one in overview.costs.savings if one.policy == HELP_DESK]
    assert measured.basis == "holdout"
    assert measured.interval is not None
    assert 0 < measured.interval.low < measured.saved < measured.interval.high
    head = overview.costs.workflows
    assert head is not None
    assert {line.name for line in head.lines[:4]} == set(day.heavy)
    assert sum(line.share for line in head.lines[:4]) > 0.7
    assert overview.head_of_workflows == len(head.lines) / 21


@pytest.mark.parametrize("policy", ["", LABELS, REVIEWS])
def test_slices_add_up_to_the_whole(day: RecordedDay, policy: str) -> None:
    """What was spent, requests, escalations; and the baseline to that of a saving that is estimated."""
    found = read_overview(day.address, day.period, day.policies, day.now, policy=policy)
    total = found.costs.total
    assert sum(point.cost for point in found.spend) == total.cost
    assert sum(point.requests for point in found.spend) == total.requests
    assert len(found.spend) == 96
    assert [point.since for point in found.spend] == [START + 900 * number for number in range(96)]
    for series in found.escalations:
        (line,) = [line for line in found.costs.lines if line.name == series.task]
        assert series.requests == line.climbs
        assert series.rate == line.escalation
    if policy == LABELS:
        assert found.saving is not None
        assert sum(point.baseline for point in found.spend) == found.saving.baseline
        assert sum(point.compared for point in found.spend) == found.saving.cost


def test_large_requests_are_those_of_the_command(day: RecordedDay, shown: Shown, overview: Overview) -> None:
    """Above the least `call_usd` of the policies at hand; one policy's page shows its own."""
    assert overview.large_above == 350_000_000
    fields = shown(call_usd=0.35)["large"]
    assert [(one.request, usd(one.cost)) for one in overview.large] == [
        (one["request"], one["cost_usd"]) for one in fields["requests"][:10]
    ]
    own = read_overview(day.address, day.period, day.policies, day.now, policy=HELP_DESK)
    assert own.large
    assert {one.policy for one in own.large} == {HELP_DESK}
    assert all(START <= one.at < NOW for one in own.large)
    dearest = read_overview(day.address, day.period, day.policies, day.now, policy=LABELS)
    assert dearest.large_above is None
    assert len(dearest.large) == 0, "none of its requests is among the 200 dearest"


def test_the_last_requests_are_shown_with_their_trails(day: RecordedDay, overview: Overview) -> None:
    """Newest first; those that still run say so, with the calls that were announced."""
    times = [row.at for row in overview.last]
    assert len(times) == 20
    assert times == sorted(times, reverse=True)
    running = {row.request: row for row in overview.last if not row.ended}
    assert set(day.running) == set(running)
    last = running[day.running[-1]]
    assert [step.rung for step in last.steps] == ["haiku", "sonnet"]
    assert [call.rung for call in last.open_calls] == ["opus"]
    assert last.cost == sum(step.cost for step in last.steps)
    for row in overview.last:
        assert row.prompt is None
        assert not row.ended or row.cost == sum(step.cost for step in row.steps)
    earlier = Period(START, START + 12 * 3600)
    before = read_overview(day.address, earlier, day.policies, day.now).last
    assert len(before) == 20
    assert all(START + 11 * 3600 < row.at < START + 12 * 3600 and row.ended for row in before)
    of_few = read_overview(day.address, day.period, day.policies, day.now, policy=LABELS).last
    assert {row.policy for row in of_few} == {LABELS}
    assert len(of_few) == 20


def test_one_request_is_found_by_its_id(day: RecordedDay) -> None:
    """With its texts where the ledger has them; where they were removed it says so."""
    kept, removed, unkept, climbed, failed = (
        read_request(day.address, name) for name in (day.kept, day.removed, day.unkept, day.escalated, day.failed)
    )
    assert kept is not None
    assert removed is not None
    assert unkept is not None
    assert climbed is not None
    assert failed is not None
    assert HOSTILE_TEXT in json.loads(kept.prompt or "")["messages"][0]["content"]
    assert (removed.prompt, removed.texts_removed) == (None, True)
    assert (unkept.prompt, unkept.texts_removed) == (None, False)
    assert [step.rung for step in climbed.steps if step.role == "rung"] == ["haiku", "sonnet", "opus"]
    assert climbed.rung == "opus"
    assert failed.error == "AllRungsFailed"
    assert read_request(day.address, "casc_nobody") is None


def test_a_reply_is_shown_where_it_is_kept(tmp_path: Path) -> None:
    """The text of the rung that answered, and that of each step."""
    from tests.ledger.books import fill  # noqa: PLC0415 - another book than the day's

    fill(tmp_path / "ledger.db", text="said", writers=("one",))
    found = read_request(str(tmp_path / "ledger.db"), "one-1")
    assert found is not None
    assert found.answer == "said one 1 1"
    assert [step.text for step in found.steps] == ["said one 1 0", "said one 1 1"]


def test_episodes_and_events_of_the_day(overview: Overview) -> None:
    """One storm is over, one goes on, and a rung was out."""
    assert [(one.task, one.what, one.until is None, one.limit_wrong) for one in overview.episodes] == [
        ("refund", "storm", False, False), ("other", "errors", False, False), ("delivery", "storm", True, True),
    ]  # fmt: skip
    times = [event.at for event in overview.events]
    assert times == sorted(times, reverse=True)
    assert {event.kind for event in overview.events} >= {"storm_tripped", "budget_alert", "errors_released"}


def test_budgets_stand_where_the_sums_are(day: RecordedDay, shown: Shown, overview: Overview) -> None:
    """A limit of the policy, of each workflow, of shadows and of the audit; with what was told of it."""
    by_name = {(state.budget, state.span): state for state in overview.budgets}
    whole = by_name[HELP_DESK, "daily"]
    assert usd(whole.spent) == shown(policy=HELP_DESK)["cost_usd"]
    assert (whole.state, whole.limit, whole.since) == ("alert", 95_000_000_000, START)
    assert [at for at, _ in whole.alerts] == [START + 71_000]
    assert by_name[REVIEWS, "daily"].state == "exhausted"
    assert len(by_name[REVIEWS, "daily"].alerts) == 2
    hostile = by_name[f"{HELP_DESK}/workflow={HOSTILE_WORKFLOW}", "daily"]
    assert (hostile.value, len(hostile.alerts)) == (HOSTILE_WORKFLOW, 1)
    with closing(open_reader(day.address)) as reader:
        assert hostile.spent == reader.spent(HELP_DESK, "workflow", HOSTILE_WORKFLOW, START, START + 86_400) - sum(
            call.bound for row in overview.last if row.workflow == HOSTILE_WORKFLOW for call in row.open_calls
        )
    shadows = by_name[f"{REVIEWS}/arm=shadow", "daily"]
    arms = {one["arm"]: one["cost_usd"] for one in shown(policy=REVIEWS)["arms"]}
    assert usd(shadows.spent) == arms["shadow"]
    assert by_name[HELP_DESK, "monthly"].spent > whole.spent
    assert (f"{HELP_DESK}/arm=audit", "daily") in by_name


def test_the_audits_state_and_the_modes(day: RecordedDay, overview: Overview) -> None:
    """Read again only when something of it has changed."""
    audited, other = overview.audits
    assert (audited.policy, audited.state, audited.graded, other.state) == (HELP_DESK, "holding", 24, "off")
    assert audited.error_rate is not None
    assert audited.error_ci95 is not None
    assert [(mode.policy, mode.mode, mode.configured) for mode in overview.modes] == [
        (HELP_DESK, "enforce", "enforce"), (REVIEWS, "observe", "observe"), (LABELS, None, None),
    ]  # fmt: skip
    known = Known()
    for _ in range(2):
        read_overview(day.address, day.period, day.policies, day.now, known=known)
    stamp, _ = known.audits[HELP_DESK]
    known.audits[HELP_DESK] = stamp, replace(audited, text="as it was")
    assert read_overview(day.address, day.period, day.policies, day.now, known=known).audits[0].text == "as it was"
    known.audits[HELP_DESK] = "another", replace(audited, text="as it was")
    assert read_overview(day.address, day.period, day.policies, day.now, known=known).audits[0] == audited


def test_pages_of_a_policy_and_of_a_model(day: RecordedDay, shown: Shown) -> None:
    """A model's lines add up to it; a policy that has no file here is shown from the ledger."""
    page = read_policy(day.address, day.period, day.policies, day.now, HELP_DESK)
    assert [rung for rung, _, _ in page.ladder] == ["haiku", "sonnet", "opus"]
    assert page.certificate.startswith("uncertified")
    assert page.overview.policy == HELP_DESK
    assert not read_policy(day.address, day.period, day.policies, day.now, LABELS).is_here
    model = read_model(day.address, day.period, day.now, "claude-opus-5-5")
    assert model.line is not None
    (fields,) = [one for one in shown(by="model")["lines"] if one["model"] == "claude-opus-5-5"]
    assert (usd(model.line.cost), model.line.input) == (fields["cost_usd"], fields["input_tokens"])
    for lines in (model.by_policy, model.by_task, model.by_rung):
        assert sum(line.cost for line in lines) == model.line.cost
    assert sum(point.cost for point in model.spend) == model.line.cost
    assert read_model(day.address, day.period, day.now, "no-such-model").line is None


def test_any_period_has_the_figures_of_the_sums_by_day(day: RecordedDay) -> None:
    """Whatever it begins with: grouped by the database they are the same as added up here."""
    with closing(open_reader(day.address)) as reader:
        for since, until in (
            (START - 86_400, START + 86_400), (START - 40_500, START + 44_100), (START + 900, START + 1_800),
            (START - 86_400, START + 900),
        ):  # fmt: skip
            period = Period(since, until)
            for policy in (None, HELP_DESK):
                now, before = (read_sums(reader, one, policy, by_day=True) for one in (period, period.before))
                for by in ("task", "workflow", "model"):
                    assert read_costs(reader, period, by, policy) == costs(now, before, by)
                whole = read_sums(reader, period, policy)
                assert lines_of(totals(whole, "arm"), totals(whole, "arm"), "arm") == lines_of(
                    totals(now, "arm"), totals(now, "arm"), "arm"
                )


def test_a_request_without_an_estimate_spoils_its_days_row_and_no_other(tmp_path: Path) -> None:
    """Grouped over days, its row must not take the others' estimates with it: nor be counted."""
    from cascade.ledger.records import NO_SLOT, Batch, TrafficKey  # noqa: PLC0415

    with closing(SqliteStore(tmp_path / "ledger.db", synchronous="NORMAL")) as store:
        store.open("one")
        for number, estimated in enumerate((1, 0, 1)):
            key = TrafficKey(START + 86_400 * number, "p", "t", "w", "cascade", "haiku", NO_SLOT)
            store.write(Batch(traffic={key: [1, 1, 1, 0, 100, 10_000.0, 1_000 * estimated, estimated]}))
    with closing(open_reader(tmp_path / "ledger.db")) as reader:
        saving = read_costs(reader, Period(START, START + 3 * 86_400), "task").saving
    assert saving is not None
    assert (saving.requests, saving.baseline, saving.cost) == (2, 2_000.0, 200)


@pytest.mark.parametrize(
    ("length", "width"), [(900, 900), (86_400, 900), (3 * 86_400, 3_600), (7 * 86_400, 10_800), (31 * 86_400, 86_400), (400 * 86_400, 7 * 86_400)]
)  # fmt: skip
def test_a_period_has_a_sensible_number_of_slices(length: int, width: int) -> None:
    """And all of it is in one of them."""
    period = Period(START - length + 4_500, START + 4_500)
    starts = slices_of(period, slice_s_of(period))
    assert slice_s_of(period) == width
    assert starts[0] <= period.since < starts[0] + width
    assert period.until - width <= starts[-1] < period.until
    assert len(starts) <= 100


def test_without_a_ledger_the_page_is_empty_and_none_is_made(tmp_path: Path) -> None:
    """The modes are shown all the same."""
    path = tmp_path / "none.db"
    source = LedgerSource(str(path), policies, now=lambda: NOW)
    found = source.overview(Period(START, START + 86_400))
    assert (found.is_empty, found.exists, found.costs.total.cost) == (True, False, 0)
    assert len(found.spend) == 96
    assert [mode.policy for mode in found.modes] == [HELP_DESK, REVIEWS]
    assert source.request("casc_x") is None
    assert source.model("m", Period(START, START + 900)).line is None
    assert not source.policy("p", Period(START, START + 900)).is_here
    assert source.version() == ""
    assert not path.exists()


def test_an_empty_ledger_and_a_period_without_requests(tmp_path: Path, day: RecordedDay) -> None:
    """There is a page, and it says that nothing is there."""
    path = tmp_path / "empty.db"
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        store.open("one")
    found = read_overview(str(path), day.period, day.policies, day.now)
    assert (found.is_empty, found.exists, found.last, found.large) == (True, True, (), ())
    quiet = read_overview(day.address, Period(START + 90_000, START + 99_000), day.policies, day.now)
    assert quiet.is_empty
    assert quiet.costs.total.cost_before > 0
    assert sum(point.cost for point in quiet.spend) == 0


def test_what_is_no_ledger_is_an_error_in_one_line(tmp_path: Path) -> None:
    """Not an empty page."""
    path = tmp_path / "other.db"
    path.write_bytes(b"not a ledger at all" * 100)
    with pytest.raises(LedgerError, match="is not an SQLite file"):
        read_overview(str(path), Period(START, START + 900), (), NOW)


def test_the_source_knows_when_the_ledger_has_grown(tmp_path: Path) -> None:
    """By entries and by marks."""
    small = record_day(tmp_path / "ledger.db", requests=50, grade=0)
    source = LedgerSource(small.address, policies, now=lambda: NOW)
    before = source.version()
    assert before == source.version()
    assert source.overview(small.period).stamp not in before  # a page does not say how many entries there are
    with closing(SqliteStore(Path(small.address), synchronous="NORMAL")) as store:
        from tests.ledger.books import Writer  # noqa: PLC0415 - as above

        Writer(store, "other").ask(1, at=NOW)
    assert source.version() != before


def test_policies_of_the_day_are_files_that_load(tmp_path: Path) -> None:
    """As the browser's tests serve them."""
    from cascade.policy.loading import load_policy  # noqa: PLC0415 - here alone

    assert tuple(load_policy(path) for path in write_policies(tmp_path)) == policies()


def test_postgres_has_the_same_figures(day: RecordedDay, postgres_database: str, tmp_path: Path) -> None:
    """A smaller day, in both: to the last figure."""
    here, there = (
        record_day(address, requests=400, grade=0) for address in (tmp_path / "ledger.db", postgres_database)
    )
    one, other = (read_overview(of.address, day.period, day.policies, day.now) for of in (here, there))
    assert one.costs.total.requests == 400
    assert replace(one, ledger="", stamp="") == replace(other, ledger="", stamp="")
    for name in (here.kept, here.escalated):
        assert read_request(here.address, name) == read_request(there.address, name)
    assert (
        read_model(here.address, day.period, NOW, "claude-haiku-5-5").line
        == read_model(there.address, day.period, NOW, "claude-haiku-5-5").line
    )
