"""`ledger verify`: checks that every entry, text and sum is as it was written."""
