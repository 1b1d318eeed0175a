"""Make the documentation's screenshots: `python benchmarks/screenshot.py [report | run | dashboard] [-o FILE] [--whole]`.

`report` is written by `cascade calibrate history --policy support --max-risk 0.1 --report` from synthetic tickets, `run` by
`cascade demo --plan --html`. Headless Chromium shows it in the light theme, 1,200 pixels wide, down to the end of the frontier, or of the
plan's graph (`--whole`: all of it). `dashboard` makes three: by day, by night and on a telephone, of a synthetic day of 10,000 requests.
Needs the extra dev, and Chromium with its driver on PATH.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["main", "shoot"]

ASSETS = Path(__file__).resolve().parents[1] / "docs" / "assets"
PAGES = {
    "report": (("calibrate", "history", "--policy", "support", "--max-risk", "0.1", "--report"), "svg.frontier"),
    "run": (("demo", "--plan", "--html"), "svg.graph"),
}
"""By picture: the command, to which the page's path is added, and the element at whose end the picture ends."""


class View(NamedTuple):
    """A picture of the dashboard: how wide the screen is, the reader's colours, the element at whose end it ends."""

    name: str
    width: int
    scheme: str
    last: str


DASHBOARD = (
    View("dashboard", 1_200, "light", "#workflows"),
    View("dashboard-dark", 1_200, "dark", "#spend"),
    View("dashboard-phone", 380, "light", "#spend"),
)
WIDTH = 1_200  # pixels
MARGIN = 16
MOST_BYTES = 200_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


def main() -> None:
    """Write the page, and save its screenshot."""
    parser = argparse.ArgumentParser(description="Make the documentation's screenshots.")
    parser.add_argument("picture", nargs="?", choices=[*PAGES, "dashboard"], default="report")
    parser.add_argument("-o", "--output", type=Path, help="default: the documentation's")
    parser.add_argument("--whole", action="store_true", help="the whole page, not only down to its picture")
    options = parser.parse_args()
    if options.picture == "dashboard":
        shoot_dashboard(options.output or ASSETS / "dashboard.png")
        return
    made_by, last = PAGES[options.picture]
    output = options.output or ASSETS / f"{options.picture}.png"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        command = [sys.executable, "-m", "cascade.cli", *made_by, str(page)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        picture = shoot(page.as_uri(), None if options.whole else last)
    assert options.whole or len(picture) < MOST_BYTES, f"{len(picture):,} bytes are too many for the documentation"
    output.write_bytes(picture)
    print(f"wrote {output} ({len(picture):,} bytes)")


def shoot_dashboard(output: Path) -> None:
    """The dashboard over a synthetic day, as the tests record it, with a harmless name in the place of their hostile one."""
    sys.path.insert(0, str(ASSETS.parents[1]))
    from cascade.dashboard.app import Settings  # noqa: PLC0415 - an extra
    from cascade.dashboard.figures import LedgerSource  # noqa: PLC0415
    from tests.dashboard import recorded_day  # noqa: PLC0415
    from tests.dashboard.by_hand import Pages  # noqa: PLC0415

    names: Any = recorded_day
    names._HEAVY = tuple("policy-letters" if one == names.HOSTILE_WORKFLOW else one for one in names._HEAVY)
    names.HOSTILE_WORKFLOW = "policy-letters"
    with tempfile.TemporaryDirectory() as folder:
        day = recorded_day.record_day(Path(folder) / "ledger.db")
        source = LedgerSource(day.address, lambda: day.policies, now=lambda: day.now)
        with Pages(source, Settings(wall=lambda: day.now)) as pages:
            for view in DASHBOARD:
                picture = shoot(f"{pages.base_url}/", view.last, width=view.width, scheme=view.scheme, margin=MARGIN)
                assert len(picture) < MOST_BYTES, (
                    f"{view.name}: {len(picture):,} bytes are too many for the documentation"
                )
                path = output.with_stem(view.name.replace("dashboard", output.stem))
                path.write_bytes(picture)
                print(f"wrote {path} ({len(picture):,} bytes)")


def shoot(
    address: str, last: str | None = None, *, width: int = WIDTH, scheme: str = "light", margin: int = 0
) -> bytes:
    """The page as PNG, down to `margin` pixels below the element `last` (a selector), or all of it. Exits if there is no browser."""
    from selenium import webdriver  # noqa: PLC0415 - an extra
    from selenium.webdriver.chrome.options import Options  # noqa: PLC0415
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

    browser, driver_path = next(filter(None, map(shutil.which, BROWSERS)), None), shutil.which("chromedriver")
    if browser is None or driver_path is None:
        sys.exit("no chromium and chromedriver on PATH (install them)")
    options = Options()
    options.binary_location = browser
    for flag in (*FLAGS, f"--window-size={width},900"):
        options.add_argument(flag)
    driver: Any = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < WIDTH}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        driver.get(address)
        ends = "document.documentElement" if last is None else f"document.querySelector({last!r})"
        height = driver.execute_script(
            f"return Math.ceil({ends}.getBoundingClientRect().bottom + window.scrollY) + {margin}"
        )
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        wanted = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        return base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", wanted)["data"])
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
