"""Helpers on text that the other modules of core use: JSON read strictly, tables, misspelt names, tampering patterns."""
