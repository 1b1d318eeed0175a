"""Writing the ledger: one writer a process takes records, encodes them and commits them in order."""
