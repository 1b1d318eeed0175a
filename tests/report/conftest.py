"""One browser for every page here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start one Chromium for all tests here."""
    from .browser import start_driver  # noqa: PLC0415 - needs selenium

    started = start_driver(tmp_path_factory.mktemp("profile"))
    try:
        yield started
    finally:
        started.quit()
