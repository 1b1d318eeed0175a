"""The dashboard in a real browser: headless Chromium, over a recorded day of ten thousand requests, and over pages made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cascade.cli.costs.command import CostsOptions, run_costs
from cascade.dashboard.app import Settings
from cascade.dashboard.figures import LedgerSource
from cascade.engine.mode_switch import read_switch_file, switch_path
from cascade.gateway.keys.ring import KeyRing
from cascade.gateway.settings import GatewaySettings
from cascade.ledger.gateway import GatewayTables
from tests.dashboard.by_hand import Held, Pages, overview
from tests.dashboard.recorded_day import HOSTILE_TEXT, HOSTILE_WORKFLOW, RecordedDay
from tests.gateway.serving import Gateway, policy_file

_FIGURES = """
return [...document.querySelectorAll("data[data-figure]")].map((one) => [one.dataset.figure, one.value, one.textContent]);
"""
_CONTRAST = """
const light = (color) => { const [r, g, b] = color.match(/[\\d.]+/g).map((x) => { x /= 255;
  return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const paper = (node) => { for (; node; node = node.parentElement) { const own = getComputedStyle(node).backgroundColor;
  if (!/, 0\\)$/.test(own)) return own; } };
document.querySelectorAll("details").forEach((one) => { one.open = true; });
return [...document.body.querySelectorAll("*:not(svg, svg *, option)")]
  .filter((node) => [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim()) && node.checkVisibility() && !node.closest(".hidden, .skip"))
  .map((node) => [node, light(getComputedStyle(node).color), light(paper(node))])
  .map(([node, a, b]) => [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent.trim().slice(0, 60)]);
"""
_FOCUS = """
const one = document.activeElement, style = getComputedStyle(one);
return [one.tagName, one.id || one.textContent.trim(), style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
"""


class Served(NamedTuple):
    """A recorded day and its pages."""

    day: RecordedDay
    pages: Pages


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One Chromium for all tests here."""
    from tests.report.browser import Browser, start_driver  # noqa: PLC0415 - needs selenium

    driver = start_driver(tmp_path_factory.mktemp("profile"))
    shown = Browser.__new__(Browser)
    shown.driver = driver
    try:
        yield shown
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def served(day: RecordedDay) -> Iterator[Served]:
    """The day's ledger, as `cascade dashboard` shows it."""
    source = LedgerSource(day.address, lambda: day.policies, now=lambda: day.now)
    with Pages(source, Settings(wall=lambda: day.now, why_not="read-only")) as pages:
        yield Served(day, pages)


def wait(browser: Any, condition: Callable[[], Any]) -> None:
    """Until it holds; fails after ten seconds."""
    from selenium.webdriver.support.wait import WebDriverWait  # noqa: PLC0415

    WebDriverWait(browser.driver, 10, poll_frequency=0.05).until(lambda _: condition())


def press(browser: Any, *keys: str) -> None:
    """Press keys where the focus is."""
    from selenium.webdriver.common.action_chains import ActionChains  # noqa: PLC0415

    ActionChains(browser.driver).send_keys(*keys).perform()


def tab_to(browser: Any, wanted: Callable[[str, str], bool]) -> None:
    """Press Tab until the focus is on an element (tag, id or text); each one on the way shows its focus."""
    for _ in range(400):
        press(browser, "\ue004")
        tag, name, is_visible = browser.run(_FOCUS)
        assert tag != "BODY", "the end of the page came first"
        assert is_visible, (tag, name)
        if wanted(tag, name):
            return
    raise AssertionError("nothing of that kind can be reached")


def reported(day: RecordedDay, by: str, policy: str | None, capsys: pytest.CaptureFixture[str], call_usd: float) -> Any:
    """What `cascade costs --json` prints of the day."""
    options = CostsOptions("24h", by, policy, call_usd, day.address)
    run_costs(options, as_json=True, now=lambda: day.now)
    return json.loads(capsys.readouterr().out)


def at(report: Any, path: str) -> Any:
    """A figure by its path; of a mapping also by place."""
    found = report
    for part in path.split("/"):
        if isinstance(found, dict):
            found = found[part] if part in found else list(found.values())[int(part)]
        else:
            found = found[int(part)]
    return found


@pytest.mark.parametrize("policy", [None, "help-desk"])
def test_every_figure_equals_those_of_costs(
    browser: Any, served: Served, policy: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the last digit, of a day of 10,000 requests; and what is shown is that figure."""
    browser.driver.get(f"{served.pages.base_url}/?since=24h&policy={policy or ''}")
    figures: list[list[str]] = browser.run(_FIGURES)
    above = browser.run("return document.querySelector('#large h2').textContent")
    call_usd = float(above.rpartition("$")[2])
    reports = {by: reported(served.day, by, policy, capsys, call_usd) for by in ("task", "rung", "model", "policy")}
    seen: set[str] = set()
    for path, value, shown in figures:
        by, has_by, rest = path.partition(":")
        figure = at(reports[by]["lines"], rest) if has_by else at(reports["task"], path)
        assert (float(value) if value else None) == figure, path
        assert shown.strip() not in ("", "None"), path
        seen.add(by if has_by else path.partition("/")[0])
    expected = {"cost_usd", "requests", "escalation_rate", "saved", "lines", "workflows", "rung", "model", "policy"}
    assert expected <= seen
    assert len(figures) > 75
    assert reports["task"]["requests"] == (10_000 if policy is None else 8_493)


def test_by_day_and_by_night_everything_can_be_read(browser: Any, served: Served) -> None:
    """Each text has a contrast of 4.5 or more, those that are folded away too."""
    for path in ("/", "/dashboard/modes", f"/dashboard/request?id={served.day.kept}"):
        browser.driver.get(served.pages.base_url + path)
        for scheme, paper in (("light", "rgb(247, 247, 244)"), ("dark", "rgb(16, 19, 21)")):
            browser.emulate(prefers_color_scheme=scheme)
            try:
                found: list[list[Any]] = browser.run(_CONTRAST)
                assert browser.run("return getComputedStyle(document.documentElement).backgroundColor") == paper
            finally:
                browser.emulate()
            assert len(found) > 15
            assert min(found)[0] >= 4.5, (path, scheme, min(found))


def test_on_a_telephone_no_page_scrolls_sideways(browser: Any, served: Served) -> None:
    """At 380 pixels, with every fold open, and with names of ten thousand letters."""
    hostile = "w" * 10_000
    browser.narrow(380)
    try:
        with Pages(Held(replace(overview(hostile, hostile), ledger=hostile))) as other:
            paths = ("/", "/?policy=help-desk", "/dashboard/modes", f"/dashboard/request?id={served.day.escalated}")
            places = [served.pages.base_url + path for path in paths]
            for place in (
                *places,
                f"{other.base_url}/",
                f"{other.base_url}/?policy={hostile[:99]}",
                f"{other.base_url}/dashboard/request?id=casc_1",
            ):
                browser.driver.get(place)
                browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
                assert browser.run("return [innerWidth, document.documentElement.scrollWidth]") == [380, 380], place
    finally:
        browser.narrow(None)


def test_hostile_names_and_texts_stay_texts(browser: Any, served: Served) -> None:
    """They run nothing, fetch nothing, and stand as they were written, but for what reorders text."""
    for path in ("/", "/?policy=help-desk", f"/dashboard/request?id={served.day.kept}"):
        browser.driver.get(served.pages.base_url + path)
        assert browser.driver.title.endswith("· cascade")
        assert browser.run("return [document.images.length, document.scripts.length <= 1, typeof hacked]") == [
            0,
            True,
            "undefined",
        ]
        resources: list[str] = browser.run(
            "return performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname)"
        )
        assert {one.rpartition("/")[0] for one in resources} <= {"/dashboard/static", "/dashboard"}
        text = browser.run("return document.body.textContent")
        shown = HOSTILE_TEXT if "request" in path else HOSTILE_WORKFLOW
        assert shown.replace("\u202e", "\\u202e")[:60] in text.replace('\\"', '"')
        assert "{{ 7*7 }}" in text or "{{7*7}}" in text
    assert browser.complaints() == []


def test_by_keyboard_alone(browser: Any, served: Served) -> None:
    """Skip to the figures, open a trail, follow it to its page, come back, choose another period, and reach the modes."""
    browser.driver.get(f"{served.pages.base_url}/")
    press(browser, "\ue004")
    assert browser.run("return document.activeElement.className") == "skip"
    assert browser.run("return document.activeElement.getBoundingClientRect().top >= 0")
    tab_to(browser, lambda _, name: name == "span-7d")
    press(browser, "\ue007")
    wait(browser, lambda: "since=7d" in browser.driver.current_url)
    assert browser.run("return document.getElementById('span-7d').getAttribute('aria-current')") == "true"
    browser.run("document.querySelector('#large a:last-of-type').focus()")
    tab_to(
        browser,
        lambda tag, _: tag == "SUMMARY" and browser.run("return !!document.activeElement.closest('.requests')"),
    )
    press(browser, "\ue007")
    assert browser.run("return document.activeElement.parentElement.open")
    tab_to(browser, lambda tag, name: tag == "A" and name.startswith("casc_"))
    press(browser, "\ue007")
    wait(browser, lambda: "/dashboard/request" in browser.driver.current_url)
    assert browser.run("return document.querySelectorAll('tbody tr').length") >= 1
    tab_to(browser, lambda _, name: name == "Modes")
    press(browser, "\ue007")
    wait(browser, lambda: browser.driver.current_url.endswith("/dashboard/modes"))
    assert "cascade mode off --policy help-desk" in browser.run("return document.body.textContent")


def test_new_figures_arrive_and_nobody_loses_their_place(browser: Any) -> None:
    """What is open stays open, the focus stays where it was, and a paused page stays as it is."""
    source = Held(overview())
    with Pages(source) as pages:
        browser.driver.get(f"{pages.base_url}/")
        wait(browser, lambda: browser.run("return document.getElementById('live').textContent").startswith("live"))
        browser.run(
            "const one = document.querySelector('#r-casc_1 > summary'); one.click(); one.focus(); window.kept = true;"
        )
        line = replace(source.found.costs.total, requests=4_321)
        row = replace(source.found.last[0], task="another task")
        source.found = replace(source.found, costs=replace(source.found.costs, total=line), last=(row,))
        source.changed += 1
        wait(browser, lambda: "4,321" in browser.run("return document.getElementById('figures').textContent"))
        assert "another task" in browser.run("return document.querySelector('#r-casc_1[open] > summary').textContent")
        assert browser.run(
            "return document.activeElement === document.querySelector('#r-casc_1 > summary') && window.kept"
        )
        browser.run("document.getElementById('live-pause').click()")
        assert browser.run("return document.getElementById('live').textContent").startswith("paused")
        source.found = replace(source.found, costs=replace(source.found.costs, total=replace(line, requests=5)))
        source.changed += 1
        browser.run("document.getElementById('live-pause').click()")
        wait(browser, lambda: "4,321" not in browser.run("return document.getElementById('figures').textContent"))
        browser.driver.get("about:blank")  # a page that stays would look for its server
    assert browser.complaints() == []


def test_a_login_and_a_switch_by_keyboard(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a browser that says where its forms come from: log in, choose off, read what will happen, confirm, log out."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    address = str(tmp_path / "ledger.db")
    token, _ = KeyRing(GatewayTables(address)).create("lead")
    settings = GatewaySettings(
        policies=(str(policy_file(tmp_path)),), upstream="http://127.0.0.1:9", port=0, ledger=address
    )
    with Gateway(settings) as gateway:
        browser.driver.get(f"{gateway.base_url}/dashboard/modes")
        wait(browser, lambda: browser.run("return document.activeElement.id") == "key")
        press(browser, "wrong", "\ue007")
        wait(
            browser,
            lambda: browser.run("return !!document.getElementById('problem') && document.activeElement.id === 'key'"),
        )
        press(browser, token, "\ue007")
        wait(browser, lambda: browser.driver.current_url.endswith("/dashboard/modes"))
        assert browser.run("return document.cookie") == ""
        tab_to(browser, lambda tag, name: tag == "A" and name == "off, policy small")
        press(browser, "\ue007")
        wait(browser, lambda: browser.run("return !!document.getElementById('confirm')"))
        assert "its baseline is sonnet" in browser.run("return document.body.textContent")
        tab_to(browser, lambda _, name: name == "confirm")
        press(browser, "\ue007")
        wait(browser, lambda: browser.driver.current_url.endswith("/dashboard/modes"))
        assert read_switch_file(switch_path()).policies == {"small": "off"}
        tab_to(browser, lambda _, name: name == "log-out")
        press(browser, "\ue007")
        wait(browser, lambda: "/dashboard/login" in browser.driver.current_url)
    assert [one for one in browser.complaints() if "403" not in one] == []
