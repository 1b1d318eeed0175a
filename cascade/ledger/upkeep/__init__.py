"""What an operator does to a ledger: drop old months (`pruning`), bring its schema up to date beforehand (`upgrading`), look at it (`inspecting`)."""
