"""What a rung is told of the caller's JSON Schema, where the API cannot enforce it."""

from __future__ import annotations

from cascade.core.prompts import version_of

__all__ = ["FORM", "FORM_IN_ENVELOPE", "VERSION"]

FORM = """The answer must be JSON: one value that is valid under the JSON Schema below, without a code fence and without
a word before or after it."""
FORM_IN_ENVELOPE = """ In a reply that has the key "answer", that key holds this JSON as a string."""

VERSION = version_of(FORM, FORM_IN_ENVELOPE)
