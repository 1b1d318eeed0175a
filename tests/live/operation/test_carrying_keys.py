"""Whose conversation it is: a plan is carried only to one that differs in nothing that came before, nor in who asks."""

from __future__ import annotations

from typing import Any

import pytest

from cascade.core.messages import Request
from cascade.engine.carrying import conversation_of
from tests.live.conftest import ladder

POLICY = ladder(handoff="artifact", ledger={"content": True})
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
]


def key_of(request: Request, key: str = "", session: str = "") -> str | None:
    """The conversation's key."""
    conversation = conversation_of(request, POLICY, key, session)
    assert conversation is not None
    return conversation.key


@pytest.mark.parametrize(
    "other",
    [
        *(Request(tuple(TURNS), metadata={name: "x"}) for name in ("key", "user_id", "customer")),
        Request(tuple(TURNS), system="x"),
        Request(({"role": "user", "content": "x"}, *TURNS[1:])),
        Request((TURNS[0], {"role": "assistant", "content": "x"}, TURNS[2])),
    ],
)
def test_who_asks_and_what_came_before_name_a_conversation(other: Request) -> None:
    """As they divide callers in the response cache. The newest turn does not: it is another one each time."""
    whole = Request(tuple(TURNS))
    assert key_of(other) != key_of(whole)
    assert len({key_of(whole), key_of(whole, "k"), key_of(whole, "", "k")}) == 3
    assert key_of(Request((*TURNS[:2], {"role": "user", "content": "x"}))) == key_of(whole)
