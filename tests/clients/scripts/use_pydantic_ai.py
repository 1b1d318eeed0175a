"""pydantic-ai, pointed at an address: `use_pydantic_ai.py BASE_URL MODEL KEY CASE…`; prints one JSON object a case."""

# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import json
import sys

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider


class Order(BaseModel):
    """An order of the shop."""

    number: str
    count: int


async def run(base_url: str, name: str, key: str, case: str) -> dict[str, object]:
    """One example; what it returns is what the test compares."""
    model = AnthropicModel(name, provider=AnthropicProvider(api_key=key, base_url=base_url))
    called: list[str] = []

    def get_weather(city: str) -> str:
        """Tell the weather in a city.

        Args:
            city: The city's name.
        """
        called.append(city)
        return f"14 degrees in {city}"

    if case in ("tools", "tools_stream"):
        agent = Agent(model, instructions="Be brief.", tools=[get_weather])
        if case == "tools":
            return {"output": (await agent.run("What is the weather in Paris?")).output, "called": called}
        async with agent.run_stream("What is the weather in Paris?") as result:
            parts = [part async for part in result.stream_text(delta=True)]
        return {"output": "".join(parts), "called": called}
    # "structured" is the framework's own choice by the model's name: a forced tool, or a JSON format. "tool" and "native" say which.
    output_type = {"structured": Order, "tool": ToolOutput(Order), "native": NativeOutput(Order)}[case]
    order = (await Agent(model, output_type=output_type).run("Read the order: 2 of A-17")).output
    return {"output": order.model_dump()}


async def main(base_url: str, name: str, key: str, *cases: str) -> None:
    """Run the cases one after the other."""
    for case in cases:
        sys.stdout.write(json.dumps({"case": case, **await run(base_url, name, key, case)}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
