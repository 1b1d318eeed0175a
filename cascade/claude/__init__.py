"""The Messages API by way of the SDK: a Prompt in, a Reply or a Failure out. The only importer of `anthropic`.

`wire` makes requests and reads replies, `failures` maps the vendor's errors once, `retrying` tells tenacity what may
be tried again, `connections` holds the SDK's
clients, `calling` calls, `inspecting` looks without spending. The SDK takes a second to import: that waits for the first client.
"""

from __future__ import annotations

from cascade.claude.calling import AsyncClaude, Claude
from cascade.claude.connections import connect
from cascade.claude.inspecting import EndpointStatus, ModelStatus, inspect_endpoint
from cascade.claude.schemas import schema_of

__all__ = ["AsyncClaude", "Claude", "EndpointStatus", "ModelStatus", "connect", "inspect_endpoint", "schema_of"]
