"""Which recorded sample is which: a policy's sample k is the next unread recorded sample of its variant.

A sample recorded without a variant's name was asked with the policy's own triage prompt.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy, Samples, Variant
from cascade.core.policy.samples import MOST_SAMPLES, ORDERS, Same
from cascade.core.triage import triage_name
from cascade.corpora.items import RecordedReply
from cascade.corpora.reading import open_corpus

__all__ = [
    "SamplesOverride",
    "as_variants",
    "cycle_of",
    "lacks_sample",
    "parse_same",
    "parse_samples",
    "places_of",
    "recorded_cycles",
    "reporting_rungs",
    "samples_fields",
    "samples_from",
    "samples_text",
    "variant_names",
]


@dataclass(frozen=True, slots=True)
class SamplesOverride:
    """Samples given on the command line for one rung. `agree` 0: ask it once. `variants` empty: the policy's, or as recorded."""

    rung: str
    agree: int
    most: int
    variants: tuple[str, ...] = ()


def parse_samples(text: str) -> SamplesOverride:
    """Parse `rung=M/N`, `rung=M/N:variant,variant` or `rung=once`. Raises ConfigurationError."""
    rung, _, value = text.partition("=")
    if rung and value == "once":
        return SamplesOverride(rung, 0, 0)
    found = re.fullmatch(r"(\d{1,2})/(\d{1,2})(?::(.+))?", value)
    if value == "auto" or text == "auto":
        raise ConfigurationError("--samples auto: it is for `calibrate`, which chooses (here give RUNG=M/N)")
    if not rung or found is None or not 2 <= int(found[1]) <= int(found[2]) <= MOST_SAMPLES:
        raise ConfigurationError(
            f"--samples {text}: not rung=M/N (M of at most N answers the same, 2 <= M <= N <= {MOST_SAMPLES}), as in haiku=3/4,"
            " haiku=3/4:steps,doubt or haiku=once"
        )
    variants = tuple(name.strip() for name in (found[3] or "").split(",") if name.strip())
    return SamplesOverride(rung, int(found[1]), int(found[2]), variants)


def parse_same(text: str | None) -> Same | None:
    """Parse `--same`; None if it is not given. Raises ConfigurationError."""
    if text is None:
        return None
    kind, _, option = text.partition(":")
    try:
        if kind == "numeric" and option:
            return Same(kind="numeric", tolerance=float(option))
        if kind == "json" and option:
            return Same(kind="json", fields=tuple(option.split(",")))
        return Same.model_validate(text)
    except ValueError:
        hint = "exact, normalized, choice, numeric[:TOLERANCE], json[:FIELD,FIELD], judge or module:function"
        raise ConfigurationError(f"--same {text}: there is no such way to compare answers (use {hint})") from None


def recorded_cycles(path: str | os.PathLike[str]) -> dict[str, tuple[str | None, ...]]:
    """By rung: the variants of its recorded samples in turn, from the first item that has several. Raises CorpusError."""
    found: dict[str, tuple[str | None, ...]] = {}
    with open_corpus(path, skip_bad=True) as reader:
        rungs = reader.manifest.rungs[:-1]
        for item in islice(reader, _LOOKED_AT):
            for rung in rungs:
                reply = item.replies.get(rung)
                if reply is not None and (reply.samples or rung not in found):
                    found[rung] = cycle_of(reply) if reply.samples else (reply.variant,)
            if any(reply.samples for reply in item.replies.values()):
                break
    return found


def reporting_rungs(path: str | os.PathLike[str]) -> frozenset[str]:
    """The rungs below the top of whose replies some have a confidence, by the first items. Raises CorpusError."""
    found: set[str] = set()
    with open_corpus(path, skip_bad=True) as reader:
        rungs = frozenset(reader.manifest.rungs[:-1])
        for item in islice(reader, _LOOKED_AT):
            for rung in rungs - found:
                reply = item.replies.get(rung)
                if reply is not None and any(sample.confidence is not None for sample in reply.every):
                    found.add(rung)
            if len(found) == len(rungs):
                break
    return frozenset(found)


def samples_from(
    overrides: Sequence[SamplesOverride],
    policy: Policy | None,
    cycles: Mapping[str, Sequence[str | None]],
    same: Same | None = None,
) -> dict[str, Samples | None]:
    """The samples that the overrides mean, by rung. `cycles`: the recorded variants. `same` replaces the policy's.

    Raises ConfigurationError if a rung is given twice.
    """
    made: dict[str, Samples | None] = {}
    own = {rung.rung: rung.samples for rung in policy.ladder} if policy is not None else {}
    for override in overrides:
        if override.rung in made:
            raise ConfigurationError(f"--samples {override.rung}: it is given twice (leave one out)")
        if not override.agree:
            made[override.rung] = None
            continue
        before = own.get(override.rung)
        if override.variants:
            variants = tuple(_variant(name, before) for name in override.variants)
        elif before is not None:
            variants = before.variants
        else:
            variants = as_variants(cycles.get(override.rung, ()))
        compared = same or (before.same if before is not None else Same())
        at_once = min(before.at_once, override.most) if before is not None else 1
        made[override.rung] = Samples(
            max=override.most, agree=override.agree, variants=variants, same=compared, at_once=at_once
        )
    return made


def as_variants(names: Sequence[str | None]) -> tuple[Variant, ...]:
    """Recorded variants as a policy's; a sample without a name was asked with the policy's own triage prompt."""
    return tuple(Variant() if name is None else _variant(name, None) for name in names)


def _variant(name: str, before: Samples | None) -> Variant:
    """The variant of this name: the policy's, a built-in prompt, or a name in the corpus alone."""
    known = {one.label(""): one for one in before.variants} if before is not None else {}
    return known.get(name) or (Variant(prompt=name) if name in ORDERS else Variant(name=name))


_LOOKED_AT = 1000  # items, for one that has several samples


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


def samples_fields(samples: Samples, policy: Policy) -> dict[str, Any]:
    """Samples as JSON values; the variants by name, in turn."""
    own = triage_name(policy)
    names = [variant.label(own) for variant in samples.variants] or [own]
    return {"max": samples.max, "agree": samples.agree, "variants": names, "same": str(samples.same)}


def samples_text(samples: Samples, policy: Policy) -> str:
    """In a few words, e.g. "3 of 4 the same (steps, doubt)"."""
    names = list(dict.fromkeys(variant_names(policy, samples)))
    shown = ", ".join(names) if len(names) > 1 or names[0] != triage_name(policy) else ""
    return f"{samples.agree} of {samples.max} the same{f' ({shown})' if shown else ''}"
