"""Policies as files: YAML read strictly, changed in place, and bound to what carries them out."""
