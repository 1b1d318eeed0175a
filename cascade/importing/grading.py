"""Grade imported answers for which the source has no score: those of further samples above all."""

from __future__ import annotations

from dataclasses import replace as replace_fields

from msgspec.structs import replace

from cascade.corpora.grading import Grade, Grader, bind_grader
from cascade.corpora.items import Item, RecordedReply
from cascade.importing.joining import Imported, count_missing, count_samples

__all__ = ["with_grades"]


def with_grades(imported: Imported, name: str) -> Imported:
    """The corpus with the grader's scores where there were none. Declined answers, and texts that are missing, get none.

    Raises ConfigurationError for an unknown grader, or one that asks a model.
    """
    grading = _Grading(bind_grader(name))
    items = tuple(grading.item(item) for item in imported.items)
    if not grading.graded:
        return replace_fields(imported, ungraded=grading.ungraded)
    grader = f"{imported.manifest.grader}, else {name}"
    return replace_fields(
        imported,
        manifest=replace_fields(imported.manifest, grader=grader),
        items=items,
        without=count_missing(items, imported.manifest.ladder),
        samples=count_samples(items, imported.manifest.rungs),
        graded=grading.graded,
        ungraded=grading.ungraded,
    )


class _Grading:
    def __init__(self, grade: Grader) -> None:
        self._grade = grade
        self.graded = self.ungraded = 0

    def item(self, item: Item) -> Item:
        return replace(item, replies={rung: self._reply(reply, item) for rung, reply in item.replies.items()})

    def _reply(self, reply: RecordedReply, item: Item) -> RecordedReply:
        samples = reply.samples and tuple(self._reply(sample, item) for sample in reply.samples)
        return replace(reply, score=self._score(reply, item), samples=samples)

    def _score(self, reply: RecordedReply, item: Item) -> float | None:
        if reply.score is not None or not reply.has_answer or reply.answer is None:
            return reply.score
        found = self._grade(reply.answer, item)
        if isinstance(found, Grade):
            self.graded += 1
            return found.score
        self.ungraded += 1
        return None
