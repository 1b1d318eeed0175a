"""The page as a text: everything on it, nothing from elsewhere, nobody's markup, never too heavy."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.calibration.objectives import Budget
from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.report import ChosenThresholds, TaskRow, input_of, render_report, write_report
from cascade.calibration.report.build import report_of
from cascade.calibration.report.inputs import guess_of, reliability_of, singles_of
from cascade.calibration.report.ladder import MOST_LETTERS, states_of, yaml_of
from cascade.calibration.report.page import MOST_BYTES
from cascade.calibration.report.table import Table, table_of
from cascade.calibration.run import Calibration, CalibrationOptions, calibrate
from cascade.calibration.search.frontier import point_at
from cascade.core.errors import ConfigurationError
from cascade.policy.loading import load_policy
from cascade.policy.shipped import find_corpus

from .builders import SUPPORT, counts_of, drawn

HOSTILE = (
    "</script><script>hacked=1</script>", '"><img src=x onerror=hacked=1>', "{{ 7*7 }}{% raw %}", "'\u2028\u202e\x00é🎈", "<!--",
)  # fmt: skip


class Page(HTMLParser):
    """A page read as a browser would: its elements with their attributes, its texts, and what its scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        """Note that a script ends: no other element holds texts that are none."""
        if tag == "script":
            self._inside = ""

    def handle_data(self, data: str) -> None:
        """Note a text, or a part of a script."""
        if self._inside == "script":
            self.scripts[-1] += data
        else:
            self.texts.append(data)

    @property
    def data(self) -> dict[str, Any]:
        """The table inside the page."""
        return json.loads(self.scripts[0])


def summed(fields: dict[str, Any], at: tuple[int, ...]) -> tuple[float, int, int, list[int]]:
    """What the page's script sums at these slider places: score, cost, losses, and how many climbs end at each rung."""
    top = len(at)
    score, cost, lost, ended = 0.0, 0, 0, [0] * (top + 1)
    for row, items in enumerate(fields["items"]):
        end = next((k for k in range(top) if fields["codes"][k][row] >= at[k]), top)
        score += fields["score"][end][row]
        cost += sum(fields["cost"][k][row] for k in range(end + 1))
        lost += fields["lost"][end][row]
        ended[end] += items
    return score, cost, lost, ended


def places(table: Table) -> list[tuple[int, ...]]:
    """Every vector of slider places."""
    return list(itertools.product(*(range(1, len(labels) + 1) for labels in table.labels)))


def test_the_table_sums_to_the_frontiers_figures_at_every_slider() -> None:
    """On the shipped corpus each vector of slider places gives what `point_at` gives there: exactly."""
    counts = counts_of(SUPPORT)
    table = table_of(counts, guess_of(counts), "false_confident")
    fields = json.loads(json.dumps(table.fields))
    assert table.thinned is None
    assert [labels[at - 1] for labels, at in zip(table.labels, table.at, strict=True)] == ["0.80", "0.80"]
    for at in places(table):
        point = point_at(counts, at)
        score, *rest = summed(fields, at)
        assert (score / counts.n, *rest) == (point.quality, point.cost, point.losses, list(point.shipped))


@pytest.mark.parametrize("loss", ["false_confident", "regression"])
def test_a_table_that_is_too_large_offers_fewer_levels_and_stays_exact(loss: Any) -> None:
    """Thousands of rows: the chosen thresholds and never are still offered, and every figure is exact at what is."""
    counts = drawn(("a", "b", "c"), 6_000, 900)
    at = (451, 901)
    table = table_of(counts, at, loss, most_bytes=30_000)
    assert len(json.dumps(table.fields, separators=(",", ":"))) <= 30_000
    assert table.thinned is not None
    assert "of 900 at a" in table.thinned
    assert table.labels[0][table.at[0] - 1] == str(float(counts.levels[0][450]))
    assert table.labels[1][table.at[1] - 1] == "never"
    originals = [
        {label: number for number, label in enumerate([*map(str, own.tolist()), "never"], 1)} for own in counts.levels
    ]
    for chosen in [table.at, *places(table)[::7]]:
        original = tuple(originals[k][table.labels[k][j - 1]] for k, j in enumerate(chosen))
        point = point_at(counts, original, loss)
        score, cost, lost, ended = summed(table.fields, chosen)
        assert (cost, lost, ended) == (point.cost, point.losses, list(point.shipped))
        assert score == pytest.approx(point.quality * counts.n, rel=1e-12)


def test_a_page_of_continuous_scores_and_long_names_stays_under_its_weight() -> None:
    """40,000 different confidences on four rungs, names of a thousand letters, hundreds of tasks: under 500 KB."""
    counts = drawn(tuple(letter * 1_000 for letter in "abcd"), 40_000, 40_000)
    tasks = tuple(TaskRow(f"{number}" * 300, 1, 0.5, 0.1, 0.1, 0.1) for number in range(600))
    changes = [{"item": "i" * 999, "event": "tripped", "task": "t" * 999, "rung": "r", "rate": 1.0, "limit": 0.3}] * 900
    given = replace(
        input_of(drawn(("a", "b"), 50, 5), corpus="x" * 9_999, synthetic=False),
        title="t" * 100_000, advice="a" * 100_000, tasks=tasks, storms={"changes": changes}, notes=("n" * 10_000,) * 500, counts=counts,
        baselines={f"b{n}" * 500: (0.5, 0.1) for n in range(500)},
    )  # fmt: skip
    page = render_report(given)
    assert len(page.encode()) < MOST_BYTES
    assert "The sliders offer some of the observed levels" in page


def test_hostile_names_are_texts_everywhere() -> None:
    """Markup, quotes and template syntax in every name: no element, attribute or script comes of it."""
    rungs = HOSTILE[:3]
    counts = drawn(rungs, 200, 6)
    point = point_at(counts, guess_of(counts))
    task = TaskRow(HOSTILE[1], 9, 0.5, 0.001, 0.1, 0.1)
    change = {
        "item": HOSTILE[0],
        "event": HOSTILE[1],
        "task": HOSTILE[2],
        "rung": HOSTILE[3],
        "rate": 0.5,
        "limit": 0.35,
    }
    given = replace(
        input_of(counts, corpus=HOSTILE[0], synthetic=True, chosen=ChosenThresholds(point, HOSTILE[1], None, dict.fromkeys(HOSTILE, (0.5, None)))),
        title=HOSTILE[0], advice=HOSTILE[1], tasks=(task,), storms={"changes": [change]}, notes=HOSTILE,
        signals={rungs[0]: {"auroc": 0.7, "ece": None, "beats_random": False}}, baselines=dict.fromkeys(HOSTILE, (0.5, 0.001)),
    )  # fmt: skip
    text = render_report(given)
    page, calm = Page(text), Page(render_report(input_of(drawn(("a", "b", "c"), 200, 6), corpus="c", synthetic=True)))
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in calm.elements} | {"details", "summary", "ul", "li"}
    assert not [
        name
        for _, attributes in page.elements
        for name in attributes
        if name.startswith("on") or name in ("src", "href")
    ]
    assert len(page.scripts) == len(calm.scripts) == 2
    assert page.scripts[1] == calm.scripts[1]
    assert page.data["rungs"] == list(rungs)
    assert HOSTILE[0] in "".join(page.texts)
    assert "<" not in page.scripts[0]
    listed: Any = yaml.safe_load(yaml_of(given) or "")
    assert [task["name"] for task in listed["tasks"]] == list(HOSTILE)


def test_a_page_asks_no_network() -> None:
    """Nothing on it has an address, and its own policy forbids what a browser could still fetch."""
    text = render_report(input_of(counts_of(SUPPORT), corpus="support", synthetic=True))
    assert "://" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert "@import" not in text
    policy = next(a["content"] for tag, a in Page(text).elements if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_singles_and_reliability_are_the_counts_own() -> None:
    """Each single model's figures, and each level's share of right replies, add up to the corpus."""
    counts = counts_of(SUPPORT)
    never = tuple(len(own) + 1 for own in counts.levels)
    for index, (quality, cost) in enumerate(singles_of(counts).values()):
        assert quality == pytest.approx(float(counts.alone[index]) / counts.n)
        assert round(cost * counts.n * 1e9) == int(counts.cost[:, index].sum())
    assert point_at(counts, never).cost == sum(round(cost * counts.n * 1e9) for _, cost in singles_of(counts).values())
    for rung in range(2):
        levels, silent = reliability_of(counts, rung)
        assert sum(level.items for level in levels) + silent == counts.n
        assert [level.low for level in levels] == sorted(counts.levels[rung].tolist())
    assert len(reliability_of(drawn(("a", "b"), 5_000, 1_000), 0)[0]) <= 25


def test_figures_without_a_script_are_those_of_the_chosen_point() -> None:
    """Quality, cost, risk and flow stand on the page before any script runs, and the certificate beside them."""
    counts = counts_of(SUPPORT)
    point = point_at(counts, (9, 11))
    given = input_of(
        counts, corpus="support", synthetic=True, chosen=ChosenThresholds(point, "false_confident <= 6%", (0.9, 0.95))
    )
    page = Page(render_report(given))
    shown = {a["id"]: a.get("data-value") for tag, a in page.elements if tag == "output"}
    assert float(shown["quality"] or "") == point.quality
    assert float(shown["risk"] or "") == point.losses / counts.n
    assert [int(shown[f"answered-{rung}"] or "") for rung in range(3)] == list(point.shipped)
    text = "".join(page.texts)
    for said in (
        "Certified.",
        "false_confident <= 6%",
        "0.9000 to 0.9500",
        "random escalation, as often as chosen",
        "opus alone",
    ):
        assert said in text
    assert "Nothing is certified here" not in text
    assert "Nothing is certified here" in render_report(input_of(counts, corpus="support", synthetic=True))


@pytest.mark.parametrize("levels", [0, 1])
def test_corpora_of_odd_shapes_make_a_page(levels: int) -> None:
    """No confidence at all, or always the same one; two rungs; a single item."""
    for items in (1, 20):
        render_report(input_of(drawn(("a", "b"), items, levels), corpus="odd", synthetic=False))


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """The file is the page and nothing lies beside it; a path that cannot be is one line."""
    given = input_of(drawn(("a", "b"), 20, 3), corpus="c", synthetic=True)
    write_report(tmp_path / "r.html", given)
    assert (tmp_path / "r.html").read_text("utf-8") == render_report(given)
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    with pytest.raises(ConfigurationError, match=r"--report .*cannot be written"):
        write_report(tmp_path / "none" / "r.html", given)


def test_without_jinja2_the_extra_is_named() -> None:
    """Where jinja2 is not installed: one line that says which extra brings it."""
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from cascade.calibration.report import render_report\n"
        "from cascade.core.errors import MissingExtra\n"
        "try: render_report(None)\n"
        "except MissingExtra as error: print(error.extra)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "report"


@pytest.fixture(scope="module")
def by_task() -> Calibration:
    """Calibrate the shipped history, each large task with thresholds of its own."""
    options = CalibrationOptions(Target(alpha=0.1), load_policy("support"), per_task=True)
    return calibrate([find_corpus(Path("history"))], options)


def outputs(page: Page) -> dict[str, float]:
    """The exact figures on a page, by id."""
    shown = ((a["id"], a.get("data-value")) for tag, a in page.elements if tag == "output")
    return {str(name): float(value) for name, value in shown if value is not None}


def test_thresholds_by_task_are_shown_as_they_were_chosen(by_task: Calibration) -> None:
    """Before the sliders: the chosen's own figures, every task's thresholds, and YAML that holds them all."""
    given = report_of(by_task, "Cascade", {})
    text = render_report(given)
    page, certify = Page(text), by_task.choice.certify
    assert certify is not None
    assert certify.ci95 is not None
    shown = outputs(page)
    assert shown["picked-quality"] == certify.quality
    assert shown["picked-cost"] == pytest.approx(certify.cost_per_request_usd * 1000)
    assert shown["picked-risk"] == pytest.approx(certify.false_confident)
    assert shown["cost"] > 2 * shown["picked-cost"]  # what the sliders' one set for all costs is not what was chosen
    said = "".join(page.texts)
    assert f"{certify.ci95[0]:.4f} to {certify.ci95[1]:.4f}" in said
    for label in ("Not what was chosen.", "Back to the start", "Try one set of thresholds for all tasks"):
        assert label in said
    before = text[: text.index('id="try"')]
    rows = {row.task: row.thresholds for row in given.tasks if row.thresholds}
    assert rows == {task: tuple(own.values()) for task, own in by_task.task_thresholds.items()}
    assert len(rows) == 2
    assert all(f">{task}</th>" in before for task in rows)
    assert text.count("At the chosen thresholds") == 1
    for task, own in by_task.task_thresholds.items():
        listed = ", ".join(f"{rung}: {x:.2f}" for rung, x in own.items() if x is not None)
        assert f"  - {{name: {task}, thresholds: {{{listed}}}}}" in before
    assert "as calibrated, by task" in before
    assert page.data["chosen"] == page.data["moved"] == "one set for all tasks, not certified"


def test_yaml_by_task_is_left_out_where_it_would_weigh_too_much() -> None:
    """Hundreds of tasks with long names: no YAML, a hint at --write, and a page within its weight."""
    counts = drawn(tuple(letter * 1_000 for letter in "abcd"), 40_000, 40_000)
    point = point_at(counts, guess_of(counts))
    few = {f"t{number}": (0.5, None, 0.25) for number in range(2)}
    many = {f"t{number}" * 30: (0.5, None, 0.25) for number in range(256)}
    small, large = (
        input_of(counts, corpus="c", synthetic=False, chosen=ChosenThresholds(point, None, None, tasks))
        for tasks in (few, many)
    )
    assert 0 < len(yaml_of(small) or "") <= MOST_LETTERS
    assert yaml_of(large) is None
    page = render_report(large)
    assert "calibrate with --write puts them into a policy" in page
    assert len(page.encode()) < MOST_BYTES


def test_dearer_than_the_top_is_said_as_dearer() -> None:
    """A saving has no minus sign: its label turns with it."""
    counts = counts_of(SUPPORT)
    never = tuple(len(own) + 1 for own in counts.levels)
    for at, label, other in (
        (never, "Dearer than opus", "Saved vs opus"),
        ((1, 1), "Saved vs opus", "Dearer than opus"),
    ):
        point = point_at(counts, at)
        text = "".join(
            Page(
                render_report(input_of(counts, corpus="c", synthetic=True, chosen=ChosenThresholds(point, None)))
            ).texts
        )
        share = abs(1 - point.cost / int(counts.cost[:, -1].sum()))
        assert f"{label}{share:.1%}" in text
        assert other not in text


def test_where_a_single_model_is_better_the_advice_warns_and_the_certificate_does_not_cheer() -> None:
    """The advice in the warning colour comes first; what is certified is said neutrally, as not advised."""
    result = calibrate([find_corpus(Path("history"))], CalibrationOptions(Target(alpha=0.1), load_policy("support")))
    advised = report_of(result, "Cascade", {})
    assert advised.advised
    dear = replace(result, choice=replace(result.choice, advice="single:opus"))
    given = report_of(dear, "Do not cascade here", {})
    assert not given.advised
    text, calm = render_report(given), render_report(advised)
    assert '<p class="advice not">Do not cascade here</p>' in text
    assert '<p class="advice">Cascade</p>' in calm
    assert text.index("Do not cascade here") < text.index("Certified, though not advised:")
    assert '<p class="proof"><strong>Certified.' in calm
    assert '<p class="proof">' not in text
    assert states_of(given)[0] == "as calibrated, not advised"
    assert states_of(advised) == ("as calibrated", "set by hand in a report, not certified")


def test_yaml_is_as_calibrated_only_where_it_was_certified() -> None:
    """Chosen for a budget it is not certified; of a learned score it is so only with what scores; else never."""
    path = [find_corpus(Path("history"))]
    budget = report_of(calibrate(path, CalibrationOptions(Budget(0.0015), load_policy("support"))), "a", {})
    assert states_of(budget)[0] == "as chosen, not certified"
    frontier = report_of(calibrate(path, CalibrationOptions(None, load_policy("support"))), "a", {})
    assert frontier.advised
    assert {*states_of(frontier)} == {"set by hand in a report, not certified"}
    counts = counts_of(SUPPORT)
    learned = ChosenThresholds(point_at(counts, (9, 11)), "proved", scored=True)
    told = states_of(input_of(counts, corpus="c", synthetic=True, chosen=learned))
    assert told[0] == "as calibrated, of the learned score that --write adds"


def test_without_a_choice_the_random_mix_is_told_as_that_of_where_the_sliders_start() -> None:
    """On a frontier's page as many climb at random as at 0.80, and the picture and the table say so."""
    counts = counts_of(SUPPORT)
    text = render_report(input_of(counts, corpus="c", synthetic=True))
    assert ">random, as often as at 0.80</text>" in text
    assert "random escalation, as often as at 0.80 on every rung" in text
    chosen = render_report(
        input_of(counts, corpus="c", synthetic=True, chosen=ChosenThresholds(point_at(counts, (9, 11)), None))
    )
    assert ">random, as often</text>" in chosen
    assert "as at 0.80" not in chosen


def test_the_storm_guards_part_says_what_it_was_counted_on(by_task: Calibration) -> None:
    """All requests in their order, its cost on top of the figures above, in USD per 1,000 where the requests are known."""
    storms = {"tripped": 4, "released": 3, "escalated": 609, "held": 0, "cost_usd": 1.354576, "limit_wrong": 0}
    given = report_of(by_task, "a", storms)
    assert given.arrived == 2_400
    text = "".join(Page(render_report(given)).texts)
    assert "Counted on the whole corpus (2,400 requests) in its order of arrival" in text
    assert "the half that tuned the thresholds among them" in text
    assert "it is in none of the figures above" in text
    assert f"{1.354576 / 2_400 * 1_000:.4f} USD per 1,000" in text
    assert "AUROC and ECE and the storm guard's figures are of all 2,400 items" in text
    unknown = "".join(Page(render_report(replace(given, arrived=None))).texts)
    assert "Spread over all" not in unknown
    assert "it is in none of the figures above" in unknown
    off = "".join(Page(render_report(report_of(by_task, "a", {"off": "no arrival times"}))).texts)
    assert "Counted on the whole corpus" not in off
