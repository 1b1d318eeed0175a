"""What tests of plans draw: valid plans of any shape, with any text that JSON can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from cascade.core.planning.graph import Plan, Subtask

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(
    " \n\t:#-'\"|>{}[]&*!%@`$é\u2028\x85ab", max_size=60
)
WORDS = TEXTS.filter(lambda text: bool(text.strip()))
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,39}", fullmatch=True)
SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    WORDS,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


@st.composite
def plans(draw: st.DrawFn, rungs: Sequence[str] = ("haiku", "sonnet", "opus"), schemas: Any = SCHEMAS) -> Plan:
    """A valid plan: subtasks rest on given inputs and on other subtasks, without a cycle, listed in any order."""
    names = draw(st.lists(NAMES, unique=True, min_size=1, max_size=7))
    given = draw(st.integers(0, len(names) - 1))
    inputs, ids = tuple(names[:given]), names[given:]
    subtasks: list[Subtask] = []
    for number, name in enumerate(ids):
        known = [*inputs, *ids[:number]]
        rests_on = draw(st.lists(st.sampled_from(known), max_size=3)) if known else []
        subtasks.append(
            Subtask(
                name, draw(WORDS), tuple(rests_on), draw(st.sampled_from(rungs)), draw(TEXTS), None,
                draw(st.none() | schemas),
            )
        )  # fmt: skip
    listed = tuple(draw(st.permutations(subtasks)))
    return Plan(draw(WORDS), listed, inputs, draw(st.sampled_from(["", *ids])), draw(st.sampled_from(["", *rungs])), "")
