"""What a call may cost at most: no reply of any model ever costs more than was reserved for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.budgets.gate import bound_of
from cascade.core import prices
from cascade.core.budgets import upper_bound
from cascade.core.messages import Block, Request, Usage
from cascade.core.models import STREAMS_ABOVE
from cascade.core.policy import Policy
from cascade.core.triage import build_prompt
from cascade.policy.loading import load_policy
from cascade.policy.pricing import rates_of
from tests.core.builders import PRICE, policy_of

OWN = policy_of(price={**PRICE, "cache_write": "0.5", "cache_read": "7"})  # an endpoint whose cache costs more to read
POLICIES = [load_policy("default"), OWN]

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).map(lambda text: f"x{text}")
PICTURE: Block = {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}
PDF: Block = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}}
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def text_block(text: str) -> Block:
    """A block of text."""
    return {"type": "text", "text": text}


def document(*content: Any) -> Block:
    """A document that is given as text, or as blocks."""
    if len(content) == 1 and isinstance(content[0], str):
        return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": content[0]}}
    return {"type": "document", "source": {"type": "content", "content": list(content)}}


PLAIN = TEXTS.map(text_block) | st.just(PICTURE) | TEXTS.map(document)
BLOCKS = st.lists(
    PLAIN
    | st.just(PDF)
    | st.lists(PLAIN, min_size=1, max_size=3).map(lambda blocks: document(*blocks))
    | st.lists(PLAIN, max_size=3).map(lambda blocks: {"type": "tool_result", "tool_use_id": "t", "content": blocks})
    | TEXTS.map(lambda text: {"type": "tool_use", "id": "t", "name": "n", "input": {"type": "image", "source": text}}),
    min_size=1,
    max_size=5,
)


def tokens_at_most(value: Any) -> int:
    """The longest a prompt can be for the API: a token a byte of its text, what it makes of pictures and pages."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (list, tuple)):
        return sum(map(tokens_at_most, value))
    if isinstance(value, dict):
        if value.get("type") == "image":
            return 4_784
        if value.get("type") == "document" and value["source"]["type"] == "base64":
            return 900_000
        if value.get("type") == "tool_use":
            return len(json.dumps(value["input"], ensure_ascii=False).encode())
        return sum(map(tokens_at_most, value.values()))
    return 0


@settings(max_examples=75)
@given(
    st.sampled_from(POLICIES),
    st.integers(0, 2),
    BLOCKS | TEXTS,
    TEXTS | st.none(),
    st.booleans(),
    st.lists(st.floats(0, 1), min_size=5, max_size=5),
)
def test_no_call_costs_more_than_was_reserved_for_it(
    policy: Policy, index: int, content: Any, system: str | None, cached: bool, shares: list[float]
) -> None:
    """Texts in any script, pictures, documents, tools' input; cached in any way the prompt allows; thinking included."""
    blocks = [text_block(content)] if isinstance(content, str) else content
    if cached:
        blocks = [*blocks[:-1], {**blocks[-1], **CACHED}]
    request = Request(messages=({"role": "user", "content": blocks},), system=system)
    prompt, rates = build_prompt(policy, index, request), rates_of(policy.ladder[index])
    said = tokens_at_most(list(prompt.messages)) + tokens_at_most(prompt.system or "")
    schema = len(json.dumps(prompt.schema, ensure_ascii=False).encode()) if prompt.schema else 0
    total = int((said + schema + 400) * shares[0])
    kinds = shares[1:4] if cached else [0.0, 0.0, 0.0]
    written_5m, written_1h, read = (int(total * share / 3) for share in kinds)
    usage = Usage(
        input_tokens=total - written_5m - written_1h - read,
        output_tokens=int(prompt.max_tokens * shares[4]),
        cache_write_5m=written_5m,
        cache_write_1h=written_1h,
        cache_read=read,
    )
    assert prices.cost(rates, usage) <= upper_bound(rates, prompt)


@pytest.mark.parametrize(("max_tokens", "times"), [(STREAMS_ABOVE, 1), (STREAMS_ABOVE + 1, 4)])
def test_a_reply_that_is_streamed_may_be_billed_an_attempt(max_tokens: int, times: int) -> None:
    """Each attempt of a stream that breaks off is billed: all of them are reserved."""
    policy = policy_of()
    prompt = build_prompt(policy, 2, Request(messages=({"role": "user", "content": "hello"},), max_tokens=max_tokens))
    rates = rates_of(policy.ladder[2])
    assert bound_of(rates, prompt, 4) == times * upper_bound(rates, prompt)
