"""instructor, pointed at an address: `use_instructor.py BASE_URL MODEL KEY CASE…`; prints one JSON object a case."""

# pyright: reportMissingImports=false

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import anthropic
import instructor
from pydantic import BaseModel, field_validator


class Order(BaseModel):
    """An order of the shop."""

    number: str
    count: int


class OrderB(Order):
    """An order of the other shop."""

    @field_validator("number")
    @classmethod
    def _is_theirs(cls, number: str) -> str:
        """Not in the schema: the library finds it, and asks again."""
        if not number.startswith("B"):
            raise ValueError("not a number of this shop")
        return number


class get_weather(BaseModel):  # noqa: N801 - instructor names the tool after the class
    """Tell the weather in a city."""

    city: str


def run(client: anthropic.Anthropic, name: str, case: str) -> object:
    """One example; what it returns is what the test compares."""
    order: dict[str, Any] = {
        "model": name,
        "max_tokens": 300,
        "messages": [{"role": "user", "content": "Read the order: 2 of A-17"}],
        "response_model": Order,
    }
    if case == "structured":  # a forced call of a tool
        return instructor.from_anthropic(client).create(**order, max_retries=1).model_dump()
    if case == "structured_stream":
        return list(instructor.from_anthropic(client).create_partial(**order))[-1].model_dump()
    if case == "reasked":  # the first reply's number does not begin with B: the library asks again, with the error
        return (
            instructor.from_anthropic(client).create(**{**order, "response_model": OrderB}, max_retries=3).model_dump()
        )
    if case == "json":  # the schema is in the system prompt, the answer is text
        return instructor.from_anthropic(client, mode=instructor.Mode.JSON).create(**order, max_retries=1).model_dump()
    assert case == "tools", case  # the model chooses among tools, and may call several
    weather = {"messages": [{"role": "user", "content": "What is the weather in Paris?"}]}
    patched = instructor.from_anthropic(client, mode=instructor.Mode.PARALLEL_TOOLS)
    calls = patched.create(**{**order, **weather, "response_model": Iterable[get_weather]}, max_retries=1)
    return [{"tool": type(call).__name__, **call.model_dump()} for call in calls]


def main(base_url: str, name: str, key: str, *cases: str) -> None:
    """Run the cases one after the other."""
    client = anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0)
    for case in cases:
        sys.stdout.write(json.dumps({"case": case, "output": run(client, name, case)}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
