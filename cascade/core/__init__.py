"""The rule and its values. Pure: no clock, randomness, environment or I/O; only the standard library and pydantic.

Read in this order: `messages`, `trail`, `errors` (the values); `policy`, `models`, `prices` (what is allowed, and what it
costs); `decision` (the rule); `triage`, `parsing`, `signals`, `tampering`, `scoring`, `storm` (the rule's inputs); `climb` (the flow).
Beside the climb stand `budgets` (the most that a call may cost) and `modes` (ladder or baseline); `requests`,
`suggestions` and `tables` read arguments and write messages.
"""
