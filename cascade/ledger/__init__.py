"""The ledger: every step and every answer on record, to the nano-USD. SQLite under CASCADE_HOME, or Postgres.

A request's track hands its records to the writer; its one thread, or with `durability: commit` whoever waits for one, chains
them and writes them in batches; what cannot be written waits in a bounded buffer, and no answer is ever held back for it.

Read in this order: `records` (what is kept), `chain` (why nothing can be changed unseen), `tracking` (a hook: requests → hand-overs),
`composing` (hand-overs → chained entries), `pledges` (who waits writes), `pens`, `writing`, `writer` (the thread), `opening`
(where it is), `stores`, `sqlite`, `postgres`, `sums` (what `costs` reads), then what reads it: `verifying`, `exporting`.
"""
