"""`ledger move`: a ledger in SQLite becomes one in Postgres, in steps that go on where they were interrupted.

Read in this order: `running` (what is done when), `source` (the file, which is only read), `target` (the server), `totals` (what is
compared at the end).
"""
