"""What a policy does beside its ladder where it is told to, in words: early stop, contexts, handoff, bypass, sticky. For `policy check`, `show`, `explain`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from cascade.core.context import describe_prepare, not_recorded
from cascade.core.early import can_close, can_refuse
from cascade.core.handoff.passing import handoff_text
from cascade.core.messages import Request
from cascade.core.policy import OTHER, Policy
from cascade.core.policy.economy import ResponseCache
from cascade.policy.binding import baseline_rung

__all__ = ["describe_conduct", "notes_of"]

_ANY = Request(messages=())  # early stop asks only whether a request has tools


def describe_conduct(policy: Policy, tasks: Iterable[str]) -> Iterator[str]:
    """A line for each of these that is in force. `tasks`: those that early stop, contexts and handoffs are told for."""
    tasks = tuple(tasks)
    if policy.early_stop:
        yield f"early stop: {_early_stop(policy, tasks)}"
    if policy.cache is not None:
        cache = policy.cache
        yield from _by_task("response cache", tasks, lambda task: _response_cache(cache, policy, task))
    if policy.prompt_cache == "auto":
        yield "prompt cache: auto: beginnings of prompts that come again soon enough are marked (`cascade costs --cache`)"
    yield from _by_task("prepare", tasks, lambda task: describe_prepare(policy, task))
    yield from (f"note: {note}" for note in not_recorded(policy))
    yield from _by_task("handoff", tasks, lambda task: _handoff(policy, task))
    if policy.bypass is not None:
        yield f"bypass: a request that cannot climb goes to the baseline, {baseline_rung(policy).model}, unchanged"
    if policy.sticky is not None:
        sticky = policy.sticky
        floor = f"after a climb the rung that answered is the floor of the next {sticky.cool_off} user turns"
        yield (
            f"sticky: by {sticky.by}, {floor if sticky.cool_off else 'no floor after a climb'};"
            f" {sticky.loop_errors} failed results in a row move a tool loop one rung up"
        )


def _response_cache(cache: ResponseCache, policy: Policy, task: str) -> str:
    own = next((known.cache for known in policy.tasks if known.name == task), None)
    if own is False:
        return "none, unless the caller marks the request"
    which = "every request" if own or cache.requests == "all" else "requests that the caller marks (cache=True)"
    return f"{which}; an answer is returned again for {cache.ttl_s:,.0f} s"


def _handoff(policy: Policy, task: str) -> str | None:
    text = handoff_text(policy, task)
    return None if text is None else f"{text}; replay and calibrate leave it out"


def _by_task(what: str, tasks: tuple[str, ...], text_of: Callable[[str], str | None]) -> Iterator[str]:
    """A line for each way in which tasks have it, with the tasks where not all of them have it so."""
    found: dict[str | None, list[str]] = {}
    for task in tasks:
        found.setdefault(text_of(task), []).append(task)
    for text, some in found.items():
        if text is not None:
            of = "" if len(found) == 1 else f" of {', '.join(some)}"
            yield f"{what}{of}: {text}"


def notes_of(policy: Policy) -> list[str]:
    """What is valid in a policy, and has no effect; each with what would change that."""
    if not policy.early_stop:
        return []
    tasks = (OTHER, *(task.name for task in policy.tasks))
    if not _closing(policy, tasks):
        return [f"early_stop: {_early_stop(policy, tasks)}"]
    return [f"early_stop: {_NONE_CLOSED}"] if can_refuse(policy) else []


_NONE_CLOSED = (
    "no reply is closed, because a budget may refuse the next rung, and the best held answer is needed then"
    " (replies are closed only where every budget has `on_exhausted: alert`)"
)


def _early_stop(policy: Policy, tasks: Iterable[str]) -> str:
    rungs = _closing(policy, tasks)
    if not rungs:
        why = (
            "`triage.order` is not confidence_first" if policy.triage.order != "confidence_first"
            else "a scorer needs the whole reply" if policy.scorer is not None
            else "every rung below the top is asked for samples"
        )  # fmt: skip
        return (
            f"no effect, because {why} (it needs the order confidence_first, no scorer, and a rung that is asked once)"
        )
    if can_refuse(policy):
        return _NONE_CLOSED
    return f"at {', '.join(rungs)} a reply is closed where its confidence escalates; a closed reply is never held"


def _closing(policy: Policy, tasks: Iterable[str]) -> list[str]:
    """The rungs where the confidence alone may end a step of one of these tasks."""
    among = tuple(tasks)
    return [
        rung.rung for index, rung in enumerate(policy.ladder) if any(can_close(policy, task, index, _ANY) for task in among)
    ]  # fmt: skip
