"""The words that models are asked in: one module for each role, which holds words, the schema of the reply, and their version.

triage          a rung below the top: to answer with its confidence
tools           a rung, where the request has tools
form            a rung, where the request has a JSON Schema that the API cannot enforce
judge           of a vote: to group answers by their meaning
review_gate     a rung above: to read an answer before it is sent
summariser      to shorten a conversation
handoff         a rung that a request climbs to: the doubt about the answer below, or a plan and the answer by it
audit_judge     of the audit: to compare an answer with another
grading_judge   of a recording: to grade an answer against a reference
planner         to split a goal into subtasks
executor        of a plan: to do a subtask
reviewer        of a plan: to read a result against its instruction and its sources
session         a rung: what earlier runs of the conversation decided
delegation      a rung: to summarise, extract, rewrite, classify or translate a text

What builds a prompt of these words stands elsewhere. Certificates, recordings and the ledger rest on the words: with every change
of them, however small, the version changes.
"""

from __future__ import annotations

import hashlib
import json

__all__ = ["version_of"]


def version_of(*words: object) -> str:
    """Names these words: the first 12 hex digits of a SHA-256."""
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:12]
