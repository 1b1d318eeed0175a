"""A better confidence without extra calls: for each rung a ridge regression on what is known once it answered.

    read_columns(…, on_items=collector.add) → table → learn (on the training rows) → the policy's `scorer`
                                                   → rescored view → code levels, frontier, certificate, as usual

`features` (what is known), `learning` (the target, the features and the ridge), `fitting` (the two regressions), `scores` (a
scorer applied to all items).

In-sample scores are overfitted, and thresholds tuned on them are too low. So training rows are scored out of fold, each by
a model that has not seen its group. Thresholds are tuned on those scores and certified, with the scorer as it is written,
on rows that had no part in either: cross-fitting, Chernozhukov, V. et
al. (2018), The Econometrics Journal 21.
"""

from __future__ import annotations

from cascade.calibration.scorer.features import FeatureCollector, FeatureTable, features_of
from cascade.calibration.scorer.learning import RIDGES, LearnedScorer, learn
from cascade.calibration.scorer.scores import rescored, scores_under

__all__ = [
    "RIDGES",
    "FeatureCollector",
    "FeatureTable",
    "LearnedScorer",
    "features_of",
    "learn",
    "rescored",
    "scores_under",
]
