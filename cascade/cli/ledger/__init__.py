"""`cascade ledger`."""
