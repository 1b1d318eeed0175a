"""What the engines that only group rows cannot decide."""

from __future__ import annotations

from cascade.core.errors import ConfigurationError

__all__ = ["Undecided"]


class Undecided(ConfigurationError):
    """Counting by cells cannot say what this does. `key`: of the policy, of the manifest or of the command line."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why} (--engine python reads every item)")
        self.key, self.why = key, why

    def __reduce__(self) -> tuple[type[Undecided], tuple[str, str]]:
        """By its own arguments: it crosses from a worker to the process that asked."""
        return Undecided, (self.key, self.why)
