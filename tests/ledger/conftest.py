"""The command line, in the process of its tests."""

from tests.cli.within import run, runner

__all__ = ["run", "runner"]
