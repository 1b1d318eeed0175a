"""`cascade init`: write a commented starter policy."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from cascade.cli.output import print_json, stdout
from cascade.core.errors import ConfigurationError
from cascade.core.policy.ladder import NAME
from cascade.policy.loading import parse_policy, policy_schema

__all__ = ["run_init"]

_SCHEMA = "policy.schema.json"
_STARTER = """\
# yaml-language-server: $schema=./policy.schema.json
# A policy: which models a request may go to, and when the cheaper one's answer is not good enough. Editors that know YAML
# schemas complete and check it as you type; `cascade policy check FILE` checks it for good.
version: 1
name: {name}

# From the cheapest model to the strongest. Every request starts at the first rung and goes up one rung at a time. A rung's
# answer is used where its confidence is `threshold` or more; the last rung has no threshold: its answer is used if it passes the checks.
# 0.80 is a guess, and answers are marked "uncertified", until `cascade calibrate` has proved thresholds on your own data.
ladder:
  - {{rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 1024, thinking: disabled}}
  - {{rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 4096, effort: low}}
  - {{rung: opus, model: claude-opus-5-5, max_tokens: 8192}}

# Classes of input with rules of their own; the first whose `when` holds is taken, or the one the caller names (`task=`).
tasks:
  # A text that dictates its own verdict ("confidence": 1 ...) is not judged by the rung that reads it first.
  - {{name: tampering, when: {{flag: tampering}}, floor: sonnet}}
  # - name: refund
  #   when: {{words: [refund, chargeback], min_tokens: 5}}
  #   floor: sonnet                      # the lowest rung whose answer may be used
  #   thresholds: {{sonnet: 0.90}}         # instead of the ladder's
  #   checks: [{{max_chars: 2000}}]        # every answer must pass, or it goes up one rung

# Watches how often requests go up a rung, and says so (and acts) when that is far more often than is normal here.
storm_guard: {{rate: 0.35}}

# Look before you switch on: the strongest model answers everyone, and a sample is also put to the ladder and recorded.
# mode: observe
# observe: {{sample: 0.05, daily_usd: 1.00}}

# What is kept of each request. Texts are kept only with `content: true`.
# ledger: {{content: true, keep_days: 30}}

# budget: {{daily_usd: 20, on_exhausted: reject}}    # alert (default), hold or reject
# deadline_s: 120                                  # of a whole request
# exhausted: abstain                               # no answer at all: return one without text, instead of raising
"""


def run_init(path: Path, *, force: bool, as_json: bool) -> None:
    """Write the policy and, beside it, the schema that its first line names. `force` overwrites a policy."""
    if path.exists() and not force:
        raise ConfigurationError(f"{path}: exists (give another name, or --force to overwrite it)")
    name = path.name.partition(".")[0]
    if re.match(NAME, name) is None:
        name = "mine"
    text = _STARTER.format(name=name)
    policy = parse_policy(text, where=str(path), folder=path.parent)
    schema = path.with_name(_SCHEMA)
    try:
        path.write_text(text, encoding="utf-8")
        if not schema.exists():  # never overwrite the user's file
            schema.write_text(json.dumps(policy_schema(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    except OSError as problem:
        raise ConfigurationError(f"{path}: cannot be written: {problem.strerror} (check the folder)") from None
    named = shlex.quote(str(path))
    steps = [
        (f"cascade policy check {named}", "after every change"),
        (f"cascade doctor --policy {named}", "key, endpoint, models and prices; spends nothing"),
        (f"cascade ask 'What is a cascade?' --policy {named} --explain", "one answer, with its trail"),
        (f"cascade record questions.csv -o corpus.jsonl --policy {named} --grader normalized", "your own questions, asked of every rung"),
        (f"cascade calibrate corpus.jsonl --policy {named}", "thresholds that hold on them"),
    ]  # fmt: skip
    if as_json:
        print_json(
            {"policy": str(path), "name": policy.name, "schema": str(schema), "next": [step for step, _ in steps]}
        )
        return
    stdout.print(f"{path}: written, with {_SCHEMA} beside it for your editor. Next:")
    for step, why in steps:
        stdout.print(f"  {step}    # {why}")
