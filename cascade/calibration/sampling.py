"""The samples that `--samples auto` compares: for each rung that was recorded several times, how many, and of which variants.

Each is the same corpus, put to another vote. They are fixed by the names of the recorded variants and their numbers, and by
what the tune half shows of a rung: whether its samples differ, and whether it reports a confidence. The certify half is not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any, cast

from cascade.calibration.candidates import Way
from cascade.calibration.halves import JointHalf
from cascade.calibration.repeats import why_not_judged_by_rung
from cascade.calibration.search.counts import Loss
from cascade.calibration.search.frontier import Point
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy, Samples, Variant
from cascade.core.policy.samples import Same
from cascade.core.triage import triage_name
from cascade.corpora.items import Manifest
from cascade.replay.arrays import np
from cascade.replay.columns import Columns, MappedColumns, PolicyMapping
from cascade.replay.mapping import Asked, asking, mapping_for
from cascade.replay.sampled import put_to_vote, voted_rungs
from cascade.replay.samples import (
    SamplesOverride,
    as_variants,
    recorded_cycles,
    reporting_rungs,
    samples_from,
    samples_text,
    variant_names,
)
from cascade.replay.votes import SampleColumns

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools

__all__ = [
    "Bought",
    "SampleSearch",
    "Sought",
    "brief_names",
    "mapping_with_samples",
    "refuse_by_task",
    "refuse_together",
    "refuse_unjudged",
    "sampled_ways",
    "variants_compared",
    "what_samples_buy",
    "with_thresholds",
]

_MOST_TOGETHER = 240  # candidates up to which every combination of the rungs' samples is tried, else one rung at a time
_COUNTS = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True, slots=True)
class SampleSearch:
    """What is asked of the samples. `overrides`: given by rung; `auto`: search them on the other rungs.

    `same`: how answers are compared; None: as the policy says, else normalized.
    """

    overrides: tuple[SamplesOverride, ...] = ()
    auto: bool = False
    same: Same | None = None


def refuse_together(*, scorer: bool, per_task: bool) -> None:
    """Raises ConfigurationError for what is not searched together with samples."""
    if scorer:
        raise ConfigurationError(
            "--samples auto with --scorer: choose the samples first, then learn a score with --samples RUNG=M/N --scorer"
        )
    if per_task:
        raise ConfigurationError(
            "--samples auto with --per-task: choose the samples first, then thresholds by task with --samples RUNG=M/N"
        )


def refuse_by_task(mapping: PolicyMapping) -> None:
    """Raises ConfigurationError for thresholds by task where a rung has none, because agreement alone decides there.

    A task's own threshold would be held against confidences that nothing reports, so its answers would never ship.
    """
    if alone := [rung for rung in mapping.names if rung in mapping.by_agreement]:
        raise ConfigurationError(
            f"--per-task: at {' and '.join(alone)} the agreement of the samples decides alone, so there are no thresholds to"
            " choose by task (leave --per-task out, or give the rung a threshold)"
        )


def refuse_unjudged(columns: Columns, view: MappedColumns) -> None:
    """Raises ConfigurationError where votes are asked for on samples that are no evidence on agreement."""
    policy = view.mapping.plan.policy
    recorded = view.samples[: policy.top] if view.samples else ()
    for index, rung in enumerate(policy.ladder[: policy.top]):
        routes = [policy.route(task) for task in ("", *(task.name for task in policy.tasks))]
        for same in {str(asked.same) for route in routes if (asked := route.samples[index]) is not None}:
            if (why := _why_not_judged(columns.manifest, recorded, index, same)) is not None:
                raise ConfigurationError(
                    f"the samples of {rung.rung} cannot be judged: {why} (ask it once: --samples {rung.rung}=once, or"
                    " record samples at the default temperature)"
                )


def _why_not_judged(manifest: Manifest, recorded: Sequence[SampleColumns | None], index: int, same: str) -> str | None:
    comparable = [one if one is not None and same in one.key else None for one in recorded]
    if not any(comparable) or comparable[index] is None:  # grouped by a judge: only the manifest can tell
        return "the corpus was recorded at temperature 0" if manifest.temperature == 0 else None
    return why_not_judged_by_rung(manifest, comparable, same)[index]


def with_thresholds(mapping: PolicyMapping) -> PolicyMapping:
    """The mapping without rungs where agreement alone decides: each has a threshold."""
    policy = mapping.plan.policy
    alone = policy.route("").by_agreement
    asked = {rung.rung: Asked(rung.samples) for rung, own in zip(policy.ladder, alone, strict=True) if own}
    return asking(mapping, asked) if asked else mapping


@dataclass(frozen=True, slots=True)
class Bought:
    """What further samples buy: the cheapest vote of at most `most` samples at a rung, on the tune half.

    `name`: how the rungs are asked, as in `Way`, whose place is `way`; `cost_per_request_usd`, `quality` and `losses` are of
    its cheapest thresholds that have no more losses (for a `Target`; else no lower quality) than what was chosen.
    """

    most: int
    name: str
    way: int
    cost_per_request_usd: float
    quality: float
    losses: int


def what_samples_buy(ways: Sequence[Way], tune: JointHalf, chosen: Point, loss: Loss | None) -> list[Bought]:
    """By the most samples at any rung, ascending: the best way with so many. `loss` None: by quality."""
    best: dict[int, Bought] = {}
    for place, (way, half) in enumerate(zip(ways, tune.ways, strict=True)):
        most = max((samples.max for samples in _samples_of(way).values()), default=1)
        points = half.frontier() if loss is None else half.risk_path(loss, _MOST_TOGETHER)
        good = [
            point for point in points
            if (point.quality >= chosen.quality - 1e-12 if loss is None else point.losses <= chosen.losses)
        ]  # fmt: skip
        if not good:
            continue
        point = min(good, key=lambda one: one.cost)
        cost = point.cost / 1e9 / max(1, len(half))
        if most not in best or cost < best[most].cost_per_request_usd:
            best[most] = Bought(most, way.name, place, cost, point.quality, point.losses)
    return [best[most] for most in sorted(best)]


def variants_compared(ways: Sequence[Way]) -> dict[str, tuple[str, ...]]:
    """By rung that some way asks more than once: the names of all variants that the ways ask, in their order."""
    found: dict[str, dict[str, None]] = {}
    for way in ways:
        for rung, samples in _samples_of(way).items():
            found.setdefault(rung, {}).update(dict.fromkeys(_names(way, samples)))
    return {rung: tuple(names) for rung, names in found.items()}


def brief_names(ways: Sequence[Way]) -> list[str]:
    """The ways' names for a table, e.g. "3 of 4, all 4 variants"; with the rungs' names if several are asked more than once."""
    every, made = variants_compared(ways), list[str]()
    for way in ways:
        asked = _samples_of(way)
        parts = [_brief(rung, samples, _names(way, samples), every) for rung, samples in asked.items()]
        made.append("; ".join(parts) or "once")
    return made


def _brief(rung: str, samples: Samples, names: Sequence[str], every: Mapping[str, Sequence[str]]) -> str:
    if len(every[rung]) == 1:
        which = ""
    elif len(names) == len(every[rung]):
        which = f", all {len(names)} variants"
    else:
        which = f", {', '.join(names)}"
    return f"{f'{rung} ' if len(every) > 1 else ''}{samples.agree} of {samples.max}{which}"


def _samples_of(way: Way) -> dict[str, Samples]:
    ladder = way.mapping.plan.policy.ladder if way.mapping is not None else ()
    return {rung.rung: rung.samples for rung in ladder if rung.samples is not None}


def _names(way: Way, samples: Samples) -> list[str]:
    assert way.mapping is not None  # it has samples
    return list(dict.fromkeys(variant_names(way.mapping.plan.policy, samples)))


@dataclass(frozen=True, slots=True)
class Sought:
    """Which samples are searched: by rung the recorded variants in turn, and how answers are compared (None: no search)."""

    variants: Mapping[str, Sequence[Variant]] = field(default_factory=dict[str, "Sequence[Variant]"])
    same: Same | None = None


def mapping_with_samples(
    search: SampleSearch,
    policy: Policy | None,
    manifest: Manifest,
    sources: Sequence[str],
    *,
    early_stop: bool = False,
    reprice: bool = False,
) -> tuple[PolicyMapping, Sought]:
    """The policy, or the corpus's own ladder, with the samples that are given; and those to search beside them.

    `manifest` is of all corpora, `sources` are their paths, `early_stop` and `reprice` as in `mapping_for`. Raises ConfigurationError for samples that cannot be searched,
    and what `mapping_for` raises.
    """
    cycles = recorded_cycles(sources[0]) if search.overrides or search.auto else {}
    given = samples_from(search.overrides, policy, cycles, search.same)
    mapping = mapping_for(policy, manifest, sources[0], given, early_stop=early_stop, reprice=reprice)
    if policy is None and given:  # where there are confidences, thresholds are searched beside the vote
        reporting = reporting_rungs(sources[0])
        mapping = asking(
            mapping,
            {rung: Asked(one, by_agreement=one is not None and rung not in reporting) for rung, one in given.items()},
        )
    if search.auto or voted_rungs(mapping.plan.policy):
        _refuse_curtailed(manifest, sources[0])
    if not search.auto:
        return mapping, Sought()
    ladder = policy.ladder if policy is not None else ()
    same = search.same or _same_of([rung.samples for rung in ladder if rung.rung not in given])
    if same.kind == "judge":
        raise ConfigurationError(
            "--samples auto: a judge's groups are of one order of the samples (give RUNG=M/N, or another --same)"
        )
    names = dict(zip(mapping.rungs, mapping.names, strict=True))
    listed = {rung.rung: rung.samples.variants for rung in ladder if rung.samples is not None and rung.samples.variants}
    found = {names[rung]: as_variants(cycle) for rung, cycle in cycles.items() if rung in names}
    variants = {rung: listed.get(rung, one) for rung, one in found.items() if rung not in given}
    return replace(mapping, same=same), Sought(variants, same)


def _same_of(searched: Sequence[Samples | None]) -> Same:
    """How the answers of the rungs that are searched are compared. Raises ConfigurationError if they differ in that."""
    found = list(dict.fromkeys(one.same for one in searched if one is not None))
    if len(found) > 1:
        ways = " and ".join(map(str, found))
        raise ConfigurationError(
            f"--samples auto: the policy compares answers by {ways} (give one --same for all, or RUNG=M/N)"
        )
    return found[0] if found else Same()


def sampled_ways(
    columns: Columns, view: MappedColumns, sought: Sought, read: Bools
) -> tuple[list[Way], tuple[str, ...]]:
    """The candidates, the ladder without further samples first; and by rung why its samples are not judged.

    `read`: the items that may be looked at to choose them, the tune half. Raises ConfigurationError if no rung was recorded more than once.
    """
    policy, same, variants = view.mapping.plan.policy, sought.same or Same(), sought.variants
    options: dict[str, list[Asked]] = {}
    refused: list[str] = []
    recorded_at = [None if one is None else one.rows(read) for one in view.samples[: policy.top]]
    reasons = why_not_judged_by_rung(columns.manifest, recorded_at, same) if any(recorded_at) else ()
    for index, rung in enumerate(policy.ladder[:-1]):
        recorded = view.samples[index] if view.samples else None
        if recorded is None or rung.rung not in variants or len(recorded) < 2:
            continue
        if (why := reasons[index]) is not None:
            refused.append(f"{rung.rung}: {why}")
            continue
        reports = any(bool((~np.isnan(one[read])).any()) for one in recorded.confidence)
        options[rung.rung] = list(
            _options(recorded, variants[rung.rung], same, policy, index, by_agreement=not reports)
        )
    if not options and not refused:
        raise ConfigurationError(
            "--samples auto: no rung was recorded more than once (record with --samples N, or leave it out)"
        )
    once = {rung: Asked(None) for rung in options}
    combinations = _combinations(options)
    return [_way(columns, view, once | dict(combination)) for combination in combinations], tuple(refused)


def _options(
    recorded: SampleColumns, variants: Sequence[Variant], same: Same, policy: Policy, index: int, *, by_agreement: bool
) -> Iterator[Asked]:
    """Every (max, agree) of every choice of variants that the corpus holds for all items; as many at once as the policy has."""
    own, before = triage_name(policy), policy.ladder[index].samples
    at_once = before.at_once if before is not None else 1
    everywhere = [one[0] for one in recorded.variant if one[0] >= 0 and bool((one == one[0]).all())]
    layout = [recorded.names[int(code)] or own for code in everywhere]
    for chosen in _choices(variants):
        names = [variant.label(own) for variant in chosen]
        for most in _COUNTS:
            asked = [names[number % len(names)] for number in range(most)]
            if any(asked.count(name) > layout.count(name) for name in names) or (most < len(names)):
                continue
            for agree in range(most // 2 + 1, most + 1):
                if agree >= 2:
                    samples = Samples(
                        max=most, agree=agree, variants=tuple(chosen), same=same, at_once=min(at_once, most)
                    )
                    yield Asked(samples, by_agreement)


def _choices(variants: Sequence[Variant]) -> Iterator[Sequence[Variant]]:
    """All variants in turn, the first of them in turn, and each alone."""
    distinct = list(dict.fromkeys(variants))
    for length in range(len(distinct), 1, -1):
        yield distinct[:length]
    for variant in distinct:
        yield [variant]


def _combinations(options: Mapping[str, Sequence[Asked]]) -> list[list[tuple[str, Asked]]]:
    every = [[(rung, Asked(None)), *((rung, one) for one in asked)] for rung, asked in options.items()]
    together = 1
    for one in every:
        together *= len(one)
    if together <= _MOST_TOGETHER:
        return [list(one) for one in product(*every)]
    return [[], *([pair] for one in every for pair in one[1:])]


def _way(columns: Columns, view: MappedColumns, asked: Mapping[str, Asked]) -> Way:
    mapping = asking(view.mapping, asked)
    policy = mapping.plan.policy
    samples = {rung: one.samples for rung, one in asked.items() if one.samples is not None}
    texts = [f"{rung} {samples_text(one, policy)}" for rung, one in samples.items()]
    voted = put_to_vote(columns, replace(view, mapping=mapping))
    return Way("; ".join(texts) or "each rung once", voted, mapping=mapping)


def _refuse_curtailed(manifest: Manifest, where: str) -> None:
    """Raises ConfigurationError for a corpus whose samples were curtailed: what was not asked cannot be judged."""
    recorded: Any = (manifest.extra or {}).get("recorded")
    if isinstance(recorded, dict) and cast("dict[str, Any]", recorded).get("curtailed") is True:
        raise ConfigurationError(
            f"{where}: its samples were curtailed, so other votes cannot be judged (record them whole: cascade record)"
        )
