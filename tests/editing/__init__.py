"""Tests of editing a policy's YAML in place."""
