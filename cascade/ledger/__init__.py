"""The ledger: a record of every request, step and outcome, in nano-USD. SQLite under CASCADE_HOME, or Postgres.

The hook turns each request into pending entries and gives them to the writer. The writer encodes them, chains them and commits
them in batches, on its own thread; with `durability: commit` a caller that waits may do it. While the database is down, entries
wait in a bounded buffer and answers are returned as usual.

Read in this order: `records` (what is stored), `chain` (how a change is detected), `hook` (requests → pending entries),
`writing` (`encoder`, `commit`, `lock`, `transactions`, `writer`), `opening` (addresses, one writer a process), `stores` (what a
database must do), `sqlite`, `postgres`, `sums` (what `costs` reads), then the readers: `verifying`, `requests`, `exporting`.
"""
