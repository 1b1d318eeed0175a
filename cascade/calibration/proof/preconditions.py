"""Corpora and policies that must not be calibrated together or tested against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cascade.calibration.proof.pareto_testing import hash_of_corpus
from cascade.core.errors import CorpusError, PolicyError
from cascade.core.policy import Policy
from cascade.corpora.items import Manifest
from cascade.corpora.reading import CorpusReader
from cascade.policy.certificates import changed_parts
from cascade.replay.columns import PolicyMapping
from cascade.replay.mapping import other_models

__all__ = ["joint_manifest", "refuse_own_scorer", "refuse_to_hold"]


def joint_manifest(readers: Sequence[CorpusReader]) -> Manifest:
    """Of corpora that are read as one. Raises CorpusError where they are of other ladders, models or graders."""
    first = readers[0].manifest
    for reader in readers[1:]:
        if _ladder_told(reader.manifest) != _ladder_told(first):
            problem = f"its ladder is {_ladder_told(reader.manifest)}, the first corpus's is {_ladder_told(first)}"
            hint = "calibrate them separately"
            raise CorpusError(problem, where=reader.source, hint=hint)
        if reader.manifest.grader != first.grader:
            problem = f"its grader is {_grader(reader.manifest.grader)}, the first corpus's is {_grader(first.grader)}"
            raise CorpusError(problem, where=reader.source, hint="use one grader for all, or calibrate them separately")
    # A certificate on synthetic items is not one on recorded items, whichever corpus comes first.
    return replace(first, synthetic=any(reader.manifest.synthetic for reader in readers))


def _ladder_told(manifest: Manifest) -> str:
    ladder = (
        entry.rung if entry.model in (None, entry.rung) else f"{entry.rung} ({entry.model})"
        for entry in manifest.ladder
    )
    return f"{' → '.join(ladder)} with right_at {manifest.right_at:g}"


def _grader(name: str | None) -> str:
    return name or "not named"


def refuse_own_scorer(policy: Policy | None, sources: Sequence[str]) -> None:
    """Refuse a scorer that was learned on these items: its scores are in-sample, under any split.

    Raises PolicyError. `policy`: the one whose scorer is to be used as it is.
    """
    if policy is None or policy.scorer is None or policy.certificate is None:
        return
    if policy.certificate.hashes.corpus == hash_of_corpus(sources):
        problem = "its scorer was learned on this corpus, so neither tuning nor certifying on it is out of sample"
        raise PolicyError(
            problem, where=f"policy {policy.name!r}", hint="--scorer learns it again, on half of the items"
        )


def refuse_to_hold(policy: Policy, manifest: Manifest, mapping: PolicyMapping, sources: Sequence[str]) -> None:
    """Refuse to test a certificate on something else than what it is about. Raises PolicyError and CorpusError."""
    certificate = policy.certificate
    if certificate is None:
        return  # `hold_against` says so
    if changed := changed_parts(policy):
        problem = f"changed since it was certified: {', '.join(changed)}"
        raise PolicyError(
            problem, where=f"policy {policy.name!r}", hint="calibrate again, or restore what was certified"
        )
    problem, hint = "", "give another corpus"
    if certificate.hashes.corpus == hash_of_corpus(sources):
        problem = "is the corpus that the certificate was made from"
    elif others := other_models(mapping, manifest):
        problem = f"these are other models' replies: {'; '.join(others)}"
    elif certificate.grader != manifest.grader:
        problem = f"its grader is {_grader(manifest.grader)}, the certificate's is {_grader(certificate.grader)}"
        hint = "grade it in the same way, or calibrate again"
    if problem:
        raise CorpusError(problem, where=sources[0], hint=hint)
