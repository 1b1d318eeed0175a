"""The policies of the recorded day, as files: one that the ladder answers, one in mode observe. A third is in the ledger alone."""

from __future__ import annotations

from pathlib import Path

from cascade.core.policy import Policy
from cascade.policy.loading import parse_policy

__all__ = ["HELP_DESK", "LABELS", "REVIEWS", "policies", "write_policies"]

HELP_DESK, REVIEWS, LABELS = "help-desk", "code-review", "nightly-labels"
"""The names. The last has no file here: only the ledger knows it."""

_LADDER = """
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 1024, thinking: disabled}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 4096, effort: low}
  - {rung: opus, model: claude-opus-5-5, max_tokens: 8192}
"""

_TEXTS = {
    HELP_DESK: f"""version: 1
name: {HELP_DESK}
ladder:{_LADDER}
tasks:
  - {{name: refund, when: {{words: [refund]}}}}
  - {{name: delivery, when: {{words: [parcel]}}}}
  - {{name: order-status, when: {{words: [order]}}}}
  - {{name: complaint, when: {{words: [complaint]}}, floor: sonnet}}
storm_guard: {{rate: 0.35}}
rollout: {{percent: 90, by: customer}}
ledger: {{content: true, keep_days: 30}}
audit: {{sample: 0.02, lowest_confidence: 0.01, daily_usd: 2.00}}
budget:
  - {{daily_usd: 95.00, monthly_usd: 2000.00, alert_at: 0.8, on_exhausted: hold, call_usd: 0.35}}
  - {{daily_usd: 18.00, per: workflow, on_exhausted: alert}}
""",
    REVIEWS: f"""version: 1
name: {REVIEWS}
ladder:{_LADDER}
tasks:
  - {{name: rename, when: {{words: [rename]}}}}
  - {{name: security, when: {{words: [token]}}, floor: sonnet}}
mode: observe
observe: {{sample: 0.3, daily_usd: 6.00}}
budget:
  - {{daily_usd: 45.00, alert_at: 0.9, on_exhausted: alert}}
""",
}


def policies() -> tuple[Policy, ...]:
    """The policies that have a file."""
    return tuple(parse_policy(text, where=name) for name, text in _TEXTS.items())


def write_policies(folder: Path) -> tuple[Path, ...]:
    """Write them as NAME.yaml; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name, text in _TEXTS.items():
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(text, encoding="utf-8")
    return tuple(paths)
