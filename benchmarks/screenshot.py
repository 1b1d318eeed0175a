"""Make the documentation's screenshots: `python benchmarks/screenshot.py [report | run] [-o FILE] [--whole]`.

`report` is written by `cascade calibrate history --policy support --max-risk 0.1 --report` from synthetic tickets, `run` by
`cascade demo --plan --html`. Headless Chromium shows it in the light theme, 1,200 pixels wide, down to the end of the frontier, or of the
plan's graph (`--whole`: all of it).
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
from typing import Any

__all__ = ["main", "shoot"]

ASSETS = Path(__file__).resolve().parents[1] / "docs" / "assets"
PAGES = {
    "report": (("calibrate", "history", "--policy", "support", "--max-risk", "0.1", "--report"), "svg.frontier"),
    "run": (("demo", "--plan", "--html"), "svg.graph"),
}
"""By picture: the command, to which the page's path is added, and the element at whose end the picture ends."""
WIDTH = 1_200  # pixels
MOST_BYTES = 200_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


def main() -> None:
    """Write the page, and save its screenshot."""
    parser = argparse.ArgumentParser(description="Make the documentation's screenshots.")
    parser.add_argument("picture", nargs="?", choices=[*PAGES], default="report")
    parser.add_argument("-o", "--output", type=Path, help="default: the documentation's")
    parser.add_argument("--whole", action="store_true", help="the whole page, not only down to its picture")
    options = parser.parse_args()
    made_by, last = PAGES[options.picture]
    output = options.output or ASSETS / f"{options.picture}.png"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        command = [sys.executable, "-m", "cascade.cli", *made_by, str(page)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        picture = shoot(page, None if options.whole else last)
    assert options.whole or len(picture) < MOST_BYTES, f"{len(picture):,} bytes are too many for the documentation"
    output.write_bytes(picture)
    print(f"wrote {output} ({len(picture):,} bytes)")


def shoot(page: Path, last: str | None = None) -> bytes:
    """The page as PNG, down to the end of the element `last` (a selector), or all of it. Exits if there is no browser."""
    from selenium import webdriver  # noqa: PLC0415 - an extra
    from selenium.webdriver.chrome.options import Options  # noqa: PLC0415
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

    browser, driver_path = next(filter(None, map(shutil.which, BROWSERS)), None), shutil.which("chromedriver")
    if browser is None or driver_path is None:
        sys.exit("no chromium and chromedriver on PATH (install them)")
    options = Options()
    options.binary_location = browser
    for flag in (*FLAGS, f"--window-size={WIDTH},900"):
        options.add_argument(flag)
    driver: Any = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
        )
        driver.get(page.as_uri())
        ends = "document.documentElement" if last is None else f"document.querySelector({last!r})"
        height = driver.execute_script(f"return Math.ceil({ends}.getBoundingClientRect().bottom + window.scrollY)")
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
        wanted = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        return base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", wanted)["data"])
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
