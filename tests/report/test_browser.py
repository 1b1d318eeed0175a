"""The pages of calibrate and audit in a real browser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.audit.report.texts import Texts
from cascade.calibration.report import ChosenThresholds, input_of, write_report
from cascade.calibration.search.frontier import point_at
from cascade.cli.audit.report_page import write_page
from cascade.replay.mapping import Override
from cascade.replay.run import Replay, ReplayOptions, replay_corpus
from cascade.replay.samples import SamplesOverride
from tests.audit.samples import graded, sample
from tests.audit.test_report import report as audit_report
from tests.live.conftest import ladder

from .browser import CONTRAST, Browser, By, Keys
from .builders import SUPPORT, counts_of, drawn
from .sampled import sampled


@pytest.fixture
def support(driver: Any, tmp_path: Path) -> Browser:
    """Open the report of the shipped corpus, at 0.80."""
    page = tmp_path / "report.html"
    write_report(page, input_of(counts_of(SUPPORT), corpus="support", synthetic=True))
    return Browser(driver, page)


def replayed(thresholds: Mapping[str, str]) -> Replay:
    """The shipped corpus replayed at thresholds as the page writes them."""
    overrides = tuple(Override(rung, None if x == "never" else float(x)) for rung, x in thresholds.items())
    return replay_corpus(SUPPORT, ReplayOptions(overrides=overrides))


def test_moving_the_sliders_by_keys_shows_what_replay_says(support: Browser) -> None:
    """Wherever the keys take them: quality, cost, risk and the flow are those of a replay at these thresholds."""
    seen, labels = set[tuple[str, ...]](), set[str]()
    for keys in (((), ()), ((Keys.ARROW_RIGHT,) * 3, (Keys.ARROW_LEFT,)), ((Keys.HOME,), (Keys.END,)), ((Keys.END,), (Keys.END,)),
                 ((Keys.ARROW_LEFT,) * 4, (Keys.HOME,))):  # fmt: skip
        shown = {rung: support.press(index, *keys[index]) for index, rung in enumerate(("haiku", "sonnet"))}
        seen.add(tuple(shown.values()))
        figures = replayed(shown).figures
        assert support.value("quality") == pytest.approx(figures.quality, abs=1e-9)
        assert round(support.value("cost") * 1e6 * figures.items) == figures.cost
        assert support.value("risk") == figures.false_confident_rate
        assert [support.value(f"reached-{rung}") for rung in range(3)] == [*figures.reached.values()]
        assert [support.value(f"answered-{rung}") for rung in range(2)] == [*figures.shipped.values()][:2]
        assert support.find("quality").text == f"{figures.quality:.4f}"
        assert support.find("cost").text == f"{figures.cost_per_request_usd * 1000:.4f}"
        assert support.find("risk").text == f"{figures.false_confident_rate:.2%}"
        assert figures.savings_vs_top is not None
        assert support.find("saved").text == f"{abs(figures.savings_vs_top):.1%}"
        cheaper = figures.savings_vs_top >= 0
        labels.add(support.find("saved-label").text)
        assert support.find("saved-label").text == ("Saved vs opus" if cheaper else "Dearer than opus")
        bars = [float(support.find(f"here-{rung}").get_attribute("width")) for rung in range(2)]
        assert bars == [pytest.approx(100 * count / figures.items) for count in [*figures.shipped.values()][:2]]
    assert len(seen) == 5
    assert labels == {"Saved vs opus", "Dearer than opus"}
    assert ("never", "never") in seen
    assert support.complaints() == []


def test_the_ring_on_the_frontier_follows_the_sliders(support: Browser) -> None:
    """At `never` on both rungs it is the dearest point; back at the lowest levels it is left of that."""
    at = [(support.press(0, key), float(support.find("you").get_attribute("cx")))[1] for key in (Keys.HOME, Keys.END)]
    assert at[0] < at[1]


def test_copied_yaml_is_what_the_sliders_say(support: Browser) -> None:
    """The button copies a ladder with these thresholds, told as uncertified; read as YAML it has the numbers shown."""
    shown = [support.press(0, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT), support.press(1, Keys.END)]
    support.driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
    support.find("copy").send_keys(Keys.ENTER)
    copied = support.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert support.find("said").text == "Copied."
    assert copied.rstrip() == support.find("yaml").text
    assert "# support: set by hand in a report, not certified" in copied
    assert shown[1] == "never"
    assert yaml.safe_load(copied)["ladder"] == [
        {"rung": "haiku", "threshold": float(shown[0])}, {"rung": "sonnet", "threshold": "never"}, {"rung": "opus"},
    ]  # fmt: skip


@pytest.mark.parametrize(("certificate", "said"), [("proved", "as calibrated"), (None, "as chosen, not certified")])
def test_the_chosen_thresholds_come_back(driver: Any, tmp_path: Path, certificate: str | None, said: str) -> None:
    """The sliders start at what was chosen, the button brings it back, and only then is the YAML as it was chosen."""
    counts = counts_of(SUPPORT)
    chosen = ChosenThresholds(point_at(counts, (10, 8)), certificate, (0.9, 0.95))
    write_report(tmp_path / "r.html", input_of(counts, corpus="support", synthetic=True, chosen=chosen))
    page = Browser(driver, tmp_path / "r.html")
    quality, text = page.value("quality"), page.find("yaml").text
    assert quality == chosen.point.quality
    assert text.startswith(f"# support: {said}\n")
    page.press(0, Keys.HOME)
    assert page.value("quality") != quality
    assert "set by hand in a report, not certified" in page.find("yaml").text
    page.find("reset").click()
    assert (page.value("quality"), page.find("yaml").text) == (quality, text)


def test_thresholds_by_task_are_handed_out_above_the_sliders(driver: Any, tmp_path: Path) -> None:
    """The chosen YAML has the tasks' thresholds and stays whatever the sliders do; theirs is certified nowhere."""
    counts = counts_of(SUPPORT)
    shared, found = point_at(counts, (10, 8)), point_at(counts, (6, 5))
    point = replace(found, at=shared.at, thresholds=shared.thresholds)
    tasks = {"routine": (0.85, None), "no": (1e-05, 0.78)}
    given = input_of(
        counts, corpus="support", synthetic=True, chosen=ChosenThresholds(point, "proved", (0.9, 0.95), tasks)
    )
    write_report(tmp_path / "r.html", given)
    page = Browser(driver, tmp_path / "r.html")
    page.driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
    said: set[str] = set()
    for key in (None, Keys.HOME):
        if key:
            page.press(0, key)
        said.add(page.find("yaml").text.partition("\n")[0])
        page.find("picked-copy").send_keys(Keys.ENTER)
        copied = page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
        assert copied.startswith("# support: as calibrated, by task\n")
        assert page.find("picked-said").text == "Copied."
        assert (page.value("picked-quality"), page.value("picked-cost")) == (found.quality, found.cost / counts.n / 1e6)
        assert yaml.safe_load(copied) == {
            "ladder": [
                *({"rung": rung, "threshold": x} for rung, x in zip(counts.rungs, shared.thresholds, strict=False)),
                {"rung": "opus"},
            ],
            "tasks": [
                {"name": "routine", "thresholds": {"haiku": 0.85, "sonnet": "never"}},
                {"name": "no", "thresholds": {"haiku": 1e-05, "sonnet": 0.78}},
            ],
        }
    assert said == {"# support: one set for all tasks, not certified"}
    page.find("reset").click()
    assert (page.find("reset").text, page.value("quality")) == ("Back to the start", shared.quality)
    assert page.complaints() == []


def test_keys_alone_reach_everything_and_show_where_they_are(support: Browser) -> None:
    """Tab goes from slider to slider to the buttons; each has a name, a value in words, and a visible ring."""
    support.run("document.body.focus()")
    reached: list[str] = []
    for _ in range(5):
        active = support.driver.switch_to.active_element
        active.send_keys(Keys.TAB)
        active = support.driver.switch_to.active_element
        reached.append(active.get_attribute("id"))
        assert support.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == ["slider-0", "slider-1", "reset", "copy", "yaml"]
    slider = support.find("slider-0")
    assert (slider.aria_role, slider.accessible_name) == ("slider", "haiku")
    support.press(0, Keys.END)
    assert slider.get_attribute("aria-valuetext") == "never"
    assert support.find("said").text.startswith("Quality 0.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_by_day_and_by_night(support: Browser, scheme: str) -> None:
    """In both colour schemes each text has a contrast of 4.5 or more; the dark one is dark."""
    support.emulate(prefers_color_scheme=scheme)
    try:
        ratios: list[float] = support.run(CONTRAST)
        paper = support.run("return getComputedStyle(document.documentElement).backgroundColor")
    finally:
        support.emulate()
    assert len(ratios) > 40
    assert min(ratios) >= 4.5
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 22, 27)")


def test_print_leaves_out_what_paper_cannot_do(support: Browser) -> None:
    """On paper: no sliders and buttons, but the thresholds, the figures and the frontier; black on white also at night."""
    support.emulate("print", prefers_color_scheme="dark")
    try:
        shown = {
            name: support.find(name).is_displayed() for name in ("slider-0", "copy", "threshold-0", "quality", "you")
        }
        paper = support.run("return getComputedStyle(document.documentElement).backgroundColor")
    finally:
        support.emulate()
    assert shown == {"slider-0": False, "copy": False, "threshold-0": True, "quality": True, "you": True}
    assert paper == "rgb(255, 255, 255)"


def test_hostile_names_do_nothing_in_a_browser(driver: Any, tmp_path: Path) -> None:
    """Markup in names runs nowhere, fetches nothing and shows as it is written; the YAML that is copied is still YAML."""
    script, image = "</script><script>hacked=1</script>", '"><img src=x onerror=hacked=1>'
    counts = drawn((script, image, "no"), 100, 5)
    given = replace(input_of(counts, corpus=f"{script}\n{image}", synthetic=True), title=script, advice=image)
    write_report(tmp_path / "r.html", given)
    page = Browser(driver, tmp_path / "r.html")
    shown = page.press(0, Keys.HOME)
    assert page.run("return [typeof hacked, document.images.length, document.scripts.length]") == ["undefined", 0, 2]
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    assert page.driver.find_element(By.TAG_NAME, "h1").text == script
    assert yaml.safe_load(page.find("yaml").text)["ladder"][0] == {"rung": script, "threshold": float(shown)}
    assert yaml.safe_load(page.find("yaml").text)["ladder"][2] == {"rung": "no"}
    assert page.complaints() == []


def test_the_slider_over_samples_shows_what_each_further_one_buys(driver: Any, tmp_path: Path) -> None:
    """By keys, from the fewest to the most: the figures of the command's table, its row marked, beside the chosen vote."""
    _, result, report = sampled(tmp_path)
    write_report(tmp_path / "r.html", report)
    page = Browser(driver, tmp_path / "r.html")
    bought = result.further_samples()
    slider = page.find("votes")
    slider.send_keys(Keys.HOME)
    for number, one in enumerate(bought):
        assert page.find("votes-most").text == str(one.most)
        assert page.value("votes-quality") == one.quality
        assert page.value("votes-cost") == pytest.approx(1e3 * one.cost_per_request_usd)
        assert page.value("votes-risk") == one.losses / len(result.tune)
        marked = page.run("return [...document.querySelectorAll('tr.at')].map((row) => row.dataset.vote)")
        assert marked == [str(number)]
        slider.send_keys(Keys.ARROW_RIGHT)
    assert slider.accessible_name == "Samples, at most"
    assert slider.get_attribute("aria-valuetext").startswith(f"{bought[-1].most}: ")
    assert page.complaints() == []


def test_the_thresholds_of_a_cascade_with_samples_are_its_replays(driver: Any, tmp_path: Path) -> None:
    """Wherever the slider is: quality, cost and risk on the held-out half are what replay says of the same votes."""
    corpus, result, report = sampled(tmp_path)
    write_report(tmp_path / "r.html", report)
    page = Browser(driver, tmp_path / "r.html")
    made = result.samples["haiku"]
    votes = SamplesOverride("haiku", made.agree, made.max, tuple(one.label("") for one in made.variants))
    for key in (None, Keys.HOME, Keys.ARROW_RIGHT, Keys.END):
        text = page.press(0, key) if key else page.find("threshold-0").text
        threshold = Override("haiku", None if text == "never" else float(text))
        figures = replay_corpus(corpus, ReplayOptions(overrides=(threshold,), part="certify", samples=(votes,))).figures
        assert page.value("quality") == pytest.approx(figures.quality, abs=1e-9)
        assert round(page.value("cost") * 1e6 * figures.items) == figures.cost
        assert page.value("risk") == figures.false_confident_rate
        rung = yaml.safe_load(page.find("yaml").text)["ladder"][0]
        assert rung["samples"]["agree"] == made.agree
        assert rung["threshold"] == (text if text == "never" else float(text))


def test_agreement_takes_the_place_of_a_threshold(driver: Any, tmp_path: Path) -> None:
    """Its slider has two places, and the YAML has a threshold only where the rung is never to ship."""
    write_report(tmp_path / "r.html", sampled(tmp_path, reports=False).report)
    page = Browser(driver, tmp_path / "r.html")
    assert page.press(0, Keys.HOME) == "agreement"
    assert "threshold" not in yaml.safe_load(page.find("yaml").text)["ladder"][0]
    assert page.press(0, Keys.END) == "never"
    assert yaml.safe_load(page.find("yaml").text)["ladder"][0]["threshold"] == "never"
    assert page.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_audits_page_can_be_read_and_its_hostile_texts_do_nothing(driver: Any, tmp_path: Path, scheme: str) -> None:
    """By day and by night each text has a contrast of 4.5 or more; markup in answers is text, and nothing is fetched."""
    hostile = "</pre><script>hacked=1</script><img src=x onerror=hacked=1>"
    policy = ladder(audit={})
    wrong = replace(sample(policy, 1, task=hostile, score=0.0, has_content=True), shadow=hostile)
    found = audit_report([wrong, *graded(policy, [1.0] * 30)], policy, texts={wrong.request: Texts(hostile, hostile)})
    write_page(tmp_path / "a.html", found, hostile)
    page = Browser(driver, tmp_path / "a.html")
    page.emulate(prefers_color_scheme=scheme)
    try:
        ratios: list[float] = page.run(CONTRAST)
    finally:
        page.emulate()
    assert len(ratios) > 40
    assert min(ratios) >= 4.5
    assert page.run("return [typeof hacked, document.images.length, document.scripts.length]") == ["undefined", 0, 0]
    assert page.run("return [...document.querySelectorAll('pre')].map((one) => one.textContent)") == [hostile] * 3
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    assert page.complaints() == []
