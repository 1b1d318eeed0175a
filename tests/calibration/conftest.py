"""What the tests of the command share."""

from __future__ import annotations

from tests.cli.within import run, runner

__all__ = ["run", "runner"]
