from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.verifiers.programs import Held


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    """A pipe that the program and its descendants hold."""
    one = Held(tmp_path)
    yield one
    one.close()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty, of this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
