"""A policy's thresholds after alarms of the audit: one step toward fewer losses for each.

With a certificate that holds, the steps are those of its stored path, the last of which ships nothing below the top
but for tasks with a ceiling there. Without one the first rung's threshold rises by 0.1 a step, to at most 0.9, and nothing is
proved of it. A step is always taken from the policy as it is written, so it does not matter how a process came to it.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from cascade.core.bound_policy import BoundPolicy
from cascade.core.policy import Policy, Rung, Task
from cascade.core.policy.certificate import UNCERTIFIED, Escalation, PathStep
from cascade.core.policy.ladder import NEVER
from cascade.policy.certificates import certificate_digest, epoch_of, is_of_policy

__all__ = ["describe_step", "ratcheted", "step_in_force", "steps_of"]

_BY, _MOST = 0.1, 0.9
_DIGITS = 9  # 0.7 + 0.1 is below 0.8, which a model may well report


def steps_of(policy: Policy) -> int:
    """How many steps there are; 0 if the thresholds cannot be ratcheted. Raises NoPrice for a certified policy without prices."""
    if path := _path(policy):
        return len(path)
    first = policy.ladder[0].threshold
    return 0 if first is None or first >= _MOST else ceil(round((_MOST - first) / _BY, _DIGITS))


def step_in_force(policy: Policy, certificate: str, step: int) -> int:
    """The step that a kept ratchet has reached; 0 if it belongs to another certificate (`certificates.certificate_digest`)."""
    return min(step, steps_of(policy)) if certificate == certificate_digest(policy) else 0


def ratcheted(plan: BoundPolicy, step: int) -> BoundPolicy:
    """The plan of the policy as written, at this step; the plan itself at step 0.

    Its policy keeps the hash of the one as written. Its answers are uncertified: an alarm has shown that the certificate
    does not describe the traffic.
    """
    policy = plan.policy
    step = min(step, steps_of(policy))
    if step <= 0:
        return plan
    path = _path(policy)
    if path:
        own = path[step - 1]
        is_last = step == len(path)
        ladder = tuple(_with_threshold(rung, own.thresholds) for rung in policy.ladder)
        tasks = tuple(_on_path(task, own, is_last=is_last) for task in policy.tasks)
        escalation = Escalation(own.escalation)
    else:
        first = policy.ladder[0].rung
        ladder = (
            _with_threshold(policy.ladder[0], {first: _raised(policy.ladder[0].threshold, step)}),
            *policy.ladder[1:],
        )
        tasks = tuple(_with_raised(task, first, step) for task in policy.tasks)
        escalation = plan.escalation
    made = policy.model_copy(update={"ladder": ladder, "tasks": tasks})
    vars(made)["hash"] = policy.hash
    return replace(
        plan, policy=made, certificate=UNCERTIFIED, escalation=escalation, epoch=epoch_of(policy, step), ratchet=step
    )


def describe_step(policy: Policy, step: int) -> str:
    """A step in one line: its thresholds, and whether they are on the certified path."""
    count = steps_of(policy)
    step = min(step, count)
    if step <= 0:
        return "not ratcheted"
    path = _path(policy)
    if path and step == count:
        return f"step {step} of {count}, the last on the certified path: nothing ships below the top{_capped(policy)}"
    if path:
        own = path[step - 1]
        tasks = "".join(f"; {task}: {_listed(thresholds)}" for task, thresholds in own.tasks.items())
        return f"step {step} of {count} on the certified path: {_listed(own.thresholds)}{tasks}"
    first = policy.ladder[0]
    raised = _listed({first.rung: _raised(first.threshold, step)})
    return f"step {step} of {count}, uncertified: {raised} (written: {_shown(first.threshold)})"


def _path(policy: Policy) -> tuple[PathStep, ...]:
    """The stored path, if it is of these thresholds and this traffic. Prices void a certificate, but ship the same answers."""
    certificate = policy.certificate
    return certificate.path if certificate is not None and certificate.path and is_of_policy(policy) else ()


def _capped(policy: Policy) -> str:
    """What ships below the top at every step: the best held answer, where a task's ceiling ends the climb."""
    top = policy.ladder[-1].rung
    capped = [task.name for task in policy.tasks if task.ceiling not in (None, top)]
    return f", but for {', '.join(capped)}: the ceiling is below it" if capped else ""


def _with_threshold(rung: Rung, thresholds: dict[str, float | None]) -> Rung:
    """A rung that the step does not list stays as it is: the agreement of its samples decides."""
    return rung.model_copy(update={"threshold": thresholds[rung.rung]}) if rung.rung in thresholds else rung


def _on_path(task: Task, step: PathStep, *, is_last: bool) -> Task:
    own = dict.fromkeys(task.thresholds) if is_last else task.thresholds | step.tasks.get(task.name, {})
    return task.model_copy(update={"thresholds": own}) if own else task


def _with_raised(task: Task, rung: str, step: int) -> Task:
    if rung not in task.thresholds:
        return task
    raised = _raised(task.thresholds[rung], step)
    return task.model_copy(update={"thresholds": {**task.thresholds, rung: raised}})


def _raised(threshold: float | None, step: int) -> float | None:
    return None if threshold is None else max(threshold, min(_MOST, round(threshold + _BY * step, _DIGITS)))


def _listed(thresholds: dict[str, float | None]) -> str:
    return ", ".join(f"{rung} {_shown(value)}" for rung, value in thresholds.items())


def _shown(threshold: float | None) -> str:
    return NEVER if threshold is None else f"{threshold:g}"
