"""The page of a run in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cascade.cli.run.page import write_page

from .browser import CONTRAST, Browser, By
from .runs import made

_IN_BOXES = """
const light = (color) => { const [r, g, b] = color.match(/[\\d.]+/g).map((x) => { x /= 255;
  return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
return [...document.querySelectorAll(".graph .box text")].map((text) => {
  const box = text.parentElement.querySelector("rect"), [a, b] = [text, box].map((one) => light(getComputedStyle(one).fill));
  const inside = text.getBBox(), own = box.getBBox();
  return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), own.x + own.width - inside.x - inside.width]; });
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read_by_day_and_by_night(driver: Any, tmp_path: Path, scheme: str) -> None:
    """Each text has a contrast of 4.5 or more, also on the colours of the boxes, and no word leaves its box."""
    write_page(made(name="extraction_of_every_name_in_all_documents"[:40]), tmp_path / "r.html")
    page = Browser(driver, tmp_path / "r.html")
    page.emulate(prefers_color_scheme=scheme)
    try:
        ratios: list[float] = page.run(CONTRAST)
        in_boxes: list[list[float]] = page.run(_IN_BOXES)
        paper = page.run("return getComputedStyle(document.documentElement).backgroundColor")
    finally:
        page.emulate()
    assert len(ratios) > 40
    assert min(ratios) >= 4.5
    assert len(in_boxes) == 21
    assert min(contrast for contrast, _ in in_boxes) >= 4.5
    assert min(room for _, room in in_boxes) >= 0
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 22, 27)")


def test_on_a_telephone_only_the_boxes_that_scroll_are_wider_than_the_screen(driver: Any, tmp_path: Path) -> None:
    """At 380 pixels the page itself does not scroll sideways; the graph does, at its own size, in its own box."""
    write_page(made(said="w" * 300, goal="g" * 200), tmp_path / "r.html")
    page = Browser(driver, tmp_path / "r.html")
    page.narrow(380)
    try:
        assert page.run("return innerWidth") == 380
        assert page.run("return document.documentElement.scrollWidth") == 380
        graph = page.run(
            "const svg = document.querySelector('.graph'), box = svg.parentElement;"
            "return [svg.getBoundingClientRect().width, box.clientWidth, box.scrollWidth, Number(svg.getAttribute('width'))]"
        )
    finally:
        page.narrow(None)
    assert graph[0] == graph[3] > graph[1]
    assert graph[2] >= graph[3]
    assert graph[1] <= 380


def test_hostile_texts_stay_texts(driver: Any, tmp_path: Path) -> None:
    """Markup in goals, ids, instructions, reasons and results runs nowhere, fetches nothing and shows as it is written."""
    hostile = "</pre></title></svg><script>hacked=1</script><img src=x onerror=hacked=1>{{ 7 * 7 }}"
    write_page(made(goal=hostile, said=hostile, name=hostile), tmp_path / "r.html")
    page = Browser(driver, tmp_path / "r.html")
    assert page.run("return [typeof hacked, document.images.length, document.scripts.length]") == ["undefined", 0, 0]
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    assert page.driver.find_element(By.TAG_NAME, "h1").text == hostile
    assert hostile in page.run("return document.querySelector('details pre').textContent")
    assert page.complaints() == []
