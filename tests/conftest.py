"""What every test may use: hypothesis profiles, and the recorded corpora where this machine has them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

_RECORDED = Path(__file__).resolve().parents[2] / "shared" / "corpora"

# A slow machine is no failure, hence no deadline; CI draws the same examples on every run.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def real_corpus() -> Callable[[str], Path]:
    """Give the path of a recorded corpus by its name, e.g. "mmlupro-gpt41"; skip the test where it is absent."""

    def find(name: str) -> Path:
        path = _RECORDED / f"{name}.jsonl.gz"
        if not path.is_file():
            pytest.skip(f"no recorded corpus {name} at ../shared/corpora")
        return path

    return find
