"""A ledger, written by its own hook: requests with their calls, in any arm, at the plan's prices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cascade.core import prices
from cascade.core.arms import Arm
from cascade.core.estimates import baseline_estimate
from cascade.core.messages import Request, Usage
from cascade.core.planning.part import Part
from cascade.core.policy import Policy
from cascade.core.policy.operations import Ledger
from cascade.core.requests import read_messages
from cascade.core.trail import Answer, Step, Verdict
from cascade.hooks import Begun, Ended
from cascade.ledger.hook import LedgerHook
from cascade.ledger.opening import flush_writers, open_ledger
from cascade.policy.binding import bind_baseline, bind_policy

NOW = 1_795_255_620.0
NANO = 1_000_000_000


class Books:
    """Records requests of a policy as a driver does."""

    def __init__(self, path: Path, policy: Policy) -> None:
        self.path, self._policy = path, policy
        self._at, self._count = NOW - 86_400, 0
        self._hook = LedgerHook(open_ledger(path, Ledger()), Ledger(), clock=lambda: self._at)

    def ask(self, calls: Sequence[tuple[str, Usage]], arm: Arm = "cascade", *, answered: bool = True) -> int:
        """One request, a call a rung; returns what it cost in nano-USD."""
        return self.record(self._steps(calls, arm), calls[-1][0] if answered else None, arm)

    def _steps(self, calls: Sequence[tuple[str, Usage]], arm: Arm) -> tuple[Step, ...]:
        plan = bind_policy(self._policy, batch=arm == "batch")
        names = [rung.rung for rung in plan.policy.ladder]
        return tuple(
            Step(
                names.index(rung), rung, plan.policy.ladder[names.index(rung)].model, Verdict("answered", 0.9, "self_reported", "x"),
                usage, prices.cost(plan.rates[names.index(rung)], usage), reason=None if place + 1 == len(calls) else "low_confidence",
            )
            for place, (rung, usage) in enumerate(calls)
        )  # fmt: skip

    def record(self, steps: tuple[Step, ...], rung: str | None, arm: Arm = "cascade") -> int:
        """One request with this trail, answered by `rung`; returns what it cost in nano-USD."""
        plan, answer = bind_policy(self._policy), self._answer(steps, arm, rung)
        estimate = None if rung is None else baseline_estimate(plan, bind_baseline(plan).rates[0], answer)
        self._record(arm, steps, answer, estimate)
        return answer.cost_nanousd

    def repeat(self, calls: Sequence[tuple[str, Usage]]) -> int:
        """A subtask's climb that is made again; returns what it cost."""
        part = Part("run", "executor", "one", "other", calls[0][0], attempt=1)
        answer = self._answer(self._steps(calls, "executor"), "executor", calls[-1][0])
        self._record("executor", answer.steps, answer, 0, part)
        return answer.cost_nanousd

    def hit(self, spared: int | None) -> None:
        """One answer from the response cache, which spared a climb that had cost so much."""
        self._record("cache", (), self._answer((), "cache", "haiku"), spared)

    def close(self) -> None:
        """All is in the file."""
        flush_writers(self.path)

    def _record(
        self, arm: Arm, steps: tuple[Step, ...], answer: Answer, estimate: int | None, part: Part | None = None
    ) -> None:
        self._count += 1
        request = Request(read_messages("q"), id=f"casc_{self._count}")
        track = self._hook.begin(Begun(bind_policy(self._policy), request, "other", arm, self._at, part=part))
        track.ended(Ended(steps, answer, None, 1.0, estimate))

    def _answer(self, steps: tuple[Step, ...], arm: Arm, rung: str | None) -> Answer:
        usage = Usage()
        for step in steps:
            usage += step.usage
        return Answer(
            "x" if rung else None, None, rung, None, 0.9, "self_reported", steps, usage, sum(step.cost_nanousd for step in steps),
            None, None if rung else "error", len(steps), 1.0, "id", "other", (), {}, self._policy.name, self._policy.hash, arm=arm,
        )  # fmt: skip
