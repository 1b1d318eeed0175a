"""What must not be calibrated together, nor be held against what: a proof would be of something else than it says."""

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
            problem = f"its ladder is {_ladder_told(reader.manifest)}"
            mend = f"the first corpus has {_ladder_told(first)}: calibrate them apart"
            raise CorpusError(problem, where=reader.source, mend=mend)
        if reader.manifest.grader != first.grader:
            problem = f"it was graded by {reader.manifest.grader or 'nobody named'}, the first by {first.grader or 'nobody named'}"
            raise CorpusError(problem, where=reader.source, mend="grade both alike, or calibrate them apart")
    # A proof on synthetic items is not one of recorded ones, whoever comes first.
    return replace(first, synthetic=any(reader.manifest.synthetic for reader in readers))


def _ladder_told(manifest: Manifest) -> str:
    ladder = (
        entry.rung if entry.model in (None, entry.rung) else f"{entry.rung} ({entry.model})"
        for entry in manifest.ladder
    )
    return f"{' → '.join(ladder)} right at {manifest.right_at:g}"


def refuse_own_scorer(policy: Policy | None, sources: Sequence[str]) -> None:
    """A scorer that was learned on these very items knows some of the answers: another split would not hide them.

    Raises PolicyError. `policy`: the one whose scorer is to be used as it is.
    """
    if policy is None or policy.scorer is None or policy.certificate is None:
        return
    if policy.certificate.hashes.corpus == hash_of_corpus(sources):
        problem = "its scorer was learned on this corpus: what it is tuned or proved on would know the answers"
        raise PolicyError(
            problem, where=f"policy {policy.name!r}", mend="--scorer learns it anew, on half of the items"
        )


def refuse_to_hold(policy: Policy, manifest: Manifest, lens: PolicyMapping, sources: Sequence[str]) -> None:
    """What would say "holds" of something else than what was certified. Raises PolicyError and CorpusError."""
    certificate = policy.certificate
    if certificate is None:
        return  # `hold_against` says so
    if changed := changed_parts(policy):
        problem = f"its {', '.join(changed)} are no longer what its certificate proved"
        raise PolicyError(
            problem, where=f"policy {policy.name!r}", mend="calibrate anew, or put back what was certified"
        )
    problem, mend = "", "give a fresh one"
    if certificate.hashes.corpus == hash_of_corpus(sources):
        problem = "it is the very corpus that the certificate was proved on"
    elif others := other_models(lens, manifest):
        problem = f"these are other models' replies: {'; '.join(others)}"
    elif certificate.grader != manifest.grader:
        problem = f"it was graded by {manifest.grader or 'nobody named'}, the certificate's by {certificate.grader or 'nobody named'}"
        mend = "grade it in the same way, or calibrate anew"
    if problem:
        raise CorpusError(problem, where=sources[0], mend=mend)
