"""The pure heart: no clock, no randomness, no environment, no I/O; the standard library and pydantic only.

Read in this order: `errors`, `messages`, `trail` (the values); `models`, `ladder`, `policy`, `prices` (what is allowed and
what it costs); `decision` (the rule); `triage`, `signals`, `tampering`, `storm` (what the rule is told); `climb` (the flow).
"""
