"""Keys: who may use the gateway. `values` (a key and its digest), `store` (where they are kept), `checking` (the check itself)."""
