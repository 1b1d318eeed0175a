"""A `Replay` of a corpus in shards, from its cells: one pass for the figures, another for their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from operator import add

from cascade.cluster import Cluster, InProcess, Task
from cascade.core.errors import CorpusError
from cascade.replay.arrays import np
from cascade.replay.comparison import Difference
from cascade.replay.figures import Figures
from cascade.replay.intervals import (
    MOST_FOR_BOOTSTRAP,
    Interval,
    interval_of_moments,
    interval_of_scores,
)
from cascade.replay.outcomes import Outcomes, scores_of, total
from cascade.replay.run import (
    MOST_BESIDE,
    Progress,
    Replay,
    ReplayOptions,
    notes_of,
    refuse_unknown_tasks,
    storms_of,
    warnings_of,
)
from cascade.replay.shards.columns import CellColumns, columns_of
from cascade.replay.shards.counting import Counting
from cascade.replay.shards.figures import silent_replies, singles_of_cells, tally_cells
from cascade.replay.shards.groups import GroupQuestion, Groups, KeptSums, outcome_table, sum_groups
from cascade.replay.shards.passes import count_all, cut
from cascade.replay.shards.undecided import Undecided
from cascade.replay.vectorised import evaluate

__all__ = ["counting_for", "replay_shards"]

_MOST_KEPT = 2_000_000  # sums by group in memory, of tasks that are small enough for a bootstrap


def counting_for(counting: Counting, options: ReplayOptions) -> Counting:
    """The counting that these options ask for. Raises Undecided for those that cells cannot serve."""
    refused = {
        "--exact-engine": (options.exact, "it climbs for each item"),
        "--against": (options.against is not None, "two policies are compared item by item"),
        "--skip-bad": (options.skip_bad, "each bad item is named"),
        "--samples": (bool(options.samples) or options.same is not None, "a vote compares the answers of one item"),
        "--early-stop": (options.early_stop, "what a closed reply costs depends on its tokens"),
    }
    for key, (is_given, why) in refused.items():
        if is_given:
            raise Undecided(key, why)
    return replace(
        counting, policy=options.policy, overrides=options.overrides, reprice=options.reprice, parted=False, part=options.part,
        split=options.split,
    )  # fmt: skip


def replay_shards(
    counting: Counting,
    options: ReplayOptions,
    cluster: Cluster | None = None,
    pieces: int = 1,
    *,
    grouped: bool = True,
    progress: Progress | None = None,
) -> Replay:
    """As `replay_corpus`, to the digit. `pieces`: into how many tasks of the cluster (None: this process) each pass is cut.

    `grouped`: False if it is known that no two items are of one group, which makes the second pass quicker. `progress`
    is told how many items the first pass has counted. Raises as
    `replay_corpus` does; Undecided for what cells cannot say.
    """
    counting = counting_for(counting, options)
    cells = count_all(counting, cluster, pieces, progress)
    if not len(cells):
        which = "" if options.part == "all" else f" in its {options.part} part"
        raise CorpusError(f"has no items{which}", where=counting.source, hint="give another --split, or record items")
    rows = columns_of(counting, counting.mapping(), cells)
    outcomes = evaluate(rows.columns, rows.mapped)
    refuse_unknown_tasks(rows.mapped, options, counting.source)
    scores_of(rows.columns, rows.mapped, outcomes)  # raises for a shipped reply without a score
    tasks = tally_cells(rows, outcomes)
    figures = total(tasks, singles_of_cells(rows))
    intervals = _Intervals(counting, rows, outcomes, figures, cluster, pieces, grouped)
    return Replay(
        counting.manifest,
        options,
        rows.mapped.mapping,
        figures,
        tasks,
        intervals.of_tasks(),
        intervals.beside(),
        storms_of(rows.mapped, outcomes),
        None,
        tuple(warnings_of(rows.columns, rows.mapped)),
        tuple(notes_of(rows.columns, rows.mapped, outcomes, figures, options, silent_replies(rows))),
        0,
        (),
        {},
    )


class _Intervals:
    """The second pass, and the intervals of it."""

    def __init__(
        self, counting: Counting, rows: CellColumns, outcomes: Outcomes, figures: Figures, cluster: Cluster | None, pieces: int,
        grouped: bool,
    ) -> None:  # fmt: skip
        self._rows, self._figures = rows, figures
        self._numbers = {
            name: list(rows.columns.rungs).index(single.recorded_as or name) for name, single in figures.singles.items()
        }
        items = dict.fromkeys(rows.mapped.tasks, 0)
        counts = np.bincount(rows.mapped.task, weights=rows.items, minlength=len(items))
        self._items: Mapping[str, int] = {task: int(count) for task, count in zip(items, counts, strict=True)}
        self._is_small = rows.n <= MOST_FOR_BOOTSTRAP
        several = len(self._items) > 1
        small = tuple(task for task, n in self._items.items() if n <= MOST_FOR_BOOTSTRAP) if several else ()
        large = tuple(task for task in self._items if task not in small) if several else ()
        if not self._is_small and sum(self._items[task] for task in small) > _MOST_KEPT:
            raise Undecided(
                "tasks", f"there are many of them, whose intervals need the groups of over {_MOST_KEPT:,} items"
            )
        question = GroupQuestion(
            outcome_table(rows, outcomes), tuple(dict.fromkeys(self._numbers.values())),
            kept=None if self._is_small else small, moments=not self._is_small, large=() if self._is_small else large,
            grouped=grouped,
        )  # fmt: skip
        self._groups = _sum_all(counting, question, cluster, 1 if self._is_small else pieces)
        self._kept = KeptSums(self._groups)

    def of_tasks(self) -> dict[str, Interval | None]:
        made = {"": self._interval("", MOST_FOR_BOOTSTRAP)}
        if len(self._items) == 1:
            return made | dict.fromkeys(self._items, made[""])
        for task, n in self._items.items():
            if self._is_small or n <= MOST_FOR_BOOTSTRAP:
                made[task] = interval_of_scores(self._kept.sums("", task))
            else:
                made[task] = interval_of_moments(self._groups.moments[f"task:{task}", ""])
        return made

    def beside(self) -> dict[str, tuple[Interval | None, Difference]]:
        made: dict[str, tuple[Interval | None, Difference]] = {}
        for name, single in self._figures.singles.items():
            number = self._numbers[name]
            own, less = (self._interval(series, MOST_BESIDE) for series in (f"{number}", f"-{number}"))
            made[name] = own, Difference(self._figures.quality - single.quality, less)
        return made

    def _interval(self, series: str, most: int) -> Interval | None:
        if self._is_small:
            return interval_of_scores(self._kept.sums(series), most)
        return interval_of_moments(self._groups.moments["", series])


def _sum_all(counting: Counting, question: GroupQuestion, cluster: Cluster | None, pieces: int) -> Groups:
    """Items of one group may be in any shards: so where they share groups, each task takes the groups of one hash from all shards."""
    every = tuple(range(len(counting.shards)))
    if question.grouped or question.kept:
        questions = [replace(question, bucket=bucket, buckets=pieces) for bucket in range(pieces)]
        arguments = [(counting, every, one) for one in questions]
    else:
        arguments = [(counting, numbers, question) for numbers in cut(counting, pieces)]
    tasks = [Task(f"groups-{number}", sum_groups, own) for number, own in enumerate(arguments)]
    return reduce(add, (done.result for done in (cluster or InProcess()).run(tasks)))
