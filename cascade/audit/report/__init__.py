"""The audit's report.

Read in this order: `thresholds` (what higher ones would have done), `profit`, `texts`, `build` (everything together), `page` (as HTML).
"""
