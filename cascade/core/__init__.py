"""The rule and its values. Pure: no clock, randomness, environment or I/O; only the standard library and pydantic.

Read in this order: `messages`, `trail`, `errors` (the values); `policy`, `models`, `prices` (what is allowed, and what it
costs); `decision` (the rule); `triage`, `signals`, `scoring`, `storm` (the rule's inputs); `climb` (the flow).
Beside the climb stand `budgets` (the most that a call may cost) and `modes` (ladder or baseline); `requests`
reads what callers give; `text` holds helpers (strict JSON, tables, misspelt names, tampering patterns).
"""
