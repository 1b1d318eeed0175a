"""What leaves a ledger for other tools: its requests in a file (`requests`), or a folder of tables by month (`months`, `tables`)."""
