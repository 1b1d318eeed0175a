"""What checks an answer beside functions, a program or a reviewer, and what it said: plain values, so that the climb can name them.

`cascade.verifiers` runs the programs; `core.review` says when a reviewer is asked, and reads what it replies.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from cascade.core.messages import Usage

__all__ = ["Review", "Verification", "Verifier"]


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


@dataclass(frozen=True, slots=True)
class Review:
    """What a rung said of an answer of a rung below it.

    `accepted` None: nothing, for the reason in `detail`, a few words that quote neither the request nor the answer. `reason`: the
    reviewer's own words, which may quote both. `refused`: no budget had room for the call, so nothing was asked. `kind`: of the
    call, as a verdict's: "malformed" for a reply that is no review, "failed" for none. `cost_nanousd` is exact.
    """

    rung: str
    model: str
    accepted: bool | None
    detail: str = ""
    usage: Usage = Usage()
    cost_nanousd: int = 0
    attempts: int = 1
    latency_s: float = 0.0
    request_id: str | None = None
    reason: str = ""
    refused: bool = False
    kind: str = "answered"

    @property
    def said(self) -> str:
        """What became of it, in one word."""
        if self.accepted is None:
            return "refused" if self.refused else "unusable"
        return "accept" if self.accepted else "reject"

    def to_dict(self) -> dict[str, Any]:
        """The review as JSON values."""
        return {**asdict(self), "latency_s": round(self.latency_s, 4)}
