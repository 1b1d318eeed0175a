"""Tests of the report: its numbers, its escaping, its weight, and what it does in a real browser."""
