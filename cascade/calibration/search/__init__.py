"""Searching thresholds: confidence levels, the table of counts, the exact frontier, objectives and baselines."""
