"""Proving thresholds on held-out data: finite-sample bounds and the walk along the frontier."""
