"""Which recorded sample is which: a policy's sample k is the next unread recorded sample of its variant.

A sample recorded without a variant's name was asked with the policy's own triage prompt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from cascade.core.policy import Policy, Samples
from cascade.core.triage import triage_name
from cascade.corpora.items import RecordedReply

__all__ = ["cycle_of", "lacks_sample", "places_of", "variant_names"]


def variant_names(policy: Policy, samples: Samples) -> tuple[str, ...]:
    """The name of each sample's variant, for samples 0 to max - 1."""
    own = triage_name(policy)
    return tuple(samples.variant(number).label(own) for number in range(samples.max))


def places_of(recorded: Sequence[str | None], wanted: Sequence[str], own: str) -> tuple[int | None, ...]:
    """For each wanted variant the place of its recorded sample, None if there is none left.

    `recorded`: the variants of the recorded samples in their order. `own`: the name of the policy's own triage prompt.
    """
    waiting: defaultdict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(recorded):
        waiting[own if name is None else name].append(place)
    for places in waiting.values():
        places.reverse()
    return tuple(waiting[name].pop() if waiting[name] else None for name in wanted)


def cycle_of(reply: RecordedReply) -> tuple[str | None, ...]:
    """The variants of a recorded reply in turn, as a policy's `variants` would name them: the shortest that repeat."""
    names = tuple(sample.variant for sample in reply.every)
    for length in range(1, len(names)):
        if all(name == names[place % length] for place, name in enumerate(names)):
            return names[:length]
    return names


def lacks_sample(rung: str, number: int, wanted: str, reply: RecordedReply | None) -> str:
    """What to say of a sample that was not recorded. Samples are counted from 1 for people."""
    recorded = [sample.variant or "without a name" for sample in reply.every] if reply is not None else []
    counted = ", ".join(f"{recorded.count(name)} of {name}" for name in dict.fromkeys(recorded)) or "none"
    return f"sample {number + 1} of rung {rung!r} (variant {wanted}) was not recorded: there are {counted}"
