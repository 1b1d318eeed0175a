"""Budgets at work: before each call a driver asks whether every budget has room for it, and says afterwards what it cost.

Read in this order: `binding` (what a policy names, made ready), `gate` (what drivers ask), `notices` (who is told).
"""
