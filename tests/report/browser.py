"""A page in a real browser: headless Chromium, its own empty profile, the file from the disk, no network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (the extra dev)")

from selenium.webdriver.chrome.options import Options  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

__all__ = ["CONTRAST", "Browser", "By", "Keys", "start_driver"]

_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_DRIVER = shutil.which("chromedriver")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1100,900",
)  # fmt: skip

# What a reader of the page sees as contrast, by WCAG 2's formula.
CONTRAST = """
const light = (color) => { const [r, g, b] = color.match(/[\\d.]+/g).map((x) => { x /= 255;
  return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const paper = (node) => { for (; node; node = node.parentElement) { const own = getComputedStyle(node).backgroundColor;
  if (!/, 0\\)$/.test(own)) return own; } };
return [...document.querySelectorAll("h1, h2, .hint, .kicker, .advice, .proof, dt, dd, th, td, output, button, summary, pre, label")]
  .filter((node) => node.textContent.trim() && node.checkVisibility())
  .map((node) => [light(getComputedStyle(node).color), light(paper(node))])
  .map(([a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
"""


class Browser:
    """A page that is open in Chromium."""

    def __init__(self, driver: Any, page: Path) -> None:
        self.driver = driver
        driver.get(page.as_uri())

    def find(self, name: str) -> Any:
        """The element with this id."""
        return self.driver.find_element(By.ID, name)

    def press(self, slider: int, *keys: str) -> str:
        """Press keys on a slider; the threshold that it then shows."""
        self.find(f"slider-{slider}").send_keys(*keys)
        return self.find(f"threshold-{slider}").text

    def value(self, name: str) -> float:
        """The exact figure behind what is shown."""
        return float(self.find(name).get_attribute("data-value"))

    def run(self, script: str) -> Any:
        """What a script in the page returns."""
        return self.driver.execute_script(script)

    def emulate(self, media: str = "", **features: str) -> None:
        """Show the page as in print, or to a reader with these preferences; without any, as it is."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": listed})

    def complaints(self) -> list[str]:
        """What the browser logged: errors, and everything that the page's policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def narrow(self, width: int | None) -> None:
        """Show the page on a screen so many pixels wide; None: as wide as the window."""
        if width is None:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            return
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def start_driver(profile: Path) -> Any:
    """A Chromium of its own. The test is skipped where there is none."""
    if not (_CHROMIUM and _DRIVER):
        pytest.skip("no chromium and chromedriver on PATH")
    options = Options()
    options.binary_location = _CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(_DRIVER))
