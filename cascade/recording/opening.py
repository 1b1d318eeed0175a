"""Check a recording's settings and open its journal, before any call is made."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from cascade.core.errors import CorpusError
from cascade.corpora.items import Corpus
from cascade.corpora.writing import check_target
from cascade.recording.calls import RecordingPlan, make_recording_plan
from cascade.recording.completeness import holds_reviews, holds_samples
from cascade.recording.inputs import Inputs
from cascade.recording.journal import Journal, journal_path, part_journals
from cascade.recording.noise_floor import draw_sample, have_second_answers
from cascade.recording.progress import Settings
from cascade.recording.regrading import (
    check_grader,
    choose_grader,
    entries_from_corpus,
    find_complete_recording,
    is_graded_by,
)

__all__ = ["OpenRecording", "adopt_parts", "is_complete", "open_recording"]


@dataclass(frozen=True, slots=True)
class OpenRecording:
    """A recording whose settings are checked and whose journal is open.

    `hashes`: of the inputs and of all settings that change a reply. `complete`: the corpus at the target, if it is a
    complete recording with these hashes. `grader`: its name; None: nothing is graded. `sample`: ids of the items whose
    second answer `settings.baseline_twice` asks for.
    """

    settings: Settings
    inputs: Inputs
    plan: RecordingPlan
    hashes: Mapping[str, str]
    complete: Corpus | None
    grader: str | None
    sample: frozenset[str]
    journal: Journal


def is_complete(settings: Settings, inputs: Inputs) -> bool:
    """Whether the corpus is complete, graded as wanted, and without a journal (left by a kill after the last write).

    Raises ConfigurationError for an unknown grader, PolicyError as `make_recording_plan` does.
    """
    plan = _plan_of(settings)
    if settings.grader:
        check_grader(settings.grader, settings.policy)
    if journal_path(settings.target).exists() or part_journals(settings.target):
        return False
    complete = find_complete_recording(settings.target, {"inputs": inputs.hash, **plan.hashes()})
    return complete is not None and _has_all(complete, settings, inputs, plan)


def open_recording(settings: Settings, inputs: Inputs, known: Iterable[dict[str, Any]] = ()) -> OpenRecording:
    """Check the settings, delete unfinished files of killed runs, and open the journal, with the `known` entries in it.

    Raises CorpusError if the corpus exists already or was begun with other settings, ConfigurationError for a name of the
    target, a rung, a baseline or a grader that cannot be used.
    """
    target = settings.target
    check_target(target)
    plan = _plan_of(settings)
    sample = draw_sample(inputs.items, settings.baseline_twice)
    hashes = {"inputs": inputs.hash, **plan.hashes()}
    complete = find_complete_recording(target, hashes)
    if grader := choose_grader(settings, inputs, complete):
        check_grader(grader, settings.policy)
    path = journal_path(target)
    nothing_to_do = complete is None or _has_all(complete, settings, inputs, plan)
    if target.exists() and not path.exists() and not part_journals(target) and nothing_to_do:
        hint = "give another name, or move it away"
        raise CorpusError("it exists already, and no recording of it is under way", where=f"{target}", hint=hint)
    journal = Journal.open(path, hashes)
    try:
        _check_batches(journal, settings)
        adopt_parts(journal, target, hashes)
        for unfinished in target.parent.glob(f".{glob.escape(target.name)}.[0-9]*"):  # of a run killed while writing
            unfinished.unlink(missing_ok=True)
        for entry in chain(entries_from_corpus(complete, plan.plan) if complete else (), known):
            if not journal.holds(entry):
                journal.append(entry, sync=False)
    except BaseException:
        journal.close()
        raise
    return OpenRecording(settings, inputs, plan, hashes, complete, grader, sample, journal)


def adopt_parts(journal: Journal, target: Path, hashes: Mapping[str, str], parts: Iterable[Path] | None = None) -> None:
    """Take into the journal what workers have written (`parts`, or all that are there), and delete theirs.

    Raises CorpusError for one that was begun with other settings, is damaged, or is still being written.
    """
    for path in part_journals(target) if parts is None else parts:
        with Journal.open(path, hashes) as part:
            journal.adopt(part)
            part.remove()


def _check_batches(journal: Journal, settings: Settings) -> None:
    if not settings.batch and any("key" in entry for entry in journal.unanswered.values()):
        hint = "add --batch: it collects what is under way and paid for"
        raise CorpusError("has calls under way in batches", where=f"{journal.path}", hint=hint)


def _plan_of(settings: Settings) -> RecordingPlan:
    plan = make_recording_plan(settings.policy, settings.rungs, settings.baseline)
    return plan if settings.asks_samples else replace(plan, samples={}, asks_reviews=False)


def _has_all(complete: Corpus, settings: Settings, inputs: Inputs, plan: RecordingPlan) -> bool:
    """Whether a complete recording has the wanted grades, second answers, samples, reviews and results of checks."""
    grader = choose_grader(settings, inputs, complete)
    return (
        have_second_answers(complete.items, draw_sample(inputs.items, settings.baseline_twice))
        and is_graded_by(complete, inputs, grader, settings.policy)
        and holds_samples(complete, plan)
        and holds_reviews(complete, plan)
    )
