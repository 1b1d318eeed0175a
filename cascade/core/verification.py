"""A program that checks an answer, and what it said: plain values, so that the climb can name them. `cascade.verifiers` runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Verification", "Verifier"]


@dataclass(frozen=True, slots=True)
class Verifier:
    """A check that runs a program, ready to be run.

    `name`: on the trail. `command`: the program and its arguments, without a shell. `time_out_s`: seconds. `on_error`: what
    an answer is worth of which it could not say anything: `climb` (as if it failed) or `pass`. `extract`: hand over the
    answer's code in a file. `env`: variables it may see beside the usual ones.
    """

    name: str
    command: tuple[str, ...]
    time_out_s: float = 10.0
    on_error: Literal["climb", "pass"] = "climb"
    extract: Literal["code"] | None = None
    env: tuple[str, ...] = ()

    @property
    def blocks(self) -> bool:
        """Whether an answer of which it could not say anything does not stand."""
        return self.on_error == "climb"


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verifier said of one answer.

    `result`: `unknown` if it could not say. `detail`: why, in a few words that quote neither the request nor the answer nor
    what the program printed; empty if it passed. `seconds`: how long it took, with its start and its clean-up.
    """

    result: Literal["passed", "failed", "unknown"]
    detail: str
    seconds: float
