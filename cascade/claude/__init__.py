"""The Messages API by way of the SDK: a Prompt in, a Reply or a Failure out. The only importer of `anthropic`.

`wire` makes requests and reads replies, `failures` maps the vendor's errors once, `retrying` tells tenacity what may
be tried again, `clients` holds the connections. The SDK takes a second to import: that waits for the first client.
"""

from __future__ import annotations

from cascade.claude.clients import AsyncClaude, Claude
from cascade.claude.wire import schema_of

__all__ = ["AsyncClaude", "Claude", "schema_of"]
