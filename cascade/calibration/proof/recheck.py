"""Test a policy's certificate on a fresh corpus. The thresholds are fixed, so nothing is searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cascade.calibration.bounds import keeps, lower_bound, sample_of, units_needed, upper_bound
from cascade.calibration.proof.pareto_testing import Target, Tested
from cascade.calibration.search.levels import CodedCorpus
from cascade.core.errors import CorpusError, PolicyError
from cascade.core.policy import Policy
from cascade.replay.arrays import Bools, np

__all__ = ["Recheck", "levels_at", "losses_under", "recheck_corpus"]


@dataclass(frozen=True, slots=True)
class Recheck:
    """A certificate tested on a fresh corpus, at the certificate's delta.

    `holds`: the corpus alone confirms the bound. `no_longer`: it shows that the rate is above the bound. `too_few`: it
    shows neither; `further_units_needed` more would confirm it at the observed rate (None: no number would).
    """

    verdict: Literal["holds", "no_longer", "too_few"]
    target: Target
    tested: Tested
    lower_bound: float
    further_units_needed: int | None


def recheck_corpus(coded: CodedCorpus, policy: Policy) -> Recheck:
    """Test a policy's certificate on a corpus that was coded under the policy.

    Raises PolicyError if the policy has no certificate, CorpusError if the corpus has no items or another right_at.
    """
    certificate = policy.certificate
    if certificate is None:
        where = f"policy {policy.name!r}"
        raise PolicyError("has no certificate", where=where, hint="cascade calibrate CORPUS --write POLICY makes one")
    if not len(coded):
        raise CorpusError("has no items to test the certificate on")
    if coded.right_at != certificate.right_at:
        problem = f"right_at: is {coded.right_at:g}, the certificate's is {certificate.right_at:g}"
        raise CorpusError(problem, hint="grade it in the same way, or calibrate again")
    target = Target(certificate.loss, certificate.alpha, certificate.delta)
    sample = sample_of(losses_under(coded, policy, target), coded.group)
    upper, lower = upper_bound(sample, target.delta), lower_bound(sample, target.delta)
    tested = Tested(sample.units, sample.n, sample.errors, sample.rate, upper)
    shown = keeps(sample, target.alpha, target.delta)
    if shown is not None:
        return Recheck("holds" if shown else "no_longer", target, tested, lower, None)
    needed = units_needed(sample, target.alpha, target.delta)
    return Recheck("too_few", target, tested, lower, None if needed is None else max(1, needed - sample.n))


def losses_under(coded: CodedCorpus, policy: Policy, target: Target) -> Truths:
    """(N,): which items are lost under a policy's thresholds, including those by task."""
    lost = np.zeros(len(coded), np.bool_)
    for number, task in enumerate(coded.tasks):
        rows = np.flatnonzero(coded.task == number)
        part = coded.rows(rows)
        lost[rows] = part.losses(levels_at(part, policy.route(task).thresholds), target.counted)
    return lost


def levels_at(coded: CodedCorpus, thresholds: Sequence[float | None]) -> tuple[int, ...]:
    """The level numbers of a ladder's thresholds: for each, the lowest observed level that ships."""
    pairs = zip(coded.levels, thresholds, strict=False)  # the last threshold is the top rung's: none
    return tuple(len(own) + 1 if x is None else int(np.searchsorted(own, x)) + 1 for own, x in pairs)
