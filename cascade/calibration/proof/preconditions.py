"""Checks before calibrating or testing: which corpora and policies may be combined."""

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

__all__ = ["joint_manifest", "refuse_in_sample_scorer", "refuse_recheck"]


def joint_manifest(readers: Sequence[CorpusReader]) -> Manifest:
    """The manifest of corpora read as one. Raises CorpusError if ladders, models or graders differ."""
    first = readers[0].manifest
    for reader in readers[1:]:
        if _ladder_text(reader.manifest) != _ladder_text(first):
            problem = f"its ladder is {_ladder_text(reader.manifest)}, the first corpus's is {_ladder_text(first)}"
            hint = "calibrate them separately"
            raise CorpusError(problem, where=reader.source, hint=hint)
        if reader.manifest.grader != first.grader:
            problem = f"its grader is {_grader(reader.manifest.grader)}, the first corpus's is {_grader(first.grader)}"
            raise CorpusError(problem, where=reader.source, hint="use one grader for all, or calibrate them separately")
    # One synthetic corpus makes the whole synthetic, whichever comes first.
    return replace(first, synthetic=any(reader.manifest.synthetic for reader in readers))


def _ladder_text(manifest: Manifest) -> str:
    ladder = (
        entry.rung if entry.model in (None, entry.rung) else f"{entry.rung} ({entry.model})"
        for entry in manifest.ladder
    )
    return f"{' → '.join(ladder)} with right_at {manifest.right_at:g}"


def _grader(name: str | None) -> str:
    return name or "not named"


def refuse_in_sample_scorer(policy: Policy | None, sources: Sequence[str]) -> None:
    """Raise PolicyError if the policy's scorer was learned on these items: its scores are in-sample under any split.

    `policy`: the one whose scorer is used unchanged; None: no scorer is.
    """
    if policy is None or policy.scorer is None or policy.certificate is None:
        return
    if policy.certificate.hashes.corpus == hash_of_corpus(sources):
        problem = "its scorer was learned on this corpus, so neither tuning nor certifying on it is out of sample"
        raise PolicyError(
            problem, where=f"policy {policy.name!r}", hint="--scorer learns it again, on half of the items"
        )


def refuse_recheck(policy: Policy, manifest: Manifest, mapping: PolicyMapping, sources: Sequence[str]) -> None:
    """Raise PolicyError or CorpusError if this corpus cannot test the policy's certificate."""
    certificate = policy.certificate
    if certificate is None:
        return  # `recheck_corpus` raises
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
