"""What a report says of samples: how each rung is asked, and what further samples buy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cascade.calibration.result import Calibration
from cascade.calibration.sampling import brief_names, variants_compared
from cascade.calibration.search.frontier import Point
from cascade.policy.loading import dump
from cascade.replay.samples import samples_fields, samples_text

__all__ = ["SampleReport", "SampleRow", "sample_report_of"]


@dataclass(frozen=True, slots=True)
class SampleRow:
    """The cheapest vote of at most `most` samples that is as good as what was chosen, on the tune half.

    `name`: how the rungs are asked. `cost_per_request`: USD. `risk`: the share of the items with the loss. `is_chosen`: whether
    this vote, at some thresholds, is the chosen one.
    """

    most: int
    name: str
    quality: float
    cost_per_request: float
    risk: float
    is_chosen: bool = False


@dataclass(frozen=True, slots=True)
class SampleReport:
    """How rungs are asked more than once. Empty if none is and no samples were compared.

    asked         by rung that is asked more than once: how, in words
    yaml          by the same rungs: the value of `samples` in a policy, as YAML on one line
    by_agreement  the rungs where the agreement of the samples decides alone, so that no confidence is compared
    rows          by the most samples, ascending; `chosen`: what was chosen, on the same half
    same          in which respect a row is as good as what was chosen, in words
    variants      by rung: the variants that were compared, in turn
    compared      how many ways to ask were compared; `names`: theirs, for points of the frontier that are of several ways, and
                  `by_way` what `by_agreement` is for the chosen one
    """

    asked: Mapping[str, str] = field(default_factory=dict[str, str])
    yaml: Mapping[str, str] = field(default_factory=dict[str, str])
    by_agreement: frozenset[str] = frozenset()
    rows: tuple[SampleRow, ...] = ()
    chosen: SampleRow | None = None
    same: str = "no lower quality"
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])
    compared: int = 0
    names: tuple[str, ...] = ()
    by_way: tuple[frozenset[str], ...] = ()

    def threshold(self, rung: str, text: str, way: int = 0) -> str:
        """The text of a rung's threshold; `agreement` where no confidence is compared."""
        alone = self.by_way[way] if self.by_way else self.by_agreement
        return "agreement" if rung in alone and text != "never" else text


def sample_report_of(result: Calibration) -> SampleReport:
    """Of a calibration; the rows' figures are of the tune half, on which they were compared."""
    policy, n = result.mapping.plan.policy, max(1, len(result.tune))
    asked = {rung: samples_text(samples, policy) for rung, samples in result.samples.items()}
    fields = {rung: samples_fields(samples, policy) for rung, samples in result.samples.items()}
    for one in fields.values():
        if one["same"] == "normalized":  # the default
            del one["same"]
    yaml = {rung: dump(one, flow=True).strip() for rung, one in fields.items()}
    names = brief_names(result.ways)
    chosen, figures = result.choice.chosen, result.choice.tune
    place = chosen.way if isinstance(chosen, Point) else None
    rows = tuple(
        SampleRow(one.most, names[one.way], one.quality, one.cost_per_request_usd, one.losses / n, one.way == place)
        for one in result.further_samples()
    )
    own = None
    if rows and figures is not None and place is not None:
        most = max((samples.max for samples in result.samples.values()), default=1)
        own = SampleRow(most, names[place], figures.quality, figures.cost_per_request_usd, figures.lost, is_chosen=True)
    return SampleReport(
        asked,
        yaml,
        result.by_agreement,
        rows,
        own,
        result.as_good_as_chosen,
        variants_compared(result.ways),
        len(result.ways),
        tuple(names) if result.options.objective is None else (),
        tuple(way.mapping.by_agreement for way in result.ways if way.mapping)
        if result.options.objective is None
        else (),
    )
