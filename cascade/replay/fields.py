"""A replay as JSON values: what `cascade replay --json` prints."""

from __future__ import annotations

from typing import Any

from cascade.core.policy import Policy
from cascade.replay.comparison import Comparison, Difference
from cascade.replay.figures import Figures, Single
from cascade.replay.intervals import Interval
from cascade.replay.run import Replay

__all__ = ["fields_of"]


def fields_of(replay: Replay, seconds: float) -> dict[str, Any]:
    """A replay as `--json` prints it. `seconds`: how long it took."""
    figures, manifest = replay.figures, replay.manifest
    singles = {rung: figures.singles.get(rung) for rung in dict.fromkeys((*figures.shipped, *figures.singles))}
    mix = figures.random_mix
    fields: dict[str, Any] = {
        "corpus": manifest.name,
        "policy": replay.mapping.plan.policy.name,
        "thresholds": _thresholds(replay.mapping.plan.policy),
        **({"samples": replay.samples} if replay.samples else {}),
        **_figures_fields(figures, replay.intervals[""]),
        **({} if replay.cold is None else {"cold_writes_usd": replay.cold / 1e9}),
        "reasons": dict(figures.reasons),
        "storms": replay.storms,
        "baselines": {
            **{f"single:{rung}": _single_fields(figures, rung, single) for rung, single in singles.items()},
            "random_mix": {"quality": mix[0], "cost_usd": mix[1] / 1e9} if mix else None,
        },
        "beside": {f"single:{rung}": _beside_fields(*beside) for rung, beside in replay.beside.items()},
        "savings_vs_top": figures.savings_vs_top,
        **({"reviews": {rung: one.fields() for rung, one in replay.reviews.items()}} if replay.reviews else {}),
        **({"early_stop": replay.early_stop.fields()} if replay.early_stop else {}),
        "tasks": {task: _figures_fields(part, replay.intervals[task]) for task, part in replay.tasks.items()},
        "seconds": round(seconds, 3),
    }
    if manifest.synthetic:
        fields["synthetic"] = True
    if replay.options.part != "all":
        split = replay.options.split
        fields["split"] = {"part": replay.options.part, "tune": split.tune, "seed": split.seed}
    if replay.comparison is not None:
        fields["against"] = _comparison_fields(replay.comparison)
    if replay.options.skip_bad:
        fields["skipped"] = replay.skipped
        fields["problems"] = list(replay.problems)
    return fields | {"notes": [*replay.warnings, *replay.notes]}


def _thresholds(policy: Policy) -> dict[str, float | str | None]:
    """By rung: its threshold, null for `never`, "agreement" where its samples decide alone."""
    alone = policy.route("").by_agreement
    below = zip(policy.ladder[:-1], alone, strict=False)
    return {rung.rung: "agreement" if own else rung.threshold for rung, own in below}


def _figures_fields(figures: Figures, interval: Interval | None) -> dict[str, Any]:
    return {
        "items": figures.items,
        "quality": figures.quality,
        "quality_ci95": interval,
        "cost_usd": figures.cost_usd,
        "cost_per_request_usd": figures.cost_per_request_usd,
        "shipped": dict(figures.shipped),
        "escalation_rate": figures.escalation_rates,
        "false_confident_rate": figures.false_confident_rate,
        "abstained": figures.abstained,
    }


def _single_fields(figures: Figures, rung: str, single: Single | None) -> dict[str, float | None] | None:
    if single is None:
        return None
    count = figures.single_false_confident(rung)
    rate = None if count is None else count / figures.items
    return {"quality": single.quality, "cost_usd": single.cost / 1e9, "false_confident_rate": rate}


def _beside_fields(interval: Interval | None, difference: Difference) -> dict[str, Any]:
    return {"quality_ci95": interval, "cascade_less_it": {"quality": difference.value, "ci95": difference.ci95}}


def _comparison_fields(comparison: Comparison) -> dict[str, Any]:
    differences: dict[str, Difference] = {
        "quality": comparison.quality,
        "cost_per_request_usd": comparison.cost_per_request_usd,
        "false_confident_rate": comparison.false_confident_rate,
    }
    return {
        "policy": comparison.against,
        **{key: {"difference": one.value, "ci95": one.ci95} for key, one in differences.items()},
        "to_right": comparison.to_right,
        "to_wrong": comparison.to_wrong,
    }
