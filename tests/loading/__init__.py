"""Tests of loading: YAML to a policy, and to the errors that say what is wrong with it."""
