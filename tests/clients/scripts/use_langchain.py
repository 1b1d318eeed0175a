"""langchain-anthropic, pointed at an address: `use_langchain.py BASE_URL MODEL KEY CASE…`; prints one JSON object a case."""

# pyright: reportMissingImports=false

from __future__ import annotations

import json
import sys
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel


class Order(BaseModel):
    """An order of the shop."""

    number: str
    count: int


@tool
def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"14 degrees in {city}"


def run(model: ChatAnthropic, case: str) -> dict[str, Any]:
    """One example; what it returns is what the test compares."""
    if case in ("tools", "tools_stream"):
        bound = model.bind_tools([get_weather])
        messages: list[Any] = [HumanMessage("What is the weather in Paris?")]
        called: list[str] = []
        while True:
            if case == "tools":
                reply = bound.invoke(messages)
            else:
                chunks = list(bound.stream(messages))
                reply = chunks[0]
                for chunk in chunks[1:]:
                    reply += chunk
            messages.append(reply)
            if not reply.tool_calls:
                return {"output": reply.text, "called": called}
            for call in reply.tool_calls:
                called.append(call["args"]["city"])
                messages.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))
    method = {"structured": "function_calling", "native": "json_schema"}[
        case
    ]  # a forced call of a tool, or a JSON format
    return {
        "output": model.with_structured_output(Order, method=method).invoke("Read the order: 2 of A-17").model_dump()
    }


def main(base_url: str, name: str, key: str, *cases: str) -> None:
    """Run the cases one after the other."""
    model = ChatAnthropic(model=name, base_url=base_url, api_key=key, max_tokens=300, max_retries=0)
    for case in cases:
        sys.stdout.write(json.dumps({"case": case, **run(model, case)}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
