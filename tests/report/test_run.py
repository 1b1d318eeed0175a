"""The page of a run: where the boxes of its graph stand, and what is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.cli.run.layout import HEIGHT, WIDTH, Layout, lay_out
from cascade.cli.run.page import costs_by_rung, render_page, write_page
from cascade.cli.run.picture import draw, fate, rungs_of
from cascade.core.errors import ConfigurationError
from cascade.core.planning.graph import Plan, Subtask
from cascade.core.planning.result import Attempt, PlanReview, Result, ReviewerStanding, SubtaskResult
from cascade.core.prepared import Assessment

from .runs import made


@st.composite
def plans(draw_: st.DrawFn) -> Plan:
    """Acyclic plans, listed in any order."""
    size = draw_(st.integers(1, 14))
    names = [f"s{number}" for number in range(size)]
    subtasks = [
        Subtask(name, "Do it.", tuple(sorted(draw_(st.sets(st.sampled_from(names[:number]), max_size=4))) if number else ()))
        for number, name in enumerate(names)
    ]  # fmt: skip
    return Plan("Goal", tuple(draw_(st.permutations(subtasks))))


@given(plans())
def test_no_two_boxes_overlap_and_every_line_goes_down(plan: Plan) -> None:
    """All boxes stand apart and inside the picture; each line starts above where it ends, and none passes through a box."""
    layout = lay_out(plan)
    assert [box.id for box in layout.boxes] == [one.id for one in plan.subtasks]
    for number, box in enumerate(layout.boxes):
        assert 0 <= box.x <= layout.width - WIDTH
        assert 0 <= box.y <= layout.height - HEIGHT
        for other in layout.boxes[:number]:
            assert abs(box.x - other.x) >= WIDTH or abs(box.y - other.y) >= HEIGHT
        for x, start, end in layout.passing:
            assert not (box.x <= x <= box.x + WIDTH and start < box.y + HEIGHT and box.y < end)
    assert all(line.start[1] < line.end[1] for line in layout.lines)


@given(plans())
def test_the_lines_lead_from_what_is_needed_to_what_needs_it(plan: Plan) -> None:
    """Followed downwards, the lines connect exactly the pairs of which one rests on the other."""
    layout = lay_out(plan)
    follows = {(line.start, line.end): line.arrives for line in layout.lines}
    through = {(x, start): (x, end) for x, start, end in layout.passing}
    tops = {(box.x + WIDTH // 2, box.y): box.id for box in layout.boxes}
    found: set[tuple[str, str]] = set()
    for box in layout.boxes:
        ends = [(box.x + WIDTH // 2, box.y + HEIGHT)]
        while ends:
            here = ends.pop()
            for (start, end), arrives in follows.items():
                if start == here and arrives:
                    found.add((box.id, tops[end]))
                elif start == here:
                    ends.append(through[end])
    assert found == {(name, one.id) for one in plan.subtasks for name in plan.needs(one)}


def crossings(layout: Layout) -> int:
    """How many pairs of lines cross, by their ends."""
    ends = [(line.start, line.end) for line in layout.lines]
    return sum(
        (a[0] - b[0]) * (c[0] - d[0]) < 0
        for number, (a, c) in enumerate(ends) for b, d in ends[:number] if a[1] == b[1]
    )  # fmt: skip


def test_crossings_that_need_not_be_are_removed() -> None:
    """Two chains that are listed the other way round in the second row do not cross in the picture."""
    subtasks = [Subtask("a", "x"), Subtask("b", "x"), Subtask("c", "x", ("b",)), Subtask("d", "x", ("a",))]
    assert crossings(lay_out(Plan("Goal", tuple(subtasks)))) == 0


def test_a_large_plan_is_drawn_at_once() -> None:
    """A hundred subtasks, each resting on all before it: one line leaves each box, so the picture stays small."""
    names = [f"s{number}" for number in range(100)]
    plan = Plan("Goal", tuple(Subtask(name, "x", tuple(names[:number])) for number, name in enumerate(names)))
    layout = lay_out(plan)
    assert len(layout.boxes) == 100
    assert len(layout.lines) <= 100 * 100


def test_a_box_is_filled_by_the_final_rung_and_outlined_by_the_assigned_one() -> None:
    """Its words say both as well, with the status: colours are never needed."""
    result = made()
    rungs = rungs_of(result, ("haiku", "sonnet", "opus"))
    drawn = {box.id: box for box in draw(result, rungs).boxes}
    assert {name: (box.outline, box.fill) for name, box in drawn.items()} == {
        "names": (0, 0), "table": (0, 1), "prices": (0, 0), "themes": (1, 1), "translation": (2, None), "letter": (1, None),
        "report": (1, None),
    }  # fmt: skip
    assert {box.fate for box in drawn.values()} == {
        "haiku, accepted", "haiku → sonnet, accepted", "haiku, unsettled", "sonnet, accepted", "opus, failed", "sonnet, skipped",
        "sonnet, not run yet",
    }  # fmt: skip
    assert len({box.mark for box in drawn.values()}) == 5


def test_costs_by_rung_are_the_executors_costs() -> None:
    """Each call counts at its rung; what lies below the assigned rung is told apart, and a retry's higher rung is not in it."""
    rows = costs_by_rung(made(), ("haiku", "sonnet", "opus"))
    assert [(row.rung, row.calls, row.cost, row.below) for row in rows] == [
        ("haiku", 4, 1_000, 300), ("sonnet", 2, 1_900, 0),
    ]  # fmt: skip
    assert sum(row.cost for row in rows) == made().costs["executor"]


def test_without_a_ladder_the_rungs_are_in_the_order_of_the_climbs() -> None:
    """A page of a result alone colours the same rungs in the same order."""
    assert rungs_of(made()) == ("haiku", "sonnet", "opus")


def test_the_page_says_what_became_of_everything() -> None:
    """Status, what must be known before the result is used, and every subtask with instruction, reason, attempts and review."""
    page = render_page(made())
    for words in (
        "7 subtasks: 3 accepted, 1 unsettled, 1 failed, 1 skipped, 1 pending; 0.000003 USD", "planned by sonnet", "run-1",
        "the run was stopped by its budget; it can be taken up again", "prices is unsettled: The table.",
        "letter is skipped: it rests on translation", "what is unsettled: prices", "Why haiku", "retry: The table.",
        "medium: The table.", "escalate: The table.", "haiku → sonnet",
    ):  # fmt: skip
        assert words in page
    assert all(one.instruction in page for one in made().plan.subtasks)


def test_a_plan_that_has_not_been_run_has_a_page() -> None:
    """The graph and the instructions, no costs, and nothing that is said to be a result."""
    page = render_page(made().plan)
    assert "7 subtasks, not run yet" in page
    assert page.count('<g class="box none ') == 7
    assert "<h2>Costs</h2>" not in page
    assert "<h2>The result</h2>" not in page


def test_any_schema_makes_the_result_a_value() -> None:
    """The one that everything fits, too."""
    page = render_page(Plan("Goal", (Subtask("a", "Do it.", schema={}), Subtask("b", "Do it."))))
    assert re.findall(r"<dt>Its result is</dt><dd>(.*?)</dd>", page) == ["a JSON value", "text"]


def test_hostile_texts_stay_texts() -> None:
    """Models wrote them, and what models read: in names, reasons, results and notes."""
    evil = '"></text></svg></style><script>alert(1)</script><img src=x onerror=alert(1)>{{ plan }}\x1b\x00\ud800<!--'
    attempt = Attempt(
        0, evil, 5, "haiku", evil, None, 0.5, evil, Assessment("high", evil), PlanReview("retry", evil), rungs=((evil, 4),)
    )  # fmt: skip
    plan = Plan(evil, (Subtask("a", evil, (), evil, evil, evil),), (evil,), planner=evil)
    subtasks = {"a": SubtaskResult("a", evil, "unsettled", evil, None, evil, (attempt,), evil, (evil,))}
    page = render_page(Result(plan, subtasks, evil, {"executor": 5}, None, ReviewerStanding(why=evil), (evil,)))
    assert re.search(r"<script|<img|<!--|</style>.*</style>|</svg></style>", page) is None
    assert "{{ plan }}" in page


def test_the_page_is_private_and_self_contained(tmp_path: Path) -> None:
    """Only its owner may read it, and it names no address to fetch from."""
    write_page(made(), tmp_path / "run.html")
    assert (tmp_path / "run.html").stat().st_mode & 0o777 == 0o600
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert re.search(r"https?:|<script|<link|@import| src=| style=", page) is None


def test_a_page_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """One line names the option, the path and the reason."""
    with pytest.raises(ConfigurationError, match=r"--html .*run\.html: cannot be written: No such file"):
        write_page(made(), tmp_path / "none" / "run.html")


def test_the_fate_names_both_rungs_only_where_they_differ() -> None:
    """`haiku → sonnet` for a result from above; a single name otherwise."""
    result = made()
    assert [fate(result.subtasks[name]) for name in ("names", "table", "report")] == [
        "haiku, accepted", "haiku → sonnet, accepted", "sonnet, not run yet",
    ]  # fmt: skip
