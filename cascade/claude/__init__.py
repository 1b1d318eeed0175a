"""The Messages API through the SDK: a Prompt in, a Reply or a Failure out. The only importer of `anthropic`.

`calling` makes the calls with the clients of `connections`, retried as `retrying` says; `streaming` reads a reply as it is
written. `wire` builds requests and reads
replies, `failures` maps the SDK's errors, `schemas` adapts JSON schemas, `inspecting` checks an endpoint at no cost. The
SDK takes a second to import, so it is imported with the first client.
"""

from __future__ import annotations

from cascade.claude.calling import AsyncClaude, Claude
from cascade.claude.connections import connect
from cascade.claude.inspecting import EndpointStatus, ModelStatus, inspect_endpoint
from cascade.claude.schemas import schema_of
from cascade.claude.streaming import AsyncOpenReply, OpenReply

__all__ = [
    "AsyncClaude",
    "AsyncOpenReply",
    "Claude",
    "EndpointStatus",
    "ModelStatus",
    "OpenReply",
    "connect",
    "inspect_endpoint",
    "schema_of",
]
