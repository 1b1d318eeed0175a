"""What a policy says of long conversations: who summarises, and how it is told."""

from __future__ import annotations

from cascade.core.policy import Policy, Rung
from cascade.core.policy.economy import Prepare, Summarize, Trim

__all__ = ["describe_prepare", "every_prepare", "not_recorded", "summariser", "summarisers"]


_NOT_RECORDED = (
    "prepare is no part of a replay: the replies are those of the recording, made from whole conversations unless it was"
    " recorded with the same `trim` (summaries are never recorded)"
)


def every_prepare(policy: Policy) -> tuple[Prepare, ...]:
    """Every `prepare` that does anything: the policy's, and its tasks'."""
    every = (policy.prepare, *(task.prepare for task in policy.tasks))
    return tuple(one for one in every if one is not None and one.settings is not None)


def not_recorded(policy: Policy) -> tuple[str, ...]:
    """The note on replays under this policy: they prepare nothing. None where the policy does not either."""
    return (_NOT_RECORDED,) if every_prepare(policy) else ()


def summarisers(policy: Policy) -> tuple[tuple[Summarize, Rung], ...]:
    """Every `summarize` of the policy, with the rung that makes it."""
    found = [one.summarize for one in every_prepare(policy) if one.summarize is not None]
    return tuple((one, summariser(policy, one)) for one in found)


def summariser(policy: Policy, settings: Summarize) -> Rung:
    """The rung that makes the summaries: one beside the ladder, or on it; the first if none is named."""
    if isinstance(settings.by, Rung):
        return settings.by
    return next((rung for rung in policy.ladder if rung.rung == settings.by), policy.ladder[0])


def describe_prepare(policy: Policy, task: str) -> str | None:
    """What is done to a task's long conversations, in a line; None for nothing."""
    prepare = policy.route(task).prepare
    settings = prepare.settings if prepare is not None else None
    if settings is None:
        return None
    if isinstance(settings, Trim):
        most = "what a rung's context window holds" if settings.max_tokens is None else f"{settings.max_tokens} tokens"
        return f"trimmed to {most}, the newest {settings.keep_turns} turns stay whole"
    rung = summariser(policy, settings)
    original = f"; the original goes to {', '.join(settings.original_for)}" if settings.original_for else ""
    return (
        f"from {settings.above_tokens} tokens on summarised by {rung.rung} ({rung.model}),"
        f" the newest {settings.keep_turns} turns stay whole{original}"
    )
