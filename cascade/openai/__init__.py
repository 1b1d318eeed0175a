"""OpenAI's chat completions API through its SDK: a Prompt in, a Reply or a Failure out. The only importer of `openai`.

`calling` makes the calls with the clients of `connections`; `wire` builds requests, `replies` reads what comes back, `failures` maps
the SDK's errors, `inspecting` checks an endpoint at no cost. The SDK is an extra, and is imported with the first client.

Chat completions and not responses: it is stateless, so nothing of a request is kept for the next one; a turn is a list of
messages, as in the Messages API; and it is what other vendors' and one's own servers speak too (`base_url`).
"""

from __future__ import annotations

from cascade.openai.calling import AsyncOpenAIModels, OpenAIModels
from cascade.openai.inspecting import inspect_endpoint

__all__ = ["AsyncOpenAIModels", "OpenAIModels", "inspect_endpoint"]
