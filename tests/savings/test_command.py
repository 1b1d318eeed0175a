"""`cascade savings` as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.warm import WarmPython

DAY = "date,model,requests,input_tokens,output_tokens\n2026-11-01,claude-opus-5-5,500,1000000,250000\n"
PRICES = ("--price", "claude-haiku-5-5=0.80/4", "--price", "claude-sonnet-5-5=3/15", "--price", "claude-opus-5-5=15/75")


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(warm_python: WarmPython) -> Run:
    """Run the command in a folder."""

    def runs(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [warm_python.python, "-m", "cascade.cli", "savings", *arguments],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return runs


@pytest.fixture
def day(tmp_path: Path) -> Path:
    """A day of 500 tasks."""
    path = tmp_path / "day.csv"
    path.write_text(DAY)
    return path


def figures(value: Any) -> Iterator[dict[str, Any]]:
    """Every object that tells money."""
    if isinstance(value, dict):
        if "usd" in value:
            yield value
        for inner in value.values():
            yield from figures(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from figures(inner)


def test_the_published_figures_are_printed(run: Run, day: Path) -> None:
    """1.80, 6.75, 33.75 and 4.14 USD a day; 87.7 % and 38.7 %; and the climb beside it."""
    ran = run(day.parent, "day.csv", "--mix", "80/15/5", *PRICES)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = {line.split("  ")[0]: line for line in ran.stdout.splitlines()}
    for name, amount in (("haiku alone", "1.80"), ("sonnet alone", "6.75"), ("opus alone", "33.75")):
        assert amount in lines[name].split()
    routed = next(line for line in lines.values() if line.startswith("routed"))
    assert {"4.14", "87.7%", "38.7%", "estimate"} <= set(routed.split())
    climb = next(line for line in lines.values() if line.startswith("climb: "))
    assert "4.84" in climb.split()
    assert "it pays every rung on the way up" in " ".join(ran.stdout.split())


def test_every_figure_of_money_has_its_basis(run: Run, day: Path) -> None:
    """In JSON: today's bill is measured, all that the policy would do is an estimate."""
    told = json.loads(run(day.parent, "day.csv", "--mix", "80/15/5", *PRICES, "--json").stdout)
    assert all(figure["basis"] in ("measured", "estimate") for figure in figures(told))
    assert told["today"]["basis"] == "measured"
    assert told["under_policy"]["routed"]["usd_per_day"] == 4.14
    assert told["under_policy"]["routed"]["saved_against"]["opus"] == pytest.approx(0.877333, abs=1e-6)
    assert {figure["basis"] for figure in figures(told["under_policy"])} == {"estimate"}
    assert told["mix"]["basis"] == "estimate"
    assert [row["rate"] for row in told["at_escalation_rate"]] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def test_a_corpus_measures_the_mix(run: Run, day: Path) -> None:
    """A shipped corpus by name; the mix says measured and synthetic, the bill under it still says estimate."""
    told = json.loads(run(day.parent, "day.csv", "--corpus", "support", "--policy", "support", "--json").stdout)
    assert told["mix"]["basis"] == "measured"
    assert told["mix"]["corpus"]["synthetic"] is True
    assert told["under_policy"]["climb_with_triage"]["basis"] == "estimate"
    assert told["advice"]["routing_pays"] is None  # cheaper, and worse
    assert told["mix"]["corpus"]["singles"]["opus"]["cost_usd"] > told["mix"]["corpus"]["cost_usd"] > 0


def test_the_headline_is_the_climb_unless_routed_is_asked_for(run: Run, day: Path) -> None:
    """A cascade climbs: the routed figure counts only on request."""
    assert (
        json.loads(run(day.parent, "day.csv", "--mix", "80/15/5", "--json").stdout)["under_policy"]["headline"]
        == "climb"
    )
    routed = run(day.parent, "day.csv", "--mix", "80/15/5", "--routed", "--json")
    assert json.loads(routed.stdout)["under_policy"]["headline"] == "routed"


def policy_with(folder: Path, *prices: str) -> str:
    """A policy whose rungs have these prices, IN/OUT in USD per million tokens."""
    lines = ["version: 1", "name: priced", "ladder:"]
    for family, told in zip(("haiku", "sonnet", "opus"), prices, strict=True):
        price = "{{input: {}, output: {}}}".format(*told.split("/"))
        threshold = "" if family == "opus" else "threshold: 0.8, "
        lines.append(f"  - {{rung: {family}, model: claude-{family}-5-5, {threshold}max_tokens: 1000, price: {price}}}")
    (folder / "priced.yaml").write_text("\n".join(lines) + "\n")
    return "priced.yaml"


@pytest.mark.parametrize("said_by", ["policy", "option"])
def test_the_published_figures_come_out_of_the_command(run: Run, day: Path, said_by: str) -> None:
    """500 tasks a day at 0.80/4, 3/15 and 15/75: 1.80 / 6.75 / 33.75, 4.14 routed, whoever says the prices."""
    prices = ("-p", policy_with(day.parent, "0.80/4", "3/15", "15/75")) if said_by == "policy" else PRICES
    told = json.loads(run(day.parent, "day.csv", "--mix", "80/15/5", "--routed", *prices, "--json").stdout)
    under = told["under_policy"]
    assert [alone["usd_per_day"] for alone in under["alone"].values()] == [1.80, 6.75, 33.75]
    assert under["routed"]["usd_per_day"] == 4.14
    assert {name: round(saved, 3) for name, saved in under["routed"]["saved_against"].items()} == {
        "today": 0.877, "haiku": -1.3, "sonnet": 0.387, "opus": 0.877,
    }  # fmt: skip
    assert told["today"]["usd"] == 33.75
    assert told["today"]["prices"] == "list prices, unless the policy or --price sets them"


def test_the_published_figure_of_100m_output_tokens_comes_out_of_the_command(run: Run, tmp_path: Path) -> None:
    """70/20/10 at 5, 15 and 25 USD per million out: 900 against 2,500; by the list prices of `classic`, or a policy's."""
    (tmp_path / "out.csv").write_text("model,input_tokens,output_tokens\nclaude-opus-5-5,0,100000000\n")
    own = policy_with(tmp_path, "1/5", "3/15", "5/25")
    for policy in (own, "classic"):
        told = json.loads(run(tmp_path, "out.csv", "--mix", "70/20/10", "-p", policy, "--json").stdout)["under_policy"]
        assert (told["routed"]["usd"], told["alone"]["opus"]["usd"]) == (900, 2_500)
        assert told["routed"]["saved_against"]["opus"] == 0.64


def test_the_published_bill_of_a_large_user_comes_out_of_the_command(run: Run, tmp_path: Path) -> None:
    """1.25B tokens in and 100M out at 5/25, that a policy's own price says: 8,750 USD, measured."""
    (tmp_path / "big.csv").write_text("model,input_tokens,output_tokens\nclaude-opus-5-5,1250000000,100000000\n")
    own = policy_with(tmp_path, "1/5", "3/15", "5/25")
    today = json.loads(run(tmp_path, "big.csv", "-p", own, "--json").stdout)["today"]
    assert (today["usd"], today["basis"]) == (8_750, "measured")
    at_list = json.loads(run(tmp_path, "big.csv", "--json").stdout)["today"]
    assert at_list["usd"] == 1_250 * 4 + 100 * 20


def test_the_verdict_says_what_the_saving_costs_in_quality(run: Run, tmp_path: Path) -> None:
    """One line for people, the same sentence in JSON: money and quality together, and no word of paying."""
    (tmp_path / "much.csv").write_text(DAY.replace("500,1000000,250000", "50000,100000000,25000000"))
    options = ("much.csv", "--corpus", "support", "--policy", "support")
    advice = json.loads(run(tmp_path, *options, "--json").stdout)["advice"]
    assert (advice["routing_pays"], advice["instead"]) == (None, None)
    shown = run(tmp_path, *options).stdout.splitlines()
    assert advice["verdict"] == shown[0]
    assert "saves 20,495.68 USD a month" in advice["verdict"]
    assert "quality falls from 0.9575 (opus alone) to 0.8667 on the corpus" in advice["verdict"]
    assert not any("routing pays" in line for line in shown)


def test_the_verdict_stands_first_and_the_long_tables_only_with_more(run: Run, day: Path) -> None:
    """The verdict, today's bill, the bill under the policy; caching, batch and escalation rates on request."""
    plain = run(day.parent, "day.csv", "--mix", "80/15/5").stdout
    assert plain.startswith(("whether routing pays is not known", "routing does not pay here"))
    assert plain.index("today's bill") < plain.index("under policy") < plain.index("note: --more")
    assert "with and without prompt caching" not in plain
    assert "as assumed" in run(day.parent, "day.csv", "--mix", "80/15/5", "--cached", "0.5").stdout  # it was asked for
    full = run(day.parent, "day.csv", "--mix", "80/15/5", "--more").stdout
    assert full.index("under policy") < full.index("with and without prompt caching") < full.index("breaks even")


def test_a_month_that_was_not_observed_is_never_called_measured(run: Run, day: Path) -> None:
    """One day, scaled by thirty: its money is measured, its month an estimate; without dates its day is one too."""
    day.write_text(DAY.replace(",500,", ",50,"))
    day.with_name("dateless.csv").write_text("model,requests,input_tokens,output_tokens\nclaude-opus-5-5,50,1000,250\n")
    for arguments, bases, heads in (
        (("day.csv",), ("measured", "measured", "estimate"), "USD  USD/day  USD/month (estimate)"),
        (("day.csv", "--period-days", "30"), ("measured",) * 3, "USD  USD/day  USD/month"),
        (("dateless.csv",), ("measured", "estimate", "estimate"), "USD  USD/day (estimate)  USD/month (estimate)"),
    ):
        told = json.loads(run(day.parent, *arguments, "--json").stdout)
        for one in (told["today"], *told["today"]["models"]):
            assert (one["basis"], one["per_day_basis"], one["per_month_basis"]) == bases
        (few,) = (one for one in told["advice"]["findings"] if one["code"] == "few_requests")
        assert few["basis"] == bases[2]
        shown = run(day.parent, *arguments).stdout.splitlines()
        assert next(line for line in shown if line.startswith("model")).split("out")[1].split() == [
            *heads.split(), "basis",
        ]  # fmt: skip


def test_what_was_passed_over_in_the_export_is_told(run: Run, tmp_path: Path) -> None:
    """A total, and a column whose name says that it may be usage: a note for people, a key in JSON."""
    (tmp_path / "usage.csv").write_text(
        "model,requests,input_tokens,output_tokens,cached in\nclaude-opus-5-5,5,100,10,40\nTotal,5,100,10,40\n"
    )
    usage = json.loads(run(tmp_path, "usage.csv", "--json").stdout)["usage"]
    assert (usage["total_rows"], usage["unread_columns"]) == (1, ["cached in"])
    shown = run(tmp_path, "usage.csv").stdout
    assert "total rows, not counted again: 1" in shown
    assert "columns not read: cached in" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none.csv"], "none.csv: cannot be read"),
        (["day.csv", "--mix", "80/20"], "--mix: '80/20'"),
        (["day.csv", "--mix", "80/15/5", "--corpus", "support"], "both were given"),
        (["day.csv", "--period-days", "0"], "--period-days: must be above 0"),
        (["day.csv", "--map", "model=which"], "has no column 'which'"),
        (["day.csv", "--requests", "7"], "--requests: the export already gives the number of requests, 500"),
        (["unpriced.csv"], "unpriced.csv:3: there is no price for model 'gpt-x' (--price gpt-x=IN/OUT)"),
        (["day.csv", "--cached", "2"], "--cached: must be from 0 to 1"),
        (["day.csv", "--price", "x"], "--price: 'x'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run: Run, day: Path, arguments: list[str], told: str) -> None:
    """Nothing on stdout, one line on stderr."""
    day.with_name("unpriced.csv").write_text(f"{DAY}2026-11-02,gpt-x,1,2,3\n2026-11-03,gpt-x,1,2,3\n")
    ran = run(day.parent, *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert told in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("at", ["checks", "tasks[0].checks"])
def test_a_policy_with_a_review_is_refused(run: Run, day: Path, at: str) -> None:
    """What its reviews would cost is not in an export: no bill is shown without them, and the error says what tells it."""
    path = day.parent / policy_with(day.parent, "0.80/4", "3/15", "15/75")
    review = "checks: [{kind: review, rung: opus, below: 0.95}]"
    more = review if at == "checks" else f"tasks: [{{name: refund, {review}}}]"
    path.write_text(f"{path.read_text()}{more}\n")
    ran = run(day.parent, "day.csv", "--mix", "80/15/5", "-p", "priced.yaml", "--json")
    told = " ".join(ran.stderr.split())
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"{at}: a bill is not projected for a policy with a review" in told
    assert "cascade calibrate" in told
