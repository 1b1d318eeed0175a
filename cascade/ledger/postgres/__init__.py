"""The ledger in Postgres (extra `postgres`)."""
