"""The pure heart: no clock, no randomness, no environment, no I/O; the standard library and pydantic only.

Read in this order: `messages`, `trail`, `policy`, `decision`, `triage`, `signals`, `storm`, `climb`.
"""
