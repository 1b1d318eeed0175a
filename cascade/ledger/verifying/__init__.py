"""`ledger verify`: whether every entry and every sum is as it was written."""
