"""The names of attributes and metrics: those of OpenTelemetry's GenAI conventions, which may still change, then ours.

Source: OpenTelemetry semantic conventions for generative AI, spans and client metrics.
"""

from __future__ import annotations

__all__ = [
    "ABSTAINED", "ARM", "ATTEMPTS", "BUCKETS_S", "BUCKETS_TOKENS", "CACHE_READ", "CACHE_WRITTEN", "CANCELLED",
    "CHAT", "CONFIDENCE", "CONFIDENCE_SOURCE", "COST_USD", "DEGRADED", "DURATION", "ERROR_TYPE", "ESCALATIONS",
    "FINISH_REASONS", "INDEX", "INPUT_TOKENS", "IS_JUDGE", "IS_REVIEW", "OBSERVED_AS", "OPERATION", "OUTPUT_TOKENS", "POLICY", "POLICY_HASH",
    "PROVIDER", "PROVIDER_NAME", "RATCHET", "REASON", "REQUEST_ID", "REQUEST_MODEL", "RESPONSE_MODEL", "RUNG", "SAMPLE",
    "TASK", "TOKEN_TYPE", "TOKEN_USAGE", "UPSTREAM_REQUEST_ID", "VARIANT", "VERDICT", "VOTE_AGREED", "VOTE_ASKED",
    "VOTE_NEEDED", "WORKFLOW",
]  # fmt: skip

# -- conventions: attributes ----------------------------------------------------------------------------------------
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"  # the whole prompt: cache reads and writes included
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITTEN = "gen_ai.usage.cache_creation.input_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - tokens of text
ERROR_TYPE = "error.type"

# -- conventions: values and metrics --------------------------------------------------------------------------------
WORKFLOW = "invoke_workflow"
CHAT = "chat"
PROVIDER_NAME = "anthropic"
TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105
DURATION = "gen_ai.client.operation.duration"
BUCKETS_TOKENS = tuple(4**power for power in range(14))
BUCKETS_S = tuple(0.01 * 2**power for power in range(14))

# -- ours ------------------------------------------------------------------------------------------------------
POLICY = "cascade.policy"
POLICY_HASH = "cascade.policy_hash"
RATCHET = "cascade.ratchet"  # the step in force; only if the thresholds were raised
TASK = "cascade.task"
ARM = "cascade.arm"
REQUEST_ID = "cascade.request_id"
OBSERVED_AS = "cascade.observed_as"
RUNG = "cascade.rung"
INDEX = "cascade.index"
VERDICT = "cascade.verdict"
CONFIDENCE = "cascade.confidence"
CONFIDENCE_SOURCE = "cascade.confidence_source"
REASON = "cascade.reason"
DEGRADED = "cascade.degraded"
ABSTAINED = "cascade.abstained"
COST_USD = "cascade.cost_usd"
USAGE_IS_ESTIMATE = "cascade.usage_is_estimate"  # only if true
ATTEMPTS = "cascade.attempts"
ESCALATIONS = "cascade.escalations"
UPSTREAM_REQUEST_ID = "cascade.upstream_request_id"
SAMPLE = "cascade.sample"  # its number; this and those below only for a rung that is asked more than once
VARIANT = "cascade.variant"
IS_JUDGE = "cascade.judge"  # only if true
IS_REVIEW = "cascade.review"  # only if true
VOTE_AGREED = "cascade.vote.agreed"  # of the last call of the step, as the reason is
VOTE_ASKED = "cascade.vote.asked"
VOTE_NEEDED = "cascade.vote.needed"
CANCELLED = "cancelled"
